"""Photos of people who stay and agreed to it (``faces remove --retain``): their checks, and the choice of those that are read."""

from collections.abc import Sequence

import numpy as np

from delete_images.data.opening import ImageData, find_copies, open_data
from delete_images.data.strings import parse_spec
from delete_images.models.spec import ModelSpec
from delete_tasks.errors import RequestError, list_names
from delete_tasks.evaluation.copies import Copies
from delete_tasks.request.classes import NameIndex

from .earlier import without_removed
from .photos import person_folders

NO_PROJECTION = (
    "photos of kept people (--retain) need the projection, and this run has none; leave out --directions 0 and other methods "
    "than DELETE, or --retain; a config needs custom_hooks = [dict(type='PersonProjection', directions=4)]"
)


def open_kept(text: str, removed: Sequence[str], spec: ModelSpec) -> ImageData:
    """Open the data string of a folder with one folder of photos for each person, who need not be the model's; refuse another
    layout, and photos of one of the people ``removed``. People removed before are left out."""
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
    """Select the photos of people who stay that are not measured on, count the rest, and report copies of photos to forget.
    Photos are the same if their pixels are. Refuse ``kept`` of which too many are photos of the people ``ids`` to forget, or none
    remain. ``tested`` are faces of everyone, to measure on."""
    used, measured = {} if forget is None else {"--photos": forget}, set[str]()
    if tested is not None:
        of_removed = np.isin(tested.labels, list(ids))
        used["the held-out photos of people to forget"] = tested.subset(of_removed)
        measured = set(tested.subset(~of_removed).digests)
    mask, copies = find_copies(kept, "--retain", used, "give photos of people who stay", like="--photos")
    kept = kept.subset(mask)
    chosen = kept.subset([i for i, digest in enumerate(kept.digests) if digest not in measured])
    if not len(chosen):
        raise RequestError(
            f"all {len(kept)} photos of --retain are in --test as well; give others, or leave --retain out"
        )
    return chosen, len(kept) - len(chosen), copies
