"""An interrupted and resumed run gives the same weights, for methods with any state between steps."""

import copy

import pytest
import torch
from helpers import same_tensors
from mmengine.registry import HOOKS

import delete_tasks
import delete_tasks.methods.builtin
from delete_tasks.errors import CheckpointMismatchError

OPTIONS = {"SalUn": {"saliency_steps": 3}}
FIRST = ("SalUn", "Projection")  # make test has no time for all
OTHERS = ("BoundaryShrink", "TREW", "DeepDELETE", "BadTeacher", "SCRUB")


@pytest.mark.parametrize(
    ("method", "after"),  # all steps of the others are alike
    [*((m, n) for m in FIRST for n in (2, 5)), *(pytest.param(m, 5, marks=pytest.mark.long) for m in OTHERS)],
)
def test_resumed_is_uninterrupted(method, after, sets, trained, tmp_path, pull_the_plug, publish_anyway):
    samples, others = sets
    retain = others if HOOKS.get(method).needs_retain_set else None

    def run(folder, resume=False):
        return delete_tasks.erase(
            copy.deepcopy(trained), samples, [2], method=method, retain=retain, views="none", keep_row=True, resume=resume,
            match_scale=False, work_dir=tmp_path / folder, steps=8, batch_size=16, checkpoint_interval=1,
            optimizer={"type": "SGD", "lr": 1e-2, "momentum": 0.9}, **OPTIONS.get(method, {}),
        ).model.state_dict()  # fmt: skip

    whole = run("whole")
    with pull_the_plug(after):
        run("broken")
    assert (tmp_path / "broken" / f"step_{after}.pth").is_file()
    assert same_tensors(whole, run("broken", resume=True))


def test_a_state_of_an_earlier_version_is_refused(sets, trained, tmp_path, pull_the_plug):
    def run(resume):
        options = {"steps": 2, "checkpoint_interval": 1, "work_dir": tmp_path, "resume": resume}
        delete_tasks.erase(copy.deepcopy(trained), sets[0], [2], **options)

    with pull_the_plug(1):
        run(False)
    path = tmp_path / "step_1.pth"
    state = torch.load(path, weights_only=True)
    for part, key in (("unlearn", "facts"), ("unlearn", "method"), ("unlearn", "request"), ("meta", "iter")):
        torch.save({**state, part: {name: value for name, value in state[part].items() if name != key}}, path)
        with pytest.raises(CheckpointMismatchError, match=f"no '{key}', .* an earlier version.*--overwrite"):
            run(True)
