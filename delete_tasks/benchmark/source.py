"""Interface of a task's benchmark: models of a grid, and their unlearning."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..evaluation.opened import Opened
from .grid import Cell, Grid


@dataclass(frozen=True)
class Erased:
    """Erased model of a cell, and the cost of unlearning."""

    opened: Opened  # the model, as 'erased', and the grid's data: 'forget', 'train' and 'test'
    seconds: float
    samples: int  # read, with repetition
    steps: int


class GridSource(ABC):
    """Models of a grid, made or opened on request; ``folder`` is the work dir, which may hold models. The module ``benchmark`` of
    a plugin with a benchmark defines the subclass of its task: ``class MyGrid(GridSource, task="NAME")``."""

    def __init_subclass__(cls, task: str) -> None:
        GRIDS[task] = cls

    def __init__(self, grid: Grid, folder: Path) -> None:
        self.grid, self.folder = grid, folder

    @abstractmethod
    def check(self) -> None:
        """Raise :class:`RequestError` for networks, data or classes that are missing, before any cell runs."""

    @abstractmethod
    def originals(self) -> Mapping[str, str]:
        """Describe each network by a digest of its weights, or as trained. Cells of other originals are not reused."""

    def inputs(self) -> Sequence[Path]:
        """List the models that the grid names, which are read and never written."""
        return []

    @abstractmethod
    def made_of(self, cell: Cell) -> Mapping[str, str | None]:
        """Compute digests of the cell's settings, data and models, by what they are of; None for a model that is not trained
        yet. Cells that were made of others are not reused."""

    @abstractmethod
    def names(self, network: str) -> Sequence[str]:
        """Return the class names of a network, in the order of its logits."""

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
        """Unlearn the cell's classes; a run that was killed continues from its last state in ``folder``."""


GRIDS: dict[str, type[GridSource]] = {}  # by task
