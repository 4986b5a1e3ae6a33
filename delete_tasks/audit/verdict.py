"""Verdict on an erased model, one word for all tasks and commands: from attacks, the model's own predictions, and limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluation.functional import Interval, newcombe, paired
from ..evaluation.metric import Measured
from .attack import interval_of_mean

WORDS = FORGOTTEN, WEAKENED, HIDDEN, NOT_FORGOTTEN, CANNOT_TELL = (
    "forgotten", "weakened", "hidden", "not forgotten", "cannot tell"
)  # fmt: skip
STATUSES = PASS, FAIL, UNCERTAIN, NOT_MEASURED = "PASS", "FAIL", "UNCERTAIN", "NOT MEASURED"  # of a figure with a limit
LEVELS = GREEN, AMBER, RED, GREY = "green", "amber", "red", "grey"
LEVEL_OF = {FORGOTTEN: GREEN, WEAKENED: AMBER, HIDDEN: RED, NOT_FORGOTTEN: RED, CANNOT_TELL: GREY}
TITLES = {
    FORGOTTEN: "FORGOTTEN, as by a retrained model",
    WEAKENED: "WEAKENED: attacks on the features read less than before, but still read",
    HIDDEN: "HIDDEN: the model no longer predicts it, but attacks on the features read it as before",
    NOT_FORGOTTEN: "NOT FORGOTTEN: the model itself predicts it, or did until its class weights were removed",
    CANNOT_TELL: "CANNOT TELL whether it is forgotten",
}
TO_CHANCE = "FORGOTTEN: no attack on the features reads more than chance"
# Points: largest difference from the reference of a forgotten class, and from the original of a hidden one.
MARGIN = 3.0
LEAST_FALL = 0.1  # share of the way from the original to the reference, less than which counts as none
MOST_PREDICTED = 5.0  # percent of the forgotten classes' held-out samples that a model may predict as these classes


@dataclass(frozen=True)
class Reading:
    """Figures of an attack on the features: of the models, and, if known, of one without information about the class."""

    name: str
    column: str
    unit: str
    original: Measured
    erased: Measured
    retrained: Sequence[Measured] = ()
    chance: float | None = None


@dataclass(frozen=True)
class Judged:
    """Word of one attack."""

    word: str  # one of WORDS, but never NOT_FORGOTTEN
    reason: str | None = None  # why the attack cannot tell
    fell: bool = False  # it reads significantly less than before, and by more than a hidden class may
    counts: bool = True  # it reads the original beyond chance and beyond the retrained models


def difference(first: Measured, second: Measured, unit: str = "percent") -> Interval | None:
    """Compute the 95% interval of the difference of two figures; None without both intervals. Figures of the same samples are
    compared in pairs: hits and misses by :func:`.functional.paired`, others by a bootstrap that is no narrower than the interval
    of as many equal pairs; figures of different samples by Newcombe's interval."""
    if first.value is None or second.value is None:
        return None
    values, others = first.samples, second.samples
    if values is None or others is None or len(values) != len(others):
        return newcombe(first.value, first.interval, second.value, second.interval)
    change, count = values - others, len(values)
    if unit != "percent":
        return interval_of_mean(change)
    if set(np.unique(np.concatenate([values, others]))) <= {0.0, 100.0}:
        return paired(int((change > 0).sum()), int((change < 0).sum()), count)
    low, high = interval_of_mean(change)
    middle, half = float(change.mean()), paired(0, 0, count)[1]  # type: ignore[index]
    return min(low, middle - half), max(high, middle + half)


def judge(reading: Reading) -> Judged:
    """Choose the word of one attack. The reference is the highest figure of the retrained models or, without any, chance. The
    attack does not count if it reads the original no better than chance, or no better than a retrained model. *forgotten*: the
    interval of the erased model's figure less the reference's ends at most ``MARGIN`` above 0. *hidden*: the interval of the fall
    ends at most at ``MARGIN``, or ``LEAST_FALL`` of the way to the reference. *weakened*: it fell significantly and by more than
    that, and is significantly above the reference, or there is no retrained model. Else it cannot tell."""
    original, erased, unknown = reading.original, reading.erased, Measured()
    if original.value is None or erased.value is None:
        return Judged(CANNOT_TELL, erased.note or original.note or "it was not measured", counts=False)
    chance = unknown if reading.chance is None else Measured(reading.chance, interval=(reading.chance, reading.chance))
    beyond = difference(original, chance)
    if beyond is not None and beyond[0] <= 0:
        return Judged(CANNOT_TELL, "it reads the original no better than chance", counts=False)
    retrained = [figure for figure in reading.retrained if figure.value is not None]
    top = max(retrained, key=lambda figure: figure.value, default=None)  # type: ignore[arg-type, return-value]
    reference = top or chance
    gap = original.value - (reference.value or 0.0)
    above = None if top is None else difference(original, top, reading.unit)
    if top is not None and (gap <= 0 or (above is not None and above[0] <= 0)):
        return Judged(CANNOT_TELL, "it reads a retrained model as well as the original", counts=False)
    fall, rest = (difference(*pair, reading.unit) for pair in ((original, erased), (erased, reference)))
    if fall is None:
        return Judged(CANNOT_TELL, "its figures have no intervals")
    margin = MARGIN if reading.unit == "percent" else MARGIN / 100 * gap
    least = max(margin, LEAST_FALL * gap)
    fell = fall[0] > 0 and original.value - erased.value > least
    if rest is not None and rest[1] <= margin:
        return Judged(FORGOTTEN, fell=fell)
    if fall[1] <= least:
        return Judged(HIDDEN)
    if fell and (top is None or (rest is not None and rest[0] > 0)):
        return Judged(WEAKENED, fell=True)
    count = "" if erased.count is None else f" ({erased.count:,})"
    what = "from a retrained model's" if fell else "from the original's"
    return Judged(CANNOT_TELL, f"too few samples{count} to tell its figure {what}", fell=fell)


def decide(
    readings: Sequence[Reading],
    *,
    predicted: Mapping[str, Measured] | None = None,
    same_features: bool = False,
    unread: str | None = None,
) -> dict[str, Any]:
    """Combine the words of all attacks into ``verdict`` of results.json, without limits, see :func:`conclude`.

    *not forgotten*: the model itself predicts significantly more than ``MOST_PREDICTED`` percent of the forgotten classes'
    samples as these. *forgotten* or *hidden*: the word of every attack that counts; also *hidden* if the features are the
    original's. *cannot tell*: no attack can, or some cannot and the others call it forgotten. Else *weakened*.

    ``predicted`` are the percentages that the erased model itself predicts as a forgotten class, by their description; ``unread``
    is the reason why there are no readings. Return ``word``; ``title``; ``sentence`` with the figures of the strongest attack and
    of the one that fell most; ``decided_by``, its name; ``words`` and ``reasons`` by attack.
    """
    judged = {reading.name: judge(reading) for reading in readings}
    counting = [reading for reading in readings if judged[reading.name].counts]
    words = {judged[reading.name].word for reading in counting}
    fell = any(judged[reading.name].fell for reading in counting)
    predicted = predicted or {}
    least = {name: one.value if one.interval is None else one.interval[0] for name, one in predicted.items()}
    still = next((name for name, low in least.items() if low is not None and low > MOST_PREDICTED), None)
    if still is not None:
        word = NOT_FORGOTTEN
    elif counting and same_features:
        word = HIDDEN
    elif words in ({FORGOTTEN}, {HIDDEN}):
        word = words.pop()
    elif words <= {FORGOTTEN, CANNOT_TELL}:
        word = CANNOT_TELL
    else:
        word = WEAKENED if fell or len(words - {CANNOT_TELL}) > 1 or WEAKENED in words else HIDDEN
    strongest = max(counting, key=_above_chance, default=None)
    title = TITLES[word]
    if word == FORGOTTEN and not any(figure.value is not None for each in counting for figure in each.retrained):
        title = TO_CHANCE
    reasons = {name: each.reason for name, each in judged.items() if each.reason is not None}
    if still is not None:
        count = "" if predicted[still].count is None else f", {predicted[still].count:,} samples"
        sentence = f"{still}: {_figure(predicted[still], 'percent')}{count}."
    elif strongest is not None:
        sentence = _sentence(word, counting, strongest, reasons)
    else:
        sentence = (unread or next(iter(reasons.values()), "no attack was measured")).rstrip(".") + "."
    return {
        "word": word,
        "title": title,
        "sentence": sentence[:1].upper() + sentence[1:],
        "decided_by": still if still is not None else strongest and strongest.name,
        "words": {name: each.word for name, each in judged.items()},
        "reasons": reasons,
    }


def conclude(verdict: Mapping[str, Any], limits: Sequence[Mapping[str, Any]], withheld: str | None) -> dict[str, Any]:
    """Add limits of a run's figures, entries ``figures`` of the record, to the result of :func:`decide`: ``limits`` (names by
    'exceeded', 'uncertain', 'unmeasured') and ``level``, the word's or: red if a limit is exceeded, or no model was written
    (``withheld``: why); amber instead of green if one is uncertain, not measured or, of a metric that only warns, exceeded."""
    statuses = {"exceeded": FAIL, "uncertain": UNCERTAIN, "unmeasured": NOT_MEASURED}
    names = {key: [row["name"] for row in limits if row["status"] == status] for key, status in statuses.items()}
    level = LEVEL_OF[verdict["word"]]
    if withheld is not None or any(row["status"] == FAIL and not row["warns"] for row in limits):
        level = RED
    elif level == GREEN and (not limits or any(names.values())):
        level = AMBER
    return {**verdict, "limits": names, "level": level}


def headline(verdict: Mapping[str, Any]) -> str:
    """State a verdict in the terminal."""
    return f"{verdict['title']}. {verdict['sentence']}"


def _above_chance(reading: Reading) -> tuple[bool, float]:
    """Sort key of an attack's strength: percentages first, by their distance from chance on the erased model."""
    return reading.unit == "percent", (reading.erased.value or 0.0) - (reading.chance or 0.0)


def _sentence(word: str, counting: Sequence[Reading], strongest: Reading, reasons: Mapping[str, str]) -> str:
    parts = [f"Strongest attack: {_compared(strongest)}"]
    alike = [each for each in counting if each.unit == strongest.unit]
    most = max(alike, key=lambda each: (each.original.value or 0.0) - (each.erased.value or 0.0))
    if word == WEAKENED and most is not strongest:
        parts.append(f"Largest fall: {_compared(most)}")
    if word == CANNOT_TELL:
        undecided = next((each for each in counting if each.name in reasons), strongest)
        parts.append(f"{undecided.column}: {reasons.get(undecided.name, 'it cannot tell')}")
    return ". ".join(parts) + "."


def _compared(reading: Reading) -> str:
    parts = [f"original {_figure(reading.original, reading.unit, interval=False)}"]
    values = [figure.value for figure in reading.retrained if figure.value is not None]
    if values:
        digits = 1 if reading.unit == "percent" else 3
        low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
        parts.append(f"retrained {low}" if low == high else f"retrained {low} to {high}")
    if reading.chance is not None:
        parts.append(f"chance {reading.chance:.1f}")
    return f"{reading.column} reads {_figure(reading.erased, reading.unit)} ({', '.join(parts)})"


def _figure(figure: Measured, unit: str, interval: bool = True) -> str:
    digits = 1 if unit == "percent" else 3
    text = f"{figure.value:.{digits}f}{'%' if unit == 'percent' else f' {unit}'}"
    if not interval or figure.interval is None:
        return text
    return f"{text} [{figure.interval[0]:.{digits}f}, {figure.interval[1]:.{digits}f}]"
