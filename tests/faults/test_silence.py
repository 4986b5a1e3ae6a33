"""Runs that forget nothing, or not what was asked: they say so, publish nothing, and end with their own status."""

import json
import re

import pytest
import torch
from harness import is_done, is_refused, long, no_leftovers, no_traceback, some
from helpers import read_json
from killing import weights_of
from kit import PUBLISHED, without

from delete_tasks.fileio.checkpoint import load_file, state_dict_of

# Task -> words with which its run changes nothing that it predicts.
IDLE = {
    "images": ["--lr", "1e-9", "--steps", "1"],
    "segmentation": ["--lr", "1e-9", "--steps", "1"],
    "faces": ["--lr", "1e-9", "--steps", "1", "--directions", "0"],
    "backdoor": ["--lr", "1e-9", "--steps", "1"],
}


def nothing_published(done, here, task: str) -> None:
    no_traceback(done)
    assert done.code == 4, f"status {done.code}, expected 4: {done}"
    assert not (here.cwd / "W" / PUBLISHED[task]).exists(), "a model was published"
    assert not list((here.cwd / "W").glob("step_*")), "a state of it lies about"
    no_leftovers(here)


@pytest.mark.parametrize("task", long("images", "backdoor"))
def test_a_model_that_predicts_as_before_is_not_published(server, here, kit, task):
    argv = [word for word in kit.argv(task, "W", *IDLE[task]) if word != "--force"]
    done = server.run(argv, here)
    nothing_published(done, here, task)
    assert re.search("not forgotten|not cleaned|did not change|as before|predicts", done.said, re.I), done.said
    record = read_json(here.cwd, "W/record.json")
    assert record["models"]["erased"] is None and "FAIL" in json.dumps(record)
    is_done(server.run(["record", "verify", "W"], here))


@pytest.mark.faults
@pytest.mark.parametrize("task", ["images", "faces"])
@pytest.mark.parametrize("method", ["HeadOnly", "RandomLabel", "NegativeGradient"])
def test_other_methods(server, here, kit, method, task):
    argv = kit.argv(task, "W", "--method", method, "--no-record", *IDLE[task])
    if "--stop" in argv and method != "HeadOnly":  # there is no teacher to compare with
        without(argv, "--stop")
    nothing_published(server.run(argv, here), here, task)


@pytest.mark.parametrize(
    "more", ["--masking own", "--cfg-options unlearn.masking=own", "--method RandomLabel", "--method NegativeGradient"]
)
def test_masking_own_needs_labels(server, here, kit, more):
    before = here.look()
    data = kit.path("images/data.npz") + "?class=green&label=none"
    argv = kit.argv("images", "W", "--no-record", "--forget", data, *more.split())
    is_refused(server.run(argv, here), here, before, "label")


VERDICTS = {
    "not cleaned": ["--lr", "1e-9", "--steps", "1"],
    "damaged": ["--lr", "0.5", "--steps", "4"],
}


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("force", [False, True])
def test_verdicts_of_the_watch(server, here, kit, verdict, force):
    argv = [word for word in kit.argv("backdoor", "W", *VERDICTS[verdict]) if force or word != "--force"]
    done = server.run(argv, here)
    if not force:
        nothing_published(done, here, "backdoor")
        assert read_json(here.cwd, "W/results.json")["details"]["verdict"] == verdict
    else:
        no_traceback(done)  # what is ruined, by infinity or NaN, is never published
        assert done.code in (0, 4) or re.search("nan|infinity", done.err, re.I), f"{done}"


HIGH = [*(f"{name}=100" for name in ("forget_acc", "remain_drop", "worst_drop", "forget_acc_train", "still_predicted",
                                     "ece_rise")), "nll_rise=1e6"]  # fmt: skip
LIMITS = {  # words -> status
    ("--accept", *HIGH): 0,
    ("--accept", "remain_drop=-100"): 0,
    ("--accept", "remain_drop=-100", "--fail-on-limit"): 3,
    ("--accept", *HIGH, "--fail-on-limit"): 0,
}


@pytest.mark.parametrize("words", some([(words,) for words in LIMITS], fast=1, only=lambda row: LIMITS[row[0]] == 3))
def test_limits(server, here, kit, words):
    before = here.look()
    done = server.run(kit.argv("images", "W", *words), here)
    if "remain_drop=-100" in words and done.code == 2:
        is_refused(done, here, before, "limit|accept|at most|number")
    else:
        no_traceback(done)
        assert done.code == LIMITS[words], f"{done}"
        assert (here.cwd / "W/erased/model.json").exists() and (here.cwd / "W/record.json").exists()


def head_rows(state: dict[str, torch.Tensor], classes: int) -> torch.Tensor:
    """The matrix of a model that has a row for each class."""
    (found,) = [v for v in state.values() if v.ndim > 1 and len(v) == classes and v.numel() == classes * v.shape[1]]
    return found.flatten(1)


@pytest.mark.parametrize("task", ["images", pytest.param("segmentation", marks=pytest.mark.faults)])
def test_the_forgotten_row_is_no_template(server, here, kit, task):
    """The published last layer does not hold the original's row of the class."""
    row, classes = {"images": (1, 4), "segmentation": (13, 19)}[task]
    is_done(server.run(kit.argv(task, "W", "--no-record"), here))
    source = kit.original(task)
    before = load_file(source if source.is_file() else source / "weights.safetensors")
    rows = (
        head_rows(state_dict_of(state), classes)[row].float() for state in (before, weights_of(task, here.cwd / "W"))
    )
    cosine = torch.nn.functional.cosine_similarity(*rows, dim=0).item()
    assert abs(cosine) < 0.9, f"cosine {cosine:.4f} with the original's row"


ERASE = """
import os, random, numpy as np, torch, delete_tasks
from delete_images.models.model_file import load_model
model, spec = load_model(case["model"])
images = torch.rand(12, 3, 16, 16)
tiny = torch.tensor([1e-40])
states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
before = {name: value.clone() for name, value in model.state_dict().items()}
flags = [p.requires_grad for p in model.parameters()], model.training, os.environ.get("CUDA_VISIBLE_DEVICES")
try:
    delete_tasks.erase(model, images, class_names=list(spec.classes), device="cpu", **eval(case["options"]))
except Exception as error:
    print("raised", type(error).__name__, error)
assert (tiny * 1.0).item() != 0, "subnormal numbers are flushed in the caller's process"
now = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
assert now == states, "the caller's randomness moved"
assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "the caller's model changed"
after = [p.requires_grad for p in model.parameters()], model.training, os.environ.get("CUDA_VISIBLE_DEVICES")
assert after == flags, "flags changed"
"""
CALLS = ["dict(classes=['green'], steps=2)", "dict(classes=['nothing'])", "dict(classes=['green'], steps=0)",
"dict(classes=['green'], steps=2, lr=float('nan'))",
         "dict(classes=['#2'], steps=2)", "dict(classes=[1], steps=2)",
         "dict(classes=['green'], steps=2, method='NegativeGradient')"]  # fmt: skip


@pytest.mark.parametrize("options", some(CALLS, fast=4))
def test_erase_leaves_the_caller_alone(server, here, kit, options):
    done = server.run([], here, code=ERASE, model=kit.path("images/model"), options=options)
    assert done.code == 0, f"{done}"
    left = [str(path) for path in (*here.tmp.rglob("*"), *here.cwd.rglob("*"))]
    assert not left, f"left behind: {left}"
