"""Targets at the locations of a forgotten class."""

import pytest
import torch
from torch import Tensor

from delete_tasks import ForgetRequest, RequestError
from delete_tasks.losses.masks import is_forgotten
from delete_tasks.losses.targets import SECOND, avoid_classes, fill_surroundings, move_mass
from delete_tasks.methods.deep import DeepDELETE
from delete_tasks.methods.delete import DELETE, balanced
from delete_tasks.methods.trew import TREW
from delete_tasks.model.loss_point import LossInputs

PLAIN = LossInputs([], [])

ROAD, BUILDING, CAR, TRUCK, POLE = range(5)
NAMES = ["road", "building", "car", "truck", "pole"]


def scene(*labels: tuple[slice, slice, int], size: tuple[int, int] = (12, 24), sure: float = 8.0) -> Tensor:
    """Logits ``(1, 5, h, w)`` of a road with other objects; a truck is the second choice everywhere."""
    logits = torch.zeros(1, 5, *size)
    logits[:, TRUCK] = sure / 2
    logits[:, ROAD] = sure
    for rows, columns, label in labels:
        logits[:, [ROAD, BUILDING, CAR, POLE], rows, columns] = 0
        logits[:, label, rows, columns] = sure
    return logits


def masked(logits: Tensor) -> Tensor:
    """The probabilities without the class."""
    cut = logits.clone()
    cut[:, CAR] = -torch.inf
    return cut.softmax(1)


def target(logits: Tensor) -> Tensor:
    """The masked target's probabilities ``(C, h, w)``."""
    return masked(logits)[0]


def gradient(method: DELETE, teacher: Tensor, weight: Tensor | None = None, **inputs) -> tuple[Tensor, Tensor, Tensor]:
    """The loss's gradient for a random student, the student's probabilities, and the sum of weights."""
    student = torch.randn(teacher.shape, requires_grad=True)
    method.ids, method.avoid_ids = [CAR], method.request.resolve_avoid(NAMES)
    total, _, count = method.location_loss(student, teacher, LossInputs([student], [1.0], **inputs), weight)
    total.backward()
    return student.grad, student.detach().softmax(1), count


def test_the_hole_is_filled_with_the_solution_of_laplaces_equation():
    everywhere = slice(None)
    logits = scene((everywhere, slice(14, None), BUILDING), (everywhere, slice(9, 14), CAR), sure=20.0)
    filled = target(fill_surroundings(logits, [CAR]))
    # Between two held borders it is linear: columns 8 (road) and 14 (building).
    expected = torch.tensor([(column - 8) / 6 for column in range(9, 14)])
    assert torch.allclose(filled[BUILDING, :, 9:14], expected.expand(12, 5), atol=5e-3)
    assert torch.allclose(filled[ROAD, :, 9:14], 1 - expected.expand(12, 5), atol=5e-3)


def test_outside_of_the_hole_nothing_changes_and_inside_the_class_keeps_its_probability():
    logits = scene((slice(4, 8), slice(8, 14), CAR))
    before = logits.clone()
    filled = fill_surroundings(logits, [CAR])
    outside = torch.ones(12, 24, dtype=torch.bool)
    outside[4:8, 8:14] = False
    assert torch.equal(logits, before)
    assert torch.equal(filled[0][:, outside], before[0][:, outside])
    assert torch.allclose(filled.softmax(1)[:, CAR], before.softmax(1)[:, CAR], atol=1e-5)
    assert (target(filled).argmax(0) == ROAD).all() and (target(before)[:, 5, 10].argmax() == TRUCK)


def test_a_pole_in_front_neither_spreads_nor_vanishes():
    logits = scene((slice(4, 8), slice(6, 16), CAR), (slice(None), slice(10, 11), POLE))
    filled = target(fill_surroundings(logits, [CAR])).argmax(0)
    assert (filled[:, 10] == POLE).all()
    filled[:, 10] = ROAD
    assert (filled == ROAD).all()


def test_avoided_classes_stay_and_do_not_spread():
    logits = scene((slice(2, 10), slice(2, 9), TRUCK), (slice(4, 8), slice(9, 16), CAR))
    plain, avoiding = (target(fill_surroundings(logits, [CAR], avoid)).argmax(0) for avoid in ((), (TRUCK,)))
    hole = (slice(4, 8), slice(9, 16))
    assert (plain[hole] == TRUCK).any()
    assert (avoiding[hole] == ROAD).all()
    assert (avoiding[2:10, 2:9] == TRUCK).all()


def test_a_hole_without_a_border_keeps_the_second_choice():
    logits = scene((slice(None), slice(None), CAR))
    assert torch.allclose(target(fill_surroundings(logits, [CAR])), target(logits), atol=1e-5)
    both = torch.cat([logits, scene((slice(4, 8), slice(8, 14), CAR))])  # beside a map that has one
    filled = fill_surroundings(both, [CAR])
    assert torch.allclose(target(filled[:1]), target(logits), atol=1e-5)
    assert (target(filled[1:]).argmax(0) == ROAD).all()


def test_the_default_is_the_second_choice_among_the_surroundings_and_a_little_of_it():
    logits = scene((slice(4, 8), slice(8, 14), CAR), (slice(None), slice(14, None), BUILDING))
    logits[:, BUILDING, 4:8, 8:14] = 3.5  # on the whole car, also where the road is nearer
    method = DELETE(classes=["car"])
    method.ids = [CAR]
    surroundings, second = target(fill_surroundings(logits, [CAR])), target(logits)
    product = surroundings * second
    mean = 0.7 * product / product.sum(0) + 0.3 * second
    filled = target(method.target(logits, PLAIN))
    assert torch.allclose(filled[:, 4:8, 8:14], mean[:, 4:8, 8:14], atol=1e-5)
    assert surroundings.argmax(0)[5, 9] == ROAD and second.argmax(0)[5, 9] == TRUCK
    assert filled.argmax(0)[5, 9] == BUILDING and 0.3 < filled[TRUCK, 5, 9] < 0.4
    everywhere = scene((slice(None), slice(None), CAR))
    assert torch.allclose(target(method.target(everywhere, PLAIN)), target(everywhere), atol=1e-5)
    vectors = torch.randn(2, 5)  # of images: there are no surroundings, and results.json says so
    assert method.fill == "auto" and method.target(vectors, PLAIN) is vectors and method.fill == "second"


def test_another_object_at_the_edge_stays():
    logits = scene((slice(4, 8), slice(8, 14), CAR), (slice(4, 8), slice(14, 15), POLE))
    logits[:, CAR, 4:8, 14] = 6.5  # a fifth of the probability, by the pole's side
    assert 0.1 < logits.softmax(1)[0, CAR, 5, 14] < 0.25
    assert (target(fill_surroundings(logits, [CAR]))[:, 4:8, 14].argmax(0) == POLE).all()


def test_half_precision_keeps_its_dtype_and_a_map_without_the_class_is_the_same_tensor():
    logits = scene((slice(4, 8), slice(8, 14), CAR)).half()
    filled = fill_surroundings(logits, [CAR])
    assert filled.dtype == torch.float16 and filled.isfinite().all()
    assert fill_surroundings(scene(), [CAR]).equal(scene())
    road = scene()
    assert fill_surroundings(road, [CAR]) is road


def test_vectors_have_no_surroundings():
    with pytest.raises(RequestError, match=r"fill='second'"):
        fill_surroundings(torch.zeros(2, 5), [CAR])


@pytest.mark.parametrize("shape", [(20, 5), (2, 5, 3, 4)])
def test_avoided_classes_leave_the_target_where_the_class_is_seen(shape):
    torch.manual_seed(0)
    teacher = torch.randn(shape)
    seen = is_forgotten(teacher.argmax(1), [CAR])
    assert seen.any() and not seen.all()
    found, student, _ = gradient(DELETE(classes=["car"], avoid=["truck", "pole"]), teacher)
    cut = teacher.clone()
    for label in (TRUCK, POLE):
        cut[:, label] = torch.where(seen, -torch.inf, cut[:, label])
    assert torch.allclose(found, student - masked(cut), atol=1e-6)
    assert torch.equal(avoid_classes(teacher, torch.zeros_like(seen), [TRUCK]), teacher)


def test_samples_of_a_retain_set_avoid_nothing():
    torch.manual_seed(0)
    teacher, retain = torch.randn(6, 5), torch.ones(6, dtype=torch.bool)
    found, student, _ = gradient(DELETE(classes=["car"], avoid=["truck"]), teacher, retain=retain)
    assert torch.allclose(found, student - teacher.softmax(1), atol=1e-6)


@pytest.mark.parametrize("ids", [[CAR], [CAR, POLE]])
@pytest.mark.parametrize("shape", [(40, 5), (2, 5, 3, 4)])
def test_the_forgotten_classes_become_one_where_they_lead(shape, ids):
    torch.manual_seed(0)
    teacher = 3 * torch.randn(shape, dtype=torch.float64)
    before = teacher.clone()
    p, moved = (x.softmax(1).movedim(1, -1).reshape(-1, 5) for x in (teacher, move_mass(teacher, ids, TRUCK)))
    leads = torch.tensor([int(row.argmax()) in ids for row in p])
    assert torch.equal(teacher, before) and leads.any() and not leads.all()
    expected = p.clone()
    expected[:, TRUCK] += torch.where(leads, p[:, ids].sum(1), 0)
    expected[:, ids] = 0
    found = moved.clone()
    found[:, ids] = 0
    assert torch.allclose(found / found.sum(1, keepdim=True), expected / expected.sum(1, keepdim=True), rtol=1e-12)
    # What reads the forgotten classes' probability finds the original's.
    assert torch.allclose(moved[:, ids], p[:, ids], rtol=1e-12) and torch.equal(moved[~leads], p[~leads])
    half = move_mass(scene((slice(4, 8), slice(8, 14), CAR), sure=40.0).half(), [CAR], POLE)
    chosen = target(half).argmax(0)
    assert half.dtype == torch.float16 and half.isfinite().all() and (chosen[4:8, 8:14] == POLE).all()


def test_a_retain_set_keeps_its_target_and_public_data_do_not():
    torch.manual_seed(0)
    teacher, inputs = torch.randn(20, 5), LossInputs([], [], retain=torch.ones(20, dtype=torch.bool))
    for method, public in ((DELETE, False), (DeepDELETE, False), (DeepDELETE, True)):
        method = method(classes=["car"], into="truck")
        method.ids, method.into_id, method._masks_all = [CAR], method.request.resolve_into(NAMES), public
        assert torch.equal(method.target(teacher, inputs), teacher) != public
        assert method.fill is None


@pytest.mark.parametrize(("options", "message"), [
    ({"avoid": ["lorry"]}, "'lorry'"), ({"avoid": ["car"]}, "avoid .*car"),
    ({"avoid": ["road", "building", "truck", "pole"]}, "all 5 classes"), ({"avoid": ["truck", "truck"]}, "truck"),
    ({"into": "lorry"}, "into: .*'lorry'"), ({"into": ["truck"]}, "type list"),
    ({"into": "car"}, "into names 'car', a class to forget"),
    ({"into": "#3", "avoid": ["truck"]}, "into names 'truck', a class to avoid"),
    ({"into": "truck", "fill": "second"}, "into='truck'.* fill is 'second'"),
    ({"into": "truck", "masking": "own"}, "masking is 'own'"),
    ({"fill": "nearest"}, "fill='nearest'.*'auto', 'second', 'surroundings'"),
])  # fmt: skip
def test_invalid_avoid_and_fill_are_refused(options, message):
    for request in (lambda: ForgetRequest(["car"], **options), lambda: DELETE(classes=["car"], **options).request):
        with pytest.raises(RequestError, match=message):
            request().resolve(NAMES)


def test_into_is_refused_by_other_targets_and_is_expected_unless_others_are():
    for method, options in ((TREW, {}), (DELETE, {"forgetting_only": True})):
        with pytest.raises(RequestError, match=r"leave .*into|leave it out, or into"):
            method(classes=["car"], into="truck", **options)
    request = ForgetRequest(["car"], into="truck")
    assert request.resolve_expected((), NAMES) == [TRUCK] and request.resolve_expected(["road"], NAMES) == [ROAD]


def test_one_avoided_class_may_be_given_without_a_list():
    assert DELETE(classes=["car"], avoid="truck").request.resolve_avoid(NAMES) == [TRUCK]
    assert DELETE(classes=["car"], avoid=0).request.resolve_avoid(NAMES) == [ROAD]


def test_balanced_weights_make_rare_classes_count():
    logits = scene((slice(0, 6), slice(0, 12), BUILDING))  # a quarter of the map
    weight = balanced(logits.argmax(1), logits.shape[1], None, 0.5)
    assert weight.mean() == pytest.approx(1, abs=1e-5)
    assert float(weight[0, 0, 0] / weight[0, 11, 23]) == pytest.approx(3**0.5, rel=1e-5)
    padded = torch.ones(1, 12, 24)
    padded[:, :, 12:] = 0  # of what takes part both have a half
    weight = balanced(logits.argmax(1), logits.shape[1], padded, 0.5)
    assert torch.allclose(weight, padded, atol=1e-5)


def test_balance_weighs_the_loss_by_the_originals_prediction():
    torch.manual_seed(0)
    teacher = torch.randn(30, 5)
    assert DELETE(classes=["car"], balance=0.0)._weight(PLAIN, teacher) is None
    method = DELETE(classes=["car"], balance=0.5)
    found, student, count = gradient(method, teacher, method._weight(PLAIN, teacher))
    assert count == pytest.approx(30, abs=1e-3)
    weight = balanced(teacher.argmax(1), teacher.shape[1], None, 0.5)
    assert torch.allclose(found, (student - masked(teacher)) * weight.unsqueeze(1), atol=1e-6)


def test_a_large_map_is_filled_on_a_small_one():
    """The same classes as on the map itself, in a time that does not grow with its resolution."""
    small = torch.zeros(1, 4, 64, 64)
    small[:, 1, :, :32], small[:, 2, :, 32:] = 6.0, 6.0
    small[:, 0, 24:40, 16:48], small[:, 3, 24:40, 16:48] = 12.0, 8.0  # the class, and the second choice 3 inside it
    large = small.repeat_interleave(6, 2).repeat_interleave(6, 3)
    for second in (0.0, SECOND):
        few, many = (fill_surroundings(logits, [0], second=second) for logits in (small, large))
        chosen = [target[:, 1:].argmax(1) for target in (few, many)]
        assert set(chosen[0].unique().tolist()) == {0, 1} and many.shape == large.shape
        same = chosen[0].repeat_interleave(6, 1).repeat_interleave(6, 2) == chosen[1]
        assert same.float().mean() > 0.99
        outside = large.argmax(1, keepdim=True) != 0
        assert torch.equal((many == large).all(1, keepdim=True) & outside, outside)
