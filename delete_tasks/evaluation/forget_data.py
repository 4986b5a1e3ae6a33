"""Training data of a run, and the forget set selected from them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..errors import RequestError

FORGET_SET = "forget set"


class ForgetData(ABC):
    """Base class of a task's training data, which wraps other datasets, see :meth:`delete_tasks.task.Task.forget_data`."""

    forget_name, retain_name = FORGET_SET, "retain set"  # what the samples of the forget set and those beside them are
    forget_indices: Sequence[int] | None = None  # once the forget set is selected: views may be made of several samples
    retain_each = 1  # samples of the retain set or the public data that a step reads beside each of the forget set
    checked = True  # predictions for the forget set, before and after the run, show whether it has forgotten

    @abstractmethod
    def find_forget_set(self, ids: Sequence[int], teacher: nn.Module | None, config: Any) -> list[int]:
        """Find indices of samples with a class of ``ids``, by label or by the ``teacher``'s (the original's) prediction."""

    def sample_names(self, indices: Sequence[int]) -> list[str]:
        """Return stable names of samples, for the digest of the samples that were read; by default their indices."""
        return [f"{index:06d}" for index in indices]

    def fingerprint(self, select: str) -> list[str]:
        """Return lines that change if the result of :meth:`find_forget_set` might: samples and, by label, annotations."""
        return self.sample_names(range(len(self)))  # type: ignore[arg-type]

    def unlabelled(self, indices: Sequence[int]) -> int:
        """Count the samples without a label, which methods that read labels refuse."""
        return 0

    def without_labels(self) -> None:
        """Stop reading annotations."""
        raise RequestError("the training data cannot be read without labels; use select='labels'")

    def retain_samples(self) -> Sequence[str] | None:
        """Name the samples of the retain set that is read with the forget set; None if there is none."""
        return None

    def public_samples(self) -> Sequence[str] | None:
        """Name the samples of public data that are read with the forget set; None if there are none."""
        return None

    def add_public(self, data: str) -> None:
        """Add a sample of the public data ``data``, without a label, to each sample."""
        raise RequestError("these training data cannot be combined with public data; leave public out")

    def check_run(self, runner: Any, selection: "Selection") -> None:  # noqa: B027 - most data have nothing to refuse
        """Refuse a run that cannot use these data, before its first step."""


@dataclass(frozen=True)
class Selection:
    """Forget set of a run: ``indices`` and ``sample_names`` of the samples in the training data, ``dataset``, that contain one of
    the classes ``forget_ids`` (ascending, among all ``class_names``); only these are read. ``forget_set`` holds numbers of
    samples ``read`` and ``available``, and ``sha256`` of the names, ``retain_set`` and ``public_data`` the same of samples read
    with it (None: none); ``dataset_config`` is the config of the dataset, None if it was given as an object."""

    dataset: Any = None
    indices: Sequence[int] = ()
    sample_names: Sequence[str] = ()
    class_names: Sequence[str] = ()
    forget_ids: Sequence[int] = ()
    forget_set: Mapping[str, Any] = field(default_factory=dict)
    retain_set: Mapping[str, Any] | None = None
    public_data: Mapping[str, Any] | None = None
    dataset_config: Any = None
