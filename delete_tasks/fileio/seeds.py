"""Seeds of random numbers, as a function of the run's seed and a position in the run."""

import random

import numpy as np
import torch

# Second number of a seed, after the run's seed: samples of the forget set, steps, samples read one by one for metrics, samples of
# the forget check, weights of an untrained network.
DATA_STREAM, STEP_STREAM, READ_STREAM, CHECK_STREAM, WEIGHTS_STREAM = range(1, 6)


def seed_all(*numbers: int) -> None:
    """Seed Python, NumPy and torch (all devices in use) with one value derived from several non-negative integers."""
    first, second = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    random.seed(int(first))
    np.random.seed(int(second))
    seed = (int(first) << 32) | int(second)
    # torch.manual_seed, on a device that was never used, formats and keeps a stack trace at each call: 2 ms a sample.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
