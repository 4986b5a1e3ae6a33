"""DeepDELETE on a small network: its losses on features, forgetting, and refusals."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers import same_tensors
from torch import nn
from toys import Stages

import delete_tasks
from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.losses import conditional_mmd, feature_distillation
from delete_tasks.methods.deep import DeepDELETE, draw_places
from delete_tasks.methods.delete import DELETE
from delete_tasks.model.loss_point import LossInputs
from delete_tasks.task import Recipes

GONE = 2


def both(*parts: torch.Tensor) -> torch.Tensor:
    """The second loss: of features as they are and whitened."""
    return conditional_mmd(*parts) + conditional_mmd(*parts, whiten=0.1)


def method(public: bool, **options) -> DeepDELETE:
    made = DeepDELETE(classes=[GONE], teacher_temperature=1.0, likeness=1.0, **options)
    made.ids, made._masks_all = [GONE], public
    return made


def losses_of(made: DeepDELETE, features: torch.Tensor, teacher: torch.Tensor, inputs: LossInputs, weight=None) -> dict:
    made._keep_features(nn.Identity(), (features,))
    return made.extra_losses(teacher, inputs, weight)


def masses(teacher: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The forgotten class's probability, and the target without it."""
    rest = teacher.clone()
    rest[:, GONE] = -torch.inf
    return teacher.softmax(1)[:, GONE], rest.softmax(1)


def samples(maps: torch.Tensor) -> torch.Tensor:
    return maps.movedim(1, -1).flatten(0, -2)


@pytest.fixture
def erase(blobs, trained, publish_anyway):
    """``erase(**options)``: the small network, unlearned with DeepDELETE."""
    inputs, labels = blobs

    def erase(network=trained, samples=inputs[labels == GONE], **options):
        options = {"batch_size": 64, "steps": 60, "optimizer": {"type": "AdamW", "lr": 1e-2}, **options}
        given = {"method": "DeepDELETE", "views": "none", "match_scale": False, **options}
        return delete_tasks.erase(copy.deepcopy(network), samples, [GONE], **given)

    return erase


@pytest.mark.parametrize("beside", ["public", "retain", None])
def test_it_compares_where_the_teacher_sees_the_class_with_where_not(beside, batch):
    """Samples of a retain set never count as forgotten; public data may show the class; alone, so do the views themselves."""
    _, teacher, inputs = batch()
    if beside is None:
        inputs = replace(inputs, retain=torch.zeros(8, dtype=torch.bool))
    made, features = method(beside == "public"), torch.randn(8, 6, requires_grad=True)
    losses = losses_of(made, features, teacher, inputs)
    seen, target = masses(teacher)
    others = inputs.retain.float()
    sides = {"public": (seen, (1 - seen) * others), "retain": (seen * (1 - others), others), None: (seen,)}[beside]
    expected = both(features, target, *sides)
    assert losses["loss_unlike"].item() == pytest.approx(expected.item(), rel=1e-5)
    losses["loss_unlike"].backward()
    assert features.grad.any()
    assert not made.extra_losses(teacher, inputs, None)  # another head's call, without features


def test_features_of_other_places_than_the_logits_are_refused(batch):
    _, teacher, inputs = batch()
    with pytest.raises(RequestError, match=r"\(8, 6, 2, 2\) for logits of \(8, 4\)"):
        losses_of(method(False), torch.randn(8, 6, 2, 2), teacher, inputs)


@pytest.fixture
def maps():
    """A teacher's logits and two maps of features, and weights that are 0 on padding."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.ones(2, 3, 5)
    weight[:, :, 4:] = 0
    return *(torch.randn(2, width, 3, 5, generator=generator) for width in (4, 6, 6)), weight


def test_of_a_map_it_compares_places(maps):
    """All of a few; padding has no weight, and features may be smaller than the logits."""
    teacher, features, _, weight = maps
    teacher = 3 * teacher
    large = [nn.functional.interpolate(maps, scale_factor=2) for maps in (teacher, weight.unsqueeze(1))]
    losses = losses_of(method(False), features, large[0], LossInputs([], []), large[1].squeeze(1))
    # Median distance and covariance are those of all places, padding among them.
    seen, target = masses(samples(teacher))
    sides = seen * weight.flatten(), (1 - seen) * weight.flatten()
    assert losses["loss_unlike"].item() == pytest.approx(both(samples(features), target, *sides).item(), rel=1e-4)
    seen, valid_target = masses(samples(teacher[..., :4]))
    unpadded = conditional_mmd(samples(features[..., :4]), valid_target, seen)
    assert conditional_mmd(samples(features), target, *sides).item() == pytest.approx(unpadded.item(), rel=0.3)


@pytest.mark.parametrize(("showing", "all_places", "most", "expected"), [
    (30, 100, 40, (20, 20)), (5, 100, 40, (5, 35)), (95, 100, 40, (35, 5)), (5, 20, 40, (5, 15)), (0, 100, 40, (0, 40)),
])  # fmt: skip
def test_half_of_the_places_show_the_class_as_far_as_they_go(showing, all_places, most, expected):
    seen = (torch.arange(all_places) < showing).float()
    places = draw_places(seen, most)
    assert len(set(places.tolist())) == len(places) == sum(expected)
    assert int(seen[places].sum()) == expected[0]


def test_public_data_are_masked_and_a_retain_set_is_not(batch):
    student, teacher, inputs = batch()
    found = {public: method(public).location_loss(student, teacher, inputs, None)[0].item() for public in (True, False)}
    plain = DELETE(classes=[GONE], teacher_temperature=1.0)
    plain.ids = [GONE]
    masked = LossInputs(inputs.logits, inputs.weights, labels=inputs.labels)
    assert found[True] == pytest.approx(plain.location_loss(student, teacher, masked, None)[0].item())
    assert found[False] == pytest.approx(plain.location_loss(student, teacher, inputs, None)[0].item())
    assert found[True] != pytest.approx(found[False])


@pytest.mark.parametrize("beside", ["retain", "public", None])
def test_it_forgets(beside, blobs, erase, accuracy):
    inputs, labels = blobs
    given = {} if beside is None else {beside: inputs[labels != GONE] if beside == "retain" else inputs}
    erased = erase(batch_size=32, keep_row=True, **given)
    forgotten, others = accuracy(erased.model)
    assert forgotten < 10 and (others > 90 or beside is None)
    assert erased.figures["public_data"] == (400 if beside == "public" else None)
    assert erased.figures["retain_set"] == (300 if beside == "retain" else None)


def test_it_makes_the_features_alike(blobs, trained, erase):
    """The forgotten class's features move to those of the two neighbouring classes."""
    inputs, labels = blobs

    def unlike(likeness: float) -> float:
        model = erase(public=inputs, likeness=likeness).model
        with torch.no_grad():
            features, (_, target) = model[:-1](inputs), masses(trained(inputs))
        return conditional_mmd(features, target, (labels == GONE).float()).item()

    assert unlike(10.0) < 0.7 * unlike(0.0)


def test_the_others_features_stay(blobs, trained, erase):
    """With feature distillation they move less, with and without a cache of the teacher's outputs."""
    inputs, labels = blobs

    def features(model: nn.Module) -> torch.Tensor:
        return model[:-1](inputs).detach()

    def moved(held: float, cached: bool) -> float:
        options = {"public": inputs, "likeness": 10.0, "feature_distillation": held, "cache_teacher": cached}
        model = erase(**options).model
        assert not any(module._forward_pre_hooks for module in model.modules())
        return feature_distillation(features(model), features(trained), (labels != GONE).float()).item()

    free = moved(0.0, False)
    assert [moved(10.0, cached) < 0.5 * free for cached in (True, False)] == [True, True]


def test_the_teachers_features_are_read_once_for_each_call(batch):
    _, teacher, inputs = batch()
    made = method(True, feature_distillation=2.0)
    was, features = torch.randn(8, 6), torch.randn(8, 6, requires_grad=True)
    made._keep_teacher_features(nn.Identity(), (was,))
    losses = losses_of(made, features, teacher, inputs)
    other = (1 - teacher.softmax(1)[:, GONE]) * inputs.retain
    assert losses["loss_moved"].item() == pytest.approx(2 * feature_distillation(features, was, other).item(), rel=1e-5)
    assert not any(made._caught.values())
    plain = DELETE(classes=[GONE], feature_distillation=2.0)  # the retain set's alone
    plain._keep_teacher_features(nn.Identity(), (was,))
    loss = losses_of(plain, features, teacher, inputs)["loss_moved"]
    assert loss.item() == pytest.approx(2 * feature_distillation(features, was, inputs.retain.float()).item(), rel=1e-5)


def test_of_a_map_the_other_places_stay(maps):
    """Padding may move; all of a few places are compared."""
    teacher, was, features, weight = maps
    made = method(False, feature_distillation=1.0)
    made._keep_teacher_features(nn.Identity(), (was,))
    loss = losses_of(made, features, teacher, LossInputs([], []), weight)["loss_moved"]
    other = ((1 - teacher.softmax(1)[:, GONE]) * weight).flatten()
    expected = feature_distillation(samples(features), samples(was), other)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_task_that_does_not_offer_it_is_refused():
    task = SimpleNamespace(recipes=Recipes(), name="sounds")
    with pytest.raises(UnsupportedModelError, match=r"DeepDELETE .*'sounds'"):
        DeepDELETE(classes=[GONE]).freeze(task, nn.Identity())


def test_public_data_without_a_name_are_refused():
    for value in ("", 3):
        with pytest.raises(RequestError, match=r"unlearn\.public"):
            DeepDELETE(classes=[GONE], public=value)


def test_other_methods_read_no_public_data(blobs, trained):
    inputs, labels = blobs
    with pytest.raises(RequestError, match="TREW reads no public data"):
        delete_tasks.erase(trained, inputs[labels == GONE], [GONE], method="TREW", public=inputs)
    with pytest.raises(RequestError, match="retain and public are given"):
        delete_tasks.erase(trained, inputs[labels == GONE], [GONE], method="DeepDELETE", public=inputs, retain=inputs)


def test_the_stage_before_is_made_alike(erase):
    """The last but one stage's features move if ``earlier`` weighs their loss."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(64, 3, 8, 8, generator=generator), torch.arange(64) % 4
    images[:, 0] += labels[:, None, None]
    torch.manual_seed(0)
    original = Stages(classes=4)

    def erased(**options) -> nn.Module:
        options |= {"batch_size": 16, "steps": 40, "optimizer": {"type": "AdamW", "lr": 5e-3}, "public": images}
        return erase(original, images[labels == GONE], likeness=0.0, feature_distillation=0.0, **options).model

    def unlike(model: nn.Module) -> float:
        with torch.no_grad():
            _, target = masses(original(images))
            stage = model.two(model.one(images)).flatten(2).mean(2)
            return conditional_mmd(stage, target, (labels == GONE).float(), whiten=0.1).item()

    plain, deep = erased(), erased(earlier=100.0)
    assert unlike(deep) < 0.5 * unlike(plain)
    assert not any(module._forward_hooks for module in deep.modules())


@pytest.mark.filterwarnings("ignore:NOT FORGOTTEN")
def test_models_without_an_earlier_stage(blobs, erase):
    """For vectors ``earlier`` has no effect; a map of logits is refused."""
    without, with_earlier = (erase(samples=blobs[0][:32], steps=2, earlier=value).model for value in (0.0, 5.0))
    assert same_tensors(without.state_dict(), with_earlier.state_dict())
    with pytest.raises(RequestError, match=r"unlearn\.earlier=0"):
        losses_of(method(False, earlier=1.0), torch.randn(2, 6, 3, 5), torch.randn(2, 4, 3, 5), LossInputs([], []))
