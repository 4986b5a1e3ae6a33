"""DeepDELETE on a small network: what it compares, that it forgets, and what it refuses."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import delete_tasks
from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.losses import conditional_mmd, feature_distillation
from delete_tasks.methods.deep import DeepDELETE, draw_places
from delete_tasks.methods.delete import DELETE
from delete_tasks.model.loss_point import LossInputs
from delete_tasks.task import Recipes

GONE = 2


def both(*parts: torch.Tensor) -> torch.Tensor:
    """What the second loss is: of features as they are and whitened."""
    return conditional_mmd(*parts) + conditional_mmd(*parts, whiten=0.1)


def method(public: bool) -> DeepDELETE:
    made = DeepDELETE(classes=[GONE], teacher_temperature=1.0, likeness=1.0)
    made.ids, made._masks_all = [GONE], public
    return made


@pytest.mark.parametrize("public", [True, False])
def test_it_compares_where_the_teacher_sees_the_class_with_where_not(public, batch):
    """With a retain set, whose samples nobody takes for forgotten ones; public data may show the class."""
    _, teacher, inputs = batch()
    made, features = method(public), torch.randn(8, 6, requires_grad=True)
    made._keep_features(nn.Identity(), (features,))
    losses = made.extra_losses(teacher, inputs, None)
    rest = teacher.clone()
    rest[:, GONE] = -1e9
    seen = teacher.softmax(1)[:, GONE]
    beside = inputs.retain.float()
    sides = (seen, (1 - seen) * beside) if public else (seen * (1 - beside), beside)
    expected = both(features, rest.softmax(1), *sides)
    assert losses["loss_unlike"].item() == pytest.approx(expected.item(), rel=1e-5)
    losses["loss_unlike"].backward()
    assert features.grad.any()
    assert not made.extra_losses(teacher, inputs, None)  # another head's call, with no features of its own


def test_alone_it_compares_with_what_else_the_views_show(batch):
    """A batch without a retain set says False of every sample."""
    _, teacher, inputs = batch()
    made, features = method(False), torch.randn(8, 6, requires_grad=True)
    made._keep_features(nn.Identity(), (features,))
    losses = made.extra_losses(teacher, replace(inputs, retain=torch.zeros(8, dtype=torch.bool)), None)
    rest = teacher.clone()
    rest[:, GONE] = -1e9
    expected = both(features, rest.softmax(1), teacher.softmax(1)[:, GONE])
    assert losses["loss_unlike"].item() == pytest.approx(expected.item(), rel=1e-5)
    losses["loss_unlike"].backward()
    assert features.grad.any()


def test_features_of_other_places_than_the_logits_are_refused(batch):
    _, teacher, inputs = batch()
    made = method(False)
    made._keep_features(nn.Identity(), (torch.randn(8, 6, 2, 2),))
    with pytest.raises(RequestError, match=r"\(8, 6, 2, 2\) for logits of \(8, 4\); use type='DELETE'"):
        made.extra_losses(teacher, inputs, None)


def test_of_a_map_it_compares_places():
    """All of them where there are few; padding says nothing, and features may be smaller than the logits."""
    generator = torch.Generator().manual_seed(0)
    teacher, features = torch.randn(2, 4, 3, 5, generator=generator) * 3, torch.randn(2, 6, 3, 5, generator=generator)
    weight = torch.ones(2, 3, 5)
    weight[:, :, 4:] = 0
    made = method(False)
    made._keep_features(nn.Identity(), (features,))
    large = [nn.functional.interpolate(part, scale_factor=2) for part in (teacher, weight.unsqueeze(1))]
    losses = made.extra_losses(large[0], LossInputs([], []), large[1].squeeze(1))
    rows = [part[..., :4].movedim(1, -1).flatten(0, 2) for part in (features, teacher)]
    shows = rows[1].softmax(1)[:, GONE]
    rows[1][:, GONE] = -1e9
    # Median distance and covariance are those of all places, padding among them.
    everything = [part.movedim(1, -1).flatten(0, 2) for part in (features, teacher)]
    shown = (
        everything[1].softmax(1)[:, GONE] * weight.flatten(),
        (1 - everything[1].softmax(1)[:, GONE]) * weight.flatten(),
    )
    everything[1][:, GONE] = -1e9
    expected = both(everything[0], everything[1].softmax(1), *shown)
    assert losses["loss_unlike"].item() == pytest.approx(expected.item(), rel=1e-4)
    plain = conditional_mmd(everything[0], everything[1].softmax(1), *shown)
    assert plain.item() == pytest.approx(conditional_mmd(rows[0], rows[1].softmax(1), shows).item(), rel=0.3)


@pytest.mark.parametrize(
    ("showing", "all_places", "most", "expected"),
    [
        (30, 100, 40, (20, 20)),
        (5, 100, 40, (5, 35)),
        (95, 100, 40, (35, 5)),
        (5, 20, 40, (5, 15)),
        (0, 100, 40, (0, 40)),
    ],
)
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
def test_it_forgets(beside, blobs, trained, accuracy, publish_anyway):
    inputs, labels = blobs
    gone = labels == GONE
    given = {} if beside is None else {beside: inputs[~gone] if beside == "retain" else inputs}
    erased = delete_tasks.erase(
        copy.deepcopy(trained), inputs[gone], [GONE], method="DeepDELETE", views="none", batch_size=32, steps=60,
        optimizer={"type": "AdamW", "lr": 1e-2}, keep_row=True, match_scale=False, **given,
    )  # fmt: skip
    forgotten, others = accuracy(erased.model)
    assert forgotten < 10 and (others > 90 or beside is None)
    assert (erased.figures["public_data"], erased.figures["retain_set"]) == (
        400 if beside == "public" else None,
        300 if beside == "retain" else None,
    )


def test_it_makes_the_features_alike(blobs, trained, publish_anyway):
    """Of the four classes around a point two remain beside the forgotten one, in whose features it is to be."""
    inputs, labels = blobs
    gone, caught = labels == GONE, []

    def unlike(likeness: float) -> float:
        model = delete_tasks.erase(
            copy.deepcopy(trained), inputs[gone], [GONE], method="DeepDELETE", views="none", batch_size=64, steps=60,
            optimizer={"type": "AdamW", "lr": 1e-2}, match_scale=False, public=inputs, likeness=likeness,
        ).model  # fmt: skip
        handle = model[-1].register_forward_pre_hook(lambda _, args: caught.append(args[0]))
        with torch.no_grad():
            model(inputs)
            rest = trained(inputs)
        handle.remove()
        rest[:, GONE] = -1e9
        return conditional_mmd(caught[-1], rest.softmax(1), gone.float()).item()

    assert unlike(10.0) < 0.7 * unlike(0.0)


def test_the_others_features_stay(blobs, trained, publish_anyway):
    """They move less, on one run and with the teacher's outputs cached as well; where samples show the class they may."""
    inputs, labels = blobs
    gone, others = labels == GONE, labels != GONE

    def features(model: nn.Module) -> torch.Tensor:
        return model[:-1](inputs).detach()

    def moved(held: float, cached: bool) -> float:
        model = delete_tasks.erase(
            copy.deepcopy(trained), inputs[gone], [GONE], method="DeepDELETE", views="none", batch_size=64, steps=60,
            optimizer={"type": "AdamW", "lr": 1e-2}, match_scale=False, public=inputs, likeness=10.0,
            feature_distillation=held, cache_teacher=cached,
        ).model  # fmt: skip
        assert not any(module._forward_pre_hooks for module in model.modules())
        return feature_distillation(features(model), features(trained), others.float()).item()

    free = moved(0.0, False)
    assert [moved(10.0, cached) < 0.5 * free for cached in (True, False)] == [True, True]


def test_the_teachers_features_are_read_once_for_each_call(batch):
    _, teacher, inputs = batch()
    made = method(True)
    made.feature_distillation = 2.0
    was, features = torch.randn(8, 6), torch.randn(8, 6, requires_grad=True)
    made._keep_teacher_features(nn.Identity(), (was,))
    made._keep_features(nn.Identity(), (features,))
    losses = made.extra_losses(teacher, inputs, None)
    other = (1 - teacher.softmax(1)[:, GONE]) * inputs.retain
    assert losses["loss_moved"].item() == pytest.approx(2 * feature_distillation(features, was, other).item(), rel=1e-5)
    assert not any(made._caught.values())


def test_of_a_map_the_other_places_stay():
    """Padding may move; of a few places all are compared."""
    generator = torch.Generator().manual_seed(0)
    teacher, was, features = (torch.randn(2, width, 3, 5, generator=generator) for width in (4, 6, 6))
    weight = torch.ones(2, 3, 5)
    weight[:, :, 4:] = 0
    made = method(False)
    made.feature_distillation = 1.0
    made._keep_teacher_features(nn.Identity(), (was,))
    made._keep_features(nn.Identity(), (features,))
    found = made.extra_losses(teacher, LossInputs([], []), weight)["loss_moved"]
    rows = [part.movedim(1, -1).flatten(0, 2) for part in (features, was)]
    other = ((1 - teacher.softmax(1)[:, GONE]) * weight).flatten()
    assert found.item() == pytest.approx(feature_distillation(*rows, other).item(), rel=1e-5)


def test_a_task_that_does_not_offer_it_is_refused():
    with pytest.raises(
        UnsupportedModelError, match="DeepDELETE does not take models of 'sounds': that was not tried; use"
    ):
        task = SimpleNamespace(recipes=Recipes(), name="sounds")
        DeepDELETE(classes=[GONE]).freeze(task, nn.Identity())


def test_public_data_that_nothing_names_are_refused():
    for value in ("", 3):
        with pytest.raises(RequestError, match=r"unlearn\.public must be a string that names data"):
            DeepDELETE(classes=[GONE], public=value)


def test_other_methods_read_no_public_data(blobs, trained):
    inputs, labels = blobs
    with pytest.raises(RequestError, match="TREW reads no public data"):
        delete_tasks.erase(trained, inputs[labels == GONE], [GONE], method="TREW", public=inputs)
    with pytest.raises(RequestError, match="retain and public are both given"):
        delete_tasks.erase(trained, inputs[labels == GONE], [GONE], method="DeepDELETE", public=inputs, retain=inputs)


class Stages(nn.Module):
    """Two stages of half the size each, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 2, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.two(self.one(x).relu()).relu().mean((2, 3)))


def test_the_stage_before_is_made_alike_too(publish_anyway):
    """What the first stage holds of the class moves as soon as ``earlier`` weighs it, and hardly else."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(64, 3, 8, 8, generator=generator), torch.arange(64) % 4
    images[:, 0] += labels[:, None, None]
    torch.manual_seed(0)
    original = Stages()

    def erased(**options) -> nn.Module:
        return delete_tasks.erase(
            copy.deepcopy(original), images[labels == GONE], [GONE], method="DeepDELETE", views="none", batch_size=16, steps=40,
            optimizer={"type": "AdamW", "lr": 5e-3}, match_scale=False, public=images, likeness=0.0,
            feature_distillation=0.0, **options,
        ).model  # fmt: skip

    def unlike(model: nn.Module) -> float:
        with torch.no_grad():
            rest = original(images)
            rest[:, GONE] = -1e9
            stage = model.one(images).flatten(2).mean(2)
            return conditional_mmd(stage, rest.softmax(1), (labels == GONE).float(), whiten=0.1).item()

    plain, deep = erased(), erased(earlier=100.0)
    assert unlike(deep) < 0.5 * unlike(plain)
    assert not any(module._forward_hooks for module in deep.modules())


@pytest.mark.filterwarnings("ignore:NOT FORGOTTEN")
def test_what_has_no_earlier_stage(blobs, trained, publish_anyway, batch):
    """Vectors have none, and forget without; of a map of logits it is refused."""
    given = {"method": "DeepDELETE", "views": "none", "steps": 2, "match_scale": False}
    models = [
        delete_tasks.erase(copy.deepcopy(trained), blobs[0][:32], [GONE], earlier=earlier, **given).model
        for earlier in (0.0, 5.0)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*(model.state_dict().values() for model in models), strict=True))
    made = DeepDELETE(classes=[GONE], earlier=1.0)
    made.ids = [GONE]
    made._keep_features(nn.Identity(), (torch.randn(2, 6, 3, 5),))
    with pytest.raises(RequestError, match=r"one place a sample; use unlearn\.earlier=0"):
        made.extra_losses(torch.randn(2, 4, 3, 5), LossInputs([], []), None)
