"""The report of a search: one page of HTML that needs nothing else."""
