"""The figures of ``faces remove``: what each row of the table is made of, and what is said beside it.

Rows are original, logit_cut, head_only; projection_alone, the original with the people's directions projected out of its
embedding and no step of training; erased; and row_removed, the erased model without the people's rows.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delete_images.data.opening import ImageData
from delete_images.rows import head_only
from delete_tasks.display.terminal import short
from delete_tasks.errors import RequestError, require
from delete_tasks.evaluation import Evaluation, Predictions, head_rows, through_head
from delete_tasks.evaluation.opened import Opened
from delete_tasks.evaluation.predictions import by_name
from delete_tasks.fileio.workdir import passing
from delete_tasks.model.projection import project_out

from .heads import without_rows
from .metrics import METRICS, verified
from .network import FaceNetwork
from .retain import told_of_kept

# Percent of pairs of a removed person's photos up to which the person counts as not matched, by false accept rate; and points of
# the others' up to which they count as unchanged.
MATCHED, UNCHANGED = {"1e-02": 10.0, "1e-03": 5.0}, 0.3
MOST_LOGITS = 2**26  # of a row of the table, 256 MB
FEW = 8  # photos of removed people, and of others, that evaluations are tried on


def taken_for(
    predictions: Predictions, head: nn.Module, ids: Sequence[int], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Whom the removed people's photos are taken for: name, percent of photos, mean probability and mean score of it."""
    gone = torch.isin(predictions.labels, torch.tensor(list(ids)))
    logits = predictions.logits[gone]
    if not len(logits):
        return []
    choice = logits.argmax(1)
    sure, score = logits.softmax(1).max(1).values, head.scores(logits).max(1).values  # type: ignore[operator]
    found = []
    for person in choice.unique().tolist():
        of = choice == person
        found.append(
            {
                "name": names[person],
                "percent": round(100 * float(of.float().mean()), 2),
                "probability": round(float(sure[of].mean()), 4),
                "score": round(float(score[of].mean()), 4),
            }
        )
    return sorted(found, key=lambda entry: -entry["percent"])


def rehearse(opened: Opened, gallery: ImageData) -> None:
    """Measure a few photos, with the original on both sides, so that what fails fails before the run."""
    require("matplotlib", "faces")
    gone = np.isin(gallery.labels, opened.ids)
    few = gallery.subset(np.concatenate([np.flatnonzero(part)[:FEW] for part in (gone, ~gone)]))
    trial, original = Evaluation(METRICS, opened.ids, opened.names), opened.models["original"]
    both = replace(opened, models={"original": original, "erased": original}, samples={"test": few})
    trial.attempt("a row", lambda: measure(trial, both))
    for part, reason in trial.not_measured.items():
        raise RequestError(f"{part} cannot be measured with these photos: {reason}")


def unlearned_head(
    original: FaceNetwork, ids: Sequence[int], forget: Predictions, unlearn: Mapping[str, Any], seed: int
) -> nn.Module:
    """Train the head of the row head_only on the original's predictions for the run's forget set."""
    options = {name: unlearn.get(name) for name in ("masking", "teacher_temperature", "temperature")}
    # The rows of a cosine head have no scale of their own to match.
    features: Any = forget.features
    return head_only(original.head, features, forget.labels, ids, seed, {**options, "match_scale": False})


def measure(
    evaluation: Evaluation, opened: Opened, alone: nn.Module | None = None, directions: Tensor | None = None
) -> dict[str, Any]:
    """Add every row of the table, measured on held-out photos, to ``evaluation``.

    Args:
        evaluation: Of the run.
        opened: 'original' and 'erased', both with all rows in the head, and held-out photos of everyone as 'test'.
        alone: The head of the row head_only.
        directions: ``(D, r)`` of the people, for the row projection_alone.

    Returns:
        ``verification`` of both models; ``taken_for`` with and without the row; ``verdict``; ``held_out``.
    """
    names, ids = opened.names, evaluation.ids
    models: Any = [opened.models[row].module for row in ("original", "erased")]
    original, erased = (model.network for model in models)
    rows = head_rows(opened.rows(), head_only=alone)
    before, after = rows["original"]["test"], rows["erased"]["test"]
    others = [i for i in range(len(names)) if i not in set(ids)]
    published = rows.pop("erased")
    if directions is not None and before.features is not None:
        with torch.no_grad():
            features = project_out(before.features, directions)
            logits = copy.deepcopy(original.head).cpu()(features)
        rows["projection_alone"] = {"test": replace(before, features=features, logits=logits)}
    rows["erased"] = published
    without = through_head(after, without_rows(erased.head, ids)) if len(others) >= 2 else None
    if without is not None:
        rows["row_removed"] = {"test": by_name(without, [names[i] for i in others], names)}
    for name, row in rows.items():
        evaluation.add(name, row)
    checks = {name: verified(given, ids) for name, given in (("original", before), ("erased", after))}
    told = "Not measured: the model gives no rows of embeddings."
    if checks["original"] and checks["erased"]:
        told = verdict(checks["original"], checks["erased"], evaluation.rows["erased"]["identified"].value)
    gone = torch.isin(before.labels, torch.tensor(ids))
    last = after if without is None else rows["row_removed"]["test"]
    return {
        "verification": checks,
        "taken_for": {
            "with_row": taken_for(after, erased.head, ids, names),
            "row_removed": None
            if without is None
            else taken_for(without, erased.head, ids, [names[i] for i in others]),
        },
        "verdict": told,
        "held_out": {"photos": len(before.labels), "of_removed_people": int(gone.sum())},
        "predicted_as": torch.bincount(last.predicted[gone], minlength=len(names)),
    }


def residue(work_dir: Path, names: Sequence[str], model: str, photos: str) -> list[str]:
    """List the files that still hold the removed people: the original, the photos, and files of the run with a name or face."""
    spellings = {spelling.encode() for name in names for spelling in (name, name.replace("_", " "))}
    found = [f"{model} (the original model)", f"{photos} (the photos)"]
    going = passing(work_dir)
    for path in sorted(work_dir.rglob("*")):
        inside = path.relative_to(work_dir)
        if not path.is_file() or inside.parts[0] == "erased" or path.resolve() in going:
            continue
        carries_face = path.suffix in (".png", ".pth", ".safetensors")
        named = str(inside).encode() + b"\n" + path.read_bytes()
        if carries_face or any(spelling in named for spelling in spellings):
            found.append(str(path))
    return found


def few_enough(
    gallery: ImageData, ids: Sequence[int], people: int, most: int = MOST_LOGITS
) -> tuple[ImageData, str | None]:
    """At most ``most / people`` photos to measure on, since each takes a logit for each of so many people: the removed people's,
    and of the others' a random choice; and what to say of it, if any are left out."""
    count = max(2 * FEW, most // people)
    if len(gallery) <= count:
        return gallery, None
    order = np.random.default_rng(0).permutation(len(gallery))
    gone = np.isin(gallery.labels[order], list(ids))
    chosen = np.sort(np.r_[order[gone], order[~gone]][:count])
    return gallery.subset(
        chosen
    ), f"Measured on a random {count:,} of {len(gallery):,} photos, for the memory that {people:,} people take"


def without_duplicates(gallery: ImageData, forget: ImageData) -> tuple[ImageData, int]:
    """``gallery`` without faces that are pixel for pixel in ``forget``, and how many those were."""
    known = set(forget.digests())
    fresh = [i for i, digest in enumerate(gallery.digests()) if digest not in known]
    return gallery.subset(fresh), len(gallery) - len(fresh)


def lines_of(results: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal, of what results.json holds."""
    details, lines = results["details"], []
    check = (details.get("verification") or {}).get("original")
    if check is not None and any(at["threshold"] is not None for at in check["at"].values()):
        pairs = {name: f"{check[f'{name}_pairs']:,}" for name in ("impostor", "removed", "kept")}
        lines.append(
            f"TAR@FAR: share of pairs of photos of one person that match at the threshold that a share FAR of {pairs['impostor']}"
            f" pairs of different people reach. Pairs of a removed person: {pairs['removed']}, of another: {pairs['kept']}"
        )
    if details.get("retain") is not None:
        lines.append(told_of_kept(details["retain"]))
    if details.get("gallery") is not None:
        lines.append(_of_gallery(details["gallery"]))
    return [
        *lines,
        details["verdict"],
        f"Still holding these people, to be destroyed by you: {', '.join(map(short, details['still_holding']))}",
    ]


def _of_gallery(done: Mapping[str, Any]) -> str:
    kept = f"The gallery without these people, {done['templates']:,} templates, is beside the erased model"
    if not done["projected"] and done["exact"]:
        return f"{kept}, each as it was."
    drift = (
        f"cosine with what they were: {done['mean_cosine']:.3f} in the mean, {done['least_cosine']:.3f} at the least"
    )
    if done["exact"]:
        return f"{kept}, as the erased embedder makes them ({drift})."
    return (
        f"{kept}, projected ({drift}); training moved the embedder, too: make them anew with delete-tasks faces embed."
    )


def answer(people: Sequence[str], checks: Mapping[str, Any], others: int) -> str | None:
    """Answer in one line whether photos of the removed people still match, and those of the others.

    Args:
        people: Names of the removed ones.
        checks: Verification of 'original' and 'erased'.
        others: How many people are left.

    Returns:
        None where verification was not measured.
    """
    before, after = checks["original"], checks["erased"]
    if before is None or after is None:
        return None
    known = [far for far in MATCHED if None not in (before["at"][far]["removed"], after["at"][far]["removed"])]
    if not known:
        return None
    far = known[-1]
    (then, was), (now, kept) = ((at["removed"], at["kept"]) for at in (before["at"][far], after["at"][far]))
    word = "no longer matched" if now <= MATCHED[far] else "seldom matched" if now <= then / 2 else "still matched"
    rest = "unchanged" if abs(kept - was) <= UNCHANGED else "changed"
    return (
        f"{', '.join(person.replace('_', ' ') for person in people)}: {word} (TAR {now:.1f}% at FAR {float(far):g}, {then:.1f}% "
        f"before); {others} other{'s' if others != 1 else ''} {rest} ({was:.1f} -> {kept:.1f})"
    )


def verdict(before: dict[str, Any], after: dict[str, Any], identified: float | None) -> str:
    """State whether the removed people are still recognised.

    Args:
        before: Figures of the original, see :func:`delete_tasks.evaluation.verification.verification`.
        after: Figures of the erased model.
        identified: Percent of the removed people's held-out photos that the erased model's head gives to them; None where
            that was not measured.
    """
    measured = [far for far in MATCHED if None not in (after["at"][far]["removed"], before["at"][far]["removed"])]
    if not measured:
        loosest = max(map(float, MATCHED))
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
