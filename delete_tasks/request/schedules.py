"""Learning rate schedules of unlearning runs."""

from typing import Any

SCHEDULES = ("constant", "cosine", "warmup_cosine")
WARMUP = 0.1  # share of the steps
FIRST = 0.01  # share of the learning rate at the first step


def schedulers(schedule: str, steps: int) -> list[dict[str, Any]]:
    """Make mmengine's scheduler configs for a number of optimizer steps; 'constant' needs none. 'cosine' falls to 0 over the
    steps (SGDR, arXiv 1608.03983, one cycle). 'warmup_cosine' first rises from a hundredth of the rate over a tenth of the steps:
    at the full rate, the first steps, before an optimizer's moments are estimated, damage other classes for good."""
    if schedule == "constant":
        return []
    rise = round(WARMUP * steps) if schedule == "warmup_cosine" else 0
    rise = rise if rise > 1 else 0  # a linear rise needs two steps
    rising = {"type": "LinearLR", "start_factor": FIRST, "begin": 0, "end": rise}
    falling = {"type": "CosineAnnealingLR", "T_max": steps - rise, "begin": rise, "end": steps, "eta_min": 0.0}
    return [{**part, "by_epoch": False} for part in ([rising, falling] if rise else [falling])]
