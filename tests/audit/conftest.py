"""Rows of synthetic models with a known result of each attack."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from delete_tasks.audit.attack import Context
from delete_tasks.evaluation.metric import Row
from delete_tasks.evaluation.predictions import Predictions

CLASSES, WIDTH, GONE = 4, 12, 3
NAMES = ["cat", "dog", "frog", "ship"]


def labels_of(each: int) -> Tensor:
    return torch.arange(CLASSES).repeat_interleave(each)


def features(kind: str, labels: Tensor, seed: int) -> Tensor:
    """Make features with each class in one dimension ('known'), none ('noise'), or the forgotten class as class 0 ('other')."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(labels), WIDTH, generator=generator)
    if kind == "noise":
        return noise
    apparent = torch.where(labels == GONE, 0, labels) if kind == "other" else labels
    return 6 * nn.functional.one_hot(apparent, WIDTH).float() + 0.5 * noise


def head() -> nn.Linear:
    """Make a last layer that classifies 'known' features perfectly."""
    layer = nn.Linear(WIDTH, CLASSES)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(WIDTH)[:CLASSES])
        layer.bias.zero_()
    return layer


def predictions(kind: str, each: int, seed: int) -> Predictions:
    """Predict features of a kind, in two stages, with :func:`head`."""
    labels = labels_of(each)
    last = features(kind, labels, seed)
    with torch.no_grad():
        logits = head()(last)
    return Predictions(logits, last, labels, {"first": features(kind, labels, seed + 100), "last": last})


def make_model(kind: str, each: int = 40, **context: Any) -> dict[str, Any]:
    """Make the inputs of an attack for a model with features of a kind."""
    test = predictions(kind, each, 1)
    train = predictions(kind, each, 2)
    gone = train.labels == GONE
    forget = Predictions(train.logits[gone], train.features[gone], train.labels[gone])
    context = Context(**{"head": head(), "original_head": head(), **context})
    return {"forget": forget, "train": train, "test": test, "context": context}


def make_row(data: Mapping[str, Any], original: Mapping[str, Any] | None = None) -> Row:
    return Row(data, data if original is None else original, [GONE], NAMES)


@pytest.fixture
def make() -> Callable[..., Row]:
    """``make('noise')``: a row of a model with such features, compared with an original with 'known' ones."""

    def make(kind: str, **context: Any) -> Row:
        return make_row(make_model(kind, **context), make_model("known"))

    return make


@pytest.fixture
def lacking() -> Callable[..., Row]:
    """``lacking('test')``: a row of the original without some of its data."""

    def lacking(*names: str) -> Row:
        return make_row({name: value for name, value in make_model("known").items() if name not in names})

    return lacking


@pytest.fixture(scope="session")
def model() -> Callable[..., dict[str, Any]]:
    """``model('known')``: inputs of an attack for such a model."""
    return make_model
