"""IoU of probes on pixels in the proportion in which they occur."""

import dataclasses

import numpy as np
import pytest
import torch

from delete_tasks.audit.attacks import find_attacks
from delete_tasks.audit.attacks.probes import TEST, TRAIN
from delete_tasks.audit.probes import fit_linear_probe
from delete_tasks.audit.results import measure
from delete_tasks.evaluation.predictions import Predictions

ATTACKS = {attack.name: attack for attack in find_attacks("full") if attack.needs == TEST}
GONE, CLASSES, WIDTH = 3, 4, 6
SHARES = [0.6, 0.25, 0.1, 0.05]


def pixels(kind: str, count: int, seed: int) -> Predictions:
    """Make features of few forgotten pixels among many others: 'known', 'dim' (with much noise) or 'noise'."""
    generator = np.random.default_rng(seed)
    labels = torch.from_numpy(generator.choice(CLASSES, count, p=SHARES))
    signal = {"known": 8.0, "dim": 1.5, "noise": 0.0}[kind] * torch.nn.functional.one_hot(labels, WIDTH)
    features = (signal + torch.from_numpy(generator.normal(size=(count, WIDTH)))).float()
    return Predictions(features[:, :CLASSES], features, labels)


@pytest.fixture
def regions(make):
    """``regions(kind)``: a row of a model with such pixels."""

    def regions(kind: str):
        row = make("known")
        return dataclasses.replace(row, data={**row.data, TRAIN: pixels(kind, 3000, 1), TEST: pixels(kind, 4000, 2)})

    return regions


@pytest.mark.parametrize("name", ATTACKS)
def test_regions_in_features_are_read(regions, name):
    known, dim, noise = (ATTACKS[name].measure(regions(kind)) for kind in ("known", "dim", "noise"))
    assert known.value == 100 and noise.value < 10 < dim.value < 90
    assert dim.interval[0] < dim.value < dim.interval[1] < dim.interval[0] + 15 and dim.count == 4000
    assert dim.details["trained_on"] == 3000 and dim.details["classes"]["ship"] == dim.value
    others = [dim.details["classes"][other] for other in ("cat", "dog", "frog")]
    assert dim.details["others"] == pytest.approx(np.mean(others), abs=0.01)


def test_the_iou_is_scikit_learns(regions):
    from sklearn.metrics import jaccard_score

    row = regions("dim")
    train, test = row.data[TRAIN], row.data[TEST]
    predicted = fit_linear_probe(train.features.numpy(), train.labels.numpy()).predict(test.features.numpy())
    iou = jaccard_score(test.labels.numpy(), predicted, labels=[GONE], average=None)[0]
    assert ATTACKS["linear_probe_iou"].measure(row).value == pytest.approx(100 * iou, abs=0.01)


@pytest.mark.parametrize(
    ("split", "shown", "reason"),
    [(TRAIN, [0, 1, 2], "training pixels that were drawn"), (TRAIN, [GONE], "training pixels that were drawn"),
     (TEST, [0, 1, 2], "held-out pixels that were drawn")],
)  # fmt: skip
def test_pixels_without_the_class_are_not_measured(regions, split, shown, reason):
    row = regions("known")
    whole = row.data[split]
    chosen = torch.isin(whole.labels, torch.tensor(shown))
    part = Predictions(whole.logits[chosen], whole.features[chosen], whole.labels[chosen])
    found = ATTACKS["linear_probe_iou"].measure(dataclasses.replace(row, data={**row.data, split: part}))
    assert found.value is None and reason in found.note


def test_samples_with_one_location_have_no_such_attack(model):
    rows = {name: model(kind) for name, kind in (("original", "known"), ("erased", "noise"))}
    assert not ATTACKS.keys() & {attack.name for attack in measure(rows, [GONE], list("abcd"), "full").attacks}
    rows = {name: {**data, TRAIN: pixels("dim", 500, 1), TEST: pixels("dim", 500, 2)} for name, data in rows.items()}
    audit = measure(rows, [GONE], list("abcd"), "full")
    assert ATTACKS.keys() <= audit.depth.keys() and ATTACKS.keys() <= audit.verdict["words"].keys()
    assert not ATTACKS.keys() & {attack.name for attack in measure(rows, [GONE], list("abcd"), "quick").attacks}
