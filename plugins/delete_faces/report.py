"""Figures of ``faces remove``: the rows of its table, and the sentences beside it.

Rows are original, logit_cut, head_only; projection_alone, the original with the people's directions projected out of its
embedding and no step of training; erased; and row_removed, the erased model without the people's class weights.
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

from .heads import without_classes
from .metrics import METRICS, verified
from .network import FaceNetwork

# Highest TAR of removed people that counts as not matched, by false accept rate, and highest change of the others' TAR that is
# unchanged; in percent and points.
MATCHED, UNCHANGED = {"1e-02": 10.0, "1e-03": 5.0}, 0.3
FEW = 8  # photos of removed people, and of others, in the rehearsal


def taken_for(
    predictions: Predictions, head: nn.Module, ids: Sequence[int], names: Sequence[str]
) -> list[dict[str, Any]]:
    """List the people that the removed people's photos are taken for: name, percent of photos, mean probability and score."""
    logits = predictions.logits[torch.isin(predictions.labels, torch.tensor(list(ids)))]
    if not len(logits):
        return []
    choice = logits.argmax(1)
    probability, score = logits.softmax(1).max(1).values, head.scores(logits).max(1).values  # type: ignore[operator]
    people = [
        {
            "name": names[person],
            "percent": round(100 * float((choice == person).float().mean()), 2),
            "probability": round(float(probability[choice == person].mean()), 4),
            "score": round(float(score[choice == person].mean()), 4),
        }
        for person in choice.unique().tolist()
    ]
    return sorted(people, key=lambda entry: -entry["percent"])


def rehearse(opened: Opened, gallery: ImageData) -> None:
    """Measure a few photos, with the original as erased model as well, so that what fails fails before the run."""
    require("matplotlib", "faces")
    removed = np.isin(gallery.labels, opened.ids)
    few = gallery.subset(np.concatenate([np.flatnonzero(part)[:FEW] for part in (removed, ~removed)]))
    trial, original = Evaluation(METRICS, opened.ids, opened.names), opened.models["original"]
    both = replace(opened, models={"original": original, "erased": original}, samples={"test": few})
    trial.attempt("a row", lambda: measure(trial, both))
    for part, reason in trial.not_measured.items():
        raise RequestError(f"{part} cannot be measured with these photos: {reason}")


def unlearned_head(original: FaceNetwork, ids: Sequence[int], forget: Predictions) -> nn.Module:
    """Train the head of the row head_only on the original's predictions for the forget set."""
    features: Any = forget.features
    return head_only(original.head, features, ids, rescale=False)  # a cosine head has no scale


def measure(
    evaluation: Evaluation, opened: Opened, alone: nn.Module | None = None, directions: Tensor | None = None
) -> dict[str, Any]:
    """Add every row of the table to ``evaluation``; return details for results.json, and ``predicted_as``.

    Args:
        opened: 'original' and 'erased', both with everyone's class weights, and held-out photos of everyone as 'test'.
        alone: Head of the row head_only.
        directions: ``(D, r)`` of the people, for the row projection_alone.
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
    without = through_head(after, without_classes(erased.head, ids)) if len(others) >= 2 else None
    last, taken = after, None
    if without is not None:
        other_names = [names[i] for i in others]
        last, taken = by_name(without, other_names, names), taken_for(without, erased.head, ids, other_names)
        rows["row_removed"] = {"test": last}
    for name, row in rows.items():
        evaluation.add(name, row)
    checks = {name: verified(predictions, ids) for name, predictions in (("original", before), ("erased", after))}
    text = "Not measured: the model does not return one embedding per photo."
    if checks["original"] and checks["erased"]:
        text = verdict(checks["original"], checks["erased"], evaluation.rows["erased"]["identified"].value)
    removed = torch.isin(before.labels, torch.tensor(ids))
    return {
        "verification": checks,
        "taken_for": {"with_row": taken_for(after, erased.head, ids, names), "row_removed": taken},
        "verdict": text,
        "held_out": {"photos": len(before.labels), "of_removed_people": int(removed.sum())},
        "predicted_as": torch.bincount(last.predicted[removed], minlength=len(names)),
    }


def residue(work_dir: Path, names: Sequence[str], model: str, photos: str) -> list[str]:
    """List the files that still hold the removed people: the original, the photos, and files of the run with a name or face."""
    spellings = {spelling.encode() for name in names for spelling in (name, name.replace("_", " "))}
    files = [f"{model} (the original model)", f"{photos} (the photos)"]
    temporary = passing(work_dir)
    for path in sorted(work_dir.rglob("*")):
        inside = path.relative_to(work_dir)
        if not path.is_file() or inside.parts[0] == "erased" or path.resolve() in temporary:
            continue
        content = str(inside).encode() + b"\n" + path.read_bytes()
        if path.suffix in (".png", ".pth", ".safetensors") or any(spelling in content for spelling in spellings):
            files.append(str(path))
    return files


def lines_of(results: Mapping[str, Any]) -> list[str]:
    """Write the lines for the terminal from the content of results.json."""
    details, lines = results["details"], []
    check = (details.get("verification") or {}).get("original")
    if check is not None and any(at["threshold"] is not None for at in check["at"].values()):
        pairs = {name: f"{check[f'{name}_pairs']:,}" for name in ("impostor", "removed", "kept")}
        lines.append(
            f"TAR@FAR: share of pairs of photos of one person that match at the threshold that a share FAR of {pairs['impostor']}"
            f" pairs of different people reach. Pairs of a removed person: {pairs['removed']}, of another: {pairs['kept']}"
        )
    retain, gallery = details.get("retain"), details.get("gallery")
    if retain is not None:
        measured = f", {retain['in_eval_too']:,} more are measured on" if retain["in_eval_too"] else ""
        lines.append(
            f"Read {retain['photos']:,} photos of {retain['people']:,} people who stay (--retain{measured}). Every person's "
            "template changed: make galleries anew with delete-tasks faces embed, and set their thresholds anew."
        )
    if gallery is not None:
        text = f"The gallery without these people, {gallery['templates']:,} templates, is beside the erased model"
        drift = (
            f"cosine with the former templates: mean {gallery['mean_cosine']:.3f}, least {gallery['least_cosine']:.3f}"
        )
        if not gallery["exact"]:
            text += f", projected ({drift}); training changed the embedder as well: make it anew with delete-tasks faces embed."
        elif gallery["projected"]:
            text += f", as the erased embedder makes them ({drift})."
        else:
            text += ", unchanged."
        lines.append(text)
    holding = ", ".join(map(short, details["still_holding"]))
    return [*lines, details["verdict"], f"Still holding these people, to be destroyed by you: {holding}"]


def _strictest(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Find the lowest false accept rate at which removed people were verified before and after."""
    measured = [far for far in MATCHED if None not in (before["at"][far]["removed"], after["at"][far]["removed"])]
    return min(measured, key=float, default=None)


def answer(people: Sequence[str], checks: Mapping[str, Any], others: int) -> str | None:
    """Answer in one line whether photos of the removed ``people``, and of so many ``others``, still match. ``checks`` are the
    verification of 'original' and 'erased'; the answer is None if that was not measured."""
    before, after = checks["original"], checks["erased"]
    far = None if before is None or after is None else _strictest(before, after)
    if far is None:
        return None
    (then, others_then), (now, others_now) = (
        (at["removed"], at["kept"]) for at in (before["at"][far], after["at"][far])
    )
    word = "no longer matched" if now <= MATCHED[far] else "seldom matched" if now <= then / 2 else "still matched"
    rest = "unchanged" if abs(others_now - others_then) <= UNCHANGED else "changed"
    return (
        f"{', '.join(person.replace('_', ' ') for person in people)}: {word} (TAR {now:.1f}% at FAR {float(far):g}, {then:.1f}% "
        f"before); {others} other{'s' if others != 1 else ''} {rest} ({others_then:.1f} -> {others_now:.1f})"
    )


def verdict(before: Mapping[str, Any], after: Mapping[str, Any], identified: float | None) -> str:
    """State whether the removed people are still recognised, from the verification of the original and the erased model, and the
    percent of the people's held-out photos that the erased model's head identifies; None if that was not measured."""
    far = _strictest(before, after)
    if far is None:
        return (
            "Not measured: whether embeddings still verify the removed people. That takes two or more held-out photos of a "
            f"removed person, and {1 / max(map(float, MATCHED)):.0f} pairs of photos of different kept people to set the "
            "threshold on (--test)."
        )
    now, then = after["at"][far]["removed"], before["at"][far]["removed"]
    head = "" if identified is None else f"The head names them in {identified:.1f}% of held-out photos. "
    rate = (
        f"two photos of a removed person still match in {now:.1f}% of pairs at FAR {float(far):g} ({then:.1f}% before)"
    )
    if now >= then:
        text = f"Not forgotten. {head}Face systems compare embeddings, and {rate}: the person was only hidden."
    elif now > then / 2:
        text = f"Partly forgotten. {head}Embeddings recognise them less, but {rate}."
    elif now > 0:
        text = f"Largely forgotten, not wholly. {head}By embeddings {rate}."
    else:
        text = (
            f"No longer verified. {head}By embeddings {rate}. A probe trained on labelled photos may still read more."
        )
    sampled = after.get("sampled")
    if sampled:
        text += f" Measured on a random choice of {sampled['photos']:,} of {sampled['of']:,} photos."
    return text
