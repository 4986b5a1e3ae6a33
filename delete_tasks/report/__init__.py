"""What a run leaves behind: results.json, tables, comparisons of runs, the erasure record."""
