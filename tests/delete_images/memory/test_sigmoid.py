"""Classes that do not exclude each other: each sigmoid keeps its own score."""

import pytest
import torch
from torch import nn
from toys import draw

from delete_tasks import erase
from delete_tasks.errors import RequestError, UnsupportedModelError


def several(count: int, seed: int):
    """Images of two blobs, red, green or blue, and whether each colour is there, float ``(count * 3 // 4, 3)``."""
    images, labels = map(torch.from_numpy, draw(count, seed))
    images, labels = images[labels < 3].permute(0, 3, 1, 2) / 255, nn.functional.one_hot(labels[labels < 3], 3)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return (images + images[order]) / 2, (labels | labels[order]).float()


def test_the_scores_of_other_labels_stay():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1),
        nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip
    images, labels = several(512, 0)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        chosen = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    network.eval()
    reds, others = images[labels[:, 0] > 0], several(256, 5)[0]
    options = dict(classes=[0], steps=60, lr=5e-3, views="none")
    erased = erase(network, reds, activation="sigmoid", **options)
    with torch.no_grad():
        before, after = network(others).sigmoid(), erased.model(others).sigmoid()
        softmax = erase(network, reds, activation="softmax", **options).model(others).sigmoid()
    assert before[:, 0].max() > 0.9 and after[:, 0].max() < 1e-4 and erased.figures["masked_mass"]["with_row"] < 0.05
    moved = (after - before).abs().mean(0)[1:]
    assert moved.max() < 0.01, moved
    assert (softmax - before).abs().mean(0)[1:].max() > 0.05, "a softmax moves them"
    with pytest.raises(RequestError, match="is an option of DELETE, without into: leave that out"):
        erase(network, reds, activation="sigmoid", into=1, **options)
    with pytest.raises(RequestError, match="is an option of DELETE, without type='TREW'"):
        erase(network, reds, activation="sigmoid", method="TREW", **options)
    with pytest.raises(RequestError, match=r"activation is 'tanh'; expected one of softmax, sigmoid"):
        erase(network, reds, activation="tanh", **options)
    network[-1].bias.data -= 30
    with pytest.raises(UnsupportedModelError, match=r"below -1.*activation='sigmoid'"):
        erase(network, reds, **options)
