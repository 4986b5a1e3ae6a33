"""Rows of made-up models whose answer to each attack is known."""

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
    """'known': each class in one number of its own. 'noise': nothing. 'other': the forgotten class looks like class 0."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(labels), WIDTH, generator=generator)
    if kind == "noise":
        return noise
    shown = torch.where(labels == GONE, 0, labels) if kind == "other" else labels
    return 6 * nn.functional.one_hot(shown, WIDTH).float() + 0.5 * noise


def head() -> nn.Linear:
    """Reads 'known' features perfectly."""
    layer = nn.Linear(WIDTH, CLASSES)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(WIDTH)[:CLASSES])
        layer.bias.zero_()
    return layer


def predictions(kind: str, each: int, seed: int) -> Predictions:
    """Features of a kind, of both stages, through :func:`head`."""
    labels = labels_of(each)
    found = features(kind, labels, seed)
    with torch.no_grad():
        logits = head()(found)
    return Predictions(logits, found, labels, {"first": features(kind, labels, seed + 100), "last": found})


def make_model(kind: str, each: int = 40, **context: Any) -> dict[str, Any]:
    """What an attack is given of a model with features of a kind."""
    test = predictions(kind, each, 1)
    train = predictions(kind, each, 2)
    gone = train.labels == GONE
    forget = Predictions(train.logits[gone], train.features[gone], train.labels[gone])
    return {
        "forget": forget,
        "train": train,
        "test": test,
        "context": Context(**{"head": head(), "original_head": head(), **context}),
    }


def make_row(data: Mapping[str, Any], original: Mapping[str, Any] | None = None) -> Row:
    return Row(data, data if original is None else original, [GONE], NAMES)


@pytest.fixture
def make() -> Callable[..., Row]:
    """``make('noise')``: a row of a model with such features, compared with an original that holds the class perfectly."""

    def make(kind: str, **context: Any) -> Row:
        return make_row(make_model(kind, **context), make_model("known"))

    return make


@pytest.fixture
def lacking() -> Callable[..., Row]:
    """``lacking('test')``: a row of the original without some of its data."""

    def lacking(*names: str) -> Row:
        return make_row({name: value for name, value in make_model("known").items() if name not in names})

    return lacking


@pytest.fixture
def model() -> Callable[..., dict[str, Any]]:
    """``model('known')``: what an attack is given of such a model."""
    return make_model


@pytest.fixture
def row_of() -> Callable[..., Row]:
    """``row_of(model)``: a row of it, compared with itself or with a second one."""
    return make_row
