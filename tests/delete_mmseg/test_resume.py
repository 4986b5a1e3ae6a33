"""A killed run loses nothing but time: stock train.py, kill -9, --resume, the same tensors."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import mmseg
import pytest
import torch

from delete_tasks.errors import CheckpointMismatchError, RequestError
from delete_tasks.runner import UnlearnRunner

TRAIN = Path(mmseg.__file__).parent / ".mim" / "tools" / "train.py"
STEPS = 12
CALM = dict(type="SGD", lr=1e-3, momentum=0.9)  # has a state to resume, and does not throw an untrained network far off


def command(config: Path, *options: str) -> list[str]:
    return [sys.executable, str(TRAIN), str(config), *options]


def finish(words: list[str]) -> None:
    done = subprocess.run(
        words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "erased.pth", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def uninterrupted(make_config, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    options = dict(steps=STEPS, checkpoint_interval=2, stop=1e-6, optimizer=CALM, keep_states=True)
    cfg = make_config("cgnet", folder / "whole", **options)
    cfg.dump(folder / "config.py")
    finish(command(folder / "config.py", "--work-dir", str(folder / "whole")))
    return folder


@pytest.mark.slow
def test_killed_three_times_gives_the_same_tensors(uninterrupted, killed, tmp_path):
    """At a random step, while a state is being written, and at another random step."""
    chance = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID", time.time_ns()))
    first, second = chance.choice([2, 4]), chance.choice([8, 10])
    work_dir = tmp_path / "killed"
    words = command(uninterrupted / "config.py", "--work-dir", str(work_dir), "--resume")
    for pattern in (f"step_{first}.pth", ".step_6.pth.*.delete-tasks.tmp", f"step_{second}.pth"):
        killed(words, pattern, within=0.1)
    finish(words)
    expected, got = weights(uninterrupted / "whole"), weights(work_dir)
    assert all(torch.equal(value, got[name]) for name, value in expected.items()), f"killed at {first}, 6, {second}"
    original = torch.load(uninterrupted / "cgnet.pth", weights_only=True)["state_dict"]
    assert any(not torch.equal(value, got[name]) for name, value in original.items())


def test_work_dir_keeps_one_state_and_no_temporary_file(uninterrupted):
    names = {path.name for path in (uninterrupted / "whole").iterdir()}
    assert {name for name in names if name.endswith(".pth")} == {"erased.pth", f"step_{STEPS}.pth"}
    assert not any(name.endswith(".tmp") for name in names)


def test_resume_of_another_request_original_or_length_is_refused(uninterrupted, make_config, tmp_path):
    import shutil

    work_dir = uninterrupted / "copy"
    shutil.copytree(uninterrupted / "whole", work_dir, dirs_exist_ok=True)

    def resume(**unlearn):
        options = dict(steps=STEPS, checkpoint_interval=2, stop=1e-6, optimizer=CALM) | unlearn
        cfg = make_config("cgnet", work_dir, **options)
        cfg.resume = True
        UnlearnRunner.from_cfg(cfg).train()

    with pytest.raises(CheckpointMismatchError, match="another request"):
        resume(classes=["person"])
    with pytest.raises(RequestError, match="past steps=4; raise steps"):
        resume(steps=4)
    with pytest.raises(CheckpointMismatchError, match="another request"):
        resume(steps=4, schedule="cosine")
    changed = torch.load(uninterrupted / "cgnet.pth", weights_only=True)
    changed["state_dict"]["decode_head.conv_seg.bias"] += 1
    torch.save(changed, tmp_path / "changed.pth")
    with pytest.raises(CheckpointMismatchError, match="the original of this run had SHA-256"):
        resume(teacher=str(tmp_path / "changed.pth"))


def test_stopping_early_saves_and_stays_stopped(make_config, tmp_path):
    options = dict(steps=50, stop=dict(ratio=0.9, window=2), optimizer=dict(type="AdamW", lr=3e-3), keep_states=True)
    runner = UnlearnRunner.from_cfg(make_config("cgnet", tmp_path / "run", **options))
    runner.train()
    assert runner.method.stopped and runner.iter < 50
    assert (tmp_path / "run" / "erased.pth").is_file() and (tmp_path / "run" / f"step_{runner.iter}.pth").is_file()
    cfg = make_config("cgnet", tmp_path / "run", **options)
    cfg.resume = True
    again = UnlearnRunner.from_cfg(cfg)
    again.train()
    assert again.iter == runner.iter


def test_accumulated_gradients_make_the_same_step(make_config, tmp_path):
    """Two batches of two are one of four (norms frozen, nothing padded)."""
    whole = make_config("cgnet", tmp_path / "whole", deterministic=True, steps=2, batch_size=4, optimizer=CALM)
    halves = make_config("cgnet", tmp_path / "halves", deterministic=True, steps=2, batch_size=2, optimizer=CALM)
    halves.optim_wrapper.accumulative_counts = 2
    for cfg in (whole, halves):
        runner = UnlearnRunner.from_cfg(cfg)
        runner.train()
    assert runner.iter == 4
    expected, got = weights(tmp_path / "whole"), weights(tmp_path / "halves")
    original = torch.load(tmp_path / "cgnet.pth", weights_only=True)["state_dict"]
    worst = max(float((got[name] - value).abs().max()) for name, value in expected.items())
    moved = max(float((value - original[name]).abs().max()) for name, value in expected.items())
    assert worst <= 1e-5 and worst < moved / 20, (worst, moved)
