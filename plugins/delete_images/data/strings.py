"""The string that names a data set, and which of its samples it chooses."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

import numpy as np

from delete_tasks.errors import RequestError, list_names
from delete_tasks.fileio.sampling import evenly_spread
from delete_tasks.request.classes import ID, UNKNOWN_CLASS, NameIndex

KEYS = ("split", "class", "without", "limit", "seed", "label")
_KINDS = ("cifar10", "cifar100")


@dataclass(frozen=True)
class DataSpec:
    """A parsed data string; see :mod:`delete_images.data.opening` for what the parts mean.

    Attributes:
        text: The string itself, for messages.
        kind: 'cifar10', 'cifar100' or 'path'.
        path: The folder or file; None for CIFAR without ROOT.
        split: Name of the part.
        split_given: Whether the string itself named it.
        classes: Only these; empty means all.
        without: Not these.
        limit: At most so many samples.
        seed: Random choice instead of an even spread.
        label: The class of every sample, or 'none'.
    """

    text: str
    kind: str
    path: str | None
    split: str
    split_given: bool
    classes: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    limit: int | None = None
    seed: int | None = None
    label: str | None = None

    def parts(self) -> tuple[str, str | None, str]:
        """Split the string into what stands before the path ('cifar10:', say), the absolute path, None if there is none, and
        the rest. Joined, they name the same data from any folder."""
        if self.path is None:
            return self.kind, None, self.text[len(self.kind) :]
        before = "" if self.kind == "path" else f"{self.kind}:"
        path = os.path.abspath(os.path.expanduser(self.path))
        return before, path, self.text[len(before) + len(self.path) :]

    @property
    def absolute(self) -> str:
        """The string with an absolute path."""
        return "".join(part or "" for part in self.parts())

    def compose(self, options: Mapping[str, str | Sequence[str]]) -> str:
        """Add options to the string, with values escaped as the grammar wants it.

        Args:
            options: Key to value, or to several values; a key without any is left out.

        Raises:
            RequestError: The string has one of the keys.
        """
        before = _split_query(self.text)[1]
        listed = {key: [value] if isinstance(value, str) else value for key, value in options.items() if value}
        for key in listed.keys() & before.keys():
            raise RequestError(f"'{self.text}' says {key}= already; name all values there")
        added = [f"{key}={','.join(quote(value, safe='') for value in values)}" for key, values in listed.items()]
        return f"{self.text}{'&' if before else '?'}{'&'.join(added)}" if added else self.text


def parse_spec(text: str, split: str = "train") -> DataSpec:
    """Parse a data string.

    Raises:
        RequestError: Empty, an unknown or repeated key, or a value that is no number where one is due.
    """
    place, options = _split_query(text)
    if not place:
        raise RequestError(
            f"'{text}' names no data; expected a folder, an .npz file, cifar10[:ROOT] or cifar100[:ROOT]"
        )
    kind, _, root = place.partition(":")
    is_cifar = kind in _KINDS and not (root == "" and os.path.exists(place))
    return DataSpec(
        text=text,
        kind=kind if is_cifar else "path",
        path=(root or None) if is_cifar else place,
        split=unquote(options.get("split", split)),
        split_given="split" in options,
        classes=_names(options.get("class")),
        without=_names(options.get("without")),
        limit=_number(text, "limit", options.get("limit"), 1),
        seed=_number(text, "seed", options.get("seed"), 0),
        label=unquote(options["label"]) if "label" in options else None,
    )


def _split_query(text: str) -> tuple[str, dict[str, str]]:
    if "?" not in text or os.path.exists(text):  # a question mark may be part of a path
        return text, {}
    place, _, query = text.rpartition("?")
    options: dict[str, str] = {}
    for part in query.split("&"):
        key, equals, value = part.partition("=")
        if key not in KEYS or not equals or not value:
            close = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"; did you mean '{close[0]}='?" if close and close[0] != key else ""
            raise RequestError(
                f"'{text}': cannot read '{part}'{hint} Expected KEY=VALUE with a key of: {', '.join(KEYS)}"
            )
        if key in options:
            raise RequestError(f"'{text}': '{key}' is given twice; join the values with a comma")
        options[key] = value
    return place, options


def _names(value: str | None) -> tuple[str, ...]:
    return tuple(unquote(name) for name in value.split(",") if name) if value else ()


def _number(text: str, key: str, value: str | None, least: int) -> int | None:
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", value) or int(value) < least:
        raise RequestError(f"'{text}': {key} is '{value}'; expected a whole number of {least} or more")
    return int(value)


def choose_indices(
    request: DataSpec,
    labels: np.ndarray,
    own_labels: np.ndarray,
    own_names: Sequence[str],
    class_names: Sequence[str],
) -> np.ndarray:
    """Choose the samples of the request, ascending.

    Args:
        request: The parsed string.
        labels: int64 (N,) indices into ``class_names``; -1 no label, -2 a class that the model lacks.
        own_labels: int64 (N,) indices into ``own_names``; -1 no label.
        own_names: The data's own class names; names in ``class=`` and ``without=`` are looked up here.
        class_names: The model's, whose ids are meant by ``#2``.

    Raises:
        RequestError: An unknown class in the request or among the chosen samples, or nothing is left.
    """
    own, model = NameIndex(own_names, "the data set"), NameIndex(class_names)

    def shows(key: str, wanted: Sequence[str]) -> np.ndarray:
        ids = [name for name in wanted if ID.fullmatch(name) and not own.fitting(name)]
        source = f"'{request.text}': {key}"
        named = [own.find(name, source) for name in wanted if name not in ids]
        return np.isin(own_labels, named) | np.isin(labels, [model.find(name, source) for name in ids])

    keep = np.ones(len(labels), dtype=bool)
    if request.classes:
        keep &= shows("class", request.classes)
    if request.without:
        keep &= ~shows("without", request.without)
    indices = np.flatnonzero(keep)
    if request.label is None:
        unknown = np.unique(own_labels[indices[labels[indices] == UNKNOWN_CLASS]])
        if len(unknown):
            names = [own_names[number] for number in unknown]
            close = [hit for name in names[:3] for hit in difflib.get_close_matches(name, class_names, n=3, cutoff=0.5)]
            hint = f"closest: {', '.join(dict.fromkeys(close))}" if close else f"there are: {list_names(class_names)}"
            raise RequestError(
                f"'{request.text}': unknown or ambiguous class {list_names([repr(name) for name in names], 8)}; {hint}. Take "
                "them out with without=, or rename them to the model's names"
            )
    if not len(indices):
        raise RequestError(f"'{request.text}' leaves no image of {len(labels)}; loosen class=, without= or split=")
    limit = request.limit
    if limit is None or limit >= len(indices):
        return indices
    if request.seed is None:
        return indices[evenly_spread(len(indices), limit)]
    return np.sort(np.random.default_rng(request.seed).permutation(indices)[:limit])
