"""An interrupted and resumed run gives the same weights, for methods with any state between steps."""

import copy

import pytest
from helpers import same_tensors
from mmengine.registry import HOOKS

import delete_tasks
import delete_tasks.methods.builtin

OPTIONS = {
    "InfluenceUnlearning": {"gradients": 3, "first": 1e-2, "left": 0.0},
    "SalUn": {"saliency_steps": 3},
    "BoundaryExpand": {},
    "Projection": {},
    "Fisher": {},
    "BoundaryShrink": {},
    "TREW": {},
    "DeepDELETE": {},
    "L2UL": {},
    "BadTeacher": {},
    "SCRUB": {},
}
FIRST = ("InfluenceUnlearning", "BoundaryExpand")  # make test has no time for all
BREAKS = 5


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=() if name in FIRST else pytest.mark.long) for name in OPTIONS]
)
@pytest.mark.parametrize("after", [2, BREAKS])
def test_resumed_is_uninterrupted(method, after, blobs, trained, tmp_path, pull_the_plug, publish_anyway):
    if after == 2 and method not in ("InfluenceUnlearning", "SalUn", "Fisher", "Projection"):
        pytest.skip("all of its steps are alike")
    inputs, labels = blobs
    samples, others = (
        list(zip(inputs[chosen], labels[chosen].tolist(), strict=True)) for chosen in (labels == 2, labels != 2)
    )
    retain = others if HOOKS.get(method).needs_retain_set else None

    def run(folder, resume=False):
        return delete_tasks.erase(
            copy.deepcopy(trained), samples, [2], method=method, retain=retain, views="none", keep_row=True, resume=resume,
            match_scale=False, work_dir=tmp_path / folder, steps=8, batch_size=16, checkpoint_interval=1,
            optimizer={"type": "SGD", "lr": 1e-2, "momentum": 0.9}, **OPTIONS[method],
        ).model.state_dict()  # fmt: skip

    whole = run("whole")
    with pull_the_plug(after):
        run("broken")
    assert (tmp_path / "broken" / f"step_{after}.pth").is_file()
    assert same_tensors(whole, run("broken", resume=True))
