"""Sufficiency at run time: signals of a draft, the classifier that reads them, and the policy that decides on them."""
