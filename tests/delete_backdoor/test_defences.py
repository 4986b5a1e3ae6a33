"""Methods of ``backdoor clean --method``: their gradients against references, and a run of each."""

from types import SimpleNamespace

import pytest
import torch
from helpers import read_results, run, values
from torch import nn
from torch.autograd.functional import hessian

from delete_backdoor.defences.ft_sam import FTSAM
from delete_backdoor.defences.i_bau import IBAU, LENGTH, STEP

from .conftest import TRIGGER
from .test_clean import clean


@pytest.mark.parametrize("method", ["FineTune", "FTSAM", "IBAU"])
def test_each_method_keeps_clean_accuracy(toy, files, tmp_path, method):
    more = ["--retain", files["clean"], "--test", files["test"], "--trigger", TRIGGER, "--method", method]
    run(clean(toy, files, tmp_path, "--target red --steps 8 --force --audit none --no-record", more), status=(0, 4))
    results = read_results(tmp_path)
    assert values(results["rows"])["erased"]["acc"] > 80 and results["done"]["method"] == method
    uses = {(use["set"], use["use"]) for use in results["done"]["data"]}
    assert ("retain set", "trained on") in uses
    assert not any(use == "trained on" for name, use in uses if "poison" in name)


def test_ft_sam_takes_the_gradient_at_the_worst_weights_nearby():
    """At w + rho w^2 g / ||w g||, of the mean cross entropy with smoothed labels."""
    torch.manual_seed(0)
    weight = torch.randn(3, 4, dtype=torch.float64)
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3

    def gradient(at):
        at = at.clone().requires_grad_()
        return torch.autograd.grad(nn.functional.cross_entropy(x @ at.T, y, label_smoothing=0.1), at)[0]

    g = gradient(weight)
    moved = weight + 0.5 * weight**2 * g / (weight * g).norm()
    method, parameter = FTSAM(rho=0.5), nn.Parameter(weight.clone())

    class Model(nn.Module):
        def data_preprocessor(self, batch, training):
            return batch

        def forward(self, mode):
            return {"loss_unlearn": nn.functional.cross_entropy(x @ parameter.T, y, label_smoothing=method.smoothing)}

    context = SimpleNamespace(optim_context=lambda model: torch.enable_grad())
    runner = SimpleNamespace(unwrapped_model=Model(), accumulation=1, optim_wrapper=context, seed=0)
    method.parameters = [parameter]
    method.before_train_iter(runner, 0, {})
    assert torch.allclose(parameter, moved)
    parameter.grad = gradient(parameter.detach())
    method.before_step(runner, 0)
    assert torch.allclose(parameter, weight) and torch.allclose(parameter.grad, gradient(moved))


@pytest.mark.parametrize("iterations", [1, 3])
def test_i_bau_adds_the_gradient_of_the_perturbation(iterations):
    """By Jacobians written out: v = sum of (I - a H)^k g for k below the number of iterations, and minus a d2L/(dw dd) v."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    x, y = torch.randn(6, 1, 2, 2, dtype=torch.float64), torch.arange(6) % 3
    method = IBAU(iterations=iterations)
    method.parameters = list(model.parameters())
    method._clean, method._labels, method._share = x, y, torch.ones(6, 1, 1, 1).double()
    method.perturbation = d = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    for parameter in method.parameters:
        parameter.grad = torch.zeros_like(parameter)
    method.before_step(SimpleNamespace(unwrapped_model=model), 0)

    def inner(flat):
        return LENGTH * flat.square().sum() - nn.functional.cross_entropy(model(x + flat.view(1, 1, 2, 2)), y)

    flat = d.flatten().requires_grad_()
    (g,) = torch.autograd.grad(nn.functional.cross_entropy(model(x + flat.view(1, 1, 2, 2)), y), flat)
    step = torch.eye(4).double() - STEP * hessian(inner, flat.detach())
    v = sum(torch.linalg.matrix_power(step, k) @ g for k in range(iterations))
    (slope,) = torch.autograd.grad(inner(flat), flat, create_graph=True)
    expected = torch.autograd.grad(-STEP * slope @ v, method.parameters)
    for parameter, value in zip(method.parameters, expected, strict=True):
        assert torch.allclose(parameter.grad, value)
