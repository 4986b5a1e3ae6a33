"""Whether removed people are still recognised, in words."""

from __future__ import annotations

from typing import Any


def verdict(before: dict[str, Any], after: dict[str, Any], identified: float | None) -> str:
    """In words, whether the removed people are still recognised.

    Args:
        before: Figures of the original, see :func:`delete_tasks.evaluation.verification.verification`.
        after: Figures of the erased model.
        identified: Percent of the removed people's held-out photos that the erased model's head gives to them; None where
            that was not measured.
    """
    measured = [far for far in after["at"] if None not in (after["at"][far]["removed"], before["at"][far]["removed"])]
    if not measured:
        loosest = max(map(float, after["at"]))
        return (
            "Not measured: whether embeddings still verify the removed people. That takes two or more held-out photos of a "
            f"removed person, and {1 / loosest:.0f} pairs of photos of different kept people to set the threshold on (--test)."
        )
    sampled = after.get("sampled")
    choice = f" Measured on a random choice of {sampled['photos']:,} of {sampled['of']:,} photos." if sampled else ""
    return _judge(before, after, identified, min(measured, key=float)) + choice


def _judge(before: dict[str, Any], after: dict[str, Any], identified: float | None, strictest: str) -> str:
    now, then = after["at"][strictest]["removed"], before["at"][strictest]["removed"]
    head = "" if identified is None else f"The head names them in {identified:.1f}% of held-out photos. "
    rate = f"two photos of a removed person still match in {now:.1f}% of pairs at FAR {float(strictest):g} ({then:.1f}% before)"
    if now >= then:
        return (
            f"Not forgotten. {head}Embeddings are what a face system compares, and {rate}: the person was only hidden."
        )
    if now > then / 2:
        return f"Partly forgotten. {head}Embeddings recognise them less, but {rate}."
    return (
        f"Largely forgotten, not wholly. {head}By embeddings {rate}."
        if now > 0
        else (
            f"No longer verified. {head}By embeddings {rate}. A probe trained on labelled photos may still read more."
        )
    )
