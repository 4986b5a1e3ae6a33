"""Results of a run: results.json, tables, comparisons of runs, the erasure record."""
