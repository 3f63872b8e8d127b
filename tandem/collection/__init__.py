"""Progressive collection: the intern's signals and correctness for each problem at every level of one insight.

One mentor generation for the insight, cut at every level, and one for the mentor's own answer (in `prefix` mode one
for both); one intern answer per level and sample. Rows are stored in a folder, keyed by (problem, level, sample); the
same command resumes a stopped collection, with any number of workers. `export` makes the table that is committed: ids,
signals, labels and counts, no texts.
"""
