"""Some of many, evenly spread."""

import numpy as np
from numpy.typing import NDArray


def evenly_spread(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of the numbers below ``count``, evenly spread and ascending: int64 ``(min(count, most),)``."""
    return np.linspace(0, count, min(count, most), endpoint=False).astype(np.int64)
