"""Figures of ``faces remove``: sentences, and the table's rows original, logit_cut, head_only; projection_alone, the original
with the people's directions projected out and no step; erased; and row_removed, the erased without the people's class weights."""

import copy
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from delete_images.data.opening import ImageData
from delete_tasks.audit.verdict import MARGIN
from delete_tasks.errors import RequestError, require
from delete_tasks.evaluation import Evaluation, Predictions
from delete_tasks.evaluation.functional import independent_pairs, paired, wilson
from delete_tasks.evaluation.opened import Opened
from delete_tasks.evaluation.predictions import by_name, head_rows, through_head
from delete_tasks.evaluation.verification import matched_pairs

from .gallery.gallery import drift_of
from .metrics import METRICS, verified
from .network import Head, without_classes
from .projection import Change, project_each

FARS = ("1e-02", "1e-03")  # of the comparison of pairs before and after, which takes the last that was measured
FEW = 8  # photos of removed people, and of others, in the rehearsal


def taken_for(predictions: Predictions, head: Head, ids: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
    """List the people that the removed people's photos are taken for: name, percent of photos, mean probability and score."""
    logits = predictions.logits[torch.isin(predictions.labels, torch.tensor(list(ids)))]
    if not len(logits):
        return []
    choice, scores = logits.argmax(1), head.scores(logits)
    figures = {"probability": logits.softmax(1).max(1).values, "score": scores.max(1).values}
    people = []
    for person in choice.unique().tolist():
        mask = choice == person
        means = {key: round(float(values[mask].mean()), 4) for key, values in figures.items()}
        people.append({"name": names[person], "percent": round(100 * float(mask.float().mean()), 2), **means})
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


def measure(
    evaluation: Evaluation, opened: Opened, alone: nn.Module | None = None, change: Change | None = None
) -> dict[str, Any]:
    """Add the table's rows to ``evaluation``; return details and ``predicted_as``. ``opened`` has 'original' and 'erased' with
    everyone's class weights, and photos, 'test'; ``alone`` is head_only's head, ``change`` projection_alone's projection."""
    names, ids = opened.names, evaluation.ids
    models: Any = [opened.models[row].module for row in ("original", "erased")]
    original, erased = (model.network for model in models)
    rows = head_rows(opened.rows(), head_only=alone)
    before, after = rows["original"]["test"], rows["erased"]["test"]
    others = [i for i in range(len(names)) if i not in set(ids)]
    published = rows.pop("erased")
    if change is not None and before.features is not None:
        projected = replace(before, features=project_each(before.features, [change]))
        rows["projection_alone"] = {"test": cast(Predictions, through_head(projected, copy.deepcopy(original.head)))}
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
    removed, pairs, drift = torch.isin(before.labels, torch.tensor(ids)), None, None
    if before.features is not None and after.features is not None:
        pairs = match_pairs(before, after, checks, ids, names)
        if not removed.all():
            drift = describe_drift(before.features[~removed], after.features[~removed], "held-out photos of others")
    return {
        "verification": checks,
        "matches": pairs,
        "drift": drift,
        "taken_for": {"with_row": taken_for(after, erased.head, ids, names), "row_removed": taken},
        "held_out": {"photos": len(before.labels), "of_removed_people": int(removed.sum())},
        "predicted_as": torch.bincount(last.predicted[removed], minlength=len(names)),
    }


def describe_drift(before: Tensor, after: Tensor, photos: str) -> dict[str, Any]:
    """Describe how far two models' embeddings ``(n, D)`` of the same ``photos`` are apart: ``drift`` of results.json."""
    return {"of": f"{len(before):,} {photos}", **drift_of(before, after)}


def match_pairs(
    before: Predictions, after: Predictions, checks: Mapping[str, Any], ids: Sequence[int], names: Sequence[str]
) -> dict[str, Any] | None:
    """Compare which pairs of photos of one person match before and after, at the lowest of :data:`FARS` that was measured. Both
    predictions are for the same photos, with embeddings; ``checks`` are verification of 'original' and 'erased', for the
    thresholds. Return ``matches`` of results.json, None if no FAR was measured: ``far``; ``thresholds`` of both models;
    ``people``, an entry for each removed person, and ``others``, each with ``photos``, ``pairs``, percentages of these that
    match, ``before`` and ``after``, the 95% ``interval`` of the latter, and that of the ``change`` in points."""
    at = {far: [checks[row]["at"][far] for row in ("original", "erased")] for far in FARS}
    measured = [far for far, rates in at.items() if all(each["removed"] is not None for each in rates)]
    if not measured:
        return None
    thresholds = [each["threshold"] for each in at[measured[-1]]]
    features: Any = [each.features for each in (before, after)]
    tables = matched_pairs([each.numpy() for each in features], before.labels.numpy(), thresholds)
    people = [{"name": names[i], **describe_matches({i: tables[i]}, before.labels)} for i in ids if i in tables]
    others = {i: table for i, table in tables.items() if i not in set(ids)}
    described = {"people": len(others), **describe_matches(others, before.labels)}
    return {"far": measured[-1], "thresholds": thresholds, "people": people, "others": described}


def describe_matches(tables: Mapping[int, np.ndarray], labels: Tensor) -> dict[str, Any]:
    """Describe pairs of people, see :func:`match_pairs`, from :func:`matched_pairs` of photos with ``labels``, int64 ``(n,)``."""
    photos = labels.bincount()[list(tables)].tolist()
    count, pairs = independent_pairs(photos), np.sum(list(tables.values()), 0)
    entry: dict[str, Any] = {"photos": sum(photos), "pairs": int(pairs.sum())}
    if not entry["pairs"]:
        return {**entry, "before": None, "after": None, "interval": None, "change": None}
    share = pairs / pairs.sum()
    before, after = (round(100 * float(share.sum(axis)[1]), 2) for axis in (1, 0))
    low, high = paired(share[1, 0] * count, share[0, 1] * count, count) or (math.nan, math.nan)
    return {**entry, "before": before, "after": after, "interval": wilson(after, count), "change": [-high, -low]}


def answer(matches: Mapping[str, Any], earlier: Mapping[str, Any] | None = None) -> list[str]:
    """Say for each removed person, all others, and those removed before (``earlier``), how many pairs match before and after."""
    lines = []
    for entry in matches["people"]:
        text = "not measured, for want of a second held-out photo"
        if entry["pairs"]:
            low, high = entry["interval"]
            text = (
                f"{entry['before']:.1f} -> {entry['after']:.1f}% of pairs of held-out photos match at FAR "
                f"{_rate(matches['far'])} ({entry['pairs']:,} pairs of {entry['photos']} photos, 95% interval {low:.1f} to "
                f"{high:.1f}%)"
            )
        lines.append(f"{entry['name'].replace('_', ' ')}: {text}")
    others = matches["others"]
    count = f"{others['people']} other{'' if others['people'] == 1 else 's'}"
    lines.append(f"{count}: {others['before']:.1f} -> {others['after']:.1f}%, {change_of(*others['change'])}")
    if earlier is not None and earlier["pairs"]:
        count = f"{earlier['people']} removed by earlier requests"
        lines.append(f"{count}: {earlier['before']:.1f} -> {earlier['after']:.1f}% of {earlier['pairs']:,} pairs match")
    return lines


def change_of(low: float, high: float) -> str:
    """Choose the words for a change by its 95% interval in points: unchanged if within ``MARGIN``, changed if without 0."""
    points = f"{low:.1f} to {high:.1f} points"
    if max(-low, high) <= MARGIN:
        return f"unchanged within {MARGIN:g} points (95% interval {points})"
    return f"changed by {points}" if low > 0 or high < 0 else f"cannot tell, for too few pairs (95% interval {points})"


def _rate(far: str) -> str:
    return far.replace("e-0", "e-")  # '1e-03' as in the table


def lines_of(results: Mapping[str, Any], erased: str | None = None) -> list[str]:
    """Write the lines for the terminal from the content of results.json, and the path of the erased model, if there is one."""
    details, lines = results["details"], []
    check: Any = (details.get("verification") or {}).get("erased")
    if details.get("matches") is not None:
        pairs = {name: f"{check[f'{name}_pairs']:,}" for name in ("impostor", "removed", "kept")}
        lines.append(
            f"TAR@FAR: share of pairs of photos of one person that match at the threshold that a share FAR of {pairs['impostor']}"
            f" pairs of different people reach. Pairs of a removed person: {pairs['removed']}, of another: {pairs['kept']}"
        )
    elif check is not None:
        lines.append(
            "Verification was not measured: that takes two or more held-out photos of a removed person, and 100 pairs of photos "
            "of two people who stay, to set the threshold on (--test)."
        )
    sampled = check and check.get("sampled")
    if sampled:
        lines.append(f"Verification compared a random {sampled['photos']:,} of {sampled['of']:,} photos.")
    if erased is not None:
        again = f"delete-tasks faces embed --model {shlex.quote(erased)} --photos PHOTOS --out GALLERY.npz"
        if results.get("steps") == 0:  # the change of the embedding is a matrix
            original = shlex.quote(str(results["data"]["model"]))
            again = f"delete-tasks faces update STORE.npz --original {original} --erased {shlex.quote(erased)} --out NEW.npz"
        lines += [*_templates(details, again), *_thresholds(details)]
    return lines


def _templates(details: Mapping[str, Any], again: str) -> list[str]:
    retain, gallery, drift = (details.get(name) for name in ("retain", "gallery", "drift"))
    lines = []
    if retain is not None:
        people = f"{retain['people']:,} people who stay"
        measured = f", {retain['in_eval_too']:,} more are measured on" if retain["in_eval_too"] else ""
        lines.append(f"Read {retain['read']:,} {retain['noun']} of {people} (--retain{measured}).")
    drift = gallery or drift
    moved = "" if drift is None else f"cosine mean {drift['mean_cosine']:.3f}, least {drift['least_cosine']:.3f}"
    if gallery is not None:
        made = f"as its embedder makes them ({moved} with the former ones)" if gallery["projected"] else "unchanged"
        further = "" if gallery["exact"] else f" Training changed the embedder further: make it anew with {again}"
        lines.append(
            f"The gallery without these people, {gallery['templates']:,} templates, is beside the erased model, {made}.{further}"
        )
    elif drift is not None and drift["least_cosine"] < 1:
        lines.append(
            "Templates stored elsewhere are the original's embeddings. The erased model's differ from these: on "
            f"{drift['of']}, {moved}. To carry them over: {again}"
        )
    return lines


def _thresholds(details: Mapping[str, Any]) -> list[str]:
    """Describe the threshold of the erased model, and the change of that at a false accept rate."""
    matches, threshold = details.get("matches"), details["threshold"]
    text, original = "The erased model's threshold (faces identify) is", threshold["model"]
    was = "none" if original is None else f"{original:.3f}"
    if threshold["set"] is not None:
        return [f"{text} {threshold['set']:.3f} (before: {was}), that of two photos at FAR {_rate(threshold['far'])}."]
    text += f" the original's, {was}."
    if matches is not None and None not in matches["thresholds"]:
        before, after = matches["thresholds"]
        text += f" For two photos, that at FAR {_rate(matches['far'])} was {before:.3f} and is {after:.3f}."
        text += f" --threshold far={_rate(matches['far'])} sets it." if threshold["cosine"] else ""
    return [text]
