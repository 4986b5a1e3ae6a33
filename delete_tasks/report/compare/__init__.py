"""Runs side by side, as their results.json tell of them: by the metrics that each task declares."""
