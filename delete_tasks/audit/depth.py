"""What all attacks say together: how deep the class is forgotten, as a number and as a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..evaluation.metric import Measured
from .attack import Attack, Found, interval_of_mean, resampled_means

HIDDEN, WEAKENED, RETRAINED, UNKNOWN = "hidden", "weakened", "as a retrained model", "not measured"
ORIGINAL, ERASED = "original", "erased"
ALIKE = "a retrained model is read as well as the original, so there is nothing to compare by"
Rows = Mapping[str, Mapping[str, Measured]]


def retrained_names(rows: Rows) -> list[str]:
    """Rows of models that never saw the classes."""
    return [name for name in rows if name.startswith("retrained")]


def depth(original: Measured, erased: Measured, retrained: Sequence[Measured]) -> Measured:
    """``(read(original) - read(erased)) / (read(original) - read(retrained))``: 0 is only hidden, 1 as a retrained model.

    Args:
        original, erased: What an attack reads of them.
        retrained: Of models that never saw the classes; their mean counts.

    Returns:
        With a bootstrap interval where the three are figures of the same samples. None where a part is missing, or where the
        original reads no more than a retrained model.
    """
    known = [one.value for one in retrained if one.value is not None]
    if original.value is None or erased.value is None:
        return Measured(note="the original or the erased model was not read")
    if not known:
        return Measured(note=_why_unread(retrained))
    gap = original.value - float(np.mean(known))
    parts = [original, erased, *retrained]
    samples = [part.samples if isinstance(part, Found) else None for part in parts]
    paired = [one for one in samples if one is not None]
    aligned = len(paired) == len(parts) and len({len(one) for one in paired}) == 1
    means = resampled_means(*paired) if aligned else []
    if aligned:
        least, most = np.percentile(means[0] - np.mean(means[2:], 0), [2.5, 97.5])
        if least <= 0 <= most:
            return Measured(note=ALIKE)
    elif abs(gap) < 1e-9:
        return Measured(note=ALIKE)
    value = round((original.value - erased.value) / gap, 3)
    if not aligned:
        return Measured(
            value, erased.count, note="the figures are not of the same samples, one by one, so it has no interval"
        )

    below = means[0] - np.mean(means[2:], 0)
    apart = below != 0
    low, high = np.percentile((means[0] - means[1])[apart] / below[apart], [2.5, 97.5])
    return Measured(value, erased.count, (round(float(low), 3), round(float(high), 3)))


def _why_unread(retrained: Sequence[Measured]) -> str:
    return next((one.note for one in retrained if one.note), "no retrained model is given")


def word(original: Measured, erased: Measured, retrained: Sequence[Measured] = ()) -> str:
    """*hidden*, *weakened* or *as a retrained model*, of one attack that reads more of a model that knows more.

    It is hidden where the erased model is not read worse than the original beyond what the samples' number allows: the interval
    of the difference holds 0. It is as a retrained model where the same is true of it and the most readable retrained one. Where
    that one is not read worse than the original either, the attack tells nothing.
    """
    if original.value is None or erased.value is None:
        return UNKNOWN
    known = [one for one in retrained if one.value is not None]
    top = max(known, key=lambda one: one.value, default=None)  # type: ignore[arg-type, return-value]
    if top is not None and _not_above(original, top):
        return UNKNOWN
    if _not_above(original, erased):
        return HIDDEN
    return RETRAINED if top is not None and _not_above(erased, top) else WEAKENED


def _not_above(first: Measured, second: Measured) -> bool:
    """Whether the first is not read better than the second, as far as the samples tell."""
    if first.value is None or second.value is None:
        return False
    one, other = (part.samples if isinstance(part, Found) else None for part in (first, second))
    if one is not None and other is not None and len(one) == len(other):
        difference = one - other
        if not difference.any():
            return True
        return interval_of_mean(difference)[0] <= 0
    if first.value <= second.value:
        return True
    return first.interval is not None and second.interval is not None and first.interval[0] <= second.interval[1]


def verdict(attacks: Sequence[Attack], rows: Rows, same_features: bool = False) -> dict[str, Any]:
    """The verdict over all attacks that read the features, and the sentence that says what the first of them reads.

    *hidden* takes that every such attack reads as much as before, or that the features are the original's; *as a retrained model*
    that every one reads no more than of a retrained one; all else is *weakened*.

    Args:
        attacks: All.
        rows: What they found.
        same_features: The erased model's features are the original's, whatever the samples tell of them.

    Returns:
        ``word``; ``words`` by attack; ``of``, the attack that ``sentence`` is about; both None where none reads.
    """
    readers = [attack for attack in attacks if attack.reads and attack.of_features]
    others = retrained_names(rows)
    words = {}
    for attack in readers:
        found = {name: rows[name].get(attack.name, Measured()) for name in (ORIGINAL, ERASED, *others)}
        words[attack.name] = word(found[ORIGINAL], found[ERASED], [found[name] for name in others])
    measured = {one for one in words.values() if one != UNKNOWN}
    overall = UNKNOWN if not measured else WEAKENED if len(measured) > 1 else next(iter(measured))
    known = [attack for attack in readers if words[attack.name] != UNKNOWN]
    known += [attack for attack in readers if rows[ERASED].get(attack.name, Measured()).value is not None]
    first = next(iter(known), None)
    if same_features and first is not None:
        overall = HIDDEN
    return {
        "word": overall,
        "words": words,
        "of": None if first is None else first.name,
        "sentence": None if first is None else _sentence(first, rows),
    }


def _sentence(attack: Attack, rows: Rows) -> str:
    def told(value: float | None) -> str:
        if value is None:
            return "NOT MEASURED"
        return f"{value:.1f}%" if attack.unit == "percent" else f"{value:.3f} {attack.unit}"

    original, erased = (rows[name][attack.name].value for name in (ORIGINAL, ERASED))
    parts = [f"{attack.column} still reads {told(erased)}", f"original {told(original)}"]
    known = [rows[name][attack.name].value for name in retrained_names(rows)]
    values = [value for value in known if value is not None]
    if values:
        low, high = told(min(values)), told(max(values))
        parts.append(f"retrained {low}" if low == high else f"retrained {low} to {high}")
    return ", ".join(parts)
