"""``faces remove --retain``: photos of people who stay and agreed to it, which of them are refused, and what is made of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from delete_images.data.opening import ImageData, open_data
from delete_images.data.strings import parse_spec
from delete_images.models.spec import ModelSpec
from delete_tasks.errors import RequestError, list_names
from delete_tasks.evaluation import Predictions
from delete_tasks.request.classes import NameIndex

from .gallery.enroll import embed
from .network import FaceNetwork
from .photos import person_folders
from .projection import Change, directions_of, shrink_scatter

NO_PROJECTION = (
    "photos of kept people (--retain) change the embedding together with the projection, and none is made here; leave out "
    "--directions 0 and other methods than DELETE, or --retain"
)
LEAST_PEOPLE = 8


def open_kept(text: str, removed: Sequence[str]) -> ImageData:
    """Read ``text``, a folder with one folder of photos for each person, before a face is looked for.

    Args:
        text: A data string. People need not be the model's.
        removed: Names of the people who are to be forgotten.

    Raises:
        RequestError: Another layout, or photos of somebody who is to be forgotten.
    """
    if parse_spec(text).label is not None:
        raise RequestError(f"'{text}': label= says nothing of who is on which photo; give a folder for each person")
    person_folders(text, "train")
    data = open_data(text, "train")
    refuse_removed(data, removed, text)
    return data


def refuse_removed(kept: ImageData, removed: Sequence[str], text: str) -> None:
    """Refuse photos in a folder that has the name of somebody who is to be forgotten.

    Raises:
        RequestError: There are some.
    """
    index = NameIndex([kept.class_names[i] for i in np.unique(kept.labels)])
    both = [name for name in removed if index.fitting(name)]
    if both:
        others = parse_spec(text.partition("?")[0]).compose({"without": both})
        raise RequestError(
            f"'{text}' (--retain) has photos of {list_names(both)}, to be forgotten; expected people who stay: leave the folder "
            f"out, e.g. with '{others}'"
        )


def choose_kept(
    kept: ImageData, forget: ImageData, tested: ImageData | None, ids: Sequence[int], size: int
) -> tuple[ImageData, int]:
    """Select the photos of ``kept`` to read: those that no figure is measured on. Photos are the same if their pixels are.

    Args:
        kept: Faces of people who stay.
        forget: Of the people ``ids``.
        tested: Of everyone, for figures alone.
        ids: Who is to be forgotten.
        size: Numbers in an embedding.

    Returns:
        The photos, and how many are left out.

    Raises:
        RequestError: One of them is among the photos of ``ids``, or too few are left.
    """
    digests, gone, measured = kept.digests(), set(forget.digests()), set[str]()
    if tested is not None:
        of_removed = np.isin(tested.labels, list(ids))
        gone |= set(tested.subset(of_removed).digests())
        measured = set(tested.subset(~of_removed).digests())
    same = [name for name, digest in zip(kept.names, digests, strict=True) if digest in gone]
    if same:
        raise RequestError(
            f"{len(same)} of {len(kept)} photos of --retain are also photos of the people to be forgotten: {list_names(same)}; "
            "expected photos of people who stay: take them out"
        )
    chosen = kept.subset([i for i, digest in enumerate(digests) if digest not in measured])
    refuse_few(chosen, size, len(kept) - len(chosen))
    return chosen, len(kept) - len(chosen)


def refuse_few(kept: ImageData, size: int, left_out: int = 0) -> None:
    """Refuse photos that say too little about how photos of one person differ in ``size`` numbers.

    Raises:
        RequestError: They do.
    """
    counts = np.bincount(kept.labels, minlength=1)
    people, further = int((counts > 1).sum()), int((counts[counts > 1] - 1).sum())
    if people >= LEAST_PEOPLE and further >= size:
        return
    without = f" (without {left_out} that --test holds, too)" if left_out else ""
    raise RequestError(
        f"--retain gives {len(kept)} photos{without}: of {people} people two or more, {further} beyond the first of each. It "
        f"takes {LEAST_PEOPLE} people, and {size} such photos, as many as an embedding has numbers: what fewer photos differ in "
        "is their own, and making that shorter costs the people who stay. Give more photos, or leave --retain out"
    )


def changes_of(
    network: FaceNetwork,
    spec: ModelSpec,
    photos: ImageData,
    seen: Predictions,
    ids: Sequence[int],
    count: int,
    kept: ImageData | None = None,
) -> list[Change]:
    """List the changes of embeddings, in order: the people's directions, see
    :func:`delete_faces.projection.directions_of`, and those in which photos of ``kept`` people differ, where there are any."""
    changes = [Change(directions_of(network, spec, photos, seen, ids, count))]
    if kept is not None:
        embeddings = embed(network.embedder, spec, kept, "Embedding kept people")
        changes.append(shrink_scatter(embeddings, torch.from_numpy(kept.labels)))
    return changes


def told_of_kept(read: Mapping[str, Any]) -> str:
    """Write a line for the terminal about ``--retain`` from results.json."""
    measured = f", {read['in_eval_too']:,} more are measured on" if read["in_eval_too"] else ""
    return (
        f"Read {read['photos']:,} photos of {read['people']:,} people who stay (--retain{measured}). Every person's template "
        "changed: make galleries anew with delete-tasks faces embed, and thresholds with them."
    )
