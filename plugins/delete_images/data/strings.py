"""Data strings: parsing, composing, and choosing the samples that they name."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

import numpy as np

from delete_tasks.errors import RequestError, did_you_mean, list_names
from delete_tasks.fileio.sampling import evenly_spread
from delete_tasks.request.classes import ID, UNKNOWN_CLASS, NameIndex

KEYS = ("split", "class", "without", "limit", "seed", "label")
_KINDS = ("cifar10", "cifar100")


@dataclass(frozen=True)
class DataSpec:
    """Parsed data string; see :mod:`delete_images.data.opening` for the meaning of its keys."""

    text: str
    kind: str  # 'cifar10', 'cifar100' or 'path'
    path: str | None  # None for CIFAR without ROOT
    split: str
    split_given: bool  # the string itself names the split
    classes: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    limit: int | None = None
    seed: int | None = None
    label: str | None = None

    def parts(self) -> tuple[str, str | None, str]:
        """Split the string into prefix ('cifar10:'), absolute path or None, and rest; joined, they are the same data anywhere."""
        if self.path is None:
            return self.kind, None, self.text[len(self.kind) :]
        before = "" if self.kind == "path" else f"{self.kind}:"
        path = os.path.abspath(os.path.expanduser(self.path))
        return before, path, self.text[len(before) + len(self.path) :]

    @property
    def absolute(self) -> str:
        """Data string with an absolute path."""
        return "".join(part or "" for part in self.parts())

    def check_place(self) -> None:
        """Raise RequestError if nothing is there that could be opened; CIFAR may be downloaded."""
        place = os.path.expanduser(self.path or "")
        is_file = os.path.isfile(place)
        if self.kind in _KINDS or os.path.isdir(place) or (is_file and place.endswith(".npz")):
            return
        problem = "not an .npz file" if is_file else "nothing there"
        raise RequestError(
            f"no data at '{place}' ({problem}); expected a folder of class folders, .npz, cifar10[:ROOT] or cifar100[:ROOT]"
        )

    def compose(self, options: Mapping[str, str | Sequence[str]]) -> str:
        """Add options, a value or several by key, to the string; raises RequestError for a key that the string has."""
        present = _split_query(self.text)[1]
        added = []
        for key, value in options.items():
            if not value:
                continue
            if key in present:
                raise RequestError(f"'{self.text}' has {key}= already; put all values there")
            values = [value] if isinstance(value, str) else value
            added.append(f"{key}={','.join(quote(word, safe='') for word in values)}")
        return f"{self.text}{'&' if present else '?'}{'&'.join(added)}" if added else self.text

    def named(self, classes: Sequence[str], without: Sequence[str] = ()) -> str:
        """Make the data string, with an absolute path, with other classes."""
        start = "".join(part or "" for part in self.parts()[:2])
        numbers = {key: str(value) for key, value in (("limit", self.limit), ("seed", self.seed)) if value is not None}
        split = self.split if self.split_given else ""
        named = {"class": classes, "without": without, "label": self.label or "", "split": split}
        return parse_spec(start).compose({**named, **numbers})


def parse_spec(text: str, split: str = "train") -> DataSpec:
    """Parse a data string; raises RequestError for one that does not follow the grammar."""
    place, options = _split_query(text)
    if not place:
        raise RequestError(f"'{text}' names no data set; expected a folder, .npz, cifar10[:ROOT] or cifar100[:ROOT]")
    kind, _, root = place.partition(":")
    is_cifar = kind in _KINDS and not (root == "" and os.path.exists(place))
    return DataSpec(
        text=text,
        kind=kind if is_cifar else "path",
        path=(root or None) if is_cifar else place,
        split=unquote(options.get("split", split)),
        split_given="split" in options,
        classes=_names(options.get("class", "")),
        without=_names(options.get("without", "")),
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
            hint = "." if key in KEYS else did_you_mean(key, KEYS)
            raise RequestError(f"'{text}': cannot read '{part}'{hint} Expected KEY=VALUE, keys: {', '.join(KEYS)}")
        if key in options:
            raise RequestError(f"'{text}': repeated key '{key}'; join the values with a comma")
        options[key] = value
    return place, options


def _names(value: str) -> tuple[str, ...]:
    return tuple(unquote(name) for name in value.split(",") if name)


def _number(text: str, key: str, value: str | None, least: int) -> int | None:
    if value is not None and (not re.fullmatch("[0-9]{1,18}", value) or int(value) < least):
        raise RequestError(f"'{text}': {key} is '{value}'; expected a whole number of {least} or more")
    return None if value is None else int(value)


def choose_indices(
    request: DataSpec, labels: np.ndarray, data_labels: np.ndarray, data_names: Sequence[str], names: Sequence[str]
) -> np.ndarray:
    """Choose the samples that a data string names: their indices, ascending. Unknown classes and an empty choice are refused.
    ``labels``, int64 (N,), are indices into the model's class ``names`` (-1 no label, -2 a class that it lacks), for ids such as
    ``#2``; ``data_labels`` those into the data's ``data_names`` (-1 no label), for the names in ``class=`` and ``without=``."""
    data_index, model_index = NameIndex(data_names, "the data set"), NameIndex(names)

    def mask(key: str, classes: Sequence[str]) -> np.ndarray:
        ids = [name for name in classes if ID.fullmatch(name) and not data_index.fitting(name)]
        source = f"'{request.text}': {key}"
        named = [data_index.find(name, source) for name in classes if name not in ids]
        return np.isin(data_labels, named) | np.isin(labels, [model_index.find(name, source) for name in ids])

    chosen = np.ones(len(labels), dtype=bool)
    if request.classes:
        chosen &= mask("class", request.classes)
    if request.without:
        chosen &= ~mask("without", request.without)
    indices = np.flatnonzero(chosen)
    unknown = np.unique(data_labels[indices[labels[indices] == UNKNOWN_CLASS]])
    if request.label is None and len(unknown):
        lacking = [data_names[number] for number in unknown]
        close = [match for name in lacking[:3] for match in difflib.get_close_matches(name, names, n=3, cutoff=0.5)]
        hint = f"closest: {', '.join(dict.fromkeys(close))}" if close else f"valid names: {list_names(names)}"
        raise RequestError(
            f"'{request.text}': unknown or ambiguous class {list_names([repr(name) for name in lacking], 8)}; {hint}. Leave "
            "them out with without=, or rename them to the model's names"
        )
    if not len(indices):
        raise RequestError(f"'{request.text}' chooses no image of {len(labels)}; loosen class=, without= or split=")
    limit = request.limit
    if limit is None or limit >= len(indices):
        return indices
    if request.seed is None:
        return indices[evenly_spread(len(indices), limit)]
    return np.sort(np.random.default_rng(request.seed).permutation(indices)[:limit])
