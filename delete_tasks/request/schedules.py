"""Schedules of the learning rate over an unlearning run's optimizer steps."""

from typing import Any

SCHEDULES = ("constant", "cosine", "warmup_cosine")
WARMUP = 0.1  # of the steps
FIRST = 0.01  # of the rate


def schedulers(schedule: str, steps: int) -> list[dict[str, Any]]:
    """mmengine configs of a schedule, none for 'constant'.

    Args:
        schedule: Of :data:`SCHEDULES`. 'cosine' falls to 0 over the steps (SGDR, arXiv 1608.03983, one cycle). 'warmup_cosine'
            rises from a hundredth of the rate over the first tenth of them, then falls: at the full rate an optimizer's first
            steps, whose moments know nothing yet, cost the other classes what later steps do not give back.
        steps: Of the run.
    """
    if schedule == "constant":
        return []
    rise = round(WARMUP * steps) if schedule == "warmup_cosine" else 0
    rise = rise if rise > 1 else 0  # a line needs two points
    rising = {"type": "LinearLR", "start_factor": FIRST, "begin": 0, "end": rise}
    falling = {"type": "CosineAnnealingLR", "T_max": steps - rise, "begin": rise, "end": steps, "eta_min": 0.0}
    return [{**part, "by_epoch": False} for part in ([rising, falling] if rise else [falling])]
