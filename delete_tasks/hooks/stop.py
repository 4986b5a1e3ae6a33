"""The option that ends a run as soon as the forget set is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import ranges
from ..errors import RequestError


def read_stop(stop: float | Mapping[str, Any] | None) -> tuple[float | None, int]:
    """``stop`` of :class:`delete_tasks.hooks.unlearn.UnlearnHook`: the ratio, and how many steps it is taken over."""
    if stop is None:
        return None, 1
    options = dict(stop) if isinstance(stop, Mapping) else {"ratio": stop}
    if set(options) - {"ratio", "window"}:
        raise RequestError(f"stop must be a ratio between 0 and 1, or dict(ratio=0.01, window=5); got {stop!r}")
    ratio = ranges.number("unlearn.stop", options.get("ratio"), 0, 1, above=True, below=True)
    return ratio, ranges.whole("unlearn.stop.window", options.get("window", 5), 1)
