"""A grid of networks, classes, methods and seeds, run cell by cell, with its tables and figures."""
