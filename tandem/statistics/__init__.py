"""Intervals, tests and calibration figures, over arrays and counts: they know no run, no table and no model."""
