"""ACC, ASR, RA and their kin, defined in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from delete_images.counts import counts
from delete_images.evaluate import Answers, count, per_class

DEFINITIONS = {
    "ACC": "share of clean test images predicted as their class",
    "ASR": "share of triggered test images not of the target class that are predicted as the target",
    "base": "share of those same images that are predicted as the target without the trigger: an ASR that is no backdoor",
    "RA": "share of those same triggered images that are predicted as their true class",
    "target acc": "share of clean test images of the target class that are predicted as it",
    "worst drop": "the class whose accuracy on clean test images fell most, and by how many points",
}


def figures(
    clean: Answers, triggered: Answers | None, original: Answers, target: int, names: Sequence[str]
) -> dict[str, Any]:
    """One row of the table, in percent; None is "not measured". See :data:`DEFINITIONS`.

    Args:
        clean: Answers to clean test images.
        triggered: Answers to the same images with the trigger, those of the target class left out; labels are the true ones.
        original: The original's answers to the clean images.
        target: The attacker's class.
        names: Class names.
    """
    found = count(clean)
    now, then = per_class(found, names), per_class(count(original), names)
    drops = {name: round(then[name] - value, 2) for name, value in now.items() if value is not None}  # type: ignore[operator]
    worst = max(drops, key=drops.__getitem__) if drops else None
    out: dict[str, Any] = {
        "acc": _percent(found.hits.sum(), found.totals.sum()),
        "asr": None,
        "base": _percent(found.predicted[target] - found.hits[target], found.totals.sum() - found.totals[target]),
        "ra": None,
        "target_acc": now[names[target]],
        "worst_drop": None if worst is None else {"class": worst, "points": drops[worst]},
        "per_class": now,
        "images": {"clean": int(found.totals.sum()), "triggered": None},
        "counts": counts(None, clean, original, ())["test"],
    }
    if triggered is not None:
        others = triggered.labels != target
        said, labels = triggered.logits[others].argmax(1), triggered.labels[others]
        out["asr"] = _percent(int((said == target).sum()), len(said))
        out["ra"] = _percent(int((said == labels).sum()), len(said))
        out["images"]["triggered"] = len(said)
    return out


def _percent(hits: Any, total: Any) -> float | None:
    return round(100 * float(hits) / float(total), 2) if total else None
