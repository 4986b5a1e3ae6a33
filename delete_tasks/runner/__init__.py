"""UnlearnRunner and its hooks: the few places where an unlearning run differs from a training run."""
