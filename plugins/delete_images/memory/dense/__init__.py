"""Models in memory that choose a class at every location, ``(N, C, *locations)``: segmentation models of any library."""
