"""Checks of ``faces remove``: photos look like their person, those of people who stay (``--retain``) are theirs and are not
measured on, stored templates allow the options, and ``--threshold far=1e-3`` can be set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delete_images.data.opening import ImageData, find_copies, open_data
from delete_images.data.strings import parse_spec
from delete_images.models.model_file import SPEC_NAME, ModelSpec
from delete_tasks.errors import RequestError, list_names
from delete_tasks.evaluation import Predictions
from delete_tasks.evaluation.copies import Copies
from delete_tasks.evaluation.verification import FARS
from delete_tasks.fileio.atomic import save_json
from delete_tasks.fileio.validate import read_json
from delete_tasks.request.classes import NameIndex

from .enrolment import without_removed
from .network import CosineHead, Head
from .photos import person_folders

FAR_BELOW = 4.0  # robust standard deviations
LEAST_GAP = 0.15  # least difference of cosines that is far, for photos of one person that agree closely
OF_STEPS = ("steps", "lr", "batch_size", "teacher_temperature", "stop")
CHOICES = ", ".join(f"far={far:.0e}".replace("e-0", "e-") for far in FARS)
NO_PROJECTION = (
    "photos of kept people (--retain) need the projection, and this run has none; leave out --directions 0 and other methods "
    "than DELETE, or --retain; a config needs custom_hooks = [dict(type='PersonProjection', directions=4)]"
)


def find_mislabelled(embeddings: Tensor, weights: Tensor, logits: Tensor, labels: Tensor) -> list[int]:
    """Find photos that do not look like their person to the original, as ascending indices. It takes such a photo for another
    person, and the cosine of its embedding and its person's class weights is far below that of the person's others, or below
    another person's. ``embeddings`` are ``(n, D)``, ``weights`` ``(C, D)``, ``logits`` ``(n, C)``, ``labels`` int64 ``(n,)``."""
    cosines = nn.functional.normalize(embeddings) @ nn.functional.normalize(weights).T
    similarity = cosines.gather(1, labels[:, None])[:, 0]
    others = cosines.scatter(1, labels[:, None], -torch.inf).max(1).values
    mislabelled: set[int] = set()
    for label in labels.unique():
        indices = (labels == label).nonzero().flatten()
        middle = similarity[indices].median()
        spread = 1.4826 * (similarity[indices] - middle).abs().median()
        low = similarity[indices] < middle - max(FAR_BELOW * float(spread), LEAST_GAP)
        taken_for_another = logits[indices].argmax(1) != label
        mislabelled.update(indices[taken_for_another & (low | (similarity[indices] < others[indices]))].tolist())
    return sorted(mislabelled)


def check_looks(names: Sequence[str], predictions: Predictions, weights: Tensor, force: bool, noun: str) -> str | None:
    """Check that photos, or templates (``noun``), look like their person to the original model, from its predictions and class
    ``weights`` ``(C, D)``; refuse those that do not or, with ``force``, return a warning of them. None if all do."""
    if predictions.features is None:
        return None
    mislabelled = find_mislabelled(predictions.features, weights, predictions.logits, predictions.labels)
    if not mislabelled:
        return None
    similarities = nn.functional.cosine_similarity(predictions.features, weights[predictions.labels]).tolist()
    named = [f"{names[i]} (similarity {similarities[i]:.2f})" for i in mislabelled]
    others = [similarity for i, similarity in enumerate(similarities) if i not in mislabelled]
    rest = f"; the others have {median(others):.2f}" if others else ""
    count = f"{len(mislabelled)} of {len(names)} {noun}"
    text = f"{count} do not look like the person to the model: {list_names(named, longest=None)}{rest}"
    if not force:
        raise RequestError(
            f"{text}. The people on them would be changed as well: remove these {noun}, or accept them with --force"
        )
    return f"{text}. Accepted (--force)"


def check_request(options: Mapping[str, Any]) -> None:
    """Refuse options of ``faces remove`` that need photos of the people to forget, or steps."""
    if options["photos"] is not None:
        raise RequestError("--photos and --from-templates both say what to forget; give one of them")
    given = [f"--{name.replace('_', '-')}" for name in OF_STEPS if options[name] is not None]
    given += ["--directions 0"] * (options.get("directions") == 0)
    given += [f"--method {options['method']}"] * (options["method"] != "DELETE")
    if given:
        raise RequestError(
            f"{given[0]} is about training steps, which need photos; --from-templates projects directions out and takes no step. "
            "Leave it out, or give --photos"
        )


def open_kept(text: str, removed: Sequence[str], spec: ModelSpec) -> ImageData:
    """Open photos of people who stay, one folder each, but those removed before; refuse photos of people in ``removed``."""
    if parse_spec(text).label is not None:
        raise RequestError(f"'{text}': label= does not tell people apart; give a folder for each person")
    person_folders(text, "train")
    data = open_data(without_removed(text, "train", spec), "train")
    refuse_removed(data, removed, text)
    return data


def refuse_removed(kept: ImageData, removed: Sequence[str], text: str) -> None:
    """Refuse photos in a folder that has the name of a person to forget."""
    index = NameIndex([kept.class_names[i] for i in np.unique(kept.labels)])
    both = [name for name in removed if index.fitting(name)]
    if both:
        others = parse_spec(text.partition("?")[0]).compose({"without": both})
        raise RequestError(
            f"'{text}' (--retain) has photos of {list_names(both)}, to be forgotten; expected people who stay, e.g. '{others}'"
        )


def choose_kept(
    kept: ImageData, forget: ImageData | None, tested: ImageData | None, ids: Sequence[int]
) -> tuple[ImageData, int, list[Copies]]:
    """Select the photos of people who stay that are not measured on, count the rest, and report copies of photos to forget (by
    pixels). Refuse ``kept`` with too many photos of the people ``ids``, or none left. ``tested`` are everyone's faces."""
    used, measured = {} if forget is None else {"--photos": forget}, set[str]()
    if tested is not None:
        of_removed = np.isin(tested.labels, list(ids))
        used["the held-out photos of people to forget"] = tested.subset(of_removed)
        measured = set(tested.subset(~of_removed).digests)
    mask, copies = find_copies(kept, "--retain", used, "give photos of people who stay", like="--photos")
    kept = kept.subset(mask)
    chosen = kept.subset([i for i, digest in enumerate(kept.digests) if digest not in measured])
    if not len(chosen):
        raise RequestError(f"all {len(kept)} photos of --retain are in --test; give others, or leave --retain out")
    return chosen, len(kept) - len(chosen), copies


def read_far(text: str | None, head: Head) -> str | None:
    """Read the option as the key of a verification; refuse other rates, and a ``head`` whose scores are no cosines."""
    if text is None:
        return None
    try:
        far = float(text.removeprefix("far=")) if text.startswith("far=") else None
    except ValueError:
        far = None
    if far not in FARS:
        raise RequestError(f"--threshold is '{text}'; expected one of {CHOICES}")
    if not isinstance(head, CosineHead):
        raise RequestError(
            f"--threshold {text} is a cosine, but scores of this model's linear head are logits; leave --threshold out"
        )
    return f"{far:.0e}"


def check_far(far: str, tested: ImageData | None, ids: Sequence[int]) -> None:
    """Refuse a rate for which there are too few held-out photos ``tested`` of people other than ``ids``."""
    labels = np.zeros(0, np.int64) if tested is None else tested.labels[~np.isin(tested.labels, list(ids))]
    photos, needed = np.bincount(labels, minlength=1), round(1 / float(far))
    pairs = int((photos.sum() ** 2 - (photos**2).sum()) // 2)
    if pairs < needed or photos.max() < 2:
        raise RequestError(
            f"--threshold far={float(far):g} takes {needed:,} pairs of held-out photos of two people who stay, and two photos of "
            f"one person; the photos to measure on (--test) give {pairs:,} pairs. Give more photos, or another rate ({CHOICES})"
        )


def set_threshold(far: str | None, erased: str | None, checks: Mapping[str, Any]) -> float | None:
    """Write the ``erased`` model's threshold at a rate into its model.json, and return it; None if one of these is missing."""
    threshold = checks["erased"]["at"][far]["threshold"] if far is not None and checks.get("erased") else None
    if threshold is None or erased is None:
        return None
    path = Path(erased, SPEC_NAME)
    content = read_json(path)
    content["extra"]["threshold"] = round(threshold, 4)
    save_json(content, path)
    return content["extra"]["threshold"]
