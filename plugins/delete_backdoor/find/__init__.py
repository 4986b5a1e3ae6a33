"""Search for poisoned samples: clusters, evidence, ranking."""
