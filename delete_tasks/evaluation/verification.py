"""Open-set verification: are two samples of one class? What is asked of embeddings, with no head on them: TAR at FAR."""

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..display.terminal import track
from ..errors import RequestError

FARS = (1e-2, 1e-3, 1e-4, 1e-5)
MOST_PHOTOS = 2**17  # whose pairs, 8.6 thousand million, are all compared
TILE = 2048  # photos that are compared with as many others at once
BINS = 2**18  # of cosines from -1 to 1: 0.000008 each
# Cosines are rounded to a part of so many, about 0.00002: what is below it comes from the order in which a processor adds, and
# would decide where a damaged model gives all photos one embedding.
STEPS = 2**16
# Cosines in the bin of a threshold that are told apart; more are only in a model that gives one embedding.
MOST_EXACT = 2**24
GENUINE, IMPOSTOR, REMOVED, CROSSED = range(4)  # kinds of pairs


def verification(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    removed: Sequence[int],
    fars: Sequence[float] = FARS,
    most: int = MOST_PHOTOS,
    seed: int = 0,
) -> dict[str, Any]:
    """TAR at FAR of kept and of removed people, thresholds set on pairs of kept people alone.

    A pair of photos is accepted where the cosine of its embeddings, rounded, reaches the threshold. FAR is the share of
    impostor pairs (different people, both kept) that are accepted, TAR that of genuine pairs (one person); the threshold is the
    lowest at which FAR is at most what is asked for. Pairs are compared tile by tile, twice: counted in :data:`BINS` bins, and
    then told apart in the bins that hold a threshold. So memory is that of the embeddings and of a tile.

    Args:
        embeddings: ``(n, d)`` of any length.
        labels: ``(n,)``.
        removed: Labels of the removed people.
        fars: False accept rates.
        most: Of more photos a random choice of so many is compared; the removed people's all, or half of them.
        seed: Of the choice.

    Returns:
        Counts of pairs (``impostor_pairs``, ``kept_pairs``, ``removed_pairs``, ``removed_as_kept_pairs``) and ``at``: for each
        FAR, as a string such as '1e-03', the ``threshold`` and, in percent, ``kept``, ``removed`` (TAR of each) and
        ``removed_as_kept`` (pairs of a removed and a kept person that are accepted). None where there are no pairs, or
        fewer impostor pairs than 1 / FAR. ``sampled`` is None, or says how many of how many photos were compared.

    Raises:
        RequestError: Embeddings that are not finite.
    """
    broken = ~np.isfinite(embeddings).all(axis=1)
    if broken.any():
        raise RequestError(
            f"{int(broken.sum())} of {len(embeddings)} embeddings hold NaN or infinity; the model is damaged, get it again"
        )
    gone = np.isin(labels, list(removed))
    chosen = np.arange(len(labels))
    if len(labels) > most:
        order = np.random.default_rng(seed).permutation(len(labels))
        some = order[gone[order]][: most // 2]
        chosen = np.r_[some, order[~gone[order]][: most - len(some)]]
    pairs = _Pairs(embeddings[chosen], labels[chosen], gone[chosen])
    counts = pairs.count()
    totals = counts.sum(1)
    measured = [far for far in fars if totals[GENUINE] and totals[IMPOSTOR] >= 1 / far]
    found = dict(zip(measured, _thresholds(pairs, counts, measured), strict=True))
    at: dict[str, Any] = {}
    for far in fars:
        cosine, shares = found.get(far, (None, [None] * 4))
        at[f"{far:.0e}"] = {
            "threshold": None if cosine is None else round(cosine, 4),
            "kept": shares[GENUINE],
            "removed": shares[REMOVED],
            "removed_as_kept": shares[CROSSED],
        }
    return {
        "impostor_pairs": int(totals[IMPOSTOR]),
        "kept_pairs": int(totals[GENUINE]),
        "removed_pairs": int(totals[REMOVED]),
        "removed_as_kept_pairs": int(totals[CROSSED]),
        "sampled": None if len(chosen) == len(labels) else {"photos": len(chosen), "of": len(labels), "seed": seed},
        "at": at,
    }


class _Pairs:
    """All pairs of photos, tile by tile."""

    def __init__(self, embeddings: NDArray[np.float32], labels: NDArray[np.int64], gone: NDArray[np.bool_]) -> None:
        order = np.lexsort((labels, gone))  # kept people, then removed ones, each person's photos together
        self.unit = torch.from_numpy(np.ascontiguousarray(embeddings[order], dtype=np.float32))
        self.unit /= self.unit.norm(dim=1, keepdim=True).clamp_min(1e-12)
        numbers = np.unique(labels[order], return_inverse=True)[1] + gone[order] * len(order)  # so that they ascend
        self.person = torch.from_numpy(numbers)
        self.kept = int((~gone).sum())
        edges = [*range(0, self.kept, TILE), *range(self.kept, len(order), TILE), len(order)]
        self.tiles = [slice(*edge) for edge in pairwise(edges)]

    def cosines(self, title: str) -> Iterator[tuple[int, Tensor]]:
        """Kinds of pairs, and cosines of some pairs of that kind."""
        number = len(self.tiles) * (len(self.tiles) + 1) // 2
        for rows, columns in track(combinations_with_replacement(self.tiles, 2), number, title):
            same, different = GENUINE, IMPOSTOR
            if columns.start >= self.kept:  # pairs of two removed people say nothing of either
                same, different = REMOVED, CROSSED if rows.start < self.kept else -1
            together = bool(self.person[rows][-1] >= self.person[columns][0])  # somebody has photos in both
            if different < 0 and not together:
                continue
            found = (self.unit[rows] @ self.unit[columns].T).mul_(STEPS).round_().div_(STEPS).clamp_(-1, 1)
            if not together:
                yield different, found
                continue
            match = self.person[rows][:, None] == self.person[columns][None, :]
            once = torch.ones_like(match).triu_(1) if rows == columns else torch.ones_like(match)
            yield same, found[match & once]
            if different >= 0:
                yield different, found[~match & once]

    def count(self) -> NDArray[np.int64]:
        """Pairs of each kind in each bin, ``(4, BINS)``."""
        counts = np.zeros((4, BINS), np.int64)
        for kind, cosines in self.cosines("Comparing photos"):
            # A tile has fewer pairs than whole numbers that a float32 tells apart.
            counts[kind] += torch.histc(_bins(cosines), BINS, 0, BINS).numpy().astype(np.int64)
        return counts

    def within(self, bins: Sequence[int]) -> dict[int, list[NDArray[np.float32]]]:
        """Collect the cosines in some of the bins, by kind."""
        found: dict[int, list[list[NDArray[np.float32]]]] = {number: [[], [], [], []] for number in bins}
        if not found:
            return {}
        least = 2 * min(bins) / BINS - 1 - 1e-6
        for kind, cosines in self.cosines("Setting thresholds"):
            high = cosines[cosines >= least]
            place = _bins(high).floor_()
            for number, parts in found.items():
                parts[kind].append(high[place == number].numpy())
        return {
            number: [np.concatenate([np.zeros(0, np.float32), *part]) for part in parts]
            for number, parts in found.items()
        }


def _bins(cosines: Tensor) -> Tensor:
    """Compute the bin of each cosine, and its place in the bin. Every step but the sum is exact."""
    return cosines.add(1).mul_(BINS / 2).clamp_(max=BINS - 1)


def _thresholds(
    pairs: _Pairs, counts: NDArray[np.int64], fars: Sequence[float]
) -> Iterator[tuple[float | None, list[float | None]]]:
    """For each FAR the threshold, None where it is above every cosine, and the percentage of each kind that reaches it."""
    total, full = counts.sum(1), counts.sum(0)
    accepted = np.c_[counts[:, ::-1].cumsum(1)[:, ::-1], np.zeros(4, np.int64)]  # in a bin or above
    occupied = np.flatnonzero(counts[GENUINE] + counts[IMPOSTOR])
    # The highest bin that cannot be accepted whole, -1 if each can; and the next one above that holds cosines of kept people.
    split = [int(np.count_nonzero(accepted[IMPOSTOR] / total[IMPOSTOR] > far)) - 1 for far in fars]
    above = [int(next(iter(occupied[occupied > bin]), BINS)) for bin in split]
    exact = pairs.within([bin for bin in {*split, *above} if 0 <= bin < BINS and full[bin] <= MOST_EXACT])
    for far, bin, higher in zip(fars, split, above, strict=True):
        cosine, reached = None, np.zeros(4, np.int64)
        if bin in exact:
            impostors = np.sort(exact[bin][IMPOSTOR])[::-1]
            share = (accepted[IMPOSTOR, bin + 1] + 1 + np.arange(len(impostors))) / total[IMPOSTOR]
            refused = impostors[np.count_nonzero(share <= far)]
            kept = np.r_[exact[bin][GENUINE], exact[bin][IMPOSTOR]]
            cosine = min(kept[kept > refused].tolist(), default=None)
            higher = higher if cosine is None else bin
        if higher in exact:
            if cosine is None:
                cosine = min(float(part.min()) for part in exact[higher][: IMPOSTOR + 1] if len(part))
            reached = accepted[:, higher + 1] + [np.count_nonzero(part >= cosine) for part in exact[higher]]
        elif higher < BINS:
            cosine, reached = 2 * (higher + 0.5) / BINS - 1, accepted[:, higher]
        yield cosine, [round(100 * float(n / m), 2) if m else None for n, m in zip(reached, total, strict=True)]
