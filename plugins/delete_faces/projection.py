"""Take people's own directions out of the embedding, in closed form: what is left of their photos has little in common. With
photos of people who stay, directions in which any person's photos differ are made shorter after it.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delete_images.data.opening import ImageData
from delete_images.models.architectures import classifier_of
from delete_images.models.spec import ModelSpec
from delete_images.opened import predict_images
from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.evaluation import Predictions
from delete_tasks.model.projection import project_out, project_outputs

# Of each person, where one is removed and where several are: more are forgotten better, and cost the others more. See
# docs/notes/faces.md.
ALONE, TOGETHER = 4, 2
FADING = 0.35  # of one person alone, how much the photos' further directions are scaled down; of several it costs the others more
SHRINKING, FLOOR = 0.5, 0.3  # of directions in which kept people's photos differ
CHECKED = 8  # inputs on which a folded layer is compared with the projection
RANK = 1e-6  # relative size of a singular value that is none
LEFT = 1e-2  # of an embedding's length: less than that of it is rounding
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Change(NamedTuple):
    """Change of embeddings, see :func:`delete_tasks.model.projection.project_out`."""

    directions: Tensor
    scale: float = 1.0


def directions_for(people: int) -> int:
    """Return the default number of directions to project out for each of ``people``."""
    return ALONE if people == 1 else TOGETHER


def directions_of(
    network: nn.Module, spec: ModelSpec, photos: ImageData, seen: Predictions, ids: Sequence[int], count: int
) -> Tensor:
    """:func:`person_directions` of a network's embeddings of photos and of the mirrored photos.

    Args:
        network: Predictions' features are its embeddings.
        spec: Its description.
        photos: Of the people, labelled.
        seen: Its predictions of them.
        ids: The people.
        count: Directions of each.

    Raises:
        RequestError: It gives no rows of embeddings.
    """
    mirror = ImageData(lambda i: photos[i][0][:, ::-1].copy(), photos.labels, photos.class_names, photos.names)
    both = [seen, predict_images(network, spec, mirror, "Mirrored photos")]
    if any(one.features is None for one in both):
        raise RequestError("the embedder gives no rows of embeddings to project; use --directions 0")
    embeddings, labels = (torch.cat([getattr(one, key) for one in both]) for key in ("features", "labels"))
    # A single photo goes wholly; with its mirrored one beside it a little of it would be left, of which a head says anything.
    several = torch.isin(labels, seen.labels[seen.labels.bincount()[seen.labels] > 1])
    several[: len(seen.labels)] = True
    return person_directions(embeddings[several], labels[several], ids, count)


def person_directions(embeddings: Tensor, labels: Tensor, ids: Sequence[int], count: int) -> Tensor:
    """Compute orthogonal directions that the people's photos have most in common, longer if more of it is to be removed.

    Of each person these are the leading right singular vectors of the photos' embeddings, scaled to length 1 and not centred: the
    first is close to their mean. They have length 1: nothing is left along them.

    Of one person alone all others follow, along which the photos differ from each other. There a share ``(1 + v) ** -FADING`` is
    left, v the photos' variance along it over their mean variance of all D directions. So what is left of other photos of the
    person is spread over more directions, and two of them have less in common.

    Args:
        embeddings: float32 ``(n, D)``, of any length.
        labels: int64 ``(n,)``.
        ids: The people.
        count: Directions of each person that go wholly; of n embeddings at most n - 1, since n would leave nothing of them, and
            one of one.

    Returns:
        float32 ``(D, r)``: columns orthogonal to each other, of length 1 or less; see :func:`project_out`.
    """
    unit, rows = F.normalize(embeddings.double()), []
    for i in ids:
        found = torch.linalg.svd(unit[labels == i], full_matrices=False)
        different = int((found.S / found.S[:1] > RANK).sum())
        taken = min(count, max(1, different - 1))
        rows.append(found.Vh[:taken])
    basis, rest = torch.linalg.qr(torch.cat(rows).T)
    basis = basis[:, rest.diagonal().abs() > RANK]
    if len(ids) == 1 and different > taken:
        variance = unit.shape[1] * found.S.square() / found.S[1:].square().sum()
        left = (1 + variance[taken:different]) ** -FADING
        basis = torch.cat([basis, found.Vh[taken:different].T * (1 - left).sqrt()], 1)
    return basis.float()


def shrink_scatter(embeddings: Tensor, labels: Tensor) -> Change:
    """Make directions shorter in which photos of one person differ, whoever it is.

    Of each person's photos, scaled to length 1, this takes the scatter about their own mean. Along the principal directions of
    all people's together a share ``(1 + v / FLOOR) ** -SHRINKING`` is left, v the variance along it over the mean variance of all
    D directions. The scale gives these embeddings the mean length that they had, which a linear head reads.

    Args:
        embeddings: float32 ``(n, D)`` of people who stay, of any length.
        labels: int64 ``(n,)``.
    """
    unit = F.normalize(embeddings.double())
    centred = torch.cat([unit[labels == i] - unit[labels == i].mean(0) for i in labels.unique()])
    found = torch.linalg.svd(centred, full_matrices=False)
    variance = unit.shape[1] * found.S.square() / found.S.square().sum()
    directions = (found.Vh.T * (1 - (1 + variance / FLOOR) ** -SHRINKING).sqrt()).float()
    after = project_out(embeddings, directions)
    return Change(directions, float(embeddings.norm(dim=1).mean() / after.norm(dim=1).mean()))


def project_each(embeddings: Tensor, changes: Sequence[Change]) -> Tensor:
    """:func:`project_out` of each of ``changes``, one after the other."""
    for change in changes:
        embeddings = project_out(embeddings, *change)
    return embeddings


def embedding_layers(embedder: nn.Module) -> list[nn.Module]:
    """Find the embedder's last linear map, and the modules registered after it (its norm)."""
    last = classifier_of(embedder).module
    modules = [module for module in embedder.modules() if not list(module.children())]
    return modules[modules.index(last) :]


@torch.no_grad()
def fold_projection(embedder: nn.Module, directions: Tensor, shape: tuple[int, int, int], scale: float = 1.0) -> None:
    """Change the layer that makes the embedding so that :func:`project_out` of the embeddings comes out, exactly: the
    last linear layer, with the batch norm behind it.

    Args:
        embedder: In eval mode; changed in place.
        directions: ``(D, r)``, see :func:`person_directions`.
        shape: Of an input; random ones are compared before and after.
        scale: Of what is left.

    Raises:
        UnsupportedModelError: The embedder does not end in a linear layer with at most one batch norm behind it; it stays as it
            was.
    """
    last: Any = classifier_of(embedder).module
    weight = last.weight
    inputs = torch.randn(CHECKED, *shape, generator=torch.Generator().manual_seed(0)).to(weight)
    before, directions = embedder(inputs), directions.to(weight)
    wanted = project_out(before, directions, scale)
    some = wanted.norm(dim=1) > LEFT * before.norm(dim=1)
    layers = embedding_layers(embedder)
    states = copy.deepcopy([layer.state_dict() for layer in layers])
    project_outputs(
        layers[0], next((layer for layer in layers[1:] if isinstance(layer, NORMS)), None), directions, scale
    )
    if torch.allclose(F.normalize(embedder(inputs)[some]), F.normalize(wanted[some]), atol=1e-3):
        return
    for layer, state in zip(layers, states, strict=True):
        layer.load_state_dict(state)
    raise UnsupportedModelError(
        f"{type(embedder).__name__} does not end in a linear layer, alone or with a batch norm behind it, so no projection "
        "can be folded into it; remove people without it: --directions 0"
    )


def fold_each(embedder: nn.Module, changes: Sequence[Change], shape: tuple[int, int, int]) -> None:
    """:func:`fold_projection` of each of ``changes``, one after the other."""
    for change in changes:
        fold_projection(embedder, change.directions, shape, change.scale)
