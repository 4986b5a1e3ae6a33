"""Check of the predictions on the forget set: a model that has not changed is not published."""

import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import same_tensors
from torch import nn

import delete_images.register  # noqa: F401
from delete_images.memory.samples import UserData, read_samples
from delete_images.models.classifier import ImageClassifier
from delete_images.run_config import build_runner, unlearn_options
from delete_tasks import erase
from delete_tasks.errors import RequestError
from delete_tasks.fileio.checkpoint import save_file
from delete_tasks.runner.forget_check import check_forgotten

NAMES = ["a", "b", "c", "d"]


class Network(nn.Module):
    """Classifier of points around four corners; ``more`` adds an auxiliary output with its own weights."""

    def __init__(self, more: bool = False) -> None:
        super().__init__()
        self.aux = nn.Linear(32, 4) if more else None
        self.first, self.norm, self.last = nn.Linear(2, 32), nn.BatchNorm1d(32), nn.Linear(32, 4)

    def forward(self, x):
        hidden = self.norm(self.first(x).relu())
        return (self.last(hidden), self.aux(hidden)) if self.aux is not None else self.last(hidden)


def points(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    return corners[labels] + 0.3 * torch.randn(count, 2, generator=generator), labels


def trained(more: bool = False) -> Network:
    torch.manual_seed(0)
    model, (inputs, labels) = Network(more), points(400)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        out = model(inputs)
        sum(nn.functional.cross_entropy(part, labels) for part in (out if more else [out])).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture
def make(tmp_path):
    """``make(number, ids, ...)``: a runner that unlearns ``ids`` with ``number`` points of class b."""

    def make(number=64, ids=(1,), labelled=True, retain=None, more=False, method="DELETE", **options):
        inputs, labels = points(number * 4)
        inputs, labels = inputs[labels == 1], labels[labels == 1]
        labels = labels if labelled else torch.full_like(labels, -1)
        forget = read_samples(list(zip(inputs, labels.tolist(), strict=True)) if labelled else inputs, "forget_images")
        data = UserData(forget, labels, NAMES, ids, None if retain is None else read_samples(retain, "retain"))
        model = ImageClassifier(trained(more), num_classes=4)
        folder = tmp_path / uuid.uuid4().hex
        save_file(model.state_dict(), folder / "original.pth")
        # The check reads the model before its last layer is finished, like these tests.
        recipe = {"steps": 30, "lr": 1e-2, "batch_size": 16, "keep_row": True, "match_scale": False, **options}
        unlearn = unlearn_options(list(ids), method, recipe)
        name = f"test_{uuid.uuid4().hex}"
        return build_runner(model, data, str(folder / "original.pth"), str(folder / "run"), unlearn, name=name)

    return make


def predicted(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out = network(inputs)
        return (out[0] if isinstance(out, tuple) else out).argmax(1)


@pytest.mark.parametrize("method", ["DELETE", "HeadOnly", "RandomLabel", "NegativeGradient"])
@pytest.mark.parametrize("more", [False, True])
def test_figures_of_the_check(make, method, more):
    runner = make(method=method, more=more)
    runner.train()
    check, inputs = runner.outcome.forget_check, points(256)[0][points(256)[1] == 1]
    before, after = (predicted(net, inputs) for net in (trained(more), runner.unwrapped_model.network.eval()))
    shares = {"before": before == 1, "after": after == 1, "changed": before != after}
    shares["still"] = shares["after"][before == 1]
    percent = {name: 100 * float(share.float().mean()) for name, share in shares.items()}
    assert {name: check[name] for name in percent} == pytest.approx(percent, abs=0.01)
    assert (check["samples"], check["locations"]) == (64, 64)
    assert check["before"] > 95 and check["still"] < 80 and check["passed"]
    assert check["probability_after"] < check["probability_before"]
    assert runner.outcome.withheld is None and runner.outcome.published is not None


@pytest.mark.parametrize("method", ["DELETE", "HeadOnly", "RandomLabel", "NegativeGradient"])
def test_a_run_that_forgot_nothing_is_not_published(make, method):
    runner = make(method=method, lr=1e-9)
    runner.train()
    assert runner.outcome.forget_check["still"] == 100 and not runner.outcome.forget_check["passed"]
    assert "64 samples" in runner.outcome.withheld and "100%" in runner.outcome.withheld
    assert "1e-09" in runner.outcome.withheld
    assert runner.outcome.published is None and not list(Path(runner.work_dir).glob("erased*"))


def test_an_earlier_reason_is_kept(make):
    runner = make(lr=1e-9)
    runner.outcome.withheld = "a hook of the user's does not like it"
    runner.train()
    assert runner.outcome.withheld == "a hook of the user's does not like it"
    assert not runner.outcome.forget_check["passed"]


def test_the_check_reads_no_retain_set(make):
    inputs, labels = points(40, seed=5)
    keep = labels != 1
    runner = make(retain=list(zip(inputs[keep], labels[keep].tolist(), strict=True)))
    runner.train()
    assert (runner.outcome.forget_check["samples"], runner.outcome.forget_check["locations"]) == (64, 64)
    assert runner.outcome.forget_check["before"] > 95 and runner.outcome.forget_check["passed"]


def test_a_few_batches_of_a_large_forget_set_are_read(make):
    for batch_size, samples in ((4, 8 * 4), (200, 256)):
        runner = make(number=300, batch_size=batch_size, steps=2)
        runner.train()
        assert runner.outcome.forget_check["samples"] == samples


@pytest.mark.parametrize(("lr", "passed"), [(1e-9, False), (3e-2, True)])
def test_a_class_that_the_original_never_predicts_is_judged_by_its_probability(make, lr, passed):
    runner = make(ids=(2,), labelled=False, lr=lr)
    runner.train()
    check = runner.outcome.forget_check
    assert check["before"] == 0 and check["still"] is None and check["passed"] == passed
    assert passed == (runner.outcome.withheld is None)
    if not passed:
        assert "nowhere" in runner.outcome.withheld


def test_the_check_does_not_change_the_model(make):
    runner = make()
    runner.train()
    model = runner.unwrapped_model
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    flags = [module.training for module in model.modules()]
    assert check_forgotten(runner) == runner.outcome.forget_check
    assert [module.training for module in model.modules()] == flags
    assert same_tensors(model.state_dict(), state)
    assert "loss_by_logits" not in vars(model)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"masking": "own"}, "masking='own'"), ({"method": "RandomLabel"}, "RandomLabel"),
     ({"method": "NegativeGradient"}, "NegativeGradient")],
)  # fmt: skip
def test_missing_labels_are_refused_before_the_first_step(make, options, name):
    runner = make(ids=(1, 2), labelled=False, **options)
    with pytest.raises(RequestError, match=f"{name} .*labels.*64 of the 64"):
        runner.train()
    assert not list(Path(runner.work_dir).glob("*.pth"))


def test_unlabelled_samples_of_one_class():
    inputs, labels = points(256)
    erased = erase(trained(), inputs[labels == 1], classes=[1], masking="own", steps=30, lr=1e-2, batch_size=16)
    assert np.isclose(erased.figures["predicted_as_forgotten"]["before"], 100, atol=5)
    assert erased.figures["predicted_as_forgotten"]["after"] < 50
