"""Grid file: networks, classes to forget, methods and seeds; its cells; and the interface of a task that runs them."""

import math
import re
import reprlib
import unicodedata
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

from mmengine.registry import HOOKS
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from ..display.terminal import printable
from ..errors import RequestError
from ..evaluation.opened import Opened
from ..fileio.validate import as_type
from ..methods import builtin as hooks  # noqa: F401 - registers methods
from ..request.config import load_config
from ..request.ranges import SEED_MOST
from ..runner.recipe import split_options

TASK_OPTIONS = ("lr", "augment", "preset")  # options of a method that the task reads, besides those of `unlearn`
ORIGINAL, CUT, RETRAINED = "original", "logit_cut", "retrained"
REFERENCES = (ORIGINAL, CUT, RETRAINED)  # rows without a method
SOME = Meta(min_length=1)
LONGEST = 100  # bytes of a folder's name

Seeds = Annotated[list[Annotated[int, Meta(ge=0, le=SEED_MOST)]], SOME]


@dataclass(frozen=True)
class Cell:
    """One model of the table. Network, group (of the forgotten classes) and method are names in the grid."""

    network: str
    group: str
    classes: tuple[str, ...]
    method: str  # or one of REFERENCES
    unlearn: Mapping[str, Any]  # the method's options with `type`; empty for a reference
    seed: int  # of the run, or of the retrained network
    retain: bool = False  # whether the method reads a retain set

    @property
    def folder(self) -> str:
        """Folder of the cell in the work dir."""
        return f"cells/{slug(self.network)}/{slug(self.group)}/{slug(self.method)}_seed{self.seed}"

    @property
    def beside(self) -> bool:
        """Whether the method reads other data than the forget set: a retain set, or public data."""
        return self.retain or bool(self.unlearn.get("public"))

    @property
    def title(self) -> str:
        return f"{self.network}, {self.group}, {self.method}, seed {self.seed}"


class Grid(Struct, frozen=True, forbid_unknown_fields=True):
    """Content of a grid file: ``networks`` by name and ``data`` ('forget', 'retain', 'train', 'test'), in the form of the
    ``task``; groups of classes to forget, by name; options of ``unlearn`` by name (``methods``) and for all methods
    (``unlearn``); seeds of runs, and of networks trained without the classes; and the ``columns`` of the tables, all if empty."""

    task: str
    networks: Annotated[dict[str, Any], SOME]
    data: Annotated[dict[str, Any], SOME]
    methods: Annotated[dict[str, dict[str, Any]], SOME]
    groups: Annotated[dict[str, Annotated[tuple[Any, ...], SOME]], SOME] = field(name="classes")
    unlearn: dict[str, Any] = {}
    seeds: Seeds = field(default_factory=lambda: [0])
    retrained_seeds: Seeds = field(default_factory=lambda: [0])
    columns: list[str] = []

    def json(self) -> dict[str, Any]:
        """Describe the grid as JSON; two grids with the same description are the same request."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "unlearn"}

    def cells(self, has_retrained: Any) -> Iterator[Cell]:
        """List all cells: for each network and group the references, then seed by seed. See :meth:`GridSource.has_retrained`."""
        for network in self.networks:
            for group, classes in self.groups.items():
                for reference in (ORIGINAL, CUT):
                    yield Cell(network, group, classes, reference, {}, 0)
                for seed in self.retrained_seeds:
                    if has_retrained(network, classes, seed):
                        yield Cell(network, group, classes, RETRAINED, {}, seed)
                for seed in self.seeds:
                    for method, options in self.methods.items():
                        yield Cell(network, group, classes, method, options, seed, method_of(options).needs_retain_set)


def slug(name: str) -> str:
    """Convert a name to a folder's name, of letters, digits, dots and hyphens; several names may have the same."""
    return re.sub(r"(?:[^\w.]|_)+", "-", unicodedata.normalize("NFC", name)).strip("-.") or "-"


def _check_names(names: Iterable[str], what: str, taken: Iterable[str] = ()) -> None:
    """Raise RequestError for names that cannot be printed, or with the same folder name, also where case does not count."""
    folders = {slug(name).casefold(): name for name in taken}
    for name in names:
        folder = slug(name)
        if not name.strip() or not name.isprintable() or len(folder.encode()) > LONGEST:
            held = f"{what} holds the name {reprlib.repr(name)}"
            raise RequestError(f"{held}; give one of 1 to {LONGEST} printable characters")
        other = folders.setdefault(folder.casefold(), name)
        if other in taken:
            raise RequestError(f"{what} holds '{name}', the name of a reference row ('{other}'); rename it")
        if other is not name:
            same = f"which have the same folder name, '{folder}'"
            raise RequestError(f"{what} holds '{other}' and '{name}', {same}; rename one")


def _check_values(value: Any, place: str) -> None:
    """Raise RequestError for a value that JSON cannot hold, which describes the grid in its work dir."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise RequestError(f"{place} has the key {reprlib.repr(key)}; expected text")
            _check_values(item, f"{place}[{reprlib.repr(key)}]")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _check_values(item, f"{place}[{number}]")
    elif isinstance(value, str) and printable(value) != value:
        raise RequestError(f"{place} is {reprlib.repr(value)}; expected text without control characters")
    elif not (value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))):
        kinds = "text, a finite number, True, False, None, a list or a dict"
        raise RequestError(f"{place} is {reprlib.repr(value)}; expected {kinds}")


def method_of(options: Mapping[str, Any]) -> Any:
    """Find the class of a method; raise :class:`RequestError` for an unknown type or option."""
    split_options({key: value for key, value in options.items() if key not in TASK_OPTIONS})
    return HOOKS.get(options["type"])


def read_grid(path: str | Path, changes: Mapping[str, Any] | None = None) -> Grid:
    """Read a grid file, which is executed like every config; raise :class:`RequestError` for a wrong key, method or option."""
    source, content = f"the grid '{path}'", load_config(path, changes).to_dict()
    content = {key: value for key, value in content.items() if not key.startswith("_")}
    try:
        for key, value in content.items():
            _check_values(value, f"{source}: {key}")
    except RecursionError as error:
        raise RequestError(f"{source}: its values are nested too deeply") from error
    grid: Grid = as_type(content, Grid, source)
    methods = {name: {**grid.unlearn, **options} for name, options in grid.methods.items()}
    for name, options in methods.items():
        if "type" not in options:
            raise RequestError(f"{source}: methods['{name}'] is {options!r}; expected dict(type='METHOD', ...)")
        method_of(options)
    _check_names(grid.networks, f"{source}: networks")
    _check_names(grid.groups, f"{source}: classes")
    _check_names(methods, f"{source}: methods", REFERENCES)
    groups = {name: tuple(map(str, classes)) for name, classes in grid.groups.items()}
    return replace(grid, methods=methods, groups=groups)


class GridSource(Protocol):
    """Models of a grid, made or opened on request in the work dir, ``folder``; ``SOURCE`` of a plugin's module ``benchmark``."""

    grid: Grid
    folder: Path

    @abstractmethod
    def check(self) -> None:
        """Raise :class:`RequestError` for networks, data or classes that are missing, before any cell runs."""

    @abstractmethod
    def originals(self) -> Mapping[str, str]:
        """Describe each network by a digest of its weights, or as trained. Cells of other originals are not reused."""

    @abstractmethod
    def inputs(self) -> Sequence[Path]:
        """List the models that the grid names, which are read and never written."""

    @abstractmethod
    def made_of(self, cell: Cell) -> Mapping[str, str | None]:
        """Compute the digests that a cell needs to be reused, of settings, data and models by name (None: not trained yet)."""

    @abstractmethod
    def has_retrained(self, network: str, classes: Sequence[str], seed: int) -> bool:
        """Return True if there is a network trained without these classes, or the grid describes how to train one."""

    @abstractmethod
    def original(self, cell: Cell) -> Opened:
        """Open the cell's network, as 'original', and the data of its classes; it is trained first if the grid says so."""

    @abstractmethod
    def retrained(self, cell: Cell) -> Opened:
        """Open the network, as 'retrained', that was trained without the cell's classes."""

    @abstractmethod
    def erase(self, cell: Cell, folder: Path) -> tuple[Opened, Mapping[str, float]]:
        """Unlearn the cell's classes; a run that was killed continues from its last state in ``folder``. Return the model, as
        'erased', with the data of :meth:`original`, and the cost: 'seconds', 'samples' read, with repetition, and 'steps'."""
