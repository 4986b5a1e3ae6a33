"""UnlearnRunner and its hooks: the differences between an unlearning run and a training run."""
