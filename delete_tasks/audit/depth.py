"""Depth of forgetting: an attack's figures of the erased and of retrained models on one scale."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..evaluation.metric import Measured
from .attack import resampled_means

ALIKE = "a retrained model is read as well as the original, so depth is undefined"


def retrained_names(rows: Iterable[str]) -> list[str]:
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
    samples = [getattr(figure, "samples", None) for figure in (original, erased, *retrained)]
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
