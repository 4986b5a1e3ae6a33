"""What keeps the other classes: a guard that begins a run again at a lower rate, and a step back at its end; both are said."""

from unittest.mock import Mock

import pytest
import torch

from delete_tasks import erase
from delete_tasks.errors import RequestError
from delete_tasks.methods.delete import DELETE
from delete_tasks.methods.guard import LEAST, WINDOW, RetentionGuard
from delete_tasks.runner.done import sentences

SURE = torch.tensor([0.0, 6.0, 0.0])  # of class 1


def agreements(student: torch.Tensor, teacher: torch.Tensor, ids: list[int], steps: int = WINDOW) -> list[float | None]:
    """The agreement after each of some equal steps."""
    guard, found = RetentionGuard(), []
    for _ in range(steps):
        guard.compare(student, teacher, ids)
        found.append(guard.end_step())
    return found


def test_only_sure_predictions_of_remaining_classes_count():
    teacher = torch.stack([SURE, SURE, SURE.roll(-1), SURE / 10])  # sure of 1, 1 and 0; unsure
    student = torch.stack([SURE, SURE.roll(1), SURE, SURE])
    assert agreements(student.repeat(LEAST, 1), teacher.repeat(LEAST, 1), ids=[0])[-1] == 0.5


def test_too_few_locations_say_nothing():
    assert agreements(SURE[None], SURE[None], ids=[1], steps=2 * WINDOW) == [None] * 2 * WINDOW


def test_maps_are_compared_at_every_fourth_place():
    teacher = SURE[None, :, None, None].expand(1, 3, 40, 40).clone()
    student = teacher.clone()
    student[:, :, 1::4] = SURE.roll(1)[None, :, None, None]  # rows that are not looked at
    assert agreements(student, teacher, ids=[0])[-1] == 1.0


def test_norms_that_train_are_refused():
    """Predictions by the statistics of a batch of the class alone would restart such a run again and again."""
    with pytest.raises(RequestError, match="norm_eval=False give guard=0"):
        DELETE(classes=["deer"], guard=0.5, norm_eval=False)


@pytest.fixture
def erased(trained, sets, accuracy):
    """``erased(lr)``: percent of the other classes' samples that are right after a run with a guard, and its figures."""
    samples, others = sets

    def erased(lr: float) -> tuple[float, dict]:
        options = {"retain": others, "lr": lr, "steps": 60, "batch_size": 32, "guard": 0.8}
        result = erase(trained, samples, [2], **options)
        return accuracy(result.model)[1], result.figures

    return erased


def test_a_rate_that_is_far_too_high_is_lowered_and_said(erased, publish_anyway):
    kept, figures = erased(100.0)
    restarts = figures["done"]["changes"][0]["restarts"]
    assert kept > 95
    rates = [100.0 / 3**n for n in range(1, len(restarts) + 1)]
    assert [restart["rate"] for restart in restarts] == pytest.approx(rates)
    assert "the weights were set back and the rate lowered to 33" in " ".join(sentences(figures["done"]))


def test_a_sane_rate_is_left_alone(erased):
    kept, figures = erased(3e-2)
    assert kept > 95 and "restarts" not in figures["done"]["changes"][0]


def test_weights_go_a_share_of_the_way_back(trained, sets, publish_anyway):
    options = {"steps": 5, "lr": 1e-2, "views": "none", "keep_row": True, "match_scale": False}
    whole, back = (erase(trained, sets[0], [2], step_back=share, **options) for share in (0.0, 0.4))
    before, changed, between = (dict(model.named_parameters()) for model in (trained, whole.model, back.model))
    for name, weight in between.items():
        torch.testing.assert_close(weight, 0.6 * changed[name] + 0.4 * before[name])
    said = [" ".join(sentences(result.figures["done"])) for result in (whole, back)]
    assert ["After the last step, 40% of the change was taken back." in words for words in said] == [False, True]


@pytest.mark.usefixtures("publish_anyway")
def test_a_run_that_is_killed_after_its_step_back_does_not_step_back_again(trained, sets, tmp_path, monkeypatch):
    options = {"steps": 5, "lr": 1e-2, "views": "none", "step_back": 0.4}
    whole = erase(trained, sets[0], [2], **options).model
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("delete_images.run_config.RunnerInMemory.finish", Mock(side_effect=KeyboardInterrupt))
        erase(trained, sets[0], [2], **options, work_dir=tmp_path)
    resumed = erase(trained, sets[0], [2], **options, work_dir=tmp_path, resume=True).model
    for before, after in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(before, after)
