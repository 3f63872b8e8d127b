"""Stands where vLLM would: the same command line and the same pages, with faults on demand, and no model."""
