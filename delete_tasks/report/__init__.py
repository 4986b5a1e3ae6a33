"""Results of a run: results.json, tables, comparison of runs, erasure record."""
