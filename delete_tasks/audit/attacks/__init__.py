"""One attack, or a few that read the same thing, a module: its ``ATTACKS``, and pure functions of features, logits, labels."""
