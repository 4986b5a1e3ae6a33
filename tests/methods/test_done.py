"""What a run says it did, method by method. That its layers are those whose tensors differ is checked in tests/conftest.py."""

import pytest
from mmengine.registry import HOOKS

from delete_tasks.methods.registry import METHODS
from delete_tasks.runner.done import sentences

TRAINED, HEAD = ("training", ["0", "1", "3"]), ("class weights replaced", ["3"])
SCALED, STATISTICS = ("scale restored", ["3"]), ("running statistics", ["1"])
# Method -> what changed which layers of a network of Linear 0, BatchNorm 1, ReLU 2 and Linear 3.
CHANGES = {
    **{method: [TRAINED, HEAD, SCALED] for method in ("DELETE", "TREW", "BoundaryShrink")},
    "DeepDELETE": [TRAINED, ("other class weights returned", ["3"]), HEAD, SCALED],
    **{method: [TRAINED, STATISTICS, HEAD, SCALED] for method in ("BadTeacher", "SCRUB")},
    **{method: [TRAINED, STATISTICS, HEAD] for method in ("FineTune", "SalUn")},
    **{method: [TRAINED, HEAD] for method in ("RandomLabel", "NegativeGradient")},
    "HeadOnly": [("training", ["3"]), HEAD, SCALED],
    "Projection": [("projection", ["0", "1", "3"]), ("biases replaced", ["3"]), HEAD],
}
OPTIONS = {"SalUn": {"saliency_steps": 1, "share": 0.25}, "FineTune": {"norm_eval": False}}
# Method -> a sentence, and the optimizer steps that trained.
SAID = {
    "DELETE": ("3 training steps (AdamW, learning rate 0.01, cosine) on 48 of 100 images of 1 class changed `0`, `1`, `3`.", 3),
    "DeepDELETE": ("Class weights of the other classes in `3` were set back to the original's.", 3),
    "HeadOnly": ("2 other layers are bitwise the original's.", 3),
    "Projection": ("2 directions, computed from 48 of 100 images of 1 class, were projected out of `0`, `1`, `3`.", 0),
    "FineTune": ("Also: 48 of 100 images of 1 class, read without weight in the loss.", 3),
    "SalUn": ("1 step only read its batch.", 2),
}  # fmt: skip


@pytest.fixture
def done_by(erase):
    """``done_by(method, **options)``: the statement of a run of three steps."""

    def done_by(method: str, **options) -> dict:
        options = {"steps": 3, "batch_size": 16, "lr": 1e-2, **OPTIONS.get(method, {}), **options}
        return erase(method, **options).figures["done"]

    return done_by


@pytest.mark.parametrize("method", [method for group in METHODS.values() for method in group])
def test_each_method_says_what_it_did(method, done_by):
    done = done_by(method)
    assert [(change["by"], change["layers"]) for change in done["changes"]] == CHANGES[method]
    assert (done["method"], done["why_it_ended"]) == (method, "all 3 steps were taken")
    line, steps = SAID.get(method, ("Class weights of the forgotten class were replaced in `3`.", 3))
    assert line in "\n".join(sentences(done)) and done["steps"] == steps
    assert done["steps"] + done["steps_without_training"] == 3
    labels = {use["set"]: use["labels_used"] for use in done["data"] if use["use"] == HOOKS.get(method).retain_use}
    assert labels.get("retain set", False) == (method in ("FineTune", "SCRUB", "SalUn"))


def test_what_did_not_happen_is_not_said(done_by):
    done = done_by("DELETE", lr=1e-30, keep_row=True, match_scale=False)
    assert done["changes"] == [] and sentences(done)[-1] == "No tensor of the model differs from the original's."
    done = done_by("DELETE", lr=0.1, stop={"ratio": 0.9, "window": 1})
    assert done["steps"] < done["most_steps"]
    assert "The run ended early: the stop rule was met" in " ".join(sentences(done))


def test_a_change_without_a_cause_is_listed(done_by, monkeypatch):
    """The check of all tests' runs fails on it."""
    monkeypatch.setattr("delete_tasks.model.facts.Facts.change", lambda *_, **__: None)
    with pytest.raises(AssertionError, match="not attributed"):
        done_by("DELETE")
