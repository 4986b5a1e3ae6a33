"""What a task gives a benchmark: its models and how it makes one forget."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..audit.samples import AuditModel
from .grid import Cell, Grid


@dataclass(frozen=True)
class Erased:
    """A model that has forgotten, and what that took.

    Attributes:
        model: It, over the grid's data: 'forget', 'train' and 'test'.
        seconds: Of unlearning.
        samples: Read by unlearning, one as often as it was read.
        steps: Done.
    """

    model: AuditModel
    seconds: float
    samples: int
    steps: int


class GridSource(ABC):
    """Models of a grid, made or opened when they are asked for. A subclass is what :meth:`delete_tasks.task.Task.open_benchmark`
    gives.

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
        """What each network is, by name: a digest of its weights, or that it is trained. Cells of others are not its."""

    @abstractmethod
    def names(self, network: str) -> Sequence[str]:
        """All classes of a network, in order of its logits."""

    @abstractmethod
    def counts(self, cell: Cell) -> Mapping[str, int]:
        """Batches of each of the data, for progress bars."""

    @abstractmethod
    def has_retrained(self, network: str, classes: Sequence[str], seed: int) -> bool:
        """Whether there is a network trained without these classes, or the grid says how to train one."""

    @abstractmethod
    def original(self, cell: Cell) -> AuditModel:
        """The cell's network, over the data of its classes; trained first where the grid says so."""

    @abstractmethod
    def retrained(self, cell: Cell) -> AuditModel:
        """The same, trained without the cell's classes."""

    @abstractmethod
    def erase(self, cell: Cell, folder: Path) -> Erased:
        """Make the original forget; a run that was killed goes on from its last state in ``folder``."""
