"""Runs that can be taken up again: the runner, its store and journal, budgets, estimates, comparisons, regrading."""
