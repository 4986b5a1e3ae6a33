"""Unlearning of a model and a data set in the caller's hands: :func:`delete_tasks.erase`."""
