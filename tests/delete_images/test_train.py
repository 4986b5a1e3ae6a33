"""Importing, training, fine-tuning and evaluating models."""

import pytest
import torch
from helpers import argv, read_json, run, same_tensors

from delete_images import train as train_module
from delete_images.data.layouts import CLASSES
from delete_images.models.model_file import ModelSpec, Preprocessing, load_model, save_model
from delete_tasks.cli import parse
from delete_tasks.runner.recipe import CpuAmpOptimWrapper

WRN = "--architecture wrn16_1 --classes cifar10 --normalization none"


@pytest.fixture
def imported(shared, tmp_path):
    """Model folder from a weights file."""
    run("images import", shared / "weights" / "nad_wrn16-1_erased.pth", tmp_path / "wrn", WRN)
    return tmp_path / "wrn"


def test_import_train_and_evaluate(imported, cifar, tmp_path, tells):
    run("images evaluate", imported, f"--test {cifar}?limit=50 --classes deer --out", tmp_path / "out.json")
    figures = read_json(tmp_path, "out.json")
    assert figures["images"] == 50 and figures["accuracy"] > 60 and figures["forget_acc"] is not None
    data = f"--data {cifar}?limit=60 --without deer --test {cifar}?limit=20 --epochs 2 --batch-size 16"
    assert "Accuracy" in tells("images train --like", imported, data, "--work-dir", tmp_path / "t")
    network, spec = load_model(tmp_path / "t" / "model")
    assert spec.classes[4] == "deer" and torch.isfinite(network.fc.weight).all()


def test_finetuning_starts_from_the_models_weights(imported, cifar, tmp_path, fails):
    more = f"--data {cifar}?limit=32 --epochs 1 --lr 0 --work-dir"
    words = argv("images train --finetune", imported, more, tmp_path / "t")
    run(words)
    before, after = (load_model(tmp_path / name)[0] for name in ("wrn", "t/model"))
    assert torch.equal(before.fc.weight, after.fc.weight)
    fails("--like", words, "--like", imported)
    broken, described = load_model(imported)
    torch.nn.init.constant_(broken.fc.bias, torch.nan)
    save_model(tmp_path / "nan", broken, described)
    words[words.index(str(imported))] = str(tmp_path / "nan")
    fails("nan/weights.safetensors' holds NaN or infinity in fc.bias", words[:-1], tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()


WRONG = ["--lr nan", "--lr -1", "--epochs 0", "--weight-decay inf", "--batch-size 0"]


@pytest.mark.parametrize("words", [*WRONG, "--lr 1e30 --epochs 9 --batch-size 8"])
def test_failed_training_writes_no_model(words, cifar, tmp_path, fails):
    fails("number|nan", f"images train {WRN} --data {cifar}?limit=32 --epochs 1 --work-dir", tmp_path, words)
    assert not (tmp_path / "model").exists()


def test_training_images_are_only_cropped_and_flipped(cifar):
    """Labels do not fit the strong views of a forget set."""
    spec = ModelSpec("wrn16_1", tuple(CLASSES["cifar10"]), Preprocessing((32, 32)))
    options = vars(parse(f"images train {WRN} --data D --work-dir W --epochs 1 --batch-size 8".split()))
    config = train_module.make_config(spec, f"{cifar}?limit=20", "W", {**options, "launcher": "none"})
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


@pytest.mark.parametrize(("minutes", "state", "more"), [
    (0, "step_4.pth", "--amp"),  # by the clock, inside an epoch
    pytest.param(0, "step_4.pth", "", marks=pytest.mark.long),
    pytest.param(9, "step_3.pth", "", marks=pytest.mark.long),  # the first epoch's end
])  # fmt: skip
def test_resumed_training_gives_the_same_tensors(minutes, state, more, cifar, tmp_path, monkeypatch, tells, fails):
    words = argv("images train --architecture cifar_resnet20 --classes cifar10 --normalization cifar10")
    words += argv(f"--data {cifar}?limit=20 --epochs 4 --batch-size 8 --work-dir")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run(words, whole, more)
    assert not list(whole.glob("*.pth"))  # a complete run's states go

    def power_cut(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 4:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(train_module.StepSeedHook, "after_train_iter", power_cut)
        patch.setattr(train_module, "MINUTES", minutes)
        run(words, cut, more)
    assert [path.name for path in cut.glob("*.pth")] == [state]
    fails(r"lr .*0.1 .*0.2", words, cut, "--resume --lr 0.2", more)
    if more:
        fails("amp", words, cut, "--resume")
    assert state in tells(words, cut, "--resume", more)
    assert same_tensors(*(load_model(path / "model")[0].state_dict() for path in (whole, cut)))
    assert sorted(path.name for path in cut.iterdir()) == sorted(path.name for path in whole.iterdir())
