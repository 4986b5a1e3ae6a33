"""Requests to forget, and the resolution of class names to ids."""

import contextlib
import difflib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import LISTED, RequestError, list_names, shorten

UNKNOWN_CLASS = -2
CLOSE = 3  # similar names in the message about an unknown name


def choose(name: str, value: Any, allowed: Sequence[str]) -> Any:
    """Return ``value`` if it is one of ``allowed``, else raise RequestError naming them."""
    if value not in allowed:
        raise RequestError(f"{name}={value!r} is not known; expected one of {', '.join(map(repr, allowed))}")
    return value


def _spaced(name: str) -> str:
    return name.casefold().strip().replace("_", " ").replace("-", " ")


def as_list(classes: Any) -> list[str | int]:
    """Return a request's classes, one or several, as a list; raise RequestError for anything else."""
    if isinstance(classes, (str, int)):
        return [classes]
    try:
        return list(classes)
    except TypeError as error:
        raise RequestError(f"classes is {classes!r}; expected a name, an id, or a list of them") from error


ID = re.compile("#[0-9]+")
SPELLINGS: tuple[Callable[[str], str], ...] = (str, str.casefold, _spaced)


class NameIndex:
    """Index of class names, with a dictionary for each way of comparing. A name matches the class with the same spelling; else
    the one that differs in case only; else in case, '_', '-' and spaces. A name that matches several classes is refused. Only a
    name without a match is read as an id, written ``#2``, since class names may be digits. Messages name the ``owner``."""

    def __init__(self, names: Sequence[str], owner: str = "the model") -> None:
        self.names = tuple(names)
        self.owner = owner
        self._tables: list[dict[str, list[int]]] = [{} for _ in SPELLINGS]
        for spell, table in zip(SPELLINGS, self._tables, strict=True):
            for i, name in enumerate(self.names):
                table.setdefault(spell(name), []).append(i)

    def fitting(self, name: str) -> list[int]:
        """Find the ids of the classes that ``name`` matches by its spelling, ascending; ``#2`` is not read as an id."""
        matches = (table.get(spell(name)) for spell, table in zip(SPELLINGS, self._tables, strict=True))
        return next(filter(None, matches), [])

    def match(self, names: Sequence[str]) -> list[int]:
        """Find the ids of names from data, :data:`UNKNOWN_CLASS` for a name that matches no class or several."""
        return [ids[0] if len(ids) == 1 else UNKNOWN_CLASS for ids in map(self.fitting, names)]

    def find(self, wanted: str | int, source: str | None = None) -> int:
        """Find the id of a class from its name, an id written ``#2``, or an integer id (in configs and calls). Errors begin with
        ``source``, the place of the name; raise RequestError if unknown (the closest are listed), ambiguous or out of range."""
        text = str(wanted)
        matches = self.fitting(text) if isinstance(wanted, str) else []
        if len(matches) == 1:
            return matches[0]
        if isinstance(wanted, bool) or not isinstance(wanted, (str, int)):
            problem = f"a class is given by its name or its id, got {wanted!r} of type {type(wanted).__name__}"
        elif matches:
            classes = ", ".join(f"#{i} {shorten(self.names[i])!r}" for i in matches[:LISTED])
            problem = (
                f"the class name {shorten(text)!r} is ambiguous: it fits {len(matches)} classes ({classes}); spell it as one "
                f"of them, or give the id, e.g. '#{matches[0]}'"
            )
        elif isinstance(wanted, int) or ID.fullmatch(text):
            digits = text.removeprefix("#")
            if 0 <= int(digits[:18]) < len(self.names):
                return int(digits[:18])
            problem = f"class id {shorten(digits)} is outside 0..{len(self.names) - 1}"
        else:
            problem = self._unknown(text)
        raise RequestError(f"{source}: {problem}" if source else problem)

    def _unknown(self, wanted: str) -> str:
        close = difflib.get_close_matches(wanted, self.names, n=CLOSE, cutoff=0.5)
        hint = f" Did you mean {' or '.join(repr(shorten(name)) for name in close)}?" if close else ""
        if re.fullmatch("[0-9]+", wanted):
            hint += f" An id is written with a #: '#{shorten(wanted)}'."
        names = list_names(self.names, LISTED - len(close))
        return f"{self.owner} has no class {shorten(wanted)!r}.{hint} Valid names: {names}"


def as_compared(classes: Sequence[str | int] | str | int, names: Sequence[str] = ()) -> list[str]:
    """Spell and sort classes so that case, '_', '-', spaces, order, and ids for the model's ``names`` make no difference."""
    index, spelled = NameIndex(names), []
    for wanted in as_list(classes):
        with contextlib.suppress(RequestError):
            wanted = names[index.find(wanted)]
        spelled.append(_spaced(str(wanted)))
    return sorted(spelled)


def resolve_classes(classes: Sequence[str | int] | str | int, names: Sequence[str]) -> list[int]:
    """Resolve one class or a list to ids, ascending: names, ids or ids written ``#2`` among the model's class ``names``, in order
    of their logits, by the rule of :class:`NameIndex`. Raise RequestError for no class, an unknown or ambiguous class, a class
    twice, all classes, or a model with a single class."""
    classes = as_list(classes)
    if len(names) < 2:
        raise RequestError(
            f"a model with {len(names)} class output(s) has no other class to fall back to; a single-output (C=1) head "
            "must be turned into a two-class head (num_classes=2, out_channels=2) first"
        )
    if len(classes) == 0:
        raise RequestError(f"no class to forget was given; name at least one of: {list_names(names)}")
    index = NameIndex(names)
    ids = [index.find(wanted) for wanted in classes]
    repeated = sorted(names[i] for i, count in Counter(ids).items() if count > 1)
    if repeated:
        raise RequestError(f"the request names {list_names(repeated)} more than once; name each class once")
    if len(ids) == len(names):
        raise RequestError(f"the request names all {len(names)} classes; at least one must remain as the target")
    return sorted(ids)


@dataclass(frozen=True)
class ForgetRequest:
    """Request to forget: the classes, the locations of the loss, and the selection of the forget set.

    Attributes:
        classes: Class names or ids, see :func:`resolve_classes`.
        masking: 'all' masks all forgotten classes at all locations and needs no labels; 'own' masks only the label of each
            location, if it is a forgotten class (the paper's code).
        locations: 'all' uses all locations of the forget set, 'forgotten' only those of a forgotten class.
        select: 'labels' selects the forget set by annotations, 'teacher' by the original's predictions.
        avoid, fill, into: Target at forgotten locations, see :class:`delete_tasks.methods.delete.DELETE`.
    """

    classes: Sequence[str | int] = ()
    masking: str = "all"
    locations: str = "all"
    select: str = "labels"
    avoid: Sequence[str | int] = ()
    fill: str = "auto"
    into: str | int | None = None

    def __post_init__(self) -> None:
        choose("masking", self.masking, ("all", "own"))
        choose("locations", self.locations, ("all", "forgotten"))
        choose("select", self.select, ("labels", "teacher"))
        choose("fill", self.fill, ("auto", "second", "surroundings"))
        for name, value, needed in (("fill", self.fill, "auto"), ("masking", self.masking, "all")):
            if self.into is not None and value != needed:
                raise RequestError(
                    f"into={self.into!r} gives the place of all forgotten classes to one, but {name} is {value!r}; leave {name} "
                    f"out ({needed!r}), or into"
                )
        if self.masking == "own" and self.select == "teacher":
            raise RequestError(
                "masking='own' needs the label of each location, but select='teacher' reads none; use masking='all', or "
                "select='labels' with annotations"
            )

    def resolve(self, names: Sequence[str]) -> list[int]:
        """Resolve the classes to forget to ids among the model's class ``names``; raises as :meth:`resolve_avoid` and
        :meth:`resolve_into`."""
        self.resolve_into(names)
        return resolve_classes(self.classes, names)

    def resolve_avoid(self, names: Sequence[str]) -> list[int]:
        """Resolve the classes to avoid to ids, ascending; raise as :func:`resolve_classes`, or if a class to forget is among
        them, or no class is left for the target."""
        if not self.avoid and not isinstance(self.avoid, int):
            return []
        forgotten, avoided = (resolve_classes(classes, names) for classes in (self.classes, self.avoid))
        both = sorted(set(forgotten) & set(avoided))
        if both:
            raise RequestError(f"avoid names {list_names([names[i] for i in both])}, a class to forget; leave it out")
        if len(forgotten) + len(avoided) == len(names):
            raise RequestError(
                f"the classes to forget and to avoid are all {len(names)} classes; leave at least one to take their place"
            )
        return avoided

    def resolve_into(self, names: Sequence[str]) -> int | None:
        """Resolve the class that takes the forgotten ones' place to its id, or None; raise as :meth:`resolve_avoid` and
        :meth:`NameIndex.find`, or if it is a class to forget or to avoid."""
        avoided = self.resolve_avoid(names)
        if self.into is None:
            return None
        into = NameIndex(names).find(self.into, "into")
        for purpose, ids in (("forget", resolve_classes(self.classes, names)), ("avoid", avoided)):
            if into in ids:
                raise RequestError(f"into names {names[into]!r}, a class to {purpose}; name a class that is kept")
        return into

    def resolve_expected(self, expect: Sequence[str | int], names: Sequence[str]) -> list[int]:
        """Resolve the classes that may replace the forgotten ones, by default ``into``, to ids; raises as :meth:`resolve`, or if
        ``expect`` names a class to forget."""
        ids, into = self.resolve(names), self.resolve_into(names)
        expected = resolve_classes(expect, names) if expect else [] if into is None else [into]
        both = sorted(set(expected) & set(ids))
        if both:
            raise RequestError(f"--expect names {list_names([names[i] for i in both])}, a class to forget; omit it")
        return expected
