"""Copies of one data set's samples in another: the same content, or a picture that looks the same.

Copies with the same content are left out, up to a share. Pictures that look the same (re-encoded, mirrored, a bit changed) are
reported: thumbnails without their mean, at length 1, are compared by their product, as in "80 Million Tiny Images" (Torralba,
Fergus and Freeman, PAMI 2008, section 3). On small pictures this confuses fewer than 64-bit hashes, see docs/notes/copies.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
    """Samples of one data set that are copies of another's.

    Attributes:
        among: Name of their data set, e.g. '--test'.
        of: Name of the other one.
        count, total: Number of the copies, and of all samples of their data set.
        names: Names of the first few.
        left_out: True for samples with the same content, which are left out; False for pictures that look the same.
    """

    among: str
    of: str
    count: int
    total: int
    names: tuple[str, ...]
    left_out: bool

    def __str__(self) -> str:
        share = f"{self.count:,} of {self.total:,} samples of {self.among} ({100 * self.count / self.total:.3g}%)"
        names = list_names([*self.names, *[""] * (self.count - len(self.names))], LISTED)
        if self.left_out:
            return f"Left out: {share}, exact copies of {self.of} ({names})."
        return (
            f"Warning: {share} look like samples of {self.of}, perhaps re-encoded, mirrored or slightly changed copies "
            f"({names}). They are not left out: remove them if they are copies."
        )

    def json(self) -> dict[str, object]:
        """Return the entry of results.json."""
        return asdict(self)


def leave_out(
    among: str,
    names: Sequence[str],
    contents: Sequence[str],
    used: Mapping[str, Iterable[str]],
    fix: str,
    most: float = MOST,
) -> tuple[NDArray[np.bool_], list[Copies]]:
    """Find the samples to keep, bool ``(N,)``: those without a copy in the data ``used``, and report the others.

    Args:
        among: Name of the data set of the samples.
        names: Names of the samples.
        contents: Digests of the samples.
        used: Digests by name of other data.
        fix: What to do about too many copies, for the error.
        most: Share of the samples that may be left out.

    Raises:
        RequestError: A larger share, or all.
    """
    source = {digest: of for of in reversed(list(used)) for digest in used[of]}
    found = [source.get(digest) for digest in contents]
    kept = np.array([of is None for of in found], bool)
    copies = []
    for of in used:
        matches = [name for name, other in zip(names, found, strict=True) if other == of]
        if matches:
            copies.append(Copies(among, of, len(matches), len(names), tuple(matches[:LISTED]), True))
    if copies and (kept.sum() < (1 - most) * len(kept) or not kept.any()):
        counts = "; ".join(f"{each.count:,} of {each.of} ({list_names(each.names, 3)})" for each in copies)
        raise RequestError(
            f"{(~kept).sum():,} of {len(kept):,} samples of {among} ({100 * (~kept).mean():.3g}%) are exact copies: {counts}. "
            f"Up to {100 * MOST:g}% are left out; {fix}"
        )
    tell(copies)
    return kept, copies


def find_alike(
    among: str, names: Sequence[str], pictures: NDArray[np.uint8], of: str, others: NDArray[np.uint8]
) -> list[Copies]:
    """Report the samples whose thumbnails, uint8 ``(N, SIDE, SIDE)``, look like one of ``others`` or its mirror image."""
    if not len(pictures) or not len(others):
        return []
    known = np.concatenate([_unit(others), _unit(others[:, :, ::-1])])
    rows = [_unit(pictures[first : first + ROWS]) for first in range(0, len(pictures), ROWS)]
    found = np.concatenate([(row @ known.T).max(1) >= ALIKE for row in rows])
    matches = [names[index] for index in np.flatnonzero(found).tolist()]
    copies = [Copies(among, of, len(matches), len(names), tuple(matches[:LISTED]), False)] if matches else []
    tell(copies)
    return copies


def tell(copies: Sequence[Copies]) -> None:
    """Print what was found before the next output of the command."""
    if process_rank() == 0:
        announce(make_console(), list(map(str, copies)))


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
