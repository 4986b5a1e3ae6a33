"""Attacks that read the class from features with known results, or a reason without one."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from delete_tasks.audit.attack import SPLITS, Context, Network, NotMeasured
from delete_tasks.audit.attacks import find_attacks, probes, relearning
from delete_tasks.audit.attacks.information import mutual_information
from delete_tasks.audit.probes import as_linear_map, fit_hidden_probe, fit_linear_probe
from delete_tasks.evaluation.reader import call

ATTACKS = {attack.name: attack for attack in find_attacks("full")}
PROBES = [name for name, attack in ATTACKS.items() if "_probe" in name and attack.needs is None]
SHOTS = [name for name in ATTACKS if name.startswith("prototypes_")]
CHANCE = 25  # percent, of four classes


@pytest.mark.parametrize("name", [*PROBES, *SHOTS])
def test_classes_in_features_are_read(make, name):
    """Features with each class, with noise alone, and with the forgotten class as another."""
    attack = ATTACKS[name]
    known, noise, other = (attack.measure(make(kind)) for kind in ("known", "noise", "other"))
    assert known.value == 100 and known.count == 40 and known.interval[0] > 90
    assert noise.value < 2.5 * CHANCE and noise.interval[0] < CHANCE + 10
    # Class 0 and the forgotten one look the same: one of the two is named, and no other.
    assert other.value < 75 or "hidden" in name
    assert attack.chance(make("known")) == CHANCE


LACKING = [(name, gone) for name in (*PROBES, *SHOTS, "information", "replaced_row") for gone in ("test", "train")]
LACKING += [("original_head", "test"), *(("relearn_head", split) for split in ("test", "train", "forget"))]
LACKING += [(name, "test") for name, attack in ATTACKS.items() if not attack.reads]


@pytest.mark.parametrize(("name", "gone"), LACKING)
def test_without_samples_nothing_is_measured(lacking, name, gone):
    found = ATTACKS[name].measure(lacking(gone))
    assert found.value is None and f"no {SPLITS[gone]} were given" in found.note


@pytest.mark.parametrize("name", [*PROBES, *SHOTS])
def test_without_features_nothing_is_read(make, name):
    row = make("known")
    bare = dataclasses.replace(row.data["train"], features=None, layers={})
    row = dataclasses.replace(row, data={**row.data, "train": bare})
    assert ATTACKS[name].measure(row).value is None
    assert "features" in ATTACKS[name].measure(row).note


def test_too_few_samples_make_no_prototype(make):
    row = make("known")
    few = row.data["train"]
    kept = torch.cat([torch.arange(120), torch.arange(120, 124)])  # four of the forgotten class
    row.data["train"] = dataclasses.replace(few, features=few.features[kept], labels=few.labels[kept])
    found = ATTACKS["prototypes_5"].measure(row)
    assert found.value is None and "ship" in found.note


def test_the_original_head(make):
    attack = ATTACKS["original_head"]
    assert attack.measure(make("known")).value == 100
    assert attack.measure(make("other")).value < 5
    retrained = make("known")
    retrained = dataclasses.replace(retrained, data={**retrained.data, "context": Context(retrained=[retrained.data])})
    assert "retrained model" in attack.measure(retrained).note
    assert "last layer is not known here" in attack.measure(make("known", original_head=None)).note


def blind_head(bias: float) -> nn.Linear:
    """Make a head that classifies 'known' features of all classes but the forgotten one."""
    head = nn.Linear(12, 4)
    with torch.no_grad():
        head.weight.copy_(torch.eye(12)[:4])
        head.weight[3], head.bias[3], head.bias[:3] = 0, bias, 0
    return head


def test_a_replaced_row(make):
    """The class weights come from ten samples; the previous ones have no effect."""
    blind, attack = blind_head(-50), ATTACKS["replaced_row"]
    found = attack.measure(make("known", head=blind))
    assert found.value == 100 and found.details["other_classes_accuracy"] == 100 and found.details["alpha_median"] > 0
    assert attack.measure(make("noise", head=blind)).value < 75
    assert "linear" in attack.measure(make("known", head=None)).note


def test_the_row_is_alpha_times_the_prototype():
    weight, bias = np.eye(3, dtype=np.float32), np.array([1.0, 3.0, 0.0], np.float32)
    features = np.array([[0.0, 0.0, 1.0]], np.float32)
    prototype = np.array([[0.0, 0.0, 1.0]], np.float32)
    # logits: 1, 3, alpha + the mean of the two other biases, 2
    assert probes.predict_with(features, weight, bias, [2], prototype, 0.9).tolist() == [1]
    assert probes.predict_with(features, weight, bias, [2], prototype, 1.1).tolist() == [2]


def test_information_is_the_entropy_of_the_label(make):
    attack = ATTACKS["information"]
    whole = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))  # of the label "forgotten": one class of four
    known, noise = attack.measure(make("known")), attack.measure(make("noise"))
    assert 0.8 * 2 * whole < known.value <= 2 * whole and len(known.details["layers"]) == 2  # two stages; a lower bound
    assert noise.value < 0.2 * known.value
    row = make("known")
    row.data["test"] = dataclasses.replace(row.data["test"], layers={})
    assert "stages" in attack.measure(row).note


def test_information_weighs_classes_as_in_training():
    """Training has both labels equally often, the test one rarely: noise still has no information."""
    generator = np.random.default_rng(0)
    train = generator.normal(size=(400, 3)).astype(np.float32), np.arange(400) % 2 == 0
    test = generator.normal(size=(400, 3)).astype(np.float32), np.arange(400) % 10 == 0
    assert abs(mutual_information(train, test).mean()) < 0.1


def test_relearning_the_last_layer(make):
    """Classes in the features return in a few steps; with features of another class, only at the cost of that class."""
    blind, attack = blind_head(-10), ATTACKS["relearn_head"]
    blind_before = blind.weight.clone()
    known, noise = attack.measure(make("known", head=blind)), attack.measure(make("noise", each=200, head=blind))
    steps = list(known.details["by_step"].values())
    assert steps[-1] == 100 and steps == sorted(steps)
    assert attack.measure(make("known")).details["by_step"]["0"] == 100  # the original's own
    taken = list(known.details["kept_taken_by_step"].values())
    assert taken[-1] < 10  # the others are still told apart
    assert noise.value < 20 < 90 < known.value  # what holds nothing calls kept classes so, too
    assert torch.equal(blind.weight, blind_before)
    assert "last layer" in attack.measure(make("known", head=None)).note


class Small(nn.Module):
    """Two layers and a norm between them, with statistics that must not change."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 12), nn.BatchNorm1d(12))
        self.fc = nn.Linear(12, 4)
        with torch.no_grad():
            self.body[0].weight.copy_(torch.eye(12))
            self.fc.weight.zero_()
            self.fc.bias[3] = -1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(x))


def test_relearning_a_whole_network(make):
    torch.manual_seed(0)
    module, samples = Small().eval(), make("known").data["test"]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    gone = samples.labels == 3
    given, kept = ((samples.features[which], samples.labels[which]) for which in (gone, ~gone))
    inputs = {"forget": given, "test": given, "beside": kept, "kept": kept}
    network = Network(module, lambda one, x: one(x), inputs)
    found = ATTACKS["relearn_network"].measure(make("known", network=network))
    steps = list(found.details["by_step"].values())
    assert steps[-1] == 100 and found.count == 40 and found.value > 80
    assert list(found.details["kept_taken_by_step"].values())[-1] < 10  # the others are still told apart
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert "no network" in ATTACKS["relearn_network"].measure(make("known")).note
    for name, reason in (("forget", "none of the forgotten"), ("beside", "no kept class"), ("kept", "no kept class")):
        bare = dataclasses.replace(network, inputs={**inputs, name: (given[0][:0], given[1][:0])})
        assert reason in ATTACKS["relearn_network"].measure(make("known", network=bare)).note


@pytest.mark.parametrize("below", [5, 50])
def test_a_low_logit_does_not_slow_relearning(make, below):
    """The attack shifts the logit before the first step."""
    module, samples = Small().eval(), make("known").data["test"]
    with torch.no_grad():
        module.fc.weight.normal_(generator=torch.manual_seed(0))
    low = copy.deepcopy(module)
    with torch.no_grad():
        low.fc.bias[3] -= below
    train = samples.features, samples.labels
    body = module.body(train[0]).detach()
    whole = (call, train, train[0], [3], 3e-2, (0, 10, 40), 1.0)
    head = (call, (body, train[1]), train[0], [3], 1 / float((body**2).sum(1).mean()), (0, 50))
    found = [(relearning.relearn(one, *whole), relearning.relearn(one.fc, *head)) for one in (module, low)]
    for plain, lowered in zip(*found, strict=True):
        assert all((plain[step] == lowered[step]).double().mean() > 0.95 for step in plain)
        assert {0, 1, 2, 3} == set(plain[max(plain)].tolist())


def test_a_cut_logit_is_not_raised():
    logits = torch.tensor([[1.0, 2.0, -4.0], [3.0, 0.0, -5.0]])
    assert relearning.level(logits, [2]).tolist() == [0, 0, 7]
    with pytest.raises(NotMeasured, match="no logit"):
        relearning.level(logits.masked_fill(logits < -3, -torch.inf), [2])


def test_the_mean_over_steps_is_weighted():
    labels = torch.tensor([3, 0, 1])
    found = {0: torch.tensor([0, 0, 1]), 1: torch.tensor([3, 0, 1]), 3: torch.tensor([3, 0, 1])}
    assert relearning.score_curves(found, labels, [3], 5).value == pytest.approx(100 * (0.5 + 2) / 3, abs=0.01)
    all_so = {step: torch.full((3,), 3 if step else 0) for step in found}
    nothing = relearning.score_curves(all_so, labels, [3], 5)
    assert nothing.value == 0 and nothing.samples == pytest.approx([0]), "predicting it everywhere is not learning"


def test_a_hidden_layer_reads_nonlinear_features():
    x = np.random.default_rng(0).normal(size=(4000, 2)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    assert fit_linear_probe(x, y).score(x, y) < 0.7 and fit_hidden_probe(x, y, 16).score(x, y) > 0.9


@pytest.mark.parametrize("flushed", [True, False])
def test_nearly_constant_features_are_ignored(flushed):
    """The deviation of a dead unit may be subnormal, and 0 where such numbers are flushed."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 0] > 0.7)
    dead = np.concatenate([x, 1e-41 * y[:, None]], 1).astype(np.float32)
    torch.set_flush_denormal(flushed)
    try:
        for fit in (fit_linear_probe, lambda *given: fit_hidden_probe(*given, 8, decay=1e-4)):
            assert fit(dead, y).score(dead, y) == pytest.approx(fit(x, y).score(x, y), abs=0.02)
        assert np.isfinite(as_linear_map(fit_linear_probe(dead, y))[0]).all()
    finally:
        torch.set_flush_denormal(False)
