"""The report as one page of HTML: what a comparison or a run found, for people, in a file that needs nothing else."""
