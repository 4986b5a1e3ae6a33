"""Projection of people's directions out of the embedding, in closed form, after which their photos have little in common."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn

from delete_images.data.opening import ImageData
from delete_images.models.architectures import classifier_of
from delete_images.models.spec import ModelSpec
from delete_images.opened import predict_images
from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.evaluation import Predictions
from delete_tasks.evaluation.predictions import together
from delete_tasks.losses.masks import forgotten_mass
from delete_tasks.model.projection import linear_map, multiply_outputs, projection
from delete_tasks.request.ranges import whole
from delete_tasks.task import Run

from .network import CosineHead
from .photos import Templates

# Directions per person, of one and of several people: more forget better, and cost the others more (docs/notes/faces.md).
ALONE, TOGETHER = 4, 2
FADING = 0.35  # exponent for the further directions of one person; with several people it costs the others more
# Weight of the identity, and how far kept people's photos go to their mean (docs/notes/faces.md).
RIDGE, CLOSER = 0.3, 0.1
CHECKED = 8  # inputs on which a folded layer is compared with the projection
RANK = 1e-6  # relative size up to which a singular value is zero
FIT = 1e-4  # relative error up to which one layer is a matrix times another
LEFT = 1e-2  # share of an embedding's length up to which the rest is rounding
ONLY_PROJECTED = "stored templates allow the projection alone"
NOT_CHANGED = "there is no stored template to project out, so the embedder was not changed"
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Change(NamedTuple):
    """Change of embeddings: they are multiplied by ``matrix``, float64 ``(D, D)``. The facts are those of the record."""

    matrix: Tensor
    facts: dict[str, Any]


def directions_for(people: int) -> int:
    """Choose the number of directions to project out for each of ``people``."""
    return ALONE if people == 1 else TOGETHER


def person_directions(embeddings: Tensor, labels: Tensor, ids: Sequence[int], count: int) -> Tensor:
    """Compute orthogonal directions that photos of a person have in common, float32 ``(D, r)``: columns of length 1 or less, see
    :func:`project_out`, from ``embeddings`` float32 ``(n, D)``, of any length, and ``labels`` int64 ``(n,)``.

    The first ``count`` of a person are the leading right singular vectors of the photos' embeddings, scaled to length 1 and not
    centred. They have length 1: nothing is left along them. The very first is close to the photos' mean. There are at most n - 1
    for n embeddings, since n would leave nothing of them, and one for one.

    If there is one person, all others follow, along which the photos differ from each other. There a share ``(1 + v) ** -FADING``
    is left, v the photos' variance along it over their mean variance of all D directions. So the rest of other photos of the
    person is spread over more directions, and two of these photos have less in common.
    """
    unit, leading = F.normalize(embeddings.double()), []
    for i in ids:
        svd = torch.linalg.svd(unit[labels == i], full_matrices=False)
        rank = int((svd.S / svd.S[:1] > RANK).sum())
        removed = min(count, max(1, rank - 1))
        leading.append(svd.Vh[:removed])
    basis, triangle = torch.linalg.qr(torch.cat(leading).T)
    basis = basis[:, triangle.diagonal().abs() > RANK]
    if len(ids) == 1 and rank > removed:
        variance = unit.shape[1] * svd.S.square() / svd.S[1:].square().sum()
        left = (1 + variance[removed:rank]) ** -FADING
        basis = torch.cat([basis, svd.Vh[removed:rank].T * (1 - left).sqrt()], 1)
    return basis.float()


def project_people(directions: Tensor) -> Change:
    """Project :func:`person_directions` out of embeddings."""
    whole = int((directions.norm(dim=0) > 1 - RANK).sum())
    return Change(projection(directions), {"directions": whole, "faded": directions.shape[1] - whole})


def restore(embeddings: Tensor, labels: Tensor, change: Change) -> Change:
    """Bring embeddings of people who stay, ``(n, D)`` of any length with ``labels`` int64 ``(n,)``, back to where they were
    before a change P, by ridge regression. For embeddings z, scaled to length 1, and y, z moved a tenth of the way to their
    person's mean, the matrix A minimises the sum of ``|A P z - y|^2`` plus ``RIDGE n / D |A - I|^2``. So cosines of different
    people, which a projection raises, fall again. Directions that were projected out stay out: A P has the null space of P."""
    before = F.normalize(embeddings.double())
    people, index = labels.unique(return_inverse=True)
    sums = torch.zeros(len(people), before.shape[1]).to(before).index_add_(0, index, before)
    target = torch.lerp(before, (sums / index.bincount()[:, None])[index], CLOSER)
    after, identity = before @ change.matrix.T, torch.eye(before.shape[1]).to(before)
    ridge = RIDGE * len(before) / before.shape[1] * identity
    return Change(torch.linalg.solve(after.T @ after + ridge, after.T @ target + ridge).T, {})


def project_each(embeddings: Tensor, changes: Sequence[Change]) -> Tensor:
    """Apply ``changes``, one after the other, to embeddings ``(n, D)``."""
    for change in changes:
        embeddings = embeddings @ change.matrix.to(embeddings).T
    return embeddings


def embedding_layers(embedder: nn.Module) -> list[nn.Module]:
    """Find the embedder's last linear map, and the modules registered after it (its norm)."""
    last = classifier_of(embedder).module
    modules = [module for module in embedder.modules() if not list(module.children())]
    return modules[modules.index(last) :]


def ending(embedder: nn.Module) -> tuple[list[Any], Any]:
    """Return the :func:`embedding_layers` and the batch norm among them, None if there is none."""
    layers = embedding_layers(embedder)
    return layers, next((layer for layer in layers[1:] if isinstance(layer, NORMS)), None)


def same_directions(embeddings: Tensor, expected: Tensor, before: Tensor) -> bool:
    """Compare the directions of embeddings ``(n, D)``, but for those of which the change from ``before`` left only rounding."""
    some = expected.norm(dim=1) > LEFT * before.norm(dim=1)
    return torch.allclose(F.normalize(embeddings[some]), F.normalize(expected[some]), atol=1e-3)


@torch.no_grad()
def matrix_between(original: nn.Module, erased: nn.Module, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Compute the matrix ``(D, D)`` between two embedders' embeddings and the affine map ``[A b]``, ``(D, K + 1)``, that ends the
    first, float64. :func:`fold_changes` makes ``P A x + P b`` of an embedding ``A x + b``, so P is the least-squares solution of
    ``P [A b] = [A' b']``: exact for all embeddings, with any bias and batch norm; up to length if the embedder scales them to
    length 1. Refuse embedders, in eval mode, without one; they are compared on random inputs of this ``shape`` as well."""
    parts = [linear_map(layers[0], norm) for layers, norm in map(ending, (original, erased))]
    before, after = (torch.cat([weight, shift[:, None]], 1) for weight, shift in parts)
    if before.shape == after.shape:
        matrix = torch.linalg.lstsq(before.T, after.T, RANK, driver="gelsd").solution.T
        inputs = torch.randn(CHECKED, *shape, generator=torch.Generator().manual_seed(0))
        first, second = original(inputs).double(), erased(inputs).double()
        fits = (matrix @ before - after).norm() <= FIT * after.norm()
        if fits and same_directions(second, first @ matrix.T, first):
            return matrix, before
    raise RequestError(
        "no matrix makes the embeddings of the erased model from the original's, whose last layers, with shift, are "
        f"{tuple(after.shape)} and {tuple(before.shape)}: they do not belong together, or training steps changed the embedder; "
        "then make templates anew from photos: delete-tasks faces embed"
    )


@torch.no_grad()
def fold_changes(embedder: nn.Module, changes: Sequence[Change], shape: tuple[int, int, int]) -> None:
    """Change the layer that makes the embedding, and the batch norm behind it, so that its embeddings are exactly those of
    :func:`project_each`. The embedder is in eval mode; random inputs of this shape are compared before and after.
    UnsupportedModelError leaves it unchanged: it does not end in a linear layer with at most one batch norm behind it."""
    layers, norm = ending(embedder)
    states = copy.deepcopy([layer.state_dict() for layer in layers])
    inputs = torch.randn(CHECKED, *shape, generator=torch.Generator().manual_seed(0)).to(layers[0].weight)
    before = embedder(inputs)
    expected = project_each(before, changes)
    for change in changes:
        multiply_outputs(layers[0], norm, change.matrix)
    if same_directions(embedder(inputs), expected, before):
        return
    for layer, state in zip(layers, states, strict=True):
        layer.load_state_dict(state)
    raise UnsupportedModelError(
        f"{type(embedder).__name__} does not end in a linear layer, alone or with a batch norm behind it, so no projection "
        "can be folded into it; remove people without it: --directions 0"
    )


def predict(network: Any, spec: ModelSpec, forget: ImageData | Templates, title: str) -> Predictions:
    """Predict photos, or stored templates in their place, by the head alone."""
    if not isinstance(forget, Templates):
        return predict_images(network, spec, forget, title)
    with torch.no_grad():
        logits = copy.deepcopy(network.head).cpu()(forget.embeddings)
    return Predictions(logits, forget.embeddings, torch.from_numpy(forget.labels))


def changes_of(
    network: nn.Module,
    spec: ModelSpec,
    forget: ImageData | Templates,
    predictions: Predictions,
    ids: Sequence[int],
    count: int,
    kept: ImageData | Templates | None = None,
) -> list[Change]:
    """List the changes of embeddings, in order: ``count`` :func:`person_directions` of each person, from the ``predictions`` for
    photos and for the mirrored photos, or from stored templates; and :func:`restore` for the class weights of a cosine head, and
    photos or templates of ``kept`` people. Without templates embeddings stay. Refuse an embedder without one vector per photo."""
    if isinstance(forget, ImageData):
        mirror = forget.mapped(lambda image: image[:, ::-1].copy())
        both = together([predictions, predict_images(network, spec, mirror, "Mirrored photos")])
        if both.features is None:
            raise RequestError("the embedder does not return one vector per photo to project; use --directions 0")
        # A single photo is removed wholly: beside its mirrored one a little of it is left, for which the logits are arbitrary.
        several = torch.isin(both.labels, predictions.labels[predictions.labels.bincount()[predictions.labels] > 1])
        several[: len(predictions.labels)] = True
        directions = person_directions(both.features[several], both.labels[several], ids, count)
    elif forget.names:
        own = [i for i in ids if i not in forget.lacking]
        directions = person_directions(forget.embeddings, predictions.labels, own, count)
    else:
        return []
    change, head = project_people(directions), network.head
    rows: Any = torch.zeros(0, len(directions))
    labels = torch.zeros(0, dtype=torch.int64) if kept is None else torch.from_numpy(kept.labels)
    if isinstance(kept, Templates):
        rows = kept.embeddings
    elif kept is not None:
        rows = predict_images(network, spec, kept, "Embedding kept people").features
    if isinstance(head, CosineHead):
        others = [i for i in range(len(spec.classes)) if i not in ids]
        rows = torch.cat([F.normalize(rows), head.weight.detach()[others].cpu()])
        labels = torch.cat([labels, -1 - torch.arange(len(others))])  # of nobody in the photos
    return [change, restore(rows, labels, change)] if len(rows) else [change]


@HOOKS.register_module()
class PersonProjection(Hook):
    """Projection of the forgotten people's directions out of the embedding, before the first step.

    The directions are those of the photos that are unlearned. Embeddings of people who stay are then restored. If that meets the
    stop rule, the run takes no step. A resumed run has both in its weights.

    Args:
        directions: Number of directions per person, see :func:`person_directions`; 0 projects nothing, 65,536 are the most.
    """

    priority = "BELOW_NORMAL"  # after the method's hook has compared the model with its teacher

    def __init__(self, directions: int) -> None:
        self.directions = whole("directions", directions, 0, 65_536)
        self.begins_with = {"directions": self.directions}  # a resumed run must have begun with the same

    def before_train(self, runner: Run) -> None:
        selection, method = runner.selection, runner.method
        ids, dataset, stored = selection.forget_ids, selection.dataset, isinstance(selection.dataset.data, Templates)
        if runner.iter > 0 or not (self.directions or stored):
            return
        network: Any = runner.unwrapped_model.network
        forget, spec = dataset.data if stored else dataset.data.subset(selection.indices), dataset.spec
        before = predict(network, spec, forget, "Projecting")
        changes = changes_of(network, spec, forget, before, ids, self.directions, getattr(dataset, "kept", None))
        for number, change in enumerate(changes):
            fold_changes(network.embedder, [change], (3, *spec.preprocessing.size))
            self._note(runner, change, number)
        if stored:  # of which no step could learn
            method.stop_run(runner, ONLY_PROJECTED if changes else NOT_CHANGED)
            return
        after = predict_images(network, spec, forget, "Projected")
        teacher, left = (forgotten_mass(predictions.logits, ids) for predictions in (before, after))
        # The logits of an embedding of which nothing is left are arbitrary: a person with a single photo.
        features: Any = before.features  # changes_of refuses an embedder without
        left = left * (project_each(features, changes[:1]).norm(dim=1) > LEFT * features.norm(dim=1))
        share = float((teacher * left).sum() / (teacher * teacher).sum().clamp_min(1e-30))
        if method.stop_ratio is not None and share <= method.stop_ratio:
            method.stop_run(runner, "the projection alone met the stop rule")

    def _note(self, runner: Run, change: Change, number: int) -> None:
        """Note the projection, or the change after it, and its data."""
        facts, selection = runner.outcome.facts, runner.selection
        if number:
            kept: Any = selection.dataset.kept
            if kept is not None:
                noun, classes = "templates" if isinstance(kept, Templates) else None, len(set(kept.labels.tolist()))
                facts.read("retain set", "matrix fitted to", len(kept.labels), classes=classes, labels=True, noun=noun)
            teacher: Any = runner.teacher
            facts.change("others restored", by_head=isinstance(teacher.network.head, CosineHead))
            return
        data = selection.dataset.data
        lacking, noun = (len(data.lacking), "templates") if isinstance(data, Templates) else (0, None)
        samples, classes = len(selection.indices) - lacking, len(selection.forget_ids) - lacking
        facts.read("forget set", "directions computed from", samples, classes=classes, labels=True, noun=noun)
        facts.change("projection", **change.facts)


def projected_directions(runner: Run) -> int:
    """Return the number of directions per person that a run projects out."""
    return next((hook.directions for hook in runner.hooks if isinstance(hook, PersonProjection)), 0)
