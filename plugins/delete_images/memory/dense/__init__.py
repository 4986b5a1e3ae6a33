"""Models in memory with class logits at every location, ``(N, C, *locations)``: segmentation models of any library."""
