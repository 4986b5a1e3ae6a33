"""Options of ``unlearn = dict(...)``, which replace parts of a training config."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import RequestError
from .classes import choose
from .config import SCHEDULES
from .config_checks import check_optimizer
from .ranges import truth, whole


@dataclass(frozen=True)
class Recipe:
    """Training recipe of an unlearning run, which replaces the config's.

    Attributes:
        steps: Maximum number of optimizer steps.
        optimizer: Optimizer config of mmengine.
        schedule: Learning rate schedule: 'constant', 'cosine' (falls to 0 over the steps) or 'warmup_cosine' (first rises over
            a tenth of them).
        batch_size: Samples per process; None keeps the config's.
        teacher: Checkpoint of the original; None takes ``load_from``.
        checkpoint_interval: Optimizer steps between saved states.
        keep_states: Keep the last state, from which a run can continue, when the run is complete.
        overwrite: Write into a non-empty work dir; files of the same names are replaced.
        keep_row: Publish the last layer with the forgotten classes' weights, see :func:`delete_tasks.model.head.neutralise_rows`.
        cache_teacher: Cache the teacher's outputs, up to 1 GiB in memory, then in an unnamed file that ends with the process:
            True, False or 'auto', if views of a sample repeat.
        match_scale: Restore the scale of the original's logits, if the task supports it.
    """

    steps: int = 200
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"type": "AdamW", "lr": 1e-4})
    schedule: str = "constant"
    batch_size: int | None = None
    teacher: str | None = None
    checkpoint_interval: int = 25
    keep_states: bool = False
    overwrite: bool = False
    keep_row: bool = False
    match_scale: bool = True
    cache_teacher: str | bool = "auto"

    def __post_init__(self) -> None:
        whole("unlearn.steps", self.steps, 1)
        whole("unlearn.checkpoint_interval", self.checkpoint_interval, 1)
        if self.batch_size is not None:
            whole("unlearn.batch_size", self.batch_size, 1, 10**6)
        if self.cache_teacher != "auto" and not isinstance(self.cache_teacher, bool):
            raise RequestError(f"unlearn.cache_teacher must be 'auto', True or False, got {self.cache_teacher!r}")
        choose("unlearn.schedule", self.schedule, SCHEDULES)
        if self.teacher is not None and not (isinstance(self.teacher, str) and self.teacher):
            raise RequestError(f"unlearn.teacher must be the path of the original's checkpoint, got {self.teacher!r}")
        check_optimizer(self.optimizer)
        for name in ("keep_row", "match_scale", "keep_states", "overwrite"):
            truth(f"unlearn.{name}", getattr(self, name))
