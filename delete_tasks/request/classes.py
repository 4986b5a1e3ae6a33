"""Requests to forget: class names to ids, and every refusal of a bad request."""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import LISTED, RequestError, list_names, shorten

MASKINGS = ("all", "own")
LOCATIONS = ("all", "forgotten")
SELECTIONS = ("labels", "teacher")
FILLS = ("second", "surroundings")
UNKNOWN_CLASS = -2
CLOSE = 3  # names most like an unknown one, among the LISTED of a message


def choose(name: str, value: Any, allowed: Sequence[str]) -> Any:
    """Return ``value`` if it is one of ``allowed``, else raise RequestError naming them."""
    if value not in allowed:
        raise RequestError(f"{name}={value!r} is not known; expected one of {', '.join(map(repr, allowed))}")
    return value


def _spaced(name: str) -> str:
    return name.casefold().strip().replace("_", " ").replace("-", " ")


ID = re.compile("#[0-9]+")
SPELLINGS: tuple[Callable[[str], str], ...] = (str, str.casefold, _spaced)


class NameIndex:
    """Class names, to be looked up often: a dictionary for each way of comparing, made once.

    A name means the class that is spelt so; else the one that is spelt so but for upper and lower case; else but for case
    and for '_', '-' and spaces. A name that fits several classes is refused. Only a name that fits none is read as an id,
    written ``#2``: names may well be digits.

    Args:
        names: Class names, in order of their ids.
        owner: Whose they are, for messages.
    """

    def __init__(self, names: Sequence[str], owner: str = "the model") -> None:
        self.names = names if isinstance(names, tuple) else tuple(names)
        self.owner = owner
        self._tables: list[dict[str, list[int]]] = []

    def _table(self, level: int) -> dict[str, list[int]]:
        while len(self._tables) <= level:
            table: dict[str, list[int]] = {}
            spell = SPELLINGS[len(self._tables)]
            for number, name in enumerate(self.names):
                table.setdefault(spell(name), []).append(number)
            self._tables.append(table)
        return self._tables[level]

    def fitting(self, name: str) -> list[int]:
        """Find the ids of the classes that ``name`` may mean by its spelling, ascending; ``#2`` is no id here."""
        for level, spell in enumerate(SPELLINGS):
            if found := self._table(level).get(spell(name)):
                return found
        return []

    def match(self, names: Sequence[str]) -> list[int]:
        """Match names from data: the id of each, :data:`UNKNOWN_CLASS` for one that fits no class or several."""
        fitting = map(self.fitting, names)
        return [ids[0] if len(ids) == 1 else UNKNOWN_CLASS for ids in fitting]

    def find(self, wanted: str | int, source: str | None = None) -> int:
        """Find the id of one class that a user names.

        Args:
            wanted: A name, an id written ``#2``, or an integer id (as configs and callers give it).
            source: What names it, which an error then begins with.

        Raises:
            RequestError: Unknown (the closest names are listed), ambiguous, or an id out of range.
        """
        try:
            return self._find(wanted)
        except RequestError as error:
            raise RequestError(f"{source}: {error}" if source else str(error)) from None

    def _find(self, wanted: str | int) -> int:
        if isinstance(wanted, bool) or not isinstance(wanted, (str, int)):
            raise RequestError(
                f"a class is given by its name or its id, got {wanted!r} of type {type(wanted).__name__}"
            )
        if isinstance(wanted, int):
            return self._in_range(wanted, str(wanted))
        found = self.fitting(wanted)
        if len(found) == 1:
            return found[0]
        if found:
            meant = ", ".join(f"#{number} {shorten(self.names[number])!r}" for number in found[:LISTED])
            raise RequestError(
                f"the class name {shorten(wanted)!r} is ambiguous: it fits {len(found)} classes ({meant}); spell it as one of "
                "them, or give the id, e.g. "
                f"'#{found[0]}'"
            )
        if ID.fullmatch(wanted):
            return self._in_range(int(wanted[1:19]), wanted[1:])
        raise self._unknown(wanted)

    def _in_range(self, number: int, text: str) -> int:
        if not 0 <= number < len(self.names):
            raise RequestError(f"class id {shorten(text)} is outside 0..{len(self.names) - 1}")
        return number

    def _unknown(self, wanted: str) -> RequestError:
        close = difflib.get_close_matches(wanted, self.names, n=CLOSE, cutoff=0.5)
        hint = f" Did you mean {' or '.join(repr(shorten(name)) for name in close)}?" if close else ""
        if re.fullmatch("[0-9]+", wanted):
            hint += f" An id is written with a #: '#{shorten(wanted)}'."
        return RequestError(
            f"{self.owner} knows no class {shorten(wanted)!r}.{hint} Valid names: "
            f"{list_names(self.names, LISTED - len(close))}"
        )


def resolve_classes(classes: Sequence[str | int] | str | int, names: Sequence[str]) -> list[int]:
    """Class names (or ids) to ids, by the rule of :class:`NameIndex`.

    Args:
        classes: Names as in ``names``, ids ``0 .. len(names)-1`` or ids written ``#2``; a lone one is taken as a list of one.
        names: The model's class names, in order of their logits.

    Returns:
        Ids in ascending order.

    Raises:
        RequestError: No class, an unknown or ambiguous one, the same one twice, every class, or a model with a single
            class, which has no other class to fall back to.
    """
    if isinstance(classes, (str, int)):
        classes = [classes]
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
        raise RequestError(f"asked more than once to forget {list_names(repeated)}; name each class once")
    if len(ids) == len(names):
        raise RequestError(f"asked to forget all {len(names)} classes; at least one must remain as the target")
    return sorted(ids)


@dataclass(frozen=True)
class ForgetRequest:
    """Request to forget: the classes, the locations of the loss, and the selection of the forget set.

    Attributes:
        classes: Class names or ids, see :func:`resolve_classes`.
        masking: 'all' masks every class being forgotten at every location and needs no labels; 'own' masks only each
            location's own label (the paper's code) and masks nothing where the label is not forgotten.
        locations: 'all' uses every location of the forget set, 'forgotten' only those of a forgotten class.
        select: 'labels' finds the forget set by annotations, 'teacher' by what the original model predicts.
        avoid: Names or ids of remaining classes that must not take the place of a forgotten one, see
            :func:`delete_tasks.losses.targets.avoid_classes`.
        fill: What does take it: the original's 'second' choice there, or what it says of the 'surroundings', see
            :func:`delete_tasks.losses.targets.fill_surroundings`.
    """

    classes: Sequence[str | int] = field(default_factory=tuple)
    masking: str = "all"
    locations: str = "all"
    select: str = "labels"
    avoid: Sequence[str | int] = field(default_factory=tuple)
    fill: str = "second"

    def __post_init__(self) -> None:
        choose("masking", self.masking, MASKINGS)
        choose("locations", self.locations, LOCATIONS)
        choose("select", self.select, SELECTIONS)
        choose("fill", self.fill, FILLS)
        if self.masking == "own" and self.select == "teacher":
            raise RequestError(
                "masking='own' masks each location's own label and so needs labels, but select='teacher' says there are "
                "none; use masking='all', or select='labels' with annotations"
            )

    def resolve(self, names: Sequence[str]) -> list[int]:
        """Resolve the classes to forget to ids among the model's class ``names``; raises as :func:`resolve_classes`, also if
        ``avoid`` does not fit them."""
        self.resolve_avoid(names)
        return resolve_classes(self.classes, names)

    def resolve_avoid(self, names: Sequence[str]) -> list[int]:
        """Resolve the classes to avoid to ids, ascending.

        Raises:
            RequestError: As :func:`resolve_classes`; a class that is to be forgotten; no class is left to take its place.
        """
        if not self.avoid and not isinstance(self.avoid, int):
            return []
        gone, avoided = (resolve_classes(classes, names) for classes in (self.classes, self.avoid))
        both = sorted(set(gone) & set(avoided))
        if both:
            raise RequestError(
                f"avoid names {list_names([names[i] for i in both])}, which is to be forgotten and so never in the target; leave "
                "it out"
            )
        if len(gone) + len(avoided) == len(names):
            raise RequestError(
                f"the classes to forget and to avoid are all {len(names)} classes; leave at least one to take their place"
            )
        return avoided


def resolve_expected(expect: Sequence[str | int], ids: Sequence[int], names: Sequence[str]) -> list[int]:
    """Resolve the classes that may take the place of the forgotten ones, ``ids``; none if none are named.

    Raises:
        RequestError: As :func:`resolve_classes`; or one is to be forgotten.
    """
    found = resolve_classes(expect, names) if expect else []
    both = sorted(set(found) & set(ids))
    if both:
        raise RequestError(
            f"--expect names {list_names([names[i] for i in both])}, which is to be forgotten; leave it out"
        )
    return found
