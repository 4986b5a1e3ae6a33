"""``unlearn = dict(...)``: its options, and what they replace in a training config."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import RequestError
from .classes import choose
from .config_checks import check_optimizer
from .ranges import whole
from .schedules import SCHEDULES


@dataclass(frozen=True)
class Recipe:
    """Training recipe of an unlearning run, which replaces the config's.

    Attributes:
        steps: Optimizer steps, at most.
        optimizer: An mmengine optimizer config.
        schedule: Of the learning rate: 'constant'; 'cosine' falls to 0 over the steps (SGDR, arXiv 1608.03983, one cycle);
            'warmup_cosine' first rises over a tenth of them.
        batch_size: Samples per process; None keeps the config's.
        teacher: The original's checkpoint; None takes ``load_from``.
        checkpoint_interval: Optimizer steps between saved states.
        keep_states: Leave the last state, from which a run can go on, when the run is complete.
        overwrite: Take a work dir that holds other files, too; those of the names this run writes are replaced.
        keep_row: Publish the last layer with the forgotten classes' weights, see :func:`delete_tasks.model.head.neutralise_rows`.
        cache_teacher: Keep the teacher's outputs of views it has seen, in memory up to 1 GiB, then in a file without a
            name, which goes with the process. 'auto' does so where views of a sample come again; True or False.
        match_scale: Bring the logits back to the scale of the original's, where the task does so.
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
        for name, most in (("steps", 10**9), ("batch_size", 10**6), ("checkpoint_interval", 10**9)):
            if name != "batch_size" or self.batch_size is not None:
                whole(f"unlearn.{name}", getattr(self, name), 1, most)
        if self.cache_teacher != "auto" and not isinstance(self.cache_teacher, bool):
            raise RequestError(f"unlearn.cache_teacher must be 'auto', True or False, got {self.cache_teacher!r}")
        choose("unlearn.schedule", self.schedule, SCHEDULES)
        if self.teacher is not None and not (isinstance(self.teacher, str) and self.teacher):
            raise RequestError(f"unlearn.teacher must be the path of the original's checkpoint, got {self.teacher!r}")
        check_optimizer(self.optimizer)
        for name in ("keep_row", "match_scale", "keep_states", "overwrite"):
            if not isinstance(getattr(self, name), bool):
                raise RequestError(f"unlearn.{name} must be True or False, got {getattr(self, name)!r}")
