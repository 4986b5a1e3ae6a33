"""Run of a small network on several processes: ``python several_processes.py WORK_DIR CASE``, under torchrun. A case makes a part
of it fail. As in ``delete-tasks``, a user's mistake is one line."""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_rank
from torch import nn

import delete_images.register  # noqa: F401
from delete_images.memory.samples import UserData, read_samples
from delete_images.models.classifier import ImageClassifier
from delete_tasks.errors import RequestError
from delete_tasks.runner.recipe import apply_recipe
from delete_tasks.runner.unlearn_runner import UnlearnRunner


class Data(UserData):
    """Samples of which number 3 may be broken; in the first epoch one process alone reads it."""

    case = "fine"

    def __getitem__(self, number):
        if number == 3 and self.case == "broken_sample":
            raise RequestError("sample 3 is broken")
        if number == 3 and self.case == "bug_in_a_sample" and get_rank() == 1:  # all read it when the run is described
            raise KeyError("a bug")
        item = super().__getitem__(number)
        return _with_nan(item) if number == 3 and self.case == "nan_loss" else item


def _with_nan(item):
    """Multiply the float tensors of an item by nan."""
    if isinstance(item, torch.Tensor):
        return item * float("nan") if item.is_floating_point() else item
    return tuple(map(_with_nan, item)) if isinstance(item, tuple) else item


def no_space(*_, **__):
    if get_rank() == 0:
        raise OSError(28, "No space left on device")


def set_timeout(seconds: float) -> None:
    """Set the timeout of the default group's collectives."""
    torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds))


class SlowData(Data):
    """Samples with a short timeout during the selection only, since a slow machine must not fail elsewhere."""

    def fingerprint(self, *args):
        barrier()
        set_timeout(4)
        return super().fingerprint(*args)

    def find_forget_set(self, *_):
        time.sleep(8)
        return list(range(8))

    def sample_names(self, *args):
        set_timeout(1800)
        return super().sample_names(*args)


def main(work_dir: str, case: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    Path(work_dir).mkdir(exist_ok=True)
    torch.save(network.state_dict(), Path(work_dir).parent / "model.pth")
    samples = read_samples([(image, 1) for image in torch.randn(8, 6)], "forget_images")
    kind = SlowData if case == "slow_selection" else Data
    data = kind(samples, torch.ones(8, dtype=torch.int64), ["a", "b", "c", "d"], [1], None)
    data.case = case
    batch_size = 2 // int(os.environ["WORLD_SIZE"])
    unlearn = dict(type="DELETE", classes=["e" if case == "unknown_class" else "b"], steps=8, batch_size=batch_size)
    load_from = str(Path(work_dir).parent / "model.pth")
    cfg = apply_recipe(Config(dict(model={}, unlearn=unlearn, load_from=load_from, train_dataloader={})))
    loader = dict(dataset=data, batch_size=batch_size, num_workers=0, collate_fn=data.collate, sampler=None)
    parts = {name: cfg[name].to_dict() for name in ("default_hooks", "log_processor", "unlearn")}
    parts |= dict(train_dataloader=loader, train_cfg=cfg.train_cfg, optim_wrapper=cfg.optim_wrapper)
    options = dict(load_from=load_from, launcher="pytorch", randomness={"seed": 0}, log_level="WARNING")
    runner = UnlearnRunner(ImageClassifier(network, num_classes=4), work_dir, **parts, **options)
    if case == "no_forget_set":
        Data.find_forget_set = lambda *_: []
    if case in ("cannot_save", "cannot_publish"):  # the first process's work alone
        setattr(runner, "save_checkpoint" if case == "cannot_save" else "publish", no_space)
    runner.train()
    torch.save(runner.unwrapped_model.state_dict(), Path(work_dir) / f"weights_{get_rank()}.pth")
    outcome = {"check": runner.outcome.forget_check, "withheld": runner.outcome.withheld}
    (Path(work_dir) / f"outcome_{get_rank()}.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (RequestError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
