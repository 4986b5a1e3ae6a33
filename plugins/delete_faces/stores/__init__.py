"""Stores of templates where people have them: files, or a class of one's own.

A store is named by one string: a path (``templates.npz``; ``vectors.npy``, with ``vectors.csv`` beside it), or
``package.module:Class?KEY=VALUE``.
"""

import csv
import hashlib
import os
import pkgutil
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl

import numpy as np
import torch
from numpy.typing import NDArray

from delete_images.data.archives import read_npy
from delete_images.models.spec import ModelSpec
from delete_tasks.errors import RequestError, first_line
from delete_tasks.fileio.atomic import replacing
from delete_tasks.fileio.inputs import file_sha256, read_text
from delete_tasks.fileio.sampling import evenly_spread

from ..earlier import was_removed
from ..gallery.gallery import Gallery, check_gallery, check_size, find_names, read_gallery
from ..templates import Templates

MOST_PEOPLE = 2000  # who stay, whose templates are read
LEAST_OWN = 0.5  # share of templates that the model must assign to their owners
IMPORTED = re.compile(r"[\w.]+:[A-Za-z_][\w.]*(\?.*)?")  # package.module:Class, perhaps with arguments
NAMED = "name"  # column of a .csv with the people; without a header, the first


class Store(AbstractContextManager[Any], Protocol):
    """Templates of a face system. A ``with`` block is a transaction: when it ends, all its changes are there; after an error or a
    kill, none is. Nothing but ``replace`` and ``delete`` changes the store."""

    def read(self) -> Gallery:
        """Read the templates, as changed so far, in an order that does not change before ``replace``."""

    def replace(self, embeddings: NDArray[Any]) -> None:
        """Replace all templates by ``embeddings``, floating point ``(n, D)``, in the order of :meth:`read`."""

    def delete(self, people: Sequence[str]) -> None:
        """Delete the templates and names of people; names are those of :meth:`read`."""


class NpzStore:
    """An .npz file as :func:`delete_faces.gallery.gallery.read_gallery` reads it, replaced as a whole."""

    def __init__(self, path: Path, out: Path | None = None) -> None:
        self.path, self.out, self.changed = path, out or path, False

    def __enter__(self) -> "NpzStore":
        self.gallery = self.load()
        return self

    def __exit__(self, error: Any, *_: Any) -> None:
        if error is None and self.changed:
            self.save()

    def load(self) -> Gallery:
        return read_gallery(self.path, least=1)

    def save(self) -> None:
        self.gallery.save(self.out)

    def read(self) -> Gallery:
        return self.gallery

    def replace(self, embeddings: NDArray[Any]) -> None:
        embeddings = embeddings.astype(self.gallery.embeddings.dtype)
        self.gallery, self.changed = replace(self.gallery, embeddings=embeddings), True

    def delete(self, people: Sequence[str]) -> None:
        self.gallery, self.changed = self.gallery.without(people), True


class NpyStore(NpzStore):
    """An .npy file of templates ``(n, D)``, and a .csv of the same name with a row for each: with a column 'name', or with the
    name first and no header. Two files cannot be replaced at once, so that changes go to others; the .csv is written last."""

    def load(self) -> Gallery:
        listed = self.path.with_suffix(".csv")
        if not listed.is_file():
            raise RequestError(f"no names beside '{self.path}'; expected '{listed.name}', a row for each template")
        try:
            rows = list(csv.reader(read_text(listed).splitlines()))
        except (ValueError, csv.Error) as error:
            raise RequestError(f"'{listed}' is no UTF-8 CSV ({error}); expected a row for each template") from error
        self.header = rows.pop(0) if rows and NAMED in rows[0] else None
        column = 0 if self.header is None else self.header.index(NAMED)
        short = next((number for number, row in enumerate(rows, 1) if len(row) <= column or not row[column]), None)
        if short is not None:
            raise RequestError(f"'{listed}': row {short} has no name; name the person of each template")
        names = [row[column] for row in rows]
        return check_gallery(read_npy(self.path), names, {"rows": np.array(rows, object)}, self.path, least=1)

    def save(self) -> None:
        if self.out == self.path:
            raise RequestError(
                f"'{self.path}' and {self.path.with_suffix('.csv').name} are two files, which cannot be replaced at once: a kill "
                "between them would leave half; give --out NEW.npy, and then switch to NEW.npy and NEW.csv"
            )
        with replacing(self.out, self.gallery.embeddings.nbytes) as temporary, open(temporary, "xb") as file:
            np.save(file, self.gallery.embeddings)
            os.fsync(file.fileno())
        listed = self.out.with_suffix(".csv")
        with replacing(listed) as temporary, open(temporary, "x", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([*([] if self.header is None else [self.header]), *self.gallery.more["rows"]])
            file.flush()
            os.fsync(file.fileno())


FILES = {".npz": NpzStore, ".npy": NpyStore}


def open_store(text: str, out: str | None = None, allow_import: bool = False) -> Any:
    """Open the store that a string names. Changes go to ``out`` if it is given, a path, else to the store itself. Raise
    :class:`RequestError` for a string that names no store, ``out`` for a store that is no file, and an import path without
    ``allow_import``."""
    kind = FILES.get(Path(text).suffix)
    if IMPORTED.fullmatch(text):
        if out is not None:
            raise RequestError(f"'{text}' is changed in place, in one transaction; leave --out out")
        return _own(text, allow_import)
    if kind is None:
        raise RequestError(
            f"'{text}' is no store of templates; expected {' or '.join(FILES)}, or package.module:Class (a database's table is "
            "exported to .npz first)"
        )
    return kind(Path(text), None if out is None else Path(out))


def is_store(text: str) -> bool:
    """Return True if a string names a store, and no folder of photos."""
    return bool(IMPORTED.fullmatch(text)) or Path(text).suffix in FILES


def _own(text: str, allow_import: bool) -> Any:
    if not allow_import:
        raise RequestError(
            f"the store '{text}' is an import path, whose code would run; if you trust it, pass --allow-import"
        )
    path, _, arguments = text.partition("?")
    try:
        return pkgutil.resolve_name(path)(**dict(parse_qsl(arguments)))
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise RequestError(
            f"the store '{text}' cannot be made: {first_line(error)}; expected package.module:Class?KEY=VALUE, with the "
            "package's folder on PYTHONPATH"
        ) from error


def digest_of(path: Any, gallery: Gallery) -> str:
    """Compute the SHA-256 of a store's file; without one, of its names and templates, in whatever order they are stored."""
    if path is not None and Path(path).is_file():
        return file_sha256(path)
    pairs = zip(gallery.names, np.ascontiguousarray(gallery.embeddings, "<f4"), strict=True)
    rows = sorted(f"{name}\0".encode("utf-8", "surrogatepass") + row.tobytes() for name, row in pairs)
    return hashlib.sha256(b"".join(rows)).hexdigest()


def open_templates(
    text: str, people: Sequence[str], ids: Sequence[int], size: int, allow_import: bool = False
) -> Templates:
    """Read the templates of ``people``, ``ids`` by index in the model, from a store; ``size`` is that of an embedding."""
    with open_store(text, allow_import=allow_import) as store:
        gallery = store.read()
    named = find_names(gallery.people, people)
    if any(named):
        check_size(gallery, size, text)
    rows = [np.flatnonzero(np.isin(gallery.names, found)) for found in named]
    chosen = np.concatenate(rows)
    own = gallery.embeddings[chosen].astype(np.float32) if len(chosen) else np.zeros((0, size), np.float32)
    return Templates(
        torch.from_numpy(own),
        np.repeat(np.array(ids, np.int64), [len(found) for found in rows]),
        [f"{gallery.names[row]}: template {row}" for row in chosen],
        [i for i, found in zip(ids, rows, strict=True) if not len(found)],
    )


def open_others(text: str, people: Sequence[str], spec: ModelSpec, head: Any, allow_import: bool = False) -> Templates:
    """Read the templates of everyone but ``people`` and those whom earlier requests removed from a store, of at most
    :data:`MOST_PEOPLE`, evenly spread; labels count the people read. Refuse templates that another model made: the ``head`` must
    assign half of those of its people to them."""
    with open_store(text, allow_import=allow_import) as store:
        gallery = store.read()
    gone = {name for found in find_names(gallery.people, people) for name in found}
    others = [name for name in gallery.people if name not in gone and not was_removed(name, spec)]
    gallery = gallery.only([others[i] for i in evenly_spread(len(others), MOST_PEOPLE)])
    if not gallery.names:
        raise RequestError(f"'{text}' (--retain) has no template of people who stay; leave --retain out")
    check_size(gallery, head.weight.shape[1], text)
    embeddings = torch.from_numpy(gallery.embeddings.astype(np.float32))
    ids = {name: i for i, found in enumerate(find_names(gallery.people, spec.classes)) for name in found}
    owners = torch.tensor([ids.get(name, -1) for name in gallery.names])
    with torch.no_grad():
        right = (head(embeddings).argmax(1) == owners)[owners >= 0].float()
    if len(right) and right.mean() < LEAST_OWN:
        raise RequestError(
            f"of {len(right)} templates of the model's people in '{text}' (--retain), {100 * float(right.mean()):.0f}% "
            "are nearest to their own person's class weights; another model made them: give this model's store"
        )
    labels = np.unique(gallery.names, return_inverse=True)[1]
    listed = [f"{name}: template {row}" for row, name in enumerate(gallery.names)]
    return Templates(embeddings, labels, listed, [])
