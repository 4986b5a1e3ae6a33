"""A gallery of templates: embeddings of people's faces with their names, which is what most face systems hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from delete_images.data.archives import Archive, texts
from delete_tasks.errors import RequestError
from delete_tasks.fileio.atomic import replacing

from ..projection import Change, project_each

if TYPE_CHECKING:
    from delete_tasks.runner.unlearn_runner import UnlearnRunner

NAME = "gallery.npz"
EMBEDDINGS, NAMES = "embeddings", "names"


@dataclass(frozen=True)
class Gallery:
    """Templates, several of a person perhaps.

    Attributes:
        embeddings: ``(n, D)``, floating point, of any length.
        names: Of the person of each.
        more: Further arrays with a row for each template.
    """

    embeddings: NDArray[Any]
    names: list[str]
    more: Mapping[str, NDArray[Any]]

    @property
    def people(self) -> tuple[str, ...]:
        """Names of all people, in order of their first template."""
        return tuple(dict.fromkeys(self.names))

    def rows(self, people: Sequence[str]) -> Tensor:
        """Compute class weights, float32 ``(C, D)`` of length 1: the mean of each person's templates, each scaled to length 1."""
        place = {name: number for number, name in enumerate(people)}
        unit = F.normalize(torch.from_numpy(np.asarray(self.embeddings, np.float32)))
        sums = torch.zeros(len(people), unit.shape[1])
        return F.normalize(sums.index_add_(0, torch.tensor([place[name] for name in self.names]), unit))

    def without(self, people: Sequence[str]) -> Gallery:
        """Select the templates of all other people, unchanged bit by bit."""
        gone = set(people)
        kept = np.array([name not in gone for name in self.names], bool)
        names = [name for name in self.names if name not in gone]
        return Gallery(self.embeddings[kept], names, {key: array[kept] for key, array in self.more.items()})

    def project(self, changes: Sequence[Change]) -> tuple[Gallery, dict[str, float]]:
        """Templates as the embedder makes them once ``changes`` are made, one after the other, with the
        lengths and the type that they had; and their drift: the mean and the least cosine with what they were."""
        before = torch.from_numpy(np.asarray(self.embeddings, np.float32))
        after = project_each(before, changes)
        after = F.normalize(after) * before.norm(dim=1, keepdim=True)
        cosines = F.cosine_similarity(before, after)
        drift = {"mean_cosine": round(float(cosines.mean()), 4), "least_cosine": round(float(cosines.min()), 4)}
        return Gallery(after.numpy().astype(self.embeddings.dtype), self.names, self.more), drift

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz, whole or not at all."""
        arrays = {EMBEDDINGS: self.embeddings, NAMES: np.array(self.names), **self.more}
        size = sum(array.nbytes for array in arrays.values())
        with replacing(path, size) as temporary, open(temporary, "xb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def read_gallery(path: str | os.PathLike[str]) -> Gallery:
    """Read a gallery: ``embeddings`` ``(n, D)`` and ``names`` ``(n,)``, and any further arrays of n rows.

    Raises:
        RequestError: No such file, no .npz of plain arrays, arrays that do not fit, templates that are not finite or have no
            length, or fewer than two people.
    """
    if not Path(path).is_file():
        raise RequestError(f"no gallery at '{path}'; expected an .npz with {EMBEDDINGS} (n, D) and {NAMES} (n,)")
    archive = Archive(Path(path))
    lacking = [name for name in (EMBEDDINGS, NAMES) if name not in archive.names]
    if lacking:
        raise RequestError(
            f"'{path}' holds no {' and no '.join(lacking)}, only {', '.join(archive.names) or 'nothing'}; write it with "
            f"numpy.savez('gallery.npz', {EMBEDDINGS}=..., {NAMES}=...)"
        )
    arrays = {name: archive.read(name) for name in archive.names}
    embeddings, named = arrays.pop(EMBEDDINGS), arrays.pop(NAMES)
    if embeddings.ndim != 2 or embeddings.dtype.kind != "f" or named.ndim != 1 or len(named) != len(embeddings):
        raise RequestError(
            f"'{path}': {EMBEDDINGS} are {embeddings.dtype} {embeddings.shape} and {NAMES} {named.shape}; expected floats (n, D) "
            "and a name for each"
        )
    for key, array in arrays.items():
        if array.shape[:1] != (len(named),):
            raise RequestError(
                f"'{path}': {key} has the shape {array.shape}; expected a row for each of {len(named)} templates"
            )
    wide = np.asarray(embeddings, np.float64)
    broken = np.flatnonzero(~np.isfinite(wide).all(1) | (np.linalg.norm(np.nan_to_num(wide), axis=1) == 0))
    if len(broken):
        raise RequestError(
            f"'{path}': {len(broken)} of {len(wide)} templates are zero or not finite, first number {broken[0]}; make them anew"
        )
    gallery = Gallery(embeddings, texts(named, Path(path)), arrays)
    if len(gallery.people) < 2:
        raise RequestError(
            f"'{path}' holds templates of {len(gallery.people)} people; a model needs two or more to choose among"
        )
    return gallery


def save_without(
    model: str, runner: UnlearnRunner, people: Sequence[str], changes: Sequence[Change] | None
) -> dict[str, Any] | None:
    """After a run, put the model's gallery, without the people's templates, beside the erased model; what was done to the
    others'."""
    path = Path(model) / NAME
    if not path.is_file() or runner.outcome.published is None:
        return None
    left, steps = read_gallery(path).without(people), runner.iter // runner.accumulation
    drift: dict[str, Any] = {"mean_cosine": 1.0, "least_cosine": 1.0}
    if changes is not None:
        left, drift = left.project(changes)
    left.save(Path(runner.outcome.published) / NAME)
    # The head's own training moves no embedding.
    exact = steps == 0 or runner.method.trains_head_alone
    return {"templates": len(left.names), "projected": changes is not None, **drift, "exact": exact}
