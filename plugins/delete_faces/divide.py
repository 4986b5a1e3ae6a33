"""A photo is forgotten or measured on, never both: what is done where ``--photos`` and ``--test`` hold the same ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from delete_images.data.opening import ImageData

from .enrolment import read_enrolment

SHARE = 0.3  # of a person's photos that are held out, where enrolment held none out
LEAST = 2  # photos make a pair, without which nothing is verified


def divide(
    photos: ImageData, tested: ImageData, ids: Sequence[int], model: str, seed: int
) -> tuple[ImageData, ImageData, list[str]]:
    """Hold some photos of the removed people out where all their photos to measure on are photos to forget. ``photos`` are the
    removed people's, to forget, ``tested`` everyone's, to measure on; the model folder's enrolment.json may name the photos
    that enrolment held out.

    Held out are the photos that enrolment kept from training, if it did, else a share by chance. Photos are the same if their
    pixels are.

    Returns:
        What is left to forget, what is left to measure on, and what was done, a line for each person.
    """
    enrolled = read_enrolment(model).held_out
    notes: list[str] = []
    forget, measure = np.ones(len(photos), bool), np.ones(len(tested), bool)
    for person in ids:
        own, shown = (np.flatnonzero(data.labels == person) for data in (photos, tested))
        digests, theirs = photos.subset(own).digests(), tested.subset(shown).digests()
        if len(own) < 2 or not len(shown) or not np.isin(theirs, digests).all():
            continue  # nothing to divide, nothing to measure on, or photos of their own to measure on
        held, why = own[np.isin(digests, theirs)], "those of --test"
        if len(held) == len(own):
            held, why = own[[photos.names[i] in enrolled for i in own]], "those that enrolment held out"
            if not 0 < len(held) < len(own):
                count = max(LEAST if len(own) >= 2 * LEAST else 1, round(SHARE * len(own)))
                held, why = np.random.default_rng((seed, person)).permutation(own)[:count], f"by chance, seed {seed}"
        forget[held] = False
        measure[shown] = np.isin(theirs, photos.subset(held).digests())
        notes.append(
            f"--photos and --test hold the same photos of {photos.class_names[person]}: {len(held)} of {len(own)} are held out "
            f"for the figures ({why}), {len(own) - len(held)} are forgotten"
        )
        if why.endswith("enrolment held out"):
            notes += _only_held_out(tested, ids, enrolled, measure)
    return photos.subset(forget), tested.subset(measure), notes


def _only_held_out(
    tested: ImageData, ids: Sequence[int], enrolled: frozenset[str], measure: NDArray[np.bool_]
) -> list[str]:
    """Take the other people's photos that enrolment trained on out of ``measure``, too; once."""
    others = np.flatnonzero(measure & ~np.isin(tested.labels, list(ids)))
    kept = np.array([tested.names[i] in enrolled for i in others], bool)
    if kept.all() or not kept.any():
        return []
    measure[others[~kept]] = False
    return [f"Of the other people's {len(others)} photos, the {kept.sum()} that enrolment held out are measured on"]
