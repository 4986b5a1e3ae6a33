"""The figures of ``faces remove``: rows original, logit_cut, head_only, erased, and the erased model without the person's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from delete_images.counts import counts
from delete_images.data import ImageData
from delete_images.erase import erase
from delete_images.evaluate import Answers, answers, cut, through_head
from delete_images.model_file import ModelSpec
from delete_images.runs import RATES
from delete_tasks.checkpoint import tensors_sha256
from delete_tasks.errors import require
from delete_tasks.forget_set import digest_of
from delete_tasks.workdir import claimed

from .heads import without_rows
from .network import FaceNetwork
from .verify import verdict, verification

ROWS = ("original", "logit_cut", "head_only", "erased", "row_removed")
HEAD_STEPS = 200  # of the head_only row
FEW = 8  # photos of removed people, and of others, that evaluations are tried on


def identification(said: Answers, ids: Sequence[int], people: Sequence[int] | None = None) -> dict[str, Any]:
    """Percent of photos whose first choice is their own person, of removed and of kept people; None where there are none.

    Args:
        said: Logits of a model.
        ids: Labels of the removed people.
        people: The label of each logit, where the model knows fewer people than there are labels.
    """
    choice = said.logits.argmax(1)
    if people is not None:
        choice = torch.tensor(list(people))[choice]
    right, gone = choice == said.labels, torch.isin(said.labels, torch.tensor(list(ids)))
    return {"removed": _percent(right[gone]), "kept": _percent(right[~gone])}


def _counts(said: Answers, ids: Sequence[int], check: Mapping[str, Any] | None) -> dict[str, int | None]:
    """Photos and pairs of photos that a row's percentages are of."""
    gone = int(torch.isin(said.labels, torch.tensor(list(ids))).sum())
    pairs = ("removed_pairs", "kept_pairs", "impostor_pairs", "removed_as_kept_pairs")
    return {
        "removed_photos": gone,
        "kept_photos": len(said.labels) - gone,
        **{name: None if check is None else check[name] for name in pairs},
    }


def _percent(hits: torch.Tensor) -> float | None:
    return round(100 * float(hits.float().mean()), 2) if len(hits) else None


def taken_for(said: Answers, head: nn.Module, ids: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
    """Whom the removed people's photos are taken for: name, percent of photos, mean probability and mean score of it."""
    gone = torch.isin(said.labels, torch.tensor(list(ids)))
    logits = said.logits[gone]
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


def not_measured(why: str) -> dict[str, Any]:
    """What :func:`measure` returns where nothing is measured, with the reason as its verdict."""
    row = {"identified": {"removed": None, "kept": None}, "verification": None, "counts": None}
    return {"rows": dict.fromkeys(ROWS, row), "taken_for": None, "verdict": why, "held_out": None, "counts": None}


def rehearse(
    original: FaceNetwork,
    spec: ModelSpec,
    ids: Sequence[int],
    forget: ImageData,
    gallery: ImageData | None,
    unlearn: Mapping[str, Any],
    seed: int,
) -> None:
    """Every evaluation of a run on a few photos, with the original on both sides, so that what fails fails before the run."""
    if gallery is None:
        return
    require("matplotlib", "faces")
    few = [places[:FEW] for gone in (True, False) for places in [np.flatnonzero(np.isin(gallery.labels, ids) == gone)]]
    measure(
        original,
        original,
        spec,
        ids,
        forget.subset(range(min(FEW, len(forget)))),
        gallery.subset(np.concatenate(few)),
        unlearn,
        seed,
    )


def measure(
    original: FaceNetwork,
    erased: FaceNetwork,
    spec: ModelSpec,
    ids: Sequence[int],
    forget: ImageData,
    gallery: ImageData | None,
    unlearn: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Every figure on held-out photos.

    Args:
        original: Before.
        erased: After, all rows still in its head.
        spec: Of the original.
        ids: The removed people.
        forget: What was unlearned; the head_only row is made from it.
        gallery: Held-out faces of all people; None leaves everything unmeasured.
        unlearn: The run's options.
        seed: Of the head_only row.

    Returns:
        ``rows`` (``identified``, ``verification`` and ``counts`` of each), ``taken_for`` with and without the row,
        ``verdict``, ``held_out``, and ``counts`` of the erased row, see :func:`delete_images.counts.counts`.
    """
    if gallery is None or not len(gallery):
        return not_measured("Not measured: give held-out photos of the removed and of other people (--eval).")
    names = spec.classes
    before, after = _of_original(original, spec, gallery), answers(erased, spec, gallery, "Erased")
    smaller = without_rows(erased.head, ids) if len(names) - len(ids) >= 2 else None
    others = [i for i in range(len(names)) if i not in set(ids)]
    said: dict[str, Answers | None] = {
        "original": before,
        "logit_cut": cut(before, ids),
        "head_only": through_head(before, _head_only(original, spec, ids, forget, unlearn, seed)),
        "erased": after,
        "row_removed": None if smaller is None else through_head(after, smaller),
    }
    labels = before.labels.numpy()
    checks: dict[str, dict[str, Any] | None] = {}
    for name, source in (("original", before), ("erased", after)):
        features = source.features
        checks[name] = None if features is None else verification(features.numpy(), labels, ids)
    rows: dict[str, Any] = {}
    for name in ROWS:
        answer = said[name]
        rows[name] = {
            "identified": {"removed": None, "kept": None}
            if answer is None
            else identification(answer, ids, others if name == "row_removed" else None),
            # Cutting a logit, or changing the head alone, leaves the embeddings as they are: that is the point of the rows.
            "verification": checks["erased" if name in ("erased", "row_removed") else "original"],
            "counts": None if answer is None else _counts(answer, ids, checks["original"]),
        }
    without = said["row_removed"]
    return {
        "rows": rows,
        "taken_for": {
            "with_row": taken_for(after, erased.head, ids, names),
            "row_removed": None
            if without is None
            else taken_for(without, erased.head, ids, [names[i] for i in others]),
        },
        "verdict": verdict(checks["original"], checks["erased"], rows["erased"]["identified"]["removed"])
        if checks["original"] and checks["erased"]
        else "Not measured: the model gives no rows of embeddings.",
        "held_out": {
            "photos": len(gallery),
            "of_removed_people": int(torch.isin(before.labels, torch.tensor(list(ids))).sum()),
        },
        "counts": counts(None, after, before, ids)["test"],
    }


_LAST: dict[str, Answers] = {}


def _of_original(original: FaceNetwork, spec: ModelSpec, gallery: ImageData) -> Answers:
    """The original's answers, kept in case the next removal of this process starts from the same model and gallery."""
    key = digest_of([tensors_sha256(original.state_dict()), *gallery.names, *map(str, gallery.labels)])
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = answers(original, spec, gallery, "Original")
    return _LAST[key]


def _head_only(
    original: FaceNetwork, spec: ModelSpec, ids: Sequence[int], forget: ImageData, unlearn: Mapping[str, Any], seed: int
) -> nn.Module:
    """The original's head, unlearned on the forget set's embeddings: HeadOnly without its passes through the body."""
    given = answers(original, spec, forget, "Head only")
    options = {name: unlearn[name] for name in ("masking", "sharpen", "temperature") if unlearn.get(name) is not None}
    samples = TensorDataset(given.features, given.labels)  # type: ignore[arg-type]
    head = erase(
        original.head,
        samples,
        list(ids),
        class_names=spec.classes,
        lr=RATES["HeadOnly"],
        steps=HEAD_STEPS,
        seed=seed,
        keep_row=True,  # a row of the table, never published; and the rows of a cosine head have neither scale nor neutral value
        match_scale=False,
        **options,
    )
    return head.model


def residue(work_dir: Path, names: Sequence[str], model: str, photos: str) -> list[str]:
    """What still holds the removed people: the original, the photos, and files of the run that carry a name or a face."""
    spellings = {spelling.encode() for name in names for spelling in (name, name.replace("_", " "))}
    found = [f"{model} (the original model)", f"{photos} (the photos)"]
    owner = claimed(work_dir)
    passing = owner.passing() if owner is not None else set()
    for path in sorted(work_dir.rglob("*")):
        inside = path.relative_to(work_dir)
        if not path.is_file() or inside.parts[0] == "erased" or path.resolve() in passing:
            continue
        carries_face = path.suffix in (".png", ".pth", ".safetensors")
        named = str(inside).encode() + b"\n" + path.read_bytes()
        if carries_face or any(spelling in named for spelling in spellings):
            found.append(str(path))
    return found


def without_duplicates(gallery: ImageData, forget: ImageData) -> tuple[ImageData, int]:
    """``gallery`` without faces that are pixel for pixel in ``forget``, and how many those were."""
    known = {forget[i][0].tobytes() for i in range(len(forget))}
    fresh = [i for i in range(len(gallery)) if gallery[i][0].tobytes() not in known]
    return gallery.subset(fresh), len(gallery) - len(fresh)
