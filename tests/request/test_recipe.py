"""Invalid options and parts of a config are refused by name before the run writes."""

import math

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS

import delete_images.register  # noqa: F401 - a task, so that there is something to run
from delete_tasks.errors import RequestError
from delete_tasks.request.config_checks import refuse_keepers
from delete_tasks.runner.recipe import apply_recipe, replaced_parts, split_options
from delete_tasks.runner.unlearn_runner import UnlearnRunner

NAN, INF = math.nan, math.inf
BILLION = "a whole number from 1 to 1000000000"
WHOLE = (NAN, INF, -1, 0, 10**12, True, "3", 2.5, [])
ABOVE_ZERO = (NAN, INF, -INF, -1, 0, 1e300, True, "1e-4", None, [])
RANGES = {
    "unlearn.steps": (lambda v: dict(steps=v), (*WHOLE, None), BILLION),
    "unlearn.batch_size": (lambda v: dict(batch_size=v), WHOLE, "a whole number from 1 to 1000000"),
    "unlearn.checkpoint_interval": (lambda v: dict(checkpoint_interval=v), WHOLE, BILLION),
    "unlearn.optimizer.lr": (lambda v: dict(optimizer=dict(type="AdamW", lr=v)), ABOVE_ZERO, "a number above 0 up to 1000"),
    "unlearn.optimizer.weight_decay": (
        lambda v: dict(optimizer=dict(type="AdamW", lr=1e-3, weight_decay=v)), (NAN, INF, -1, 1e300, True, "0", None),
        "a number from 0 up to 1000",
    ),
    "unlearn.optimizer.eps": (
        lambda v: dict(optimizer=dict(type="AdamW", lr=1e-3, eps=v)), (NAN, INF, 1e300), "a number from -1e+09 up to 1e+09",
    ),
    "unlearn.teacher_temperature": (
        lambda v: dict(teacher_temperature=v), (NAN, INF, -1, 0, 1e300, True, "1", []), "a number from 1e-06 up to 1e+06",
    ),
    "unlearn.temperature": (lambda v: dict(temperature=v), ABOVE_ZERO, "a number from 0.001 up to 1000"),
    "unlearn.readout": (lambda v: dict(readout=v), (NAN, INF, -1, 1e300, True, "1", None), "a number from 0 up to 1e+06"),
    "unlearn.stop": (lambda v: dict(stop=v), (NAN, INF, -1, 0, 1, 2, True, "0.1", [], {}), "a number above 0 and below 1"),
    "unlearn.stop.window": (lambda v: dict(stop=dict(ratio=0.1, window=v)), (*WHOLE, None), BILLION),
    "unlearn.norm_eval": (lambda v: dict(norm_eval=v), (1, "True", None), "True or False"),
    "unlearn.forgetting_only": (lambda v: dict(forgetting_only=v), (1, "no", None), "True or False"),
    "randomness.seed": (None, (NAN, INF, -1, 2**32, True, "0", 1.5), "a whole number from 0 to 4294967295"),
}  # fmt: skip
CASES = [(name, value) for name, (_, values, _) in RANGES.items() for value in values]


@pytest.fixture
def config(tmp_path):
    """``config(**unlearn)`` makes the config of a run that is refused before the network or the work dir is made."""
    torch.save({}, tmp_path / "model.pth")

    def make(**unlearn):
        parts = dict(model=dict(type="NoSuchModel"), unlearn=dict(type="DELETE", classes=[1]) | unlearn)
        parts |= dict(train_dataloader=dict(batch_size=4, dataset=dict(type="NoSuchData")))
        return Config(parts | dict(load_from=str(tmp_path / "model.pth"), work_dir=str(tmp_path / "run")))

    return make


def refused(cfg, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        UnlearnRunner.from_cfg(cfg)


@pytest.mark.parametrize(("name", "value"), CASES, ids=[f"{name}={value!r}" for name, value in CASES])
def test_ranges(name, value, config, tmp_path):
    make, _, range_ = RANGES[name]
    cfg = config() if make is None else config(**make(value))
    if make is None:
        cfg.randomness = dict(seed=value)
    escaped = range_.replace("+", r"\+")
    refused(cfg, f"{name} .*{escaped}, got ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("unlearn", "message"), [
    (dict(optimizer=5), "unlearn.optimizer .*5"),
    (dict(optimizer=dict(type="AdamV", lr=1e-3)), "'AdamV'.*'Adam"),
    (dict(optimizer=dict(type="AdamW", lr=1e-3, beta=1)), "AdamW .*'beta'"),
    (dict(optimizer=dict(type="AdamW", lr=1e-3, betas=(1.5, 0.9))), "AdamW .*beta"),
    (dict(optimizer=dict(type="SGD", lr=1e-3, momentum=-1)), "SGD .*momentum"),
    (dict(schedule="linear"), "unlearn.schedule='linear' .*'constant', 'cosine', 'warmup_cosine'"),
    (dict(teacher=3), "unlearn.teacher .*3"),
    (dict(stop=dict(ratio=0.1, widow=2)), "stop "),
    (dict(type=3), "unlearn.type=3"),
])  # fmt: skip
def test_other_options(unlearn, message, config, tmp_path):
    refused(config(**unlearn), message)
    assert not (tmp_path / "run").exists()


def test_the_originals_file_must_be_there(config, tmp_path):
    teacher = dict(type="DELETE", classes=[1], teacher="missing.pth")
    for change in (dict(load_from="missing.pth"), dict(unlearn=teacher)):
        cfg = config()
        cfg.update(change)
        with pytest.raises(FileNotFoundError, match=r"missing.pth"):
            UnlearnRunner.from_cfg(cfg)
        assert not (tmp_path / "run").exists()


class Averages(EMAHook):
    """A subclass under a name of its own."""


HOOKS.register_module(name="MyOwnHook", module=Averages, force=True)


@pytest.mark.parametrize(("change", "message"), [
    (dict(custom_hooks=[dict(type="MyOwnHook")]), "Averages .*averages"),
    (dict(custom_hooks=[dict(type=Averages)]), "Averages .*averages"),
    (dict(custom_hooks=[dict(type="mmengine.EMAHook")]), "EMAHook .*averages"),
    (dict(default_hooks=dict(stop=dict(type="EarlyStoppingHook", monitor="a"))), "EarlyStoppingHook"),
    (dict(custom_hooks=[dict(type="EmptyCacheHook", after_itre=1)]),
     "EmptyCacheHook: .*'after_itre'; .*after_iter"),
    (dict(custom_hooks=[dict(type="SyncBuffersHook", on=1)]), "SyncBuffersHook: .*'on'; it takes no option"),
    (dict(optim_wrapper=dict(type="OptimWrapper", clip=1)), "optim_wrapper .*clip.* OptimWrapper"),
    (dict(optim_wrapper=dict(type="NoSuchWrapper")), "'NoSuchWrapper'"),
    (dict(optim_wrapper=dict(accumulative_counts=0)), "accumulative_counts .*1"),
    (dict(optim_wrapper=dict(accumulative_counts=2.5)), "accumulative_counts .*1"),
    (dict(optim_wrapper=dict(clip_grad=1.0)), "clip_grad .*dict.max_norm=1.0"),
    (dict(optim_wrapper=dict(clip_grad=dict(type="size"))), "clip_grad "),
    (dict(optim_wrapper=dict(clip_grad=dict(max_norm=NAN))), "clip_grad.max_norm"),
    (dict(optim_wrapper=dict(clip_grad=dict(clip_value=1.0))), "clip_grad .*clip_value.*'norm'"),
    (dict(train_dataloader=None), "train_dataloader"),
    (dict(train_dataloader=dict(dataset={})), r"train_dataloader.batch_size \(or unlearn.batch_size\)"),
])  # fmt: skip
def test_parts_of_a_config(change, message, config, tmp_path):
    cfg = config()
    for key, value in change.items():
        cfg.pop(key, None)
        cfg[key] = value
    refused(cfg, message)
    assert not (tmp_path / "run").exists()


def test_hooks_that_are_objects_are_checked():
    with pytest.raises(RequestError, match="Averages"):
        refuse_keepers({}, [Hook(), Averages()])
    refuse_keepers({"one": Hook()}, None)


@pytest.mark.parametrize(
    "clip", [dict(max_norm=0.5), dict(type="norm", max_norm=0.5, norm_type=1), dict(type="value", clip_value=0.1), None]
)
def test_clipping_is_kept(clip, config):
    cfg = config()
    cfg.optim_wrapper = dict(optimizer=dict(type="SGD", lr=9.0), clip_grad=clip, accumulative_counts=2)
    cfg.optim_wrapper.type = "OptimWrapper"
    made = apply_recipe(cfg)
    assert made.optim_wrapper == {
        "type": "OptimWrapper", "clip_grad": clip, "accumulative_counts": 2, "optimizer": {"type": "AdamW", "lr": 1e-4}
    }  # fmt: skip
    assert made.train_cfg.max_iters == 400


def test_replaced_parts_are_named(config):
    cfg = config()
    cfg.optim_wrapper = dict(optimizer=dict(type="SGD", lr=1.0), paramwise_cfg=dict(norm_decay_mult=0.0))
    cfg.optim_wrapper.constructor = "DefaultOptimWrapperConstructor"
    assert replaced_parts(cfg) == ["optim_wrapper.paramwise_cfg", "optim_wrapper.constructor"]
    assert replaced_parts(config()) == []


def test_values_in_range_pass():
    optimizer = dict(type="SGD", lr=5.0, momentum=0.9, weight_decay=0)
    options = dict(steps=1, batch_size=1_000_000, checkpoint_interval=1, teacher_temperature=50.0, temperature=8)
    options |= dict(schedule="cosine", readout=0, stop=dict(ratio=0.5), optimizer=optimizer)
    split_options(dict(type="DELETE", classes=["a"], **options))
