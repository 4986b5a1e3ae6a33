"""Unlearning of a model in memory: :func:`delete_tasks.erase`."""
