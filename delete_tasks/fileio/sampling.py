"""Evenly spaced indices."""

import numpy as np
from numpy.typing import NDArray


def evenly_spread(count: int, most: int) -> NDArray[np.int64]:
    """Select at most ``most`` of ``count`` indices, evenly spaced and ascending: int64 ``(min(count, most),)``."""
    return np.linspace(0, count, min(count, most), endpoint=False).astype(np.int64)
