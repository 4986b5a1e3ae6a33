"""Depth of forgetting and verdict over all attacks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.metric import Measured
from .attack import Attack, Found, interval_of_mean, resampled_means

HIDDEN, WEAKENED, RETRAINED, UNKNOWN = "hidden", "weakened", "as a retrained model", "not measured"
ORIGINAL, ERASED = "original", "erased"
ALIKE = "a retrained model is read as well as the original, so depth is undefined"
Rows = Mapping[str, Mapping[str, Measured]]


def retrained_names(rows: Rows) -> list[str]:
    """Return the names of models that never saw the classes."""
    return [name for name in rows if name.startswith("retrained")]


def depth(original: Measured, erased: Measured, retrained: Sequence[Measured]) -> Measured:
    """Compute ``(original - erased) / (original - mean of retrained)`` of an attack's figures: 0 if the class is only hidden, 1
    for a retrained model.

    The bootstrap interval needs figures of the same samples. There is no value if a figure is missing, or if the original's is
    not above the retrained models'.
    """
    values = [figure.value for figure in retrained if figure.value is not None]
    if original.value is None or erased.value is None:
        return Measured(note="the original or the erased model was not read")
    if not values:
        notes = (figure.note for figure in retrained if figure.note)
        return Measured(note=next(notes, "no retrained model is given"))
    gap = original.value - float(np.mean(values))
    samples = [_samples(figure) for figure in (original, erased, *retrained)]
    paired = [values for values in samples if values is not None]
    if len(paired) < len(samples) or len({len(values) for values in paired}) > 1:
        if abs(gap) < 1e-9:
            return Measured(note=ALIKE)
        note = "the figures are not of the same samples, so there is no interval"
        return Measured(round((original.value - erased.value) / gap, 3), erased.count, note=note)
    means = resampled_means(*paired)
    gaps = means[0] - np.mean(means[2:], 0)
    least, most = np.percentile(gaps, [2.5, 97.5])
    if least <= 0 <= most:
        return Measured(note=ALIKE)
    nonzero = gaps != 0
    low, high = np.percentile((means[0] - means[1])[nonzero] / gaps[nonzero], [2.5, 97.5])
    value = round((original.value - erased.value) / gap, 3)
    return Measured(value, erased.count, (round(float(low), 3), round(float(high), 3)))


def _samples(figure: Measured) -> NDArray[np.float64] | None:
    return figure.samples if isinstance(figure, Found) else None


def word(original: Measured, erased: Measured, retrained: Sequence[Measured] = ()) -> str:
    """Return *hidden*, *weakened*, *as a retrained model* or *not measured* for one attack.

    Hidden: the erased model's figure is not significantly below the original's (the interval of the difference includes 0). As a
    retrained model: it is not significantly above the highest of the retrained models'. If that one is not significantly below
    the original's, the attack cannot decide.
    """
    if original.value is None or erased.value is None:
        return UNKNOWN
    measured = [figure for figure in retrained if figure.value is not None]
    top = max(measured, key=lambda figure: figure.value, default=None)  # type: ignore[arg-type, return-value]
    if top is not None and _not_above(original, top):
        return UNKNOWN
    if _not_above(original, erased):
        return HIDDEN
    return RETRAINED if top is not None and _not_above(erased, top) else WEAKENED


def _not_above(first: Measured, second: Measured) -> bool:
    """Return True if the first figure is not significantly above the second."""
    if first.value is None or second.value is None:
        return False
    values, others = _samples(first), _samples(second)
    if values is not None and others is not None and len(values) == len(others):
        difference = values - others
        return not difference.any() or interval_of_mean(difference)[0] <= 0
    if first.value <= second.value:
        return True
    return first.interval is not None and second.interval is not None and first.interval[0] <= second.interval[1]


def verdict(attacks: Sequence[Attack], rows: Rows, same_features: bool = False) -> dict[str, Any]:
    """Combine the words of all attacks that read the features, and describe the first of these attacks.

    *hidden*: the word of every attack, or the features are the original's (``same_features``). *as a retrained model*: the word
    of every attack. Else *weakened*.
    Return ``word``; ``words`` by attack; ``sentence`` and the attack it is about, ``of``, both None if no attack reads.
    """
    readers = [attack for attack in attacks if attack.reads and attack.of_features]
    words = {}
    for attack in readers:
        names = (ORIGINAL, ERASED, *retrained_names(rows))
        original, erased, *retrained = (rows[name].get(attack.name, Measured()) for name in names)
        words[attack.name] = word(original, erased, retrained)
    measured = set(words.values()) - {UNKNOWN}
    overall = UNKNOWN if not measured else WEAKENED if len(measured) > 1 else next(iter(measured))
    candidates = [attack for attack in readers if words[attack.name] != UNKNOWN]
    candidates += [attack for attack in readers if rows[ERASED].get(attack.name, Measured()).value is not None]
    first = next(iter(candidates), None)
    return {
        "word": HIDDEN if same_features and first is not None else overall,
        "words": words,
        "of": None if first is None else first.name,
        "sentence": None if first is None else _sentence(first, rows),
    }


def _sentence(attack: Attack, rows: Rows) -> str:
    def text(value: float | None) -> str:
        if value is None:
            return "NOT MEASURED"
        return f"{value:.1f}%" if attack.unit == "percent" else f"{value:.3f} {attack.unit}"

    original, erased = (rows[name][attack.name].value for name in (ORIGINAL, ERASED))
    parts = [f"{attack.column} still reads {text(erased)}", f"original {text(original)}"]
    retrained = [rows[name][attack.name].value for name in retrained_names(rows)]
    values = [value for value in retrained if value is not None]
    if values:
        low, high = text(min(values)), text(max(values))
        parts.append(f"retrained {low}" if low == high else f"retrained {low} to {high}")
    return ", ".join(parts)
