"""Stores of templates where people have them: files, PostgreSQL with pgvector, or one's own.

A store is named by one string: a path (``templates.npz``; ``vectors.npy``, with ``vectors.csv`` beside it), a database
(``postgresql://HOST/DATABASE?table=faces&person=name&embedding=embedding``), or ``package.module:Class?KEY=VALUE``.

A ``with`` block is a transaction: when it ends, all its changes are there; after an error or a kill, none is. ``people()``
counts the templates of each person; ``read(people=None)`` gives the :class:`Gallery` of people, or of all, as changed so far, in
an order that does not change before ``replace``. Nothing but ``replace(embeddings)``, floating point ``(n, D)`` in the order of
``read``, and ``delete(people)``, named as ``people`` names them, changes the store.
"""

import hashlib
import pkgutil
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import torch

from delete_images.models.spec import ModelSpec
from delete_tasks.errors import RequestError, first_line
from delete_tasks.fileio.inputs import file_sha256
from delete_tasks.fileio.sampling import evenly_spread

from ..enrolment import was_removed
from ..gallery.gallery import Gallery, check_size, find_names
from ..photos import Templates

DATABASES = ("postgresql://", "postgres://")
MOST_PEOPLE = 2000  # who stay, whose templates are read
LEAST_OWN = 0.5  # share of templates that the model must assign to their owners
IMPORTED = re.compile(r"[\w.]+:[A-Za-z_][\w.]*(\?.*)?")  # package.module:Class, perhaps with arguments


def open_store(text: str, out: str | None = None, allow_import: bool = False) -> Any:
    """Open the store that a string names. Changes go to the path ``out`` if given, else there. Raise :class:`RequestError` for a
    string that names no store, ``out`` for a store that is no file, and an import path without ``allow_import``."""
    from .files import FILES
    from .postgres import PostgresStore

    kind, imported = FILES.get(Path(text).suffix), IMPORTED.fullmatch(text)
    if out is not None and (imported or text.startswith(DATABASES)):
        raise RequestError(f"'{shown(text)}' is changed in place, in one transaction; leave --out out")
    if text.startswith(DATABASES):
        return PostgresStore(text)
    if imported and not allow_import:
        raise RequestError(f"the store '{text}' is an import path, which runs code; if trusted, pass --allow-import")
    if imported:
        path, _, arguments = text.partition("?")
        try:
            return pkgutil.resolve_name(path)(**dict(parse_qsl(arguments)))
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise RequestError(
                f"the store '{text}' cannot be made: {first_line(error)}; expected package.module:Class?KEY=VALUE, with the "
                "package's folder on PYTHONPATH"
            ) from error
    if kind is None:
        raise RequestError(
            f"'{text}' is no store of templates; expected {' or '.join(FILES)}, {DATABASES[0]}HOST/DATABASE?table=NAME, or "
            "package.module:Class"
        )
    return kind(Path(text), None if out is None else Path(out))


def is_store(text: str) -> bool:
    """Return True if a string names a store, and no folder of photos."""
    from .files import FILES

    return text.startswith(DATABASES) or bool(IMPORTED.fullmatch(text)) or Path(text).suffix in FILES


def shown(text: str) -> str:
    """Remove the password from a store's string."""
    if not text.startswith(DATABASES):
        return text
    address, mark, query = text.partition("?")
    scheme, slashes, place = address.partition("://")
    user, at, host = place.rpartition("@")
    kept = "&".join(pair for pair in query.split("&") if not pair.startswith("password="))
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{host}{mark}{kept}"


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
        named = find_names(store.people(), people)
        gallery = store.read([name for found in named for name in found])
    if not gallery.names:
        return Templates(torch.zeros(0, size), np.zeros(0, np.int64), [], list(ids))
    check_size(gallery, size, shown(text))
    rows = [np.flatnonzero(np.isin(gallery.names, found)) for found in named]
    chosen = np.concatenate(rows)
    return Templates(
        torch.from_numpy(gallery.embeddings[chosen].astype(np.float32)),
        np.repeat(np.array(ids, np.int64), [len(found) for found in rows]),
        [f"{gallery.names[row]}: template {row}" for row in chosen],
        [i for i, found in zip(ids, rows, strict=True) if not len(found)],
    )


def open_others(text: str, people: Sequence[str], spec: ModelSpec, head: Any, allow_import: bool = False) -> Templates:
    """Read the templates of everyone but ``people`` and those removed before, :data:`MOST_PEOPLE` at most, evenly spread; labels
    count people. Refuse templates of another model: the ``head`` must assign half of those of its people to them."""
    with open_store(text, allow_import=allow_import) as store:
        named = store.people()
        gone = {name for found in find_names(named, people) for name in found}
        others = [name for name in named if name not in gone and not was_removed(name, spec)]
        gallery = store.read([others[i] for i in evenly_spread(len(others), MOST_PEOPLE)])
    if not gallery.names:
        raise RequestError(f"'{shown(text)}' (--retain) has no template of people who stay; leave --retain out")
    check_size(gallery, head.weight.shape[1], shown(text))
    embeddings = torch.from_numpy(gallery.embeddings.astype(np.float32))
    ids = {name: i for i, found in enumerate(find_names(gallery.people, spec.classes)) for name in found}
    owners = torch.tensor([ids.get(name, -1) for name in gallery.names])
    with torch.no_grad():
        right = (head(embeddings).argmax(1) == owners)[owners >= 0].float()
    if len(right) and right.mean() < LEAST_OWN:
        raise RequestError(
            f"of {len(right)} templates of the model's people in '{shown(text)}' (--retain), {100 * float(right.mean()):.0f}% "
            "are nearest to their own person's class weights; another model made them: give this model's store"
        )
    labels = np.unique(gallery.names, return_inverse=True)[1]
    return Templates(embeddings, labels, [f"{name}: template {row}" for row, name in enumerate(gallery.names)], [])
