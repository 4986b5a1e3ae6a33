"""A benchmark's models, and how a task makes one forget."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..evaluation.opened import Opened
from .grid import Cell, Grid


@dataclass(frozen=True)
class Erased:
    """A model that has forgotten, and what that took.

    Attributes:
        opened: It, as 'erased', and the grid's data: 'forget', 'train' and 'test'.
        seconds: Of unlearning.
        samples: Read by unlearning, one as often as it was read.
        steps: Done.
    """

    opened: Opened
    seconds: float
    samples: int
    steps: int


class GridSource(ABC):
    """Models of a grid, made or opened when they are asked for. A plugin with a benchmark has a module ``benchmark``, which
    registers its subclass with :func:`register_grid`.

    Args:
        grid: It.
        folder: The work dir, where models may be kept.
    """

    def __init__(self, grid: Grid, folder: Path) -> None:
        self.grid, self.folder = grid, folder

    @abstractmethod
    def check(self) -> None:
        """Refuse now what would fail in a cell: networks, data and classes that are not there.

        Raises:
            RequestError: One is not.
        """

    @abstractmethod
    def originals(self) -> Mapping[str, str]:
        """Describe each network: a digest of its weights, or that it is trained. Other originals' cells are not reused."""

    @abstractmethod
    def names(self, network: str) -> Sequence[str]:
        """Name all classes of a network, in order of its logits."""

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
    def erase(self, cell: Cell, folder: Path) -> Erased:
        """Make the original forget; a run that was killed goes on from its last state in ``folder``."""


GRIDS: dict[str, type[GridSource]] = {}  # by task


def register_grid(task: str) -> Callable[[type[GridSource]], type[GridSource]]:
    """Make the benchmark of a task known."""

    def register(source: type[GridSource]) -> type[GridSource]:
        GRIDS[task] = source
        return source

    return register
