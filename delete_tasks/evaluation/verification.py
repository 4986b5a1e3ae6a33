"""Open-set verification of embeddings, without a head: do two samples show one person? TAR at FAR."""

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..display.progress import track
from ..errors import RequestError

FARS = (1e-2, 1e-3, 1e-4, 1e-5)
MOST_PHOTOS = 2**17  # whose 8.6 thousand million pairs are all compared
TILE = 2048  # photos that are compared with as many others at once
ROWS = 256  # photos of one person that are compared with all others of the person at once
# Cosines are rounded to 1 / STEPS, about 0.00002: smaller differences come from the order in which a processor adds, and would
# decide if a damaged model gives all photos one embedding. A histogram with a bin for each rounded cosine is exact.
STEPS = 2**16
GENUINE, IMPOSTOR, REMOVED, CROSSED = range(4)  # kinds of pairs
NAMES = {"kept": GENUINE, "removed": REMOVED, "removed_as_kept": CROSSED}


def verification(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    removed: Sequence[int],
    fars: Sequence[float] = FARS,
    most: int = MOST_PHOTOS,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute TAR at FAR of kept and of removed people, with thresholds set on pairs of kept people alone.

    A pair of photos is accepted if the cosine of its embeddings, rounded, reaches the threshold. FAR is the share of impostor
    pairs (different people, both kept) that are accepted, TAR that of genuine pairs (one person); the threshold is the lowest
    cosine of a kept pair at which FAR is at most the requested one. Pairs are compared tile by tile and counted by cosine, so
    memory is that of the embeddings, ``(n, d)`` of any length, a tile and a histogram. Of more than ``most`` photos, this many
    are drawn at random, with ``seed``, up to half of them of ``removed`` people.

    Return counts of pairs (``impostor_pairs``, ``kept_pairs``, ``removed_pairs``, ``removed_as_kept_pairs``) and ``at``: for each
    FAR, such as '1e-03', the ``threshold`` and, in percent, ``kept``, ``removed`` (TAR of each) and ``removed_as_kept`` (accepted
    pairs of a removed and a kept person). None if there are no pairs, or fewer impostor pairs than 1 / FAR. ``sampled`` is None,
    or the number of photos compared, and of all. Raise :class:`RequestError` if embeddings are not finite.
    """
    broken = ~np.isfinite(embeddings).all(axis=1)
    if broken.any():
        raise RequestError(
            f"{int(broken.sum())} of {len(embeddings)} embeddings hold NaN or infinity; the model is damaged, get it again"
        )
    is_removed = np.isin(labels, list(removed))
    photos = np.arange(len(labels))
    if len(labels) > most:
        order = np.random.default_rng(seed).permutation(len(labels))
        drawn = order[is_removed[order]][: most // 2]
        photos = np.r_[drawn, order[~is_removed[order]][: most - len(drawn)]]
    counts = np.zeros((4, 2 * STEPS + 1), np.int64)
    for kind, cosines in _pairs(embeddings[photos], labels[photos], is_removed[photos]):
        counts[kind] += torch.bincount((cosines + STEPS).long(), minlength=2 * STEPS + 1).numpy()
    totals = counts.sum(1)
    reached = counts[:, ::-1].cumsum(1)[:, ::-1]  # pairs with this cosine or a larger one
    kept_cosines = np.flatnonzero(counts[GENUINE] + counts[IMPOSTOR])
    at: dict[str, Any] = {}
    for far in fars:
        threshold = None
        shares: list[float | None] = [None] * 4
        if totals[GENUINE] and totals[IMPOSTOR] >= 1 / far:
            strict = kept_cosines[reached[IMPOSTOR, kept_cosines] / totals[IMPOSTOR] <= far]
            threshold = round(int(strict[0]) / STEPS - 1, 6) if len(strict) else None
            accepted = reached[:, strict[0]] if len(strict) else np.zeros(4, np.int64)
            shares = [round(100 * float(n / m), 2) if m else None for n, m in zip(accepted, totals, strict=True)]
        at[f"{far:.0e}"] = {"threshold": threshold, **{name: shares[kind] for name, kind in NAMES.items()}}
    return {
        "impostor_pairs": int(totals[IMPOSTOR]),
        **{f"{name}_pairs": int(totals[kind]) for name, kind in NAMES.items()},
        "sampled": None if len(photos) == len(labels) else {"photos": len(photos), "of": len(labels), "seed": seed},
        "at": at,
    }


def matched_pairs(
    embeddings: Sequence[NDArray[np.float32]], labels: NDArray[np.int64], thresholds: Sequence[float | None]
) -> dict[int, NDArray[np.int64]]:
    """Count the pairs of photos of each person that two models accept, from their ``embeddings`` ``(n, d)`` of the same photos
    and their ``thresholds`` of :func:`verification` (None accepts no pair). Return by label, of the photos' ``labels`` ``(n,)``,
    the pairs by whether the first model accepts them, and the second: int64 ``(2, 2)``."""
    units = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in embeddings]
    bounds = [np.inf if threshold is None else round(threshold * STEPS) for threshold in thresholds]
    order = np.argsort(labels, kind="stable")
    counts = {}
    for photos in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        table = np.zeros(4, np.int64)
        for start in range(0, len(photos) - 1, ROWS):
            block, number = photos[start : start + ROWS], np.arange(len(photos))
            later = number[None, start:] > number[start : start + ROWS, None]
            accepted = [
                np.rint(unit[block] @ unit[photos[start:]].T * STEPS)[later] >= bound
                for unit, bound in zip(units, bounds, strict=True)
            ]
            table += np.bincount(2 * accepted[0] + accepted[1], minlength=4)
        counts[int(labels[photos[0]])] = table.reshape(2, 2)
    return counts


def _pairs(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], is_removed: NDArray[np.bool_]
) -> Iterator[tuple[int, Tensor]]:
    """Compare all pairs of photos, tile by tile: yield a kind of pairs and the cosines, times STEPS, of some of them."""
    order = np.lexsort((labels, is_removed))  # kept people, then removed ones, each person's photos together
    unit = torch.from_numpy(np.ascontiguousarray(embeddings[order], dtype=np.float32))
    unit /= unit.norm(dim=1, keepdim=True).clamp_min(1e-12)
    people = np.unique(labels[order], return_inverse=True)[1] + is_removed[order] * len(order)  # so that they ascend
    person = torch.from_numpy(people)
    kept = int((~is_removed).sum())
    edges = [*range(0, kept, TILE), *range(kept, len(order), TILE), len(order)]
    tiles = [slice(*edge) for edge in pairwise(edges)]
    number = len(tiles) * (len(tiles) + 1) // 2
    for rows, columns in track(combinations_with_replacement(tiles, 2), number, "Comparing photos"):
        same, different = GENUINE, IMPOSTOR
        if columns.start >= kept:  # pairs of two removed people are neither
            same, different = REMOVED, CROSSED if rows.start < kept else -1
        overlap = bool(person[rows][-1] >= person[columns][0])  # a person has photos in both tiles
        if different < 0 and not overlap:
            continue
        cosines = (unit[rows] @ unit[columns].T).mul_(STEPS).round_().clamp_(-STEPS, STEPS)
        if not overlap:
            yield different, cosines.flatten()
            continue
        match = person[rows][:, None] == person[columns][None, :]
        once = torch.ones_like(match).triu_(1) if rows == columns else torch.ones_like(match)
        yield same, cosines[match & once]
        if different >= 0:
            yield different, cosines[~match & once]
