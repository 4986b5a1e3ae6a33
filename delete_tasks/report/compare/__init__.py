"""Comparison of runs from their results.json, by the metrics that each task declares."""
