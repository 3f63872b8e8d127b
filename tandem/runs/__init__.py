"""Resumable runs: the runner, its store and journal, budgets, estimates, comparisons, regrading."""
