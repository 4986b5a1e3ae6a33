"""Models that are imported, trained, fine-tuned."""

from __future__ import annotations

import json

import pytest
import torch
from mmengine.hooks import Hook

from delete_images import train as train_module
from delete_images.data.layouts import CLASSES
from delete_images.models.model_file import ModelSpec, Preprocessing, load_model
from delete_tasks.cli import main
from delete_tasks.runner.precision import CpuAmpOptimWrapper


def test_import_train_and_evaluate(shared, cifar, tmp_path, capsys):
    weights = shared / "weights" / "nad_wrn16-1_erased.pth"
    words = [
        "images",
        "import",
        str(weights),
        str(tmp_path / "wrn"),
        "--architecture",
        "wrn16_1",
        "--classes",
        "cifar10",
    ]
    assert main([*words, "--normalization", "none"]) == 0
    assert main(["images", "evaluate", str(tmp_path / "wrn"), "--test", f"{cifar}?limit=50", "--classes", "deer",
                 "--out", str(tmp_path / "out.json")]) == 0  # fmt: skip
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["images"] == 50 and figures["accuracy"] > 60 and figures["forget_acc"] is not None
    words = ["images", "train", "--like", str(tmp_path / "wrn"), "--data", f"{cifar}?limit=60", "--without", "deer"]
    words += ["--test", f"{cifar}?limit=20", "--epochs", "2", "--batch-size", "16", "--work-dir", str(tmp_path / "t")]
    assert main(words) == 0
    network, spec = load_model(tmp_path / "t" / "model")
    assert spec.classes[4] == "deer" and torch.isfinite(network.fc.weight).all()
    assert "Accuracy in percent" in capsys.readouterr().out


def test_finetuning_starts_from_the_models_weights(shared, cifar, tmp_path, capsys):
    weights = shared / "weights" / "nad_wrn16-1_erased.pth"
    words = ["--architecture", "wrn16_1", "--classes", "cifar10", "--normalization", "none"]
    assert main(["images", "import", str(weights), str(tmp_path / "wrn"), *words]) == 0
    words = ["images", "train", "--finetune", str(tmp_path / "wrn"), "--data", f"{cifar}?limit=32", "--epochs", "1"]
    words += ["--lr", "0", "--work-dir", str(tmp_path / "t")]
    assert main(words) == 0
    before, after = (load_model(tmp_path / name)[0] for name in ("wrn", "t/model"))
    assert torch.equal(before.fc.weight, after.fc.weight)
    assert main([*words, "--like", str(tmp_path / "wrn")]) == 2
    assert "give one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--lr", "nan"],
        ["--lr", "-1"],
        ["--epochs", "0"],
        ["--lr", "1e30", "--epochs", "9", "--batch-size", "8"],
        ["--weight-decay", "inf"],
        ["--batch-size", "0"],
    ],
)
def test_training_that_gives_no_model_writes_none(words, cifar, tmp_path, capsys):
    model = ["--architecture", "wrn16_1", "--classes", "cifar10", "--normalization", "none"]
    train = ["images", "train", *model, "--data", f"{cifar}?limit=32", "--work-dir", str(tmp_path), "--epochs", "1"]
    assert main([*train, *words]) == 2
    error = capsys.readouterr().err
    assert ("expected a" in error or "nan or infinity" in error) and "Traceback" not in error
    assert not (tmp_path / "model").exists()


def test_training_images_are_cropped_and_flipped_alone(cifar):
    """The strong views of a forget set show what no label fits."""
    spec = ModelSpec("wrn16_1", tuple(CLASSES["cifar10"]), Preprocessing((32, 32)))
    options = {"epochs": 1, "batch_size": 8, "lr": 0.1, "weight_decay": 0.0, "seed": 0, "workers": 0, "resume": False}
    options |= {"launcher": "none", "allow_import": False, "amp": False}
    config = train_module.make_config(spec, f"{cifar}?limit=20", "W", options)
    assert config.train_dataloader.dataset.augment == "plain" and config.train_cfg.max_iters == 3


def test_mixed_precision_on_a_cpu_leaves_weights_and_optimizer_in_float32():
    network = torch.nn.Conv2d(3, 4, 3)
    before = network.weight.detach().clone()
    wrapper = CpuAmpOptimWrapper(optimizer=torch.optim.SGD(network.parameters(), 0.1, momentum=0.9))
    with wrapper.optim_context(network):
        output = network(torch.randn(2, 3, 8, 8))
    assert output.dtype == torch.bfloat16
    wrapper.update_params(output.float().square().mean())
    moments = [part["momentum_buffer"] for part in wrapper.optimizer.state.values()]
    assert {value.dtype for value in [*network.parameters(), *moments]} == {torch.float32}
    assert torch.isfinite(network.weight).all() and not torch.equal(network.weight, before)


class PullThePlugHook(Hook):
    """Ends a run in the middle of a step."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 4:
            raise RuntimeError("power cut")


def train_words(cifar, work_dir, *more):
    model = ["--architecture", "cifar_resnet20", "--classes", "cifar10", "--normalization", "cifar10"]
    words = ["images", "train", *model, "--data", f"{cifar}?limit=20", "--epochs", "4", "--batch-size", "8"]
    return [*words, "--work-dir", str(work_dir), *more]


@pytest.mark.parametrize(
    ("minutes", "state", "more"),
    [
        (0, "step_4.pth", ["--amp"]),  # by the clock, inside an epoch
        pytest.param(0, "step_4.pth", [], marks=pytest.mark.long),
        pytest.param(9, "step_3.pth", [], marks=pytest.mark.long),  # the first epoch's end
    ],
)
def test_training_that_was_broken_off_goes_on_to_the_same_tensors(
    minutes, state, more, cifar, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(train_words(cifar, tmp_path / "whole", *more)) == 0
    assert not list((tmp_path / "whole").glob("*.pth"))  # a complete run's states go
    with monkeypatch.context() as patch:
        real = train_module.make_config

        def unplugged(*args):
            config = real(*args)
            config.custom_hooks.append({"type": PullThePlugHook})
            return config

        patch.setattr(train_module, "make_config", unplugged)
        patch.setattr(train_module, "MINUTES", minutes)
        with pytest.raises(RuntimeError, match="power cut"):
            main(train_words(cifar, tmp_path / "cut", *more))
    assert [path.name for path in (tmp_path / "cut").glob("*.pth")] == [state]
    assert main(train_words(cifar, tmp_path / "cut", "--resume", "--lr", "0.2", *more)) == 2
    assert "lr (0.1 then, 0.2 now)" in " ".join(capsys.readouterr().err.split())
    if more:
        assert main(train_words(cifar, tmp_path / "cut", "--resume")) == 2
        assert "amp (True then, not given now)" in " ".join(capsys.readouterr().err.split())
    assert main(train_words(cifar, tmp_path / "cut", "--resume", *more)) == 0
    assert f"Goes on from {state}" in capsys.readouterr().out
    whole, cut = (load_model(tmp_path / name / "model")[0].state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert sorted(p.name for p in (tmp_path / "cut").iterdir()) == sorted(
        p.name for p in (tmp_path / "whole").iterdir()
    )
