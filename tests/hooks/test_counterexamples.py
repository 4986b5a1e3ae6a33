"""Samples that the original takes for a class near the forgotten one."""

from __future__ import annotations

import pytest
import torch

from delete_tasks import RequestError
from delete_tasks.hooks import DELETE
from delete_tasks.hooks.counterexamples import STEP, CounterexampleHook

GONE = 2


@pytest.fixture
def shown(monkeypatch):
    """Of each step: the batch, and what both networks are shown in its place."""
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    plain = CounterexampleHook._run_teacher

    def run(self, frozen, module, args, kwargs):
        changed = plain(self, frozen, module, args, kwargs)
        if changed is not None:
            found.append((kwargs["inputs"].clone(), changed[1]["inputs"].clone()))
        return changed

    monkeypatch.setattr(CounterexampleHook, "_run_teacher", run)
    return found


def test_every_second_sample_is_moved_to_another_class_of_the_original(shown, forget, trained):
    forget("DELETE", steps=5, counterexamples=30)
    assert len(shown) == 5
    for before, after in shown:
        assert torch.equal(before[::2], after[::2])
        assert (after - before).abs().amax(0).le(30.1 * STEP * before.std(0, correction=0)).all()
        with torch.no_grad():
            was, now = (trained(inputs[1::2]).softmax(1)[:, GONE].mean() for inputs in (before, after))
        assert now < was - 0.1


def test_it_forgets_and_keeps_what_lies_near(forget, accuracy):
    def kept(**options):
        return accuracy(forget("DELETE", steps=60, optimizer={"type": "AdamW", "lr": 1e-2}, **options))

    gone, others = kept(counterexamples=10)
    assert gone < 10 and others > kept()[1] - 1


def test_the_class_is_drawn_from_what_the_original_says_there():
    method = DELETE(classes=[GONE], counterexamples=1)
    method.ids = [GONE]
    logits = torch.full((2, 4, 3, 3), -20.0)
    logits[:, 0] = 10.0  # everywhere but in one corner
    logits[0, :, 0, 0] = torch.tensor([-20.0, 5.0, 10.0, -20.0])
    seen, classes = method._choose(logits, None)
    assert seen.sum() == 1 and seen[0, 0, 0]
    assert classes[0] == 1 and classes[1] != GONE  # the second sample shows nothing, and its class changes nothing
    assert not method._choose(logits, torch.ones(2, 1, 1, dtype=torch.bool))[0].any()


def test_a_batch_of_one_is_refused(forget):
    with pytest.raises(RequestError, match="every second sample of a batch, and this one has 1"):
        forget("DELETE", steps=1, batch_size=1, counterexamples=1)


def test_a_model_that_takes_something_else_than_inputs_is_refused():
    method = DELETE(classes=[GONE], counterexamples=1)
    with pytest.raises(RequestError, match=r"found NoneType; leave unlearn\.counterexamples out"):
        method._run_teacher(None, None, (), {"images": torch.zeros(2, 3), "mode": "loss"})


@pytest.mark.parametrize("steps", [-1, 1.5, 101])
def test_steps_out_of_range_are_refused(steps):
    with pytest.raises(RequestError, match="counterexamples"):
        DELETE(classes=[GONE], counterexamples=steps)
