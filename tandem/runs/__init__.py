"""Resumable runs: the runner, its store and journal, budgets, estimates, comparisons, regrading."""

UNITS = ("tflops", "tflops_published", "mentor_tokens", "usd", "seconds")  # what a run's cost is counted in
