"""People's directions, projected out of embeddings and folded into the layer that makes them."""

import copy

import pytest
import torch
from helpers import same_tensors
from torch import nn

from delete_faces import projection
from delete_faces.gallery.gallery import Gallery
from delete_faces.projection import Change, fold_changes, person_directions, project_each, project_people, restore
from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.model.projection import project_out

FACES = torch.randn(20, 3, 2, 2, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(20) // 5


def embedder(bias: bool, norm: bool | None, *more: nn.Module) -> nn.Sequential:
    """A linear layer, with a batch norm behind it unless ``norm`` is None; its statistics are not those of new layers."""
    torch.manual_seed(1)
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(12, 8, bias=bias)]
    if norm is not None:
        layers.append(nn.BatchNorm1d(8, affine=norm))
        for tensor in layers[-1].state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 2)
    return nn.Sequential(*layers, *more).eval().requires_grad_(False)


def test_directions_are_what_photos_of_a_person_share():
    shared = torch.eye(6)[:2].repeat_interleave(4, 0)
    noise = 0.1 * torch.randn(8, 6, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(8) // 4
    found = person_directions(shared + noise, labels, [0, 1], 1)
    assert found.shape == (6, 2) and torch.allclose(found.T @ found, torch.eye(2), atol=1e-6)
    assert (found[:2].abs().amax(1) > 0.9).all()
    # One photo has one direction, three have two, so that something is left of them; two people who look the same share theirs.
    assert (person_directions(noise[:3], labels[:3], [0], 4).norm(dim=0) > 1 - 1e-6).tolist() == [True, True, False]
    assert person_directions(noise, labels, [0, 1], 4).shape == (6, 6)
    assert person_directions(shared[:1], labels[:1], [0], 4).shape == (6, 1)
    assert person_directions(shared[[0, 1]], torch.tensor([0, 1]), [0, 1], 4).shape == (6, 1)
    assert projection.directions_for(1) > projection.directions_for(5) >= 1


def test_further_directions_of_one_person_fade_by_their_variance():
    """Four photos around the first axis, which differ on the second and third; the rest stays as it is."""
    photos = torch.zeros(4, 6)
    photos[:, 0], photos[:2, 1], photos[2:, 2] = 1, torch.tensor([0.4, -0.4]), torch.tensor([0.2, -0.2])
    found = person_directions(photos, torch.zeros(4).long(), [0], 1)
    variance = torch.tensor([0.16, 0.04]) * 6 / 0.2  # of D = 6 directions, whose variances are 1 in the mean; nearly
    left = project_out(torch.eye(6), found).diagonal()
    assert torch.allclose(left[1:3], (1 + variance) ** -0.35, atol=0.02) and left[0].abs() < 1e-6
    products = found.T @ found
    assert torch.allclose(left[3:], torch.ones(3)) and torch.allclose(products, products.diagonal().diag(), atol=1e-6)


def test_people_who_stay_come_back_and_removed_directions_do_not():
    """The matrix is the closed form's minimum; it gives people nothing along what was projected out for all."""
    generator = torch.Generator().manual_seed(3)
    photos, labels = torch.randn(40, 8, generator=generator) + 1, torch.arange(40) // 5
    change = project_people(torch.linalg.qr(torch.randn(8, 2, generator=generator))[0])
    found, unit = restore(7 * photos, labels, change).matrix, torch.nn.functional.normalize(photos.double())
    target = 0.9 * unit + 0.1 * torch.stack([unit[labels == i].mean(0) for i in range(8)])[labels]
    matrix = found.clone().requires_grad_()
    fit = (unit @ change.matrix.T @ matrix.T - target).square().sum()
    (fit + 0.3 * 40 / 8 * (matrix - torch.eye(8)).square().sum()).backward()
    assert matrix.grad.abs().max() < 1e-6  # float32 directions
    projected, restored = (project_each(unit, changes) for changes in ([change], [change, Change(found, {})]))
    assert (restored - unit).norm() < (projected - unit).norm()
    assert (found @ change.matrix @ (torch.eye(8) - change.matrix)).abs().max() < 1e-6  # float32 directions


@pytest.mark.parametrize("people", [[1], [1, 2]])
@pytest.mark.parametrize(("bias", "norm"), [(True, None), (False, None), (True, True), (False, True), (True, False)])
def test_folding_is_exact(bias, norm, people):
    network, original = embedder(bias, norm), embedder(bias, norm)
    before = network(FACES)
    directions = person_directions(before, LABELS, people, 2)
    fold_changes(network, [project_people(directions)], (3, 2, 2))
    after = network(FACES)
    # The two models show the matrix, which is exact for other faces' templates, of length 1 or not.
    matrix, more = projection.matrix_between(original, network, (3, 2, 2))[0], torch.randn(50, 3, 2, 2)
    assert torch.allclose(matrix.float(), project_out(torch.eye(8), directions), atol=1e-5)
    for scaled in (torch.Tensor.float, torch.nn.functional.normalize):
        stored = Gallery(scaled(original(more)).numpy(), ["a"] * 50, {}).transform(matrix)[0]
        assert torch.allclose(torch.from_numpy(stored.embeddings), scaled(network(more)), atol=1e-5)
    assert torch.allclose(after, project_out(before, directions), atol=1e-5)
    whole = directions[:, directions.norm(dim=0) > 1 - 1e-6]
    assert whole.shape == (8, 2 * len(people)) and (after @ whole).abs().max() < 1e-5 < (before @ whole).abs().max()
    # People whose photos have nothing along the directions keep their embeddings.
    aside = project_out(before, torch.nn.functional.normalize(directions, dim=0))
    assert torch.allclose(project_out(aside, directions), aside, atol=1e-5)


def test_changes_fold_one_after_the_other():
    network, original = embedder(False, True), embedder(False, True)
    before = network(FACES)
    change = project_people(person_directions(before, LABELS, [0], 2))
    changes = [change, restore(before[5:], LABELS[5:], change)]
    fold_changes(network, changes, (3, 2, 2))
    assert torch.allclose(network(FACES), project_each(before, changes), atol=1e-5)
    matrix = projection.matrix_between(original, network, (3, 2, 2))[0].float()
    assert torch.allclose(matrix.T, project_each(torch.eye(8), changes), atol=1e-5)


def test_training_leaves_no_matrix():
    original, trained = embedder(True, True), embedder(True, True)
    trained[1].weight += 0.02 * torch.randn(8, 12)
    with pytest.raises(RequestError, match=r"no matrix.*\(8, 13\).*faces embed"):
        projection.matrix_between(original, trained, (3, 2, 2))
    with pytest.raises(RequestError, match=r"no matrix.*\(6, 13\) and \(8, 13\)"):
        projection.matrix_between(original, nn.Sequential(nn.Flatten(), nn.Linear(12, 6)).eval(), (3, 2, 2))
    deeper, other = (embedder(False, None, nn.ReLU(), nn.Linear(8, 8)) for _ in range(2))
    other[1].weight *= 1.1 + torch.rand(8, 12)  # before the last layer, which is the same
    with pytest.raises(RequestError, match="no matrix"):
        projection.matrix_between(deeper, other, (3, 2, 2))


@pytest.mark.parametrize("network", [embedder(True, None, nn.Tanh()), embedder(False, False)], ids=["tanh", "no shift"])
def test_what_cannot_be_folded_is_refused_and_left_as_it_was(network):
    state = copy.deepcopy(network.state_dict())
    directions = person_directions(network(FACES), LABELS, [0], 2)
    with pytest.raises(UnsupportedModelError, match="--directions 0"):
        fold_changes(network, [project_people(directions)], (3, 2, 2))
    assert same_tensors(network.state_dict(), state)
