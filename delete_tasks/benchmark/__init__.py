"""Grid of networks, classes, methods and seeds: runs its cells, and makes their tables and figures."""
