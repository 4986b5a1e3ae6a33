"""The methods beside DELETE, on pixels: what each trains, and on what."""

import pytest
import torch
from helpers import same_tensors
from mmengine.hooks import Hook

from delete_tasks.errors import RequestError
from delete_tasks.runner.unlearn_runner import UnlearnRunner


class TeacherWatch(Hook):
    """Whether a teacher was there at any step."""

    seen = False

    def after_train_iter(self, runner, **_):
        self.seen |= "teacher" in vars(runner)


def run(cfg, *hooks):
    original = torch.load(cfg.load_from, weights_only=True)["state_dict"]
    runner = UnlearnRunner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    erased = runner.unwrapped_model.state_dict()
    changed = {name for name, value in original.items() if not torch.equal(value, erased[name])}
    return runner, changed


@pytest.mark.parametrize("method", ["RandomLabel", "NegativeGradient"])
def test_labels_alone_and_no_teacher(method, make_config, tmp_path):
    cfg = make_config("cgnet", tmp_path / "run", type=method, steps=3, optimizer=dict(type="AdamW", lr=1e-3))
    watch = TeacherWatch()
    runner, changed = run(cfg, watch)
    # A teacher is made for the check at the end alone.
    assert not watch.seen and runner.outcome.forget_check is not None
    assert "decode_head.conv_seg.bias" in changed and any(name.startswith("backbone") for name in changed)
    bias = runner.unwrapped_model.decode_head.conv_seg.bias
    original = torch.load(cfg.load_from, weights_only=True)["state_dict"]["decode_head.conv_seg.bias"]
    assert bias[13] < original[13], "the logit of car goes down"
    cfg = make_config("cgnet", tmp_path / "run", type=method, steps=3, optimizer=dict(type="AdamW", lr=1e-3))
    cfg.resume = True
    again = UnlearnRunner.from_cfg(cfg)
    again.train()
    assert again.iter == 3 and torch.equal(again.unwrapped_model.decode_head.conv_seg.bias, bias)


@pytest.mark.parametrize("method", ["RandomLabel", "NegativeGradient"])
def test_labels_are_needed(method, make_config, tmp_path):
    with pytest.raises(RequestError, match=f"{method} .*labels"):
        UnlearnRunner.from_cfg(make_config("cgnet", tmp_path / "run", type=method, select="teacher"))


def test_head_only_trains_the_last_layer_alone(make_config, tmp_path):
    runner, changed = run(make_config("cgnet", tmp_path / "run", type="HeadOnly", steps=3))
    assert changed == {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}
    assert all(parameter.requires_grad for parameter in runner.unwrapped_model.parameters()), "given back as it was"


@pytest.mark.parametrize("accumulated", [1, 2])
def test_clip_grad_of_the_config_limits_a_step(accumulated, make_config, tmp_path):
    # With the rows: what moved is then the step alone.
    cfg = make_config("cgnet", tmp_path / "run", steps=1, optimizer=dict(type="SGD", lr=0.5), keep_row=True)
    cfg.optim_wrapper.update(clip_grad=dict(max_norm=1e-2), accumulative_counts=accumulated)
    original = torch.load(cfg.load_from, weights_only=True)["state_dict"]
    erased = run(cfg)[0].unwrapped_model.state_dict()
    moved = sum(float((value.double() - erased[name].double()).pow(2).sum()) for name, value in original.items()) ** 0.5
    assert moved == pytest.approx(0.5 * 1e-2, rel=1e-3)


def test_readout_of_a_layer_that_never_runs_is_an_error(make_config, tmp_path, monkeypatch):
    cfg = make_config("cgnet", tmp_path / "run", steps=2, readout=0.1)
    runner = UnlearnRunner.from_cfg(cfg)
    unused = torch.nn.Conv2d(3, 19, 1)
    monkeypatch.setattr(runner.task, "classifier", lambda _: ("decode_head.unused", unused))
    with pytest.raises(RequestError, match=r"decode_head.unused"):
        runner.train()


class LossNames(Hook):
    """What the steps' losses are called."""

    def __init__(self):
        self.found = set()

    def after_train_iter(self, runner, outputs=None, **_):
        self.found |= set(outputs)


def test_deep_erasure_of_pixels(make_config, tmp_path):
    """The second loss is the head's, and the places that it compares are the same ones in every run."""
    names, states = LossNames(), []
    for place in ("one", "other"):
        runner, changed = run(make_config("cgnet", tmp_path / place, type="DeepDELETE", steps=3), names)
        assert "decode.loss_unlike" in names.found and any(name.startswith("backbone") for name in changed)
        states.append(runner.unwrapped_model.state_dict())
    assert same_tensors(*states)
    with pytest.raises(RequestError, match="public"):
        run(make_config("cgnet", tmp_path / "public", type="DeepDELETE", steps=3, public="some"))


FORGET_ALONE = ("Projection", "BoundaryExpand", "BoundaryShrink", "InfluenceUnlearning", "TREW", "L2UL")


@pytest.mark.long
@pytest.mark.parametrize("method", FORGET_ALONE)
def test_methods_of_the_forget_set_work_per_pixel(method, make_config, tmp_path, publish_anyway):
    """Each changes the network, makes the class less likely, and gives the same result again."""
    options = {"gradients": 1, "first": 0.05, "left": 0.0} if method == "InfluenceUnlearning" else {}
    if method == "L2UL":
        options["attack_steps"] = 2
    optimizer = dict(type="SGD", lr=1e-2)
    given = dict(type=method, steps=3, optimizer=optimizer, keep_row=True, **options)
    cfg = make_config("cgnet", tmp_path / "run", **given)
    if method == "L2UL":  # it stops where nothing is predicted as the class, and a new network predicts it nowhere
        made = torch.load(cfg.load_from, weights_only=True)
        made["state_dict"]["decode_head.conv_seg.bias"][13] += 9
        torch.save(made, cfg.load_from)
    runner, changed = run(cfg)
    assert changed and runner.iter == 3
    if method == "Projection":
        states = (
            torch.load(runner.cfg.load_from, weights_only=True)["state_dict"],
            runner.unwrapped_model.state_dict(),
        )
        rows = (state["decode_head.conv_seg.weight"].flatten(1) for state in states)
        before, after = ((row[13] - row.mean(0)).norm() for row in rows)
        assert after < 1e-3 * before, "car has no neighbour"
    elif method == "BoundaryExpand":  # where it goes is no class of an untrained network
        assert any(name.startswith("backbone") for name in changed)
    else:
        assert runner.outcome.forget_check["probability_after"] < runner.outcome.forget_check["probability_before"]
    cfg = make_config("cgnet", tmp_path / "run", **given)
    cfg.resume = True
    again = UnlearnRunner.from_cfg(cfg)
    again.train()
    assert same_tensors(runner.unwrapped_model.state_dict(), again.unwrapped_model.state_dict())


def test_methods_of_a_retain_set_are_refused_per_pixel(make_config, tmp_path):
    with pytest.raises(RequestError, match=r"SCRUB .*retain set"):
        UnlearnRunner.from_cfg(make_config("cgnet", tmp_path / "run", type="SCRUB", steps=2)).train()
