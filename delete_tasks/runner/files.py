"""Files of a Runner: one log, in a work dir that it has claimed."""

import contextlib
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, get_rank, is_distributed
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import nn

from ..display.terminal import hush, is_quiet
from ..errors import not_written
from ..fileio.workdir import TEMPORARY, WorkDir, claim, delete_path
from .hooks import ProgressHook

LOG = "run.log"
OF_WORKERS = ("persistent_workers", "prefetch_factor", "timeout")  # a DataLoader's options


class RunFiles(Runner):
    """A Runner that claims its work dir before it writes, and writes one log (``run.log``) where Runner makes a folder of
    logs, scalars and configs for each try. What a try that failed before its first step wrote is taken away again.

    If a command keeps the log from the terminal (:func:`delete_tasks.display.terminal.quiet`), a progress bar takes its place.

    Other visualization backends than the local one stay, in a folder named after the time.
    """

    work: WorkDir

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        work_dir = kwargs["work_dir"] if "work_dir" in kwargs else args[1]
        self.work = claim(work_dir, **self.claim_options(kwargs))
        self._held = contextlib.ExitStack()
        self._held.enter_context(self.work)
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            self._held.__exit__(*sys.exc_info())
            raise
        with contextlib.suppress(OSError):
            Path(self._log_dir).rmdir()

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> Any:
        """Build like Runner, with pinned memory by default if there is a GPU. ``num_workers=0`` is enough to turn workers off:
        torch refuses it beside options of workers."""
        if isinstance(dataloader, Mapping):
            of_none = () if dataloader.get("num_workers") else OF_WORKERS
            given = {name: value for name, value in dataloader.items() if name not in of_none}
            dataloader = {"pin_memory": torch.cuda.is_available(), **given}
        return Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    @property
    def _log_dir(self) -> str:
        """Runner makes this folder whether anything goes into it or not; by its name the next run deletes what a kill left."""
        return self._logs

    @_log_dir.setter
    def _log_dir(self, path: str) -> None:
        self._logs = str(Path(path).with_name(f".{Path(path).name}{TEMPORARY}"))
        # The figures that LoggerHook writes there after a test are in results.json, too.
        self.work.own(self._logs, state=True)

    def claim_options(self, config: dict[str, Any]) -> dict[str, Any]:
        """Make the arguments of :func:`delete_tasks.fileio.workdir.claim` from the Runner's."""
        return {"request": {"load_from": config.get("load_from")}}

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        super().register_hooks(default_hooks, custom_hooks)
        self._progress = ProgressHook()
        silent = is_quiet() or min(handler.level for handler in self.logger.handlers) > logging.INFO
        if silent and get_rank() == 0:
            self.register_hook(self._progress)

    def train(self) -> nn.Module:
        try:
            model = super().train()
        except BaseException as error:
            self._held.__exit__(*sys.exc_info())
            if isinstance(error, OSError) and not error.filename:  # from a write, of the log for example
                raise not_written(Path(self.work_dir), error) from error
            raise
        finally:
            self._progress.close()
        self._held.close()
        return model

    def test(self) -> Any:
        try:
            return super().test()
        finally:
            if self._logs.endswith(TEMPORARY):
                delete_path(Path(self._logs))

    def build_logger(self, log_level: Any = "INFO", log_file: str | None = None, **kwargs: Any) -> MMLogger:
        path = Path(self.work_dir) / LOG
        self.work.own(path)
        logger = super().build_logger(log_level, log_file or str(path), **kwargs)
        if is_quiet():
            hush(logger)
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        if visualizer is None:
            visualizer = {"type": "Visualizer"}
        if isinstance(visualizer, dict):
            backends = [b for b in visualizer.get("vis_backends") or () if b.get("type") != "LocalVisBackend"]
            visualizer = {**visualizer, "vis_backends": backends}
            if backends:
                with contextlib.suppress(OSError):  # another process was first
                    Path(self._logs).rmdir()
                self._logs = str(Path(self.work_dir) / self.timestamp)
                Path(self._logs).mkdir(exist_ok=True)
                self.work.own(self._logs)
        return super().build_visualizer(visualizer)

    def dump_config(self) -> None:
        """Nothing: the log holds the config, and a file of its own would be one more that names what is forgotten."""


def train(runner: Runner) -> bool:
    """Train; tell whether this process goes on: with several, the first alone does."""
    runner.train()
    if not is_distributed():
        return True
    barrier()
    rank = get_rank()
    torch.distributed.destroy_process_group()
    return rank == 0
