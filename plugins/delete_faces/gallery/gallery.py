"""Gallery of templates: embeddings of people's faces with their names, which most face systems hold."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from delete_images.data.archives import Archive, texts
from delete_tasks.errors import RequestError
from delete_tasks.fileio.atomic import replacing
from delete_tasks.request.classes import SPELLINGS
from delete_tasks.task import Run

from ..enrolment import GALLERY
from ..projection import Change, project_each

UNIT = 1e-3  # difference from 1 up to which a template was scaled to length 1; of 16-bit numbers as well
EMBEDDINGS, NAMES = "embeddings", "names"


@dataclass(frozen=True)
class Gallery:
    """Templates, one or several per person."""

    embeddings: NDArray[Any]  # (n, D), floating point, of any length
    names: list[str]  # person of each
    more: Mapping[str, NDArray[Any]]  # further arrays (n, ...)

    @property
    def people(self) -> tuple[str, ...]:
        """People, in order of their first template."""
        return tuple(dict.fromkeys(self.names))

    def class_weights(self, people: Sequence[str]) -> Tensor:
        """Compute class weights, float32 ``(C, D)`` of length 1: the mean of each person's templates, each scaled to length 1."""
        index = {name: number for number, name in enumerate(people)}
        unit = F.normalize(torch.from_numpy(np.asarray(self.embeddings, np.float32)))
        sums = torch.zeros(len(people), unit.shape[1])
        return F.normalize(sums.index_add_(0, torch.tensor([index[name] for name in self.names]), unit))

    def without(self, people: Sequence[str]) -> "Gallery":
        """Select the templates of all other people, unchanged bit by bit."""
        return self._chosen(~np.isin(self.names, list(people)))

    def only(self, people: Sequence[str]) -> "Gallery":
        """Select the templates of ``people``, unchanged bit by bit."""
        return self._chosen(np.isin(self.names, list(people)))

    def _chosen(self, rows: NDArray[np.bool_]) -> "Gallery":
        more = {key: array[rows] for key, array in self.more.items()}
        return Gallery(self.embeddings[rows], list(compress(self.names, rows)), more)

    def transform(self, matrix: Tensor) -> tuple["Gallery", dict[str, float]]:
        """Multiply the templates, in their type, by ``(D, D)``; a length of 1 stays. Return their :func:`drift_of` as well."""
        before = torch.from_numpy(np.asarray(self.embeddings, np.float64))
        after = before @ matrix.to(before).T
        unit = (before.norm(dim=1, keepdim=True) - 1).abs() < UNIT
        after = torch.where(unit, F.normalize(after), after)
        return Gallery(after.numpy().astype(self.embeddings.dtype), self.names, self.more), drift_of(before, after)

    def save(self, path: str | Path) -> None:
        """Write an .npz atomically, with the permissions of a file that it replaces."""
        arrays = {EMBEDDINGS: self.embeddings, NAMES: np.array(self.names), **self.more}
        size = sum(array.nbytes for array in arrays.values())
        with replacing(path, size) as temporary, open(temporary, "xb") as file:
            if Path(path).is_file():
                shutil.copymode(path, temporary)
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())


def drift_of(before: Tensor, after: Tensor) -> dict[str, float]:
    """Compute the mean and the least cosine of two models' embeddings ``(n, D)`` of the same photos, one or more."""
    cosines = F.cosine_similarity(before, after)
    return {"mean_cosine": round(float(cosines.mean()), 4), "least_cosine": round(float(cosines.min()), 4)}


def read_gallery(path: str | Path, least: int = 2) -> Gallery:
    """Read ``embeddings`` ``(n, D)``, ``names`` ``(n,)`` and further arrays of an .npz; refuse as :func:`check_gallery`."""
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
    if named.ndim != 1:
        raise RequestError(f"'{path}': {NAMES} have the shape {named.shape}; expected a name for each template")
    return check_gallery(embeddings, texts(named, Path(path)), arrays, path, least)


def check_gallery(
    embeddings: NDArray[Any], names: list[str], more: Mapping[str, NDArray[Any]], path: str | Path, least: int
) -> Gallery:
    """Make a gallery; refuse arrays that do not fit, templates that are zero or not finite, and fewer than ``least`` people."""
    if embeddings.ndim != 2 or embeddings.dtype.kind != "f" or len(names) != len(embeddings):
        raise RequestError(
            f"'{path}': {EMBEDDINGS} are {embeddings.dtype} {embeddings.shape} and {NAMES} {len(names)}; expected floats (n, D) "
            "and a name for each"
        )
    for key, array in more.items():
        if array.shape[:1] != (len(names),):
            raise RequestError(f"'{path}': {key} has the shape {array.shape}; expected {len(names)}, one per template")
    wide = np.asarray(embeddings, np.float64)
    broken = np.flatnonzero(~np.isfinite(wide).all(1) | (np.linalg.norm(np.nan_to_num(wide), axis=1) == 0))
    if len(broken):
        raise RequestError(
            f"'{path}': {len(broken)} of {len(wide)} templates are zero or not finite, first index {broken[0]}; make them anew"
        )
    gallery = Gallery(embeddings, names, more)
    if len(gallery.people) < least:
        raise RequestError(f"'{path}' holds templates of {len(gallery.people)} people; a model needs two or more")
    return gallery


def find_names(named: Iterable[str], people: Sequence[str]) -> list[list[str]]:
    """Find for each of ``people`` all names of a store that differ from it in case, '_', '-' and spaces at most."""
    spell, named = SPELLINGS[-1], list(named)
    return [[found for found in named if spell(found) == spell(name)] for name in people]


def check_size(gallery: Gallery, size: int, path: str | Path) -> None:
    """Refuse templates of another size than the model's embeddings ``(size,)``."""
    found = gallery.embeddings.shape[1]
    if found != size:
        raise RequestError(
            f"templates in '{path}' have {found} numbers, embeddings of the model {size}; give the store that this model made"
        )


def save_without(
    model: str, runner: Run, people: Sequence[str], changes: Sequence[Change] | None
) -> dict[str, Any] | None:
    """Write the gallery without the people beside the erased model; return what was done to other templates, None if nothing."""
    path = Path(model) / GALLERY
    if not path.is_file() or runner.outcome.published is None:
        return None
    gallery, drift = read_gallery(path).without(people), {"mean_cosine": 1.0, "least_cosine": 1.0}
    if changes is not None:
        gallery, drift = gallery.transform(project_each(torch.eye(gallery.embeddings.shape[1]), changes).T)
    gallery.save(Path(runner.outcome.published) / GALLERY)
    exact = runner.iter < runner.accumulation or runner.method.trains_head_alone  # no step changed the embedder
    return {"templates": len(gallery.names), "projected": changes is not None, **drift, "exact": exact}
