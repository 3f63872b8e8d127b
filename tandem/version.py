"""The version of the package, stamped on the files that it writes."""

__version__ = "0.2.0"
