"""Learning rates of mmengine's schedulers over a run's steps."""

import math

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from delete_tasks.request.config import schedulers


def rates(schedule: str, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    made = [PARAM_SCHEDULERS.build({**cfg, "optimizer": optimizer}) for cfg in schedulers(schedule, steps)]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in made:
            scheduler.step()
    return found


def cosine(steps: int) -> list[float]:
    return [(1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]


# A short run has no time to rise.
@pytest.mark.parametrize(("schedule", "steps"), [("cosine", 40), *(("warmup_cosine", n) for n in (1, 2, 6, 14))])
def test_cosine_falls_over_all_steps(schedule, steps):
    assert rates(schedule, steps) == pytest.approx(cosine(steps))


@pytest.mark.parametrize("steps", [40, 900])
def test_warmup_rises_over_the_first_tenth_and_falls_over_the_rest(steps):
    rise = steps // 10
    found = rates("warmup_cosine", steps)
    assert found[0] == pytest.approx(0.01) and found[rise - 1] == pytest.approx(1)
    assert found[:rise] == sorted(found[:rise])
    assert found[rise:] == pytest.approx(cosine(steps - rise), abs=1e-6)


def test_constant_has_no_scheduler():
    assert schedulers("constant", 10) == []
