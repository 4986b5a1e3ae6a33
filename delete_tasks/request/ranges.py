"""Checks of options against their ranges; an error names the option and the range."""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from ..errors import RequestError

MOST = 1_000_000_000  # largest whole number
SEED_MOST = 2**32 - 1  # largest seed of NumPy


def whole(name: str, value: Any, low: int, high: int = MOST) -> int:
    """Return ``value`` if it is a whole number from ``low`` to ``high``, not a bool; else raise RequestError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise RequestError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
    return int(value)


def number(name: str, value: Any, low: float, high: float, *, above: bool = False, below: bool = False) -> float:
    """Return a finite number from ``low`` to ``high``, each excluded if ``above`` or ``below``; else raise RequestError."""
    fits = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not (low < value if above else low <= value) or not (value < high if below else value <= high):
        begin, end = "above" if above else "from", "and below" if below else "up to"
        raise RequestError(f"{name} must be a number {begin} {low:g} {end} {high:g}, got {value!r}")
    return value


def truth(name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False; else raise RequestError."""
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be True or False, got {value!r}")
    return value


def stop_rule(stop: float | Mapping[str, Any] | None) -> tuple[float | None, int]:
    """Read ``unlearn.stop``: the ratio, None without one, and the number of steps that it is averaged over."""
    if stop is None:
        return None, 1
    options = dict(stop) if isinstance(stop, Mapping) else {"ratio": stop}
    if set(options) - {"ratio", "window"}:
        raise RequestError(f"stop must be a ratio between 0 and 1, or dict(ratio=0.01, window=5); got {stop!r}")
    ratio = number("unlearn.stop", options.get("ratio"), 0, 1, above=True, below=True)
    return ratio, whole("unlearn.stop.window", options.get("window", 5), 1)
