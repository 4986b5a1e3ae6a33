"""Training data of a run: what the run asks of them, and what it has chosen from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..errors import RequestError


class ForgetData:
    """Base of a task's training data: what a run asks of them to choose its forget set.

    A data set of another library is wrapped by the task, see :meth:`delete_tasks.task.Task.forget_data`.
    """

    def find_forget_set(self, ids: Sequence[int], teacher: nn.Module | None, config: Any) -> list[int]:
        """Find the samples that show one of the classes ``ids``: by label or, given a teacher, by its prediction.

        Args:
            ids: The classes to forget.
            teacher: The original, or None.
            config: The run's.

        Returns:
            Indices of the samples.
        """
        raise NotImplementedError

    def sample_names(self, indices: Sequence[int]) -> list[str]:
        """Give stable names of samples, for the digest of the list of what was read: by default, their numbers."""
        return [f"{index:06d}" for index in indices]

    def fingerprint(self, select: str) -> list[str]:
        """Give lines that change whenever the answer of :meth:`find_forget_set` could: samples and, by label, annotations."""
        return self.sample_names(range(len(self)))  # type: ignore[arg-type]

    def unlabelled(self, indices: Sequence[int]) -> int:
        """Count the samples without a label, which methods that read labels refuse."""
        return 0

    def without_labels(self) -> None:
        """Change the data so that no annotation is read any more."""
        raise RequestError("the training data cannot be read without labels; use select='labels'")

    def retain_samples(self) -> Sequence[str] | None:
        """Name the samples of a retain set that is read beside the forget set; None if there is none."""
        return None

    def public_samples(self) -> Sequence[str] | None:
        """Name the samples of public data that are read beside the forget set; None if there are none."""
        return None

    def add_public(self, data: str) -> None:
        """Let a sample of public data, which ``data`` names, join each sample, without a label."""
        raise RequestError("the training data read no public data beside them; leave public out")


@dataclass(frozen=True)
class Selection:
    """Forget set of a run, chosen from its training data.

    Attributes:
        dataset: The training data.
        indices: Samples of them that show a forgotten class; no others are read.
        sample_names: Names of those.
        class_names: Class names, in the order of their logits.
        forget_ids: The classes to forget, ascending.
        forget_set: Numbers of samples ``read`` and ``available``, and ``sha256`` of the names.
        retain_set, public_data: ``read`` and ``sha256`` of samples that are read beside the forget set; None without any.
        dataset_config: Config that the data set was built from; None if it was given as it is.
    """

    dataset: Any = None
    indices: Sequence[int] = ()
    sample_names: Sequence[str] = ()
    class_names: Sequence[str] = ()
    forget_ids: Sequence[int] = ()
    forget_set: Mapping[str, Any] = field(default_factory=dict)
    retain_set: Mapping[str, Any] | None = None
    public_data: Mapping[str, Any] | None = None
    dataset_config: Any = None
