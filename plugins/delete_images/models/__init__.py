"""Model folders: description, weights, architectures, and the classifier that a Runner trains."""
