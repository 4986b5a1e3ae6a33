"""Numbers that must lie in a range."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from delete_tasks.errors import RequestError


def within(
    name: str,
    value: Any,
    least: float,
    most: float,
    *,
    whole: bool = False,
    open_below: bool = False,
    open_above: bool = False,
) -> Any:
    """Return ``value`` if it is a finite number from ``least`` to ``most``, else raise RequestError that names it.

    Args:
        name: Of the option, for the message.
        value: What was given; NumPy's numbers are numbers, booleans are not.
        least: Smallest allowed value.
        most: Largest.
        whole: Only whole numbers.
        open_below, open_above: ``least``, ``most`` themselves are not allowed.
    """
    number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    finite = number and (isinstance(value, Integral) or math.isfinite(value))
    if not finite or not least <= value <= most or (open_below and value == least) or (open_above and value == most):
        kind = "a whole number" if whole else "a number"
        low, high = (int(bound) if bound == int(bound) else bound for bound in (least, most))
        bounds = f"{'above' if open_below else 'at least'} {low:,} and {'below' if open_above else 'at most'} {high:,}"
        raise RequestError(f"{name} is {value!r}; expected {kind} {bounds}")
    return value
