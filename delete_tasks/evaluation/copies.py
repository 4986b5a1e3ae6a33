"""Copies of one data set's samples in another: the same content, or a picture that looks the same.

Copies with the same content are left out, up to a share. Pictures that look the same (re-encoded, mirrored, a bit changed) are
reported: thumbnails without their mean, at length 1, are compared by their product, as in "80 Million Tiny Images" (Torralba,
Fergus and Freeman, PAMI 2008, section 3). On small pictures this confuses fewer than 64-bit hashes, see docs/notes/copies.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..display.terminal import announce, make_console
from ..errors import RequestError, list_names
from ..fileio.processes import process_rank

MOST = 0.01  # share of a data set that is left out as copies
ALIKE = 0.975  # product of two thumbnails from which pictures look the same
SIDE = 16  # of a thumbnail, in pixels
LISTED = 5
ROWS = 1024  # thumbnails compared at once
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Copies:
    """Samples of the data ``among`` that are copies of ``of``; those with the same content are ``left_out``, similar ones not."""

    among: str
    of: str
    count: int
    total: int
    names: tuple[str, ...]
    left_out: bool

    def __str__(self) -> str:
        share = f"{self.count:,} of {self.total:,} samples of {self.among} ({100 * self.count / self.total:.3g}%)"
        listed = ", ".join([*self.names, *["..."] * (self.count > len(self.names))])
        names = f" ({listed})" if self.names else ""
        if self.left_out:
            return f"Left out: {share}, exact copies of {self.of}{names}."
        return (
            f"Warning: {share} look like samples of {self.of}, perhaps re-encoded, mirrored or slightly changed "
            f"copies{names}. They are not left out: remove them if they are copies."
        )


def _report(among: str, of: str, names: Sequence[str], total: int, left_out: bool) -> list[Copies]:
    """Make the :class:`Copies` of the samples ``names``, if there are any, and print them before the next output."""
    if not names:
        return []
    copies = Copies(among, of, len(names), total, tuple(names[:LISTED]), left_out)
    if process_rank() == 0:
        announce(make_console(), [str(copies)])
    return [copies]


def leave_out(
    among: str,
    names: Sequence[str],
    contents: Sequence[str],
    used: Mapping[str, Iterable[str]],
    fix: str,
    most: float = MOST,
) -> tuple[NDArray[np.bool_], list[Copies]]:
    """Find the samples of the data ``among`` to keep, bool ``(N,)``: those whose digest in ``contents`` is not in the data
    ``used`` (digests by name). Report others; raise :class:`RequestError` with ``fix`` for a share above ``most``, or all."""
    source = {digest: of for of in reversed(list(used)) for digest in used[of]}
    found = [source.get(digest) for digest in contents]
    matches = {of: [name for name, other in zip(names, found, strict=True) if other == of] for of in used}
    kept = np.array([of is None for of in found], bool)
    if not kept.all() and (kept.sum() < (1 - most) * len(kept) or (most < 1 and not kept.any())):
        counts = "; ".join(f"{len(same):,} of {of} ({list_names(same, 3)})" for of, same in matches.items() if same)
        raise RequestError(
            f"{(~kept).sum():,} of {len(kept):,} samples of {among} ({100 * (~kept).mean():.3g}%) are exact copies: {counts}. "
            f"Up to {100 * MOST:g}% are left out; {fix}"
        )
    return kept, [each for of, same in matches.items() for each in _report(among, of, same, len(names), True)]


def find_alike(
    among: str, names: Sequence[str], pictures: NDArray[np.uint8], of: str, others: NDArray[np.uint8]
) -> list[Copies]:
    """Report the samples whose thumbnails, uint8 ``(N, SIDE, SIDE)``, look like one of ``others`` or its mirror image."""
    if not len(others):
        return []
    known = np.concatenate([_unit(others), _unit(others[:, :, ::-1])])
    parts = [pictures[first : first + ROWS] for first in range(0, len(pictures), ROWS)]
    found = [number for part in parts for number in (_unit(part) @ known.T).max(1).tolist()]
    matches = [name for name, product in zip(names, found, strict=True) if product >= ALIKE]
    return _report(among, of, matches, len(names), False)


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make the grey thumbnail, uint8 ``(SIDE, SIDE)``, of an RGB image ``(H, W, 3)``: means over equal areas."""
    grey = image.astype(np.float32) @ GREY
    return np.rint(_areas(grey.shape[0]) @ grey @ _areas(grey.shape[1]).T).astype(np.uint8)


@cache
def _areas(size: int) -> NDArray[np.float32]:
    """Compute the weight ``(SIDE, size)`` of each of ``size`` pixels in each pixel of a thumbnail."""
    step, pixels = size / SIDE, np.arange(size)
    begin = step * np.arange(SIDE)[:, None]
    shared = np.minimum(pixels + 1, begin + step) - np.maximum(pixels, begin)
    return (np.maximum(shared, 0) / step).astype(np.float32)


def _unit(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Subtract each thumbnail's mean and scale it to length 1; of a single colour, to 0: ``(N, SIDE * SIDE)``."""
    values = pictures.reshape(len(pictures), -1).astype(np.float32)
    values -= values.mean(1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
