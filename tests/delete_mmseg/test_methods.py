"""Methods beside DELETE on pixels: what each trains, and on which data."""

import pytest
import torch
from helpers import same_tensors

from delete_tasks.errors import RequestError
from delete_tasks.runner.unlearn_runner import UnlearnRunner


def states(runner):
    """State dicts of a run's original and of its model."""
    return torch.load(runner.cfg.load_from, weights_only=True)["state_dict"], runner.unwrapped_model.state_dict()


def changed(runner):
    """Names of the tensors that a run changed."""
    original, erased = states(runner)
    return {name for name, value in original.items() if not torch.equal(value, erased[name])}


ADAM = dict(type="AdamW", lr=1e-3)


@pytest.mark.parametrize("method", ["RandomLabel", "NegativeGradient"])
@pytest.mark.long
def test_labels_alone_and_no_teacher(method, train, watch):
    runner = train("cgnet", "run", watch, type=method, steps=3, optimizer=ADAM)
    # A teacher is made for the check at the end alone.
    assert not watch.teacher and runner.outcome.forget_check is not None
    names = changed(runner)
    assert "decode_head.conv_seg.bias" in names and any(name.startswith("backbone") for name in names)
    original, erased = (state["decode_head.conv_seg.bias"] for state in states(runner))
    assert erased[13] < original[13], "the logit of car goes down"
    again = train("cgnet", type=method, steps=3, optimizer=ADAM, overwrite=True)
    assert again.iter == 3 and torch.equal(again.unwrapped_model.decode_head.conv_seg.bias, erased)


def test_head_only_trains_the_last_layer_alone(train):
    runner = train("cgnet", type="HeadOnly", steps=3)
    assert changed(runner) == {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}
    assert all(parameter.requires_grad for parameter in runner.unwrapped_model.parameters()), "given back as it was"


@pytest.mark.parametrize("accumulated", [1, 2])
def test_clip_grad_of_the_config_limits_a_step(accumulated, train):
    parts = {"optim_wrapper.clip_grad": dict(max_norm=1e-2), "optim_wrapper.accumulative_counts": accumulated}
    # With the class weights: what moved is then the step alone.
    runner = train("cgnet", steps=1, optimizer=dict(type="SGD", lr=0.5), keep_row=True, parts=parts)
    original, erased = states(runner)
    moved = sum(float((value.double() - erased[name].double()).pow(2).sum()) for name, value in original.items()) ** 0.5
    assert moved == pytest.approx(0.5 * 1e-2, rel=1e-3)


def test_readout_of_a_layer_that_never_runs_is_an_error(make_config, tmp_path, monkeypatch):
    runner = UnlearnRunner.from_cfg(make_config("cgnet", tmp_path / "run", steps=2, readout=0.1))
    unused = torch.nn.Conv2d(3, 19, 1)
    monkeypatch.setattr(runner.task, "classifier", lambda _: ("decode_head.unused", unused))
    with pytest.raises(RequestError, match=r"decode_head.unused"):
        runner.train()


def test_deep_erasure_of_pixels(train, watch):
    """The second loss is the head's, and it compares the same locations in every run."""
    one, other = (train("cgnet", folder, watch, type="DeepDELETE", steps=3) for folder in ("one", "other"))
    assert "decode.loss_unlike" in watch.outputs[0] and any(name.startswith("backbone") for name in changed(one))
    assert same_tensors(one.unwrapped_model.state_dict(), other.unwrapped_model.state_dict())


FORGET_ALONE = ("Projection", "BoundaryShrink", "TREW")


@pytest.mark.long
@pytest.mark.parametrize("method", FORGET_ALONE)
def test_methods_of_the_forget_set_work_per_pixel(method, make_config, train, tmp_path, publish_anyway):
    """Each changes the network, makes the class less likely, and gives the same result again."""
    options = dict(type=method, steps=3, optimizer=dict(type="SGD", lr=1e-2), keep_row=True)
    cfg = make_config("cgnet", tmp_path / "run", **options)
    runner = train(cfg)
    names, check = changed(runner), runner.outcome.forget_check
    assert names and runner.iter == 3
    if method == "Projection":
        weights = (state["decode_head.conv_seg.weight"].flatten(1) for state in states(runner))
        before, after = ((weight[13] - weight.mean(0)).norm() for weight in weights)
        assert after < 1e-3 * before, "car has no neighbour"
    else:
        assert check["probability_after"] < check["probability_before"]
    again = train("cgnet", **options, overwrite=True)
    assert same_tensors(runner.unwrapped_model.state_dict(), again.unwrapped_model.state_dict())
