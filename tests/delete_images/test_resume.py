"""A run that is broken off, killed, or shared by two processes gives the same tensors."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
from mmengine.hooks import Hook

from delete_images import forget
from delete_images.models.model_file import load_model
from delete_tasks.fileio.checkpoint import load_file
from delete_tasks.runner.unlearn_runner import UnlearnRunner


class PullThePlugHook(Hook):
    """Ends a run in the middle of a step."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 3:
            raise KeyboardInterrupt


def command_config(resnet20, cifar, work_dir, **changes):
    from delete_tasks.cli import parse

    words = [
        "images",
        "forget",
        "--model",
        str(resnet20),
        "--forget",
        f"{cifar}?class=deer&limit=40",
        "--classes",
        "deer",
    ]
    words += [
        "--work-dir",
        str(work_dir),
        "--steps",
        "6",
        "--batch-size",
        "8",
        "--retain",
        f"{cifar}?class=ship&limit=20",
    ]
    options = {**vars(parse(words)), "launcher": "none", **changes}
    cfg = forget.make_config(None, options)
    cfg.unlearn.checkpoint_interval, cfg.log_level = 1, "WARNING"
    return cfg


@pytest.mark.parametrize(
    ("schedule", "steps", "last"),
    [
        pytest.param("constant", 6, 6e-4, marks=pytest.mark.long),
        ("cosine", 6, 6e-4 * (1 + math.cos(math.pi * 5 / 6)) / 2),
        pytest.param("warmup_cosine", 60, 6e-4 * (1 + math.cos(math.pi * 53 / 54)) / 2, marks=pytest.mark.long),
    ],
)
def test_resumed_is_uninterrupted(schedule, steps, last, resnet20, cifar, tmp_path):
    def config(name, **changes):
        cfg = command_config(resnet20, cifar, tmp_path / name, **changes)
        cfg.unlearn.schedule, cfg.unlearn.steps = schedule, steps
        return cfg

    UnlearnRunner.from_cfg(config("whole")).train()
    runner = UnlearnRunner.from_cfg(config("broken"))
    runner.register_hook(PullThePlugHook(), priority="VERY_HIGH")
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert not (tmp_path / "broken" / "erased").exists()
    runner = UnlearnRunner.from_cfg(config("broken", resume=True))
    runner.train()
    assert runner.resumed_from.endswith("step_3.pth")
    assert runner.optim_wrapper.get_lr()["lr"][0] == pytest.approx(last)
    whole, resumed = (load_model(tmp_path / name / "erased")[0].state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.slow
@pytest.mark.long
def test_killed_three_times_gives_the_same_tensors(resnet20, cifar, killed, tmp_path):
    """At a step, while a state is being written, and at another step."""
    found = {}
    for name in ("whole", "killed"):
        cfg = command_config(resnet20, cifar, tmp_path / name)
        cfg.unlearn.checkpoint_interval = 2
        cfg.dump(tmp_path / f"{name}.py")
        words = [sys.executable, "-m", "delete_tasks", "images", "forget", "--config", str(tmp_path / f"{name}.py")]
        words += ["--work-dir", str(tmp_path / name), "--resume"]
        for pattern in (".step_2.pth.*.delete-tasks.tmp", "step_2.pth", "step_4.pth") if name == "killed" else ():
            killed(words, pattern, within=0.01)
        assert subprocess.run(words, capture_output=True, timeout=300).returncode == 0
        found[name] = load_model(tmp_path / name / "erased")[0].state_dict()
    assert all(torch.equal(value, found["killed"][name]) for name, value in found["whole"].items())


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("more", [[], ["--deep"]], ids=["plain", "deep"])
def test_two_processes_are_one(more, resnet20, cifar, tmp_path):
    found = {}
    for processes in (1, 2):
        launch = [sys.executable, "-m", "delete_tasks"]
        if processes > 1:
            launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
            launch += ["-m", "delete_tasks"]
        words = ["images", "forget", "--model", str(resnet20), "--forget", f"{cifar}?class=deer&limit=40"]
        words += ["--classes", "deer", "--work-dir", str(tmp_path / str(processes)), "--steps", "3", "--device", "cpu"]
        words += ["--batch-size", str(8 // processes), "--retain", f"{cifar}?class=ship&limit=20", "--lr", "1e-5"]
        words += ["--keep-states", *more]  # three such steps forget nothing, and no model is published
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*launch, *words], env=environment, capture_output=True, text=True, timeout=300)
        assert done.stdout.count("Written:") == 1, done.stderr[-3000:]
        state = load_file(tmp_path / str(processes) / "step_3.pth")["state_dict"]
        found[processes] = {name.removeprefix("network."): value for name, value in state.items()}
    original = load_model(resnet20)[0].state_dict()
    moved = max(float((value - original[name]).abs().max()) for name, value in found[1].items())
    worst = max(float((value - found[2][name]).abs().max()) for name, value in found[1].items())
    assert worst <= 2e-6 and worst < moved / 5, (worst, moved)
