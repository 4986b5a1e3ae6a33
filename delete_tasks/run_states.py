"""A Runner that keeps states of its run, and goes on from the last one."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.model import is_model_wrapper
from torch import nn

from .checkpoint import load_file, load_once, load_state, save_file, state_dict_of
from .errors import CheckpointMismatchError
from .processes import together
from .resume import check_same_run
from .run_files import RunFiles


class RunStates(RunFiles):
    """A Runner whose run, broken off and resumed, gives the tensors of an uninterrupted one.

    ``resume`` continues the work dir's last state, or starts where there is none. States are written by a
    :class:`delete_tasks.hooks.checkpoint.StateHook`. All randomness has to follow from the seed and the step, see
    :class:`delete_tasks.forget_set.ForgetSet` and :func:`delete_tasks.forget_set.seed_all`.

    Attributes:
        kind: What this kind of run calls its part of a state.
        accumulation: Iterations of the loop in an optimizer step.
        resumed_from: The state that the run goes on from.
    """

    kind: str
    accumulation = 1
    _has_loaded: bool  # Runner's own
    _train_dataloader: Any
    resumed_from: str | None = None

    @cached_property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What the run's result depends on, see :func:`delete_tasks.resume.describe`; its train loop must be built."""

    def begin(self) -> None:
        """What a run does that does not go on from a state, before its first step."""

    def own_state(self) -> dict[str, Any]:
        """What a state holds beside weights, optimizer and place in the stream."""
        return {"request": self.description}

    def check_state(self, state: Mapping[str, Any], meta: Mapping[str, Any], filename: str) -> None:
        """Refuse a state that the run cannot go on from. ``state`` is what :meth:`own_state` gave."""
        check_same_run(state["request"], self, filename)

    @property
    def unwrapped_model(self) -> nn.Module:
        return self.model.module if is_model_wrapper(self.model) else self.model

    @together
    def load_or_resume(self) -> None:
        if self._has_loaded:
            return
        self.description  # noqa: B018 - made now, at the same moment in a run that begins and in one that goes on
        last = self._last_state() if self._resume else None
        if last is not None:
            self.resume(last)
        else:
            if self._resume:
                self.logger.info(f"Nothing to resume in {self.work_dir}; starting from the beginning.")
            self.begin()
        self._has_loaded = True

    def _last_state(self) -> str | None:
        pointer = Path(self.work_dir) / "last_checkpoint"
        if not pointer.is_file():
            return None
        # A moved work dir keeps its files' names, not their folder.
        path = Path(self.work_dir) / Path(pointer.read_text(encoding="utf-8", errors="replace").strip()).name
        if not path.is_file():
            raise FileNotFoundError(
                f"'{pointer}' names '{path.name}', which is not in {self.work_dir}; restore or delete it"
            )
        return str(path)

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", strict: bool = True, **_: Any) -> Any:
        """Load weights strictly, through the one safe loading function."""
        checkpoint = load_once(filename) if filename == self._load_from else load_file(filename)
        checkpoint = dict(checkpoint) if isinstance(checkpoint, dict) else checkpoint  # hooks may take parts out
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        load_state(self.unwrapped_model, state_dict_of(checkpoint, f"'{filename}'"), f"'{filename}'")
        self._has_loaded = True
        self.logger.info(f"Loaded {filename}")
        return checkpoint

    def resume(self, filename: str, *_: Any, **__: Any) -> None:
        """Continue from a state that this kind of run saved.

        Raises:
            CheckpointMismatchError: It belongs to another run, or to none of this kind.
        """
        checkpoint = self.load_checkpoint(filename)
        meta = checkpoint.get("meta", {})
        if self.kind not in checkpoint:
            raise CheckpointMismatchError(
                f"'{filename}' is the state of another kind of run (this one's hold '{self.kind}'); give an empty work dir"
            )
        self.check_state(checkpoint[self.kind], meta, filename)
        self.train_loop._iter = meta["iter"]
        self.optim_wrapper.load_state_dict(checkpoint["optimizer"])
        for scheduler, saved in zip(self._schedulers(), checkpoint["param_schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self.resumed_from = filename
        step, steps = meta["iter"] // self.accumulation, self.max_iters // self.accumulation
        self.logger.info(f"Resumed at step {step} of {steps} from {filename}")

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *_: Any, meta: dict | None = None, **__: Any) -> None:
        """Save the state of the run: weights, optimizer, place in the stream."""
        checkpoint = {
            "meta": {"seed": self.seed, **(meta or {})},
            "state_dict": {name: value.cpu() for name, value in self.unwrapped_model.state_dict().items()},
            "optimizer": self.optim_wrapper.state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in self._schedulers()],
            self.kind: self.own_state(),
        }
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        save_file(checkpoint, os.path.join(out_dir, filename))

    def _schedulers(self) -> list[Any]:
        found = self.param_schedulers
        return list(found) if isinstance(found, list) else []
