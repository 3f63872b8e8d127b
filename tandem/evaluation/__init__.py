"""Evaluation: runs that can be taken up again, collection of training data, statistics, tables."""
