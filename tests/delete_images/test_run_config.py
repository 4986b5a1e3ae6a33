"""Augmentation and recipe of a command line or a config."""

import pytest
import torch

from delete_images.data.datasets import ImageDataset
from delete_images.forget import make_config
from delete_images.recipes import rate_for
from delete_images.run_config import count, default_method, default_recipe, state_in
from delete_tasks.cli import parse
from delete_tasks.errors import RequestError
from delete_tasks.request.config import parse_options


def config(*words, config=None):
    given = ["--model", "M", "--forget", "D", "--classes", "deer"] if config is None else []
    args = parse(["images", "forget", "--work-dir", "W", *given, *words])
    return make_config(config, {**vars(args), "launcher": "none", "cfg_options": parse_options(args.cfg_options)})


def test_the_recipe_depends_on_the_augmentation():
    cfg = config()
    assert cfg.train_dataloader.dataset.augment == "strong"
    assert cfg.unlearn.optimizer.lr == 1e-4 and cfg.unlearn.steps == 300 and cfg.unlearn.batch_size == 64
    assert cfg.unlearn.teacher_temperature == 1 and cfg.unlearn.guard == 0.75
    assert config("--lr", "1e-5").unlearn.optimizer.lr == 1e-5
    plain = config("--augment", "plain")
    assert plain.unlearn.optimizer.lr == 2e-4 and plain.unlearn.steps == 100 and "temperature" not in plain.unlearn
    assert config("--temperature", "1").unlearn.temperature == 1
    assert config("--method", "RandomLabel").train_dataloader.dataset.augment == "plain"


def test_larger_networks_take_lower_rates(shared):
    assert rate_for(6e-4, 100) == rate_for(6e-4, 300_000) == 6e-4
    assert rate_for(6e-4, 11_180_000) == pytest.approx(3e-5, rel=0.15)
    weights = str(shared / "weights" / "cifar10_resnet18_original.pt")
    assert rate_for(1.0, count(state_in(weights))) == pytest.approx(0.05, rel=0.15)
    deep = {beside: default_recipe("DeepDELETE", "strong", 11_180_000, beside)["lr"] for beside in (True, False)}
    assert deep == {True: pytest.approx(2e-4, rel=0.05), False: pytest.approx(0.8e-4, rel=0.05)}


@pytest.mark.parametrize("method", ["DELETE", "TREW", "DeepDELETE"])
def test_fewer_steps_take_a_lower_rate(method):
    rates = {n: default_recipe(method, "strong", 270_000, steps=n)["lr"] for n in (None, 30, 10_000, 0, "x")}
    own = default_recipe(method, "strong", 270_000)["steps"]
    assert rates[30] == pytest.approx(rates[None] * 30 / own) and rates[10_000] == rates[0] == rates["x"] == rates[None]
    assert config("--method", method, "--steps", "30").unlearn.optimizer.lr == rates[30]
    assert config("--method", method, "--steps", "30", "--lr", "1e-3").unlearn.optimizer.lr == 1e-3


def test_features_are_erased_by_default(resnet20):
    """If the run is long enough, its views show other classes, and the input of the last layer can be compared."""
    linear, conv = {"fc.weight": torch.zeros(10, 4)}, {"classifier.weight": torch.zeros(10, 4, 1, 1)}
    cases = (("strong", None), ("strong", 300), ("strong", 299), ("plain", None))
    assert [default_method(*case, linear, 10) for case in cases] == ["DeepDELETE"] * 2 + ["DELETE"] * 2
    assert default_method("strong", None, conv, 10) == "DELETE"
    assert default_method("plain", 3, conv, 10, public=True) == "DeepDELETE"
    assert default_method("strong", None, linear, 10, retain=True) == "DELETE"
    model = ["--model", str(resnet20)]
    assert config(*model).unlearn.type == "DeepDELETE" and config(*model).unlearn.steps == 600
    for more in (["--steps", "100"], ["--augment", "plain"], ["--method", "DELETE"], ["--preset", "paper"]):
        assert config(*model, *more).unlearn.type == "DELETE"


@pytest.mark.parametrize("amx", [True, False])
def test_features_are_erased_in_bfloat16_if_the_processor_multiplies_it(amx, resnet20, monkeypatch):
    monkeypatch.setattr("delete_images.forget.multiplies_bfloat16", lambda **_: amx)
    clip = ["--cfg-options", "optim_wrapper.clip_grad.max_norm=1"]
    cases = ([], ["--no-amp"], ["--amp"], ["--method", "DELETE"], clip)
    wrappers = [config("--model", str(resnet20), *more).get("optim_wrapper") or {} for more in cases]
    used = [wrapper.get("type") == "CpuAmpOptimWrapper" for wrapper in wrappers]
    assert used == [amx, False, True, False, False]


@pytest.mark.parametrize(("words", "rate", "temperature", "steps"), [
    ("--public P", 1e-3, 3, 900), ("--deep", 4e-4, 4, 600), ("--public P --lr 1e-4", 1e-4, 3, 900),
])  # fmt: skip
def test_public_data_choose_method_and_recipe(words, rate, temperature, steps):
    cfg = config(*words.split())
    unlearn, sharpened = cfg.unlearn, None if steps == 900 else 1
    assert unlearn.type == "DeepDELETE" and unlearn.feature_distillation == 30 and unlearn.schedule == "warmup_cosine"
    assert (unlearn.optimizer.lr, unlearn.temperature, unlearn.steps) == (rate, temperature, steps)
    assert unlearn.get("teacher_temperature") == sharpened and cfg.train_dataloader.dataset.augment == "strong"
    assert config(*words.split(), "--deep").unlearn == unlearn


def test_the_papers_loop_is_a_preset(repository):
    path = str(repository / "configs/images/resnet18_cifar10_forget-deer.py")
    assert "guard" not in config("--preset", "paper", "--augment", "strong").unlearn, "by the views it would have one"
    assert "guard" in config().unlearn and "guard" not in config("--norm-train").unlearn
    for cfg in (config("--preset", "paper"), config("--preset", "paper", config=path)):
        unlearn = cfg.unlearn
        assert unlearn.optimizer == {"type": "SGD", "momentum": 0.9, "lr": 1e-4} and not unlearn.norm_eval
        assert (unlearn.type, unlearn.steps, unlearn.masking, unlearn.schedule) == ("DELETE", 780, "own", "constant")
        assert "guard" not in unlearn and cfg.train_dataloader.dataset.augment == "plain"
    more = ["--steps", "5", "--lr", "1e-3", "--cfg-options", "unlearn.batch_size=32"]
    changed = config("--preset", "paper", *more).unlearn
    assert (changed.steps, changed.optimizer.lr, changed.optimizer.type, changed.batch_size) == (5, 1e-3, "SGD", 32)
    assert config("--preset", "paper", "--cfg-options", "unlearn.lr=1e-3").unlearn.optimizer.lr == 1e-3
    for other in (["--deep"], ["--method", "SCRUB"], ["--cfg-options", "unlearn.type=TREW"]):
        with pytest.raises(RequestError, match="is a recipe of DELETE"):
            config("--preset", "paper", *other)


def test_a_configs_rate_stays(repository):
    path = str(repository / "configs/images/resnet18_cifar10_forget-deer.py")
    assert config(config=path).unlearn.optimizer.lr == 3e-5 != 6e-4
    assert config("--lr", "1e-5", config=path).unlearn.optimizer.lr == 1e-5


def test_refusals(resnet20, cifar, tmp_path):
    with pytest.raises(RequestError, match="strong, plain, none"):
        ImageDataset(f"{cifar}?limit=2", str(resnet20), augment=True)
    (tmp_path / "config.py").write_text("train_dataloader = dict(dataset=dict(type='ImageDataset'))")
    with pytest.raises(RequestError, match="load_from"):
        config(config=str(tmp_path / "config.py"))
