"""Methods side by side on the same problems: what is compared, its runs with shared calls, and their figures."""
