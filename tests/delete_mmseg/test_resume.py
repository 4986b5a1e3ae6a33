"""Resumed runs: stock train.py, kill -9 and --resume give the same tensors; another request is refused."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mmseg
import pytest
import torch
from helpers import argv, not_finished, same_tensors

from delete_tasks.errors import CheckpointMismatchError, FinishedError, RequestError
from delete_tasks.runner.unlearn_runner import UnlearnRunner

TRAIN = Path(mmseg.__file__).parent / ".mim" / "tools" / "train.py"
STEPS = 12
CALM = dict(type="SGD", lr=1e-3, momentum=0.9)  # has a state to resume, and does not throw an untrained network far off
RUN = dict(steps=STEPS, checkpoint_interval=2, stop=1e-6, optimizer=CALM)


@pytest.fixture(scope="module")
def uninterrupted(make_config, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    cfg = make_config("cgnet", folder / "whole", **RUN, keep_states=True)
    cfg.dump(folder / "config.py")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes below: sums in another order differ in their last bit
    UnlearnRunner.from_cfg(cfg).train()
    torch.set_num_threads(threads)
    return folder


@pytest.mark.long
def test_killed_three_times_gives_the_same_tensors(uninterrupted, killed, tmp_path):
    """At a random step, while a state is being written, and at another random step."""
    chance = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID", time.time_ns()))
    first, second = chance.choice([2, 4]), chance.choice([8, 10])
    work_dir = tmp_path / "killed"
    words = argv(sys.executable, TRAIN, uninterrupted / "config.py", "--work-dir", work_dir, "--resume")
    for pattern in (f"step_{first}.pth", ".step_6.pth.*.delete-tasks.tmp", f"step_{second}.pth"):
        killed(words, pattern, within=0.1)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    files = (uninterrupted / "whole/erased.pth", work_dir / "erased.pth", uninterrupted / "cgnet.pth")
    whole, resumed, original = (torch.load(file, weights_only=True)["state_dict"] for file in files)
    assert same_tensors(whole, resumed), f"killed at {first}, 6, {second}"
    assert not same_tensors(original, resumed)


def test_work_dir_keeps_one_state_and_no_temporary_file(uninterrupted):
    names = {path.name for path in (uninterrupted / "whole").iterdir()}
    assert {name for name in names if name.endswith(".pth")} == {"erased.pth", f"step_{STEPS}.pth"}
    assert not any(name.endswith(".tmp") for name in names)


def test_resume_of_another_request_original_or_length_is_refused(uninterrupted, train, tmp_path):
    work_dir = shutil.copytree(uninterrupted / "whole", uninterrupted / "copy")
    not_finished(work_dir)
    changed = torch.load(uninterrupted / "cgnet.pth", weights_only=True)
    changed["state_dict"]["decode_head.conv_seg.bias"] += 1
    torch.save(changed, tmp_path / "changed.pth")
    for unlearn, fact in (
        (dict(classes=["person"]), "unlearn.classes"),
        (dict(steps=4), "steps=4"),
        (dict(steps=4, schedule="cosine"), "schedule"),
        (dict(teacher=str(tmp_path / "changed.pth")), "original .*SHA-256"),
    ):
        with pytest.raises((CheckpointMismatchError, RequestError), match=fact):
            train("cgnet", work_dir, parts={"resume": True}, **RUN | unlearn)


def test_stopping_early_saves_and_stays_stopped(train, tmp_path):
    options = dict(steps=50, stop=dict(ratio=0.9, window=2), optimizer=dict(type="AdamW", lr=3e-3), keep_states=True)
    runner = train("cgnet", **options)
    assert runner.method.stopped and runner.iter < 50
    assert (tmp_path / "run" / "erased.pth").is_file() and (tmp_path / "run" / f"step_{runner.iter}.pth").is_file()
    with pytest.raises(FinishedError, match="finished on"):
        train("cgnet", parts={"resume": True}, **options)


ACCUMULATE = "optim_wrapper.accumulative_counts"


@pytest.mark.parametrize("options", [
    *(pytest.param(o, marks=pytest.mark.long) for o in ({}, {"type": "NegativeGradient"})), {"locations": "forgotten"},
])  # fmt: skip
def test_accumulated_gradients_make_the_same_step(options, train, tmp_path):
    """Four batches of one are one of four (norms frozen), also where each holds another number of locations that count."""
    options = {"steps": 2, "optimizer": CALM, "deterministic": True, **options}
    whole = train("cgnet", "whole", batch_size=4, **options).unwrapped_model.state_dict()
    runner = train("cgnet", "parts", batch_size=1, parts={ACCUMULATE: 4}, **options)
    parts = runner.unwrapped_model.state_dict()
    assert runner.iter == 8
    original = torch.load(tmp_path / "cgnet.pth", weights_only=True)["state_dict"]
    worst = max(float((parts[name] - value).abs().max()) for name, value in whole.items())
    moved = max(float((value - original[name]).abs().max()) for name, value in whole.items())
    assert worst <= 1e-5 and worst < moved / 100, (worst, moved)


@pytest.mark.long
def test_accumulation_logs_each_batchs_own_loss(train, watch):
    """Weighting gradients must not change the log: a mean over the batch's locations."""
    options = dict(deterministic=True, steps=1, batch_size=1, locations="forgotten", optimizer=CALM)
    for accumulated in (1, 2):
        train("cgnet", str(accumulated), watch, parts={ACCUMULATE: accumulated}, **options)
    first, again, _ = (float(outputs["loss"]) for outputs in watch.outputs)
    assert first == again


@pytest.mark.long
def test_outputs_with_their_own_locations_cannot_be_accumulated(train):
    options = dict(steps=1, batch_size=1, locations="forgotten", select="teacher", classes=["road"])
    with pytest.raises(RequestError, match=r"accumulative_counts .*locations='all'"):
        train("fcn", parts={ACCUMULATE: 2}, **options)


DIFFERENT = {  # fact of the message -> change of the config
    "unlearn.classes": lambda cfg: cfg.unlearn.update(classes=["person"]),
    "unlearn.optimizer.lr .*0.001 .*0.002": lambda cfg: cfg.unlearn.update(optimizer=CALM | {"lr": 2e-3}),
    "unlearn.stop .*1e-06": lambda cfg: cfg.unlearn.pop("stop"),
    "seed .*0 .*1": lambda cfg: cfg.update(randomness={"seed": 1}),
    "batch_size .*2 .*1": lambda cfg: cfg.train_dataloader.update(batch_size=1),  # inherited
    "processes .*2 .*1": lambda cfg: None,
    "forget set.read .* 5": lambda cfg: cfg.train_dataloader.dataset.update(indices=5),
    "train_dataloader.dataset.pipeline": lambda cfg: cfg.train_dataloader.dataset.pipeline.pop(2),
    "model.decode_head.dropout_ratio": lambda cfg: cfg.model.decode_head.update(dropout_ratio=0.5),
    "optim_wrapper.clip_grad.max_norm .*1.0": lambda cfg: cfg.optim_wrapper.update(clip_grad=dict(max_norm=1.0)),
    "optim_wrapper.accumulative_counts .*2": lambda cfg: cfg.optim_wrapper.update(accumulative_counts=2),
    "trained parameters": lambda cfg: cfg.unlearn.update(type="HeadOnly"),
}


@pytest.mark.parametrize("fact", DIFFERENT)
def test_what_changes_a_run_is_refused_by_name(fact, uninterrupted, make_config, train, tmp_path):
    work_dir = tmp_path / "run"
    work_dir.mkdir()
    state = torch.load(uninterrupted / "whole" / f"step_{STEPS}.pth", weights_only=True)
    if fact.startswith("processes"):
        state["unlearn"]["request"]["processes"] = 2
    torch.save(state, work_dir / "step.pth")
    (work_dir / "last_checkpoint").write_text("step.pth")
    parts = {"load_from": str(uninterrupted / "cgnet.pth"), "resume": True}
    cfg = make_config("cgnet", work_dir, parts=parts, **RUN | dict(steps=STEPS + 1, overwrite=True))
    DIFFERENT[fact](cfg)
    with pytest.raises(CheckpointMismatchError, match=f"another request.*{fact}"):
        train(cfg)
    assert {path.name for path in work_dir.glob("*.pth")} == {"step.pth"}


def test_what_changes_nothing_is_no_difference(uninterrupted, scenes, train, tmp_path):
    """A copied work dir, paths written in another way, classes by id, more steps of a constant rate, a hook that looks on."""
    (tmp_path / "run").mkdir()
    for name in (f"step_{STEPS}.pth", "last_checkpoint"):
        shutil.copy(uninterrupted / "whole" / name, tmp_path / "run")
    parts = {
        "load_from": str(uninterrupted / "cgnet.pth"),
        "resume": True,
        "train_dataloader.dataset.data_root": os.path.relpath(scenes),
        "custom_hooks": [dict(type="EmptyCacheHook")],
    }
    more = dict(steps=STEPS + 1, checkpoint_interval=5, classes=[13], overwrite=True)
    runner = train("cgnet", parts=parts, **RUN | more)
    assert runner.resumed_from is not None and runner.iter == STEPS + 1
