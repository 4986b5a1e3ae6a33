"""A run that breaks off and goes on gives the same weights, whatever a method keeps between its steps."""

import copy

import pytest
import torch
from mmengine.registry import HOOKS

import delete_tasks
from delete_tasks.methods.base import UnlearnHook

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
def test_resumed_is_uninterrupted(method, after, blobs, trained, tmp_path, monkeypatch, publish_anyway):
    if after == 2 and method not in ("InfluenceUnlearning", "SalUn", "Fisher", "Projection"):
        pytest.skip("its steps are all alike")
    inputs, labels = blobs
    kind = HOOKS.get(method)
    others = (
        list(zip(inputs[labels != 2], labels[labels != 2].tolist(), strict=True)) if kind.needs_retain_set else None
    )

    def run(folder, resume=False):
        given = {
            "steps": 8,
            "batch_size": 16,
            "checkpoint_interval": 1,
            "optimizer": {"type": "SGD", "lr": 1e-2, "momentum": 0.9},
        }
        samples = list(zip(inputs[labels == 2], labels[labels == 2].tolist(), strict=True))
        return delete_tasks.erase(
            copy.deepcopy(trained), samples, [2], method=method, retain=others, views="none", keep_row=True, resume=resume,
            match_scale=False, work_dir=tmp_path / folder, **given, **OPTIONS[method],
        ).model.state_dict()  # fmt: skip

    whole = run("whole")
    before = UnlearnHook.before_train_iter

    def breaks(self, runner, batch_idx, data_batch=None):
        if batch_idx == after:
            raise RuntimeError("the plug is pulled")
        before(self, runner, batch_idx, data_batch)

    with monkeypatch.context() as patch:
        patch.setattr(UnlearnHook, "before_train_iter", breaks)
        with pytest.raises(RuntimeError, match="the plug is pulled"):
            run("broken")
    assert (tmp_path / "broken" / f"step_{after}.pth").is_file()
    resumed = run("broken", resume=True)
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
