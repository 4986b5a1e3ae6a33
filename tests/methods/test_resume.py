"""An interrupted and resumed run gives the same weights, for methods with any state between steps."""

import pytest
import torch
from helpers import same_tensors

from delete_tasks.errors import CheckpointMismatchError

OPTIONS = {"SalUn": {"saliency_steps": 3}}
FIRST = ("SalUn", "Projection")  # make test has no time for all
OTHERS = ("BoundaryShrink", "TREW", "DeepDELETE", "BadTeacher", "SCRUB")


@pytest.mark.parametrize(
    ("method", "after"),  # all steps of the others are alike
    [*((m, n) for m in FIRST for n in (2, 5)), *(pytest.param(m, 5, marks=pytest.mark.long) for m in OTHERS)],
)
def test_resumed_is_uninterrupted(method, after, forget, tmp_path, pull_the_plug):
    def run(folder, resume=False):
        options = {"steps": 8, "batch_size": 16, "checkpoint_interval": 1, **OPTIONS.get(method, {})}
        options["optimizer"] = {"type": "SGD", "lr": 1e-2, "momentum": 0.9}
        return forget(method, work_dir=tmp_path / folder, resume=resume, **options).state_dict()

    whole = run("whole")
    with pull_the_plug(after):
        run("broken")
    assert (tmp_path / "broken" / f"step_{after}.pth").is_file()
    assert same_tensors(whole, run("broken", resume=True))


def test_a_state_of_an_earlier_version_is_refused(erase, tmp_path, pull_the_plug):
    def run(resume):
        erase("DELETE", steps=2, checkpoint_interval=1, work_dir=tmp_path, resume=resume)

    with pull_the_plug(1):
        run(False)
    path = tmp_path / "step_1.pth"
    state = torch.load(path, weights_only=True)
    for part, key in (("unlearn", "facts"), ("unlearn", "method"), ("unlearn", "request"), ("meta", "iter")):
        torch.save({**state, part: {name: value for name, value in state[part].items() if name != key}}, path)
        with pytest.raises(CheckpointMismatchError, match=f"no '{key}', .* an earlier version.*--overwrite"):
            run(True)
