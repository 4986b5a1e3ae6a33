"""Runner that keeps states of its run and resumes from the last one, in a work dir that it has claimed."""

import contextlib
import logging
import os
import uuid
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_rank, is_distributed, master_only
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import nn

from ..display.terminal import hush, is_quiet
from ..errors import CheckpointMismatchError, not_written
from ..fileio.atomic import save_bytes
from ..fileio.checkpoint import load_file, load_once, load_state, save_file, state_dict_of
from ..fileio.environment import environment
from ..fileio.inputs import read_text
from ..fileio.processes import together
from ..fileio.workdir import TEMPORARY, WorkDir, claim
from .hooks import ProgressHook
from .resume import check_same_run

LOG = "run.log"
WORKER_OPTIONS = ("persistent_workers", "prefetch_factor", "timeout")  # of a DataLoader


class RunStates(Runner):
    """Runner whose run, interrupted and resumed, gives the tensors of an uninterrupted one.

    ``resume`` continues from the work dir's last state, which :class:`.hooks.StateHook` writes, or starts if there is none. All
    randomness must follow from the seed and the step, see :class:`.forget_set.ForgetSet` and
    :func:`delete_tasks.fileio.seeds.seed_all`. The work dir is claimed before anything is written, and holds one log
    (``run.log``), while mmengine's Runner makes a folder of logs, scalars and configs for each attempt. Files of an attempt that
    fails before its first step are deleted. Visualization backends other than the local one are kept, in a folder named after the
    time. If a command keeps the log from the terminal (:func:`delete_tasks.display.terminal.quiet`), a progress bar replaces it.
    """

    kind: str  # key of this kind of run in a state
    accumulation = 1  # iterations per optimizer step
    work: WorkDir
    _has_loaded: bool  # Runner's own
    _train_dataloader: Any
    resumed_from: str | None = None  # state that the run continues from

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        work_dir = kwargs["work_dir"] if "work_dir" in kwargs else args[1]
        self.work = claim(work_dir, **self.claim_options(kwargs))
        # By this name mmengine shares loggers, with their files, and message hubs: runs of one second would have the same.
        kwargs["experiment_name"] = f"{kwargs.get('experiment_name') or self.kind}_{uuid.uuid4().hex[:8]}"
        with contextlib.ExitStack() as claims:
            claims.enter_context(self.work)
            super().__init__(*args, **kwargs)
            self._claims = claims.pop_all()
        with contextlib.suppress(OSError):
            Path(self._log_dir).rmdir()

    # What a kind of run defines ------------------------------------------------------------------------------------

    @cached_property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Settings that the run's result depends on, see :func:`delete_tasks.runner.resume.describe`; needs the train loop."""

    def begin(self) -> None:
        """Prepare a run that is not resumed, before its first step."""

    def own_state(self) -> dict[str, Any]:
        """Return the content of a state beside weights, optimizer and position in the stream."""
        return {"request": self.description}

    def check_state(self, state: Mapping[str, Any], meta: Mapping[str, Any], filename: str) -> None:
        """Refuse a state that the run cannot continue from; ``state`` is the value of :meth:`own_state`."""
        check_same_run(state["request"], self.description, filename)

    def claim_options(self, config: dict[str, Any]) -> dict[str, Any]:
        """Convert the Runner's arguments to those of :func:`delete_tasks.fileio.workdir.claim`."""
        return {"request": {"load_from": config.get("load_from")}}

    # Logs and progress ---------------------------------------------------------------------------------------------

    @property
    def _log_dir(self) -> str:
        """Folder that Runner always makes; its temporary name lets the next run delete the leftovers of a killed run."""
        return self._logs

    @_log_dir.setter
    def _log_dir(self, path: str) -> None:
        self._logs = str(Path(path).with_name(f".{Path(path).name}{TEMPORARY}"))
        self.work.own(self._logs, state=True)

    def build_logger(self, log_level: Any = "INFO", log_file: str | None = None, **kwargs: Any) -> MMLogger:
        path = Path(self.work_dir) / LOG
        self.work.own(path)
        if get_rank() == 0 and path.is_symlink():
            save_bytes(b"", path)  # a new file, since the logger would write through a link
        logger = super().build_logger(log_level, log_file or str(path), **kwargs)
        if is_quiet():
            hush(logger)
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        visualizer = {"type": "Visualizer"} if visualizer is None else visualizer
        if isinstance(visualizer, dict):
            backends = [b for b in visualizer.get("vis_backends") or () if b.get("type") != "LocalVisBackend"]
            visualizer = {**visualizer, "vis_backends": backends}
            if backends:
                with contextlib.suppress(OSError):  # another process was first
                    Path(self._logs).rmdir()
                self._logs = str(Path(self.work_dir) / self.timestamp)
                Path(self._logs).mkdir(exist_ok=True)
                self.work.own(self._logs)
        built = super().build_visualizer(visualizer)
        built.add_config = lambda *_, **__: None  # it names the forgotten classes, and a backend may send it away
        for backend in built._vis_backends.values():
            backend.cfg = Config({"work_dir": self._logs})  # MLflow's copies files from there
        return built

    def _log_env(self, env_cfg: dict) -> None:
        """Log the environment as the record has it, and the config. Runner's log counts processes as GPUs and runs compilers."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        facts = {**environment(device), "seed": self.seed, "launcher": self.launcher, "processes": self.world_size}
        self.logger.info("\n    ".join(["System environment:", *(f"{name}: {value}" for name, value in facts.items())]))
        self.logger.info(f"Config:\n{self.cfg.pretty_text}")

    def dump_config(self) -> None:
        """Write no config: the log holds it, and another file would also name the forgotten classes."""

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        super().register_hooks(default_hooks, custom_hooks)
        self._progress = ProgressHook()
        silent = is_quiet() or min(handler.level for handler in self.logger.handlers) > logging.INFO
        if silent and get_rank() == 0:
            self.register_hook(self._progress)

    # Training -------------------------------------------------------------------------------------------------------

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> Any:
        """Build a loader, pinned by default with a GPU, without options of workers, which torch refuses if there are none."""
        if isinstance(dataloader, Mapping):
            dropped = () if dataloader.get("num_workers") else WORKER_OPTIONS
            options = {name: value for name, value in dataloader.items() if name not in dropped}
            dataloader = {"pin_memory": torch.cuda.is_available(), **options}
        return Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def train(self) -> nn.Module:
        try:
            with self._claims:
                return super().train()
        except OSError as error:
            if error.filename:
                raise
            raise not_written(Path(self.work_dir), error) from error  # from a write, of the log for example
        finally:
            self._progress.close()

    # States --------------------------------------------------------------------------------------------------------

    @property
    def unwrapped_model(self) -> nn.Module:
        return self.model.module if is_model_wrapper(self.model) else self.model

    @together
    def load_or_resume(self) -> None:
        if self._has_loaded:
            return
        self.description  # noqa: B018 - computed now, at the same moment in a new and in a resumed run
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
        path = Path(self.work_dir) / Path(read_text(pointer, errors="replace").strip()).name
        if not path.is_file():
            raise FileNotFoundError(f"'{pointer}' names '{path.name}', not in {self.work_dir}; restore or delete it")
        return str(path)

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", strict: bool = True, **_: Any) -> Any:
        """Load weights strictly, through the one safe loading function."""
        checkpoint = load_once(filename) if filename == self._load_from else load_file(filename)
        checkpoint = dict(checkpoint) if isinstance(checkpoint, dict) else checkpoint  # hooks may remove keys
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        load_state(self.unwrapped_model, state_dict_of(checkpoint, f"'{filename}'"), f"'{filename}'")
        self._has_loaded = True
        self.logger.info(f"Loaded {filename}")
        return checkpoint

    def resume(self, filename: str, *_: Any, **__: Any) -> None:
        """Continue from a state; raise :class:`CheckpointMismatchError` if it belongs to another run or another kind of run."""
        checkpoint = self.load_checkpoint(filename)
        meta = checkpoint.get("meta", {})
        if self.kind not in checkpoint:
            raise CheckpointMismatchError(
                f"'{filename}' is the state of another kind of run (this one's hold '{self.kind}'); give an empty work dir"
            )
        try:
            self.check_state(checkpoint[self.kind], meta, filename)
            self.train_loop._iter = meta["iter"]
            self.optim_wrapper.load_state_dict(checkpoint["optimizer"])
            for scheduler, saved in zip(self.param_schedulers or (), checkpoint["param_schedulers"], strict=True):
                scheduler.load_state_dict(saved)
        except KeyError as error:
            raise CheckpointMismatchError(
                f"'{filename}' has no {error}, so it was made by an earlier version, or is damaged; start anew in another "
                "--work-dir, or with --overwrite and without --resume"
            ) from error
        self.resumed_from = filename
        step, steps = meta["iter"] // self.accumulation, self.max_iters // self.accumulation
        self.logger.info(f"Resumed at step {step} of {steps} from {filename}")

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *_: Any, meta: dict | None = None, **__: Any) -> None:
        """Save the state of the run: weights, optimizer, position in the stream."""
        checkpoint = {
            "meta": {"seed": self.seed, **(meta or {})},
            "state_dict": {name: value.cpu() for name, value in self.unwrapped_model.state_dict().items()},
            "optimizer": self.optim_wrapper.state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in self.param_schedulers or ()],
            self.kind: self.own_state(),
        }
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        save_file(checkpoint, os.path.join(out_dir, filename))


def log_to_file(logger: logging.Logger, lines: Sequence[str]) -> None:
    """Write lines to a logger's files, also if its level would leave them out, and where it is verbose to the terminal."""
    for line in lines:
        record = logger.makeRecord(logger.name, logging.INFO, __file__, 0, line, (), None)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler) or handler.level <= logging.INFO:
                handler.handle(record)


def train(runner: Runner) -> bool:
    """Train; return whether this process continues: with several processes, only the first does."""
    runner.train()
    if not is_distributed():
        return True
    barrier()
    rank = get_rank()
    torch.distributed.destroy_process_group()
    return rank == 0
