"""The offline part of strategy `blueprint` (arXiv 2506.08669): the mentor writes, a search chooses, a file keeps it."""
