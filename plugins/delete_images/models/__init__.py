"""Model folders: description, weights, architectures; and classifiers for a Runner."""
