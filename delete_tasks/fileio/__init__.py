"""Files and processes: safe loading, atomic writing, work dirs, digests, seeds. Knows nothing of what a model means."""
