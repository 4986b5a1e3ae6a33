"""Files and processes: safe loading, atomic writing, work dirs, digests, seeds. Nothing here depends on the kind of model."""
