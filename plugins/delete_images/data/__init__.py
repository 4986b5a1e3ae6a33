"""Images from data strings: sources, archives, data sets, transforms."""
