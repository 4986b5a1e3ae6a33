"""Demonstration: street scenes drawn by the package, and a small network trained on them."""
