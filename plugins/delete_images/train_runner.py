"""TrainRunner: an ordinary training run that can be broken off and gone on with."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, RUNNERS
from torch import nn

from delete_tasks.checkpoint import tensors_sha256
from delete_tasks.config_checks import build_dataset
from delete_tasks.forget_set import ForgetSet, digest_of
from delete_tasks.modes import fast_layout
from delete_tasks.resume import describe
from delete_tasks.run_states import RunStates
from delete_tasks.seeds import STEP_STREAM, seed_all


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Makes all randomness of a step (dropout, for one) follow from the seed, the step and the process."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        seed_all(runner.seed, STEP_STREAM, batch_idx, get_rank())


@RUNNERS.register_module()
class TrainRunner(RunStates):
    """A Runner that trains a classifier on all samples of a dataset, read as a stream.

    ``recipe`` of its config is what the result depends on beside model, data, seed and number of processes.
    """

    kind = "training"
    start: dict[str, Any] | None = None  # weights that training starts from; None for random ones
    data_digest: str

    @cached_property
    def description(self) -> dict[str, Any]:
        start = None if self.start is None else tensors_sha256(self.start)
        return describe(
            {
                **self.cfg.recipe,
                "model": self.cfg.model.spec,
                "first weights": start,
                "data": self.data_digest,
                "seed": self.seed,
                "processes": self.world_size,
            }
        )

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        if not torch.cuda.is_available():
            fast_layout(model)
        return super().wrap_model(model_wrapper_cfg, model)

    def begin(self) -> None:
        if self.start is not None:
            self.unwrapped_model.load_state_dict(self.start)

    def build_train_loop(self, loop: Any) -> Any:
        given = dict(self._train_dataloader)
        dataset = build_dataset(given["dataset"])
        names = dataset.names
        self.data_digest = digest_of([f"{label} {name}" for label, name in zip(dataset.labels, names, strict=True)])
        given |= {"dataset": ForgetSet(dataset, range(len(dataset)), self.seed), "sampler": {"type": "StreamSampler"}}
        self._train_dataloader = given
        return super().build_train_loop(loop)
