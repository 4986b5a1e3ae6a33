"""Stores in files: .npz, and .npy with a .csv of names."""

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from delete_images.data.archives import read_npy
from delete_tasks.errors import RequestError
from delete_tasks.fileio.atomic import replacing, save_text
from delete_tasks.fileio.inputs import read_text

from ..gallery.gallery import Gallery, check_gallery, read_gallery

NAMED = "name"  # column of a .csv with the people; without a header, the first


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

    def people(self) -> Mapping[str, int]:
        return Counter(self.gallery.names)

    def read(self, people: Sequence[str] | None = None) -> Gallery:
        return self.gallery if people is None else self.gallery.only(people)

    def replace(self, embeddings: np.ndarray) -> None:
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
        header = rows.pop(0) if rows and NAMED in rows[0] else None
        column = 0 if header is None else header.index(NAMED)
        short = next((number for number, row in enumerate(rows, 1) if len(row) <= column or not row[column]), None)
        if short is not None:
            raise RequestError(f"'{listed}': row {short} has no name; name the person of each template")
        self.header = header
        names = [row[column] for row in rows]
        return check_gallery(read_npy(self.path), names, {"rows": np.array(rows, object)}, self.path, least=1)

    def save(self) -> None:
        if self.out == self.path:
            names = self.path.with_suffix(".csv").name
            raise RequestError(
                f"'{self.path}' and {names} are two files, which cannot be replaced at once: a kill between them would leave "
                "half; give --out NEW.npy, and then switch to NEW.npy and NEW.csv"
            )
        with replacing(self.out, self.gallery.embeddings.nbytes) as temporary, open(temporary, "xb") as file:
            np.save(file, self.gallery.embeddings)
            os.fsync(file.fileno())
        listed = io.StringIO(newline="")
        csv.writer(listed).writerows([*([] if self.header is None else [self.header]), *self.gallery.more["rows"]])
        save_text(listed.getvalue(), self.out.with_suffix(".csv"))


FILES = {".npz": NpzStore, ".npy": NpyStore}
