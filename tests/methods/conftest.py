"""A small trained network, which unlearns in a second."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import HOOKS
from torch import nn

import delete_tasks
import delete_tasks.methods.builtin
from delete_tasks.model.loss_point import LossInputs

GONE = 2


@pytest.fixture(scope="session")
def blobs() -> tuple[torch.Tensor, torch.Tensor]:
    """Four classes around points of a plane in six dimensions: (400, 6) and (400,)."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.zeros(4, 6)
    centres[:, :2] = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]])
    labels = torch.arange(400) % 4
    return centres[labels] + 0.5 * torch.randn(400, 6, generator=generator), labels


@pytest.fixture(scope="session")
def trained(blobs) -> nn.Module:
    """Linear, batch norm, ReLU, linear; nearly every sample right."""
    inputs, labels = blobs
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def sets(blobs) -> tuple[list, list]:
    """Samples of the forgotten class, and of the others, with their labels."""
    pairs = list(zip(blobs[0], blobs[1].tolist(), strict=True))
    return [pair for pair in pairs if pair[1] == GONE], [pair for pair in pairs if pair[1] != GONE]


@pytest.fixture
def erase(sets, trained, publish_anyway):
    """``erase("Method", **options)``: the trained network, erased; with a retain set if the method needs one."""
    samples, others = sets

    def erase(method: str, **options):
        options = {"views": "none", "batch_size": 32, **options}
        options["retain"] = others if HOOKS.get(method).needs_retain_set else None
        return delete_tasks.erase(copy.deepcopy(trained), samples, [GONE], method=method, **options)

    return erase


@pytest.fixture
def forget(erase):
    """``forget("Method", **options)``: the erased copy of the trained network, with its last layer unchanged."""
    return lambda method, **options: erase(method, **{"keep_row": True, "match_scale": False, **options}).model


@pytest.fixture
def accuracy(blobs):
    """``accuracy(model)``: percent of the forgotten and of the other classes' samples that are predicted as their class."""
    inputs, labels = blobs

    def accuracy(model: nn.Module) -> tuple[float, float]:
        with torch.no_grad():
            hits = model.eval()(inputs).argmax(1) == labels
        gone = labels == GONE
        return 100 * float(hits[gone].float().mean()), 100 * float(hits[~gone].float().mean())

    return accuracy


@pytest.fixture
def batch():
    """``batch(*shape)``: logits (N, 4, *shape) with a gradient, a teacher's, labels, and the first half a retain set."""

    def batch(*shape: int) -> tuple[torch.Tensor, torch.Tensor, LossInputs]:
        torch.manual_seed(3)
        student = torch.randn(8, 4, *shape, requires_grad=True)
        labels = torch.randint(0, 4, (8, *shape))
        labels[4:] = GONE
        labels[:4][labels[:4] == GONE] = 0
        retain = (torch.arange(8) < 4).view(8, *[1] * len(shape))
        return student, torch.randn(8, 4, *shape), LossInputs([student], [1.0], labels=labels, retain=retain)

    return batch
