"""A resumed run, and one in two processes, give the same tensors."""

import math

import pytest
from helpers import launch, same_tensors

from delete_images import forget
from delete_images.models.model_file import load_model
from delete_tasks.cli import parse
from delete_tasks.fileio.checkpoint import load_file
from delete_tasks.runner.unlearn_runner import UnlearnRunner


@pytest.mark.parametrize(("schedule", "steps", "last"), [
    pytest.param("constant", 6, 6e-4, marks=pytest.mark.long),
    ("cosine", 6, 6e-4 * (1 + math.cos(math.pi * 5 / 6)) / 2),
    pytest.param("warmup_cosine", 60, 6e-4 * (1 + math.cos(math.pi * 53 / 54)) / 2, marks=pytest.mark.long),
])  # fmt: skip
def test_resumed_is_uninterrupted(schedule, steps, last, deer, cifar, tmp_path, pull_the_plug):
    def config(name, **changes):
        more = f"--batch-size 8 --steps {steps} --lr 6e-4 --schedule {schedule} --retain {cifar}?class=ship&limit=20"
        words = deer(tmp_path / name, more, query="class=deer&limit=40")
        cfg = forget.make_config(None, {**vars(parse(words)), "launcher": "none", **changes})
        cfg.unlearn.checkpoint_interval, cfg.log_level = 1, "WARNING"
        return cfg

    UnlearnRunner.from_cfg(config("whole")).train()
    with pull_the_plug(after=3):
        UnlearnRunner.from_cfg(config("broken")).train()
    assert not (tmp_path / "broken" / "erased").exists()
    runner = UnlearnRunner.from_cfg(config("broken", resume=True))
    runner.train()
    assert runner.resumed_from.endswith("step_3.pth")
    assert runner.optim_wrapper.get_lr()["lr"][0] == pytest.approx(last)
    assert same_tensors(*(load_model(tmp_path / name / "erased")[0].state_dict() for name in ("whole", "broken")))


@pytest.mark.long
@pytest.mark.parametrize("more", ["", "--deep"], ids=["plain", "deep"])
def test_two_processes_are_one(more, server, deer, resnet20, cifar, tmp_path):
    found = {}
    for processes in (1, 2):
        recipe = f"--steps 3 --lr 1e-5 --batch-size {8 // processes} --retain {cifar}?class=ship&limit=20 --device cpu --no-amp"
        words = deer(tmp_path / str(processes), recipe, more, query="class=deer&limit=40")
        words.append("--keep-states")  # three such steps forget nothing, and no model is published
        ended = launch(server, tmp_path, processes, words)
        assert "".join(done.out for done in ended).count("Written:") == 1, ended[0].err[-3000:]
        state = load_file(tmp_path / str(processes) / "step_3.pth")["state_dict"]
        found[processes] = {name.removeprefix("network."): value for name, value in state.items()}
    original = load_model(resnet20)[0].state_dict()
    moved = max(float((value - original[name]).abs().max()) for name, value in found[1].items())
    worst = max(float((value - found[2][name]).abs().max()) for name, value in found[1].items())
    assert worst <= 2e-6 and worst < moved / 5, (worst, moved)
