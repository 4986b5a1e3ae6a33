"""Unlearning methods, one file each. :mod:`delete_tasks.methods.builtin` registers them; help needs the registry alone."""
