"""Probes that are fitted with scikit-learn."""

import numpy as np
import pytest
import torch

from delete_tasks.audit.probes import as_linear_map, fit_hidden_probe, fit_linear_probe


def test_a_hidden_layer_reads_nonlinear_features():
    x = np.random.default_rng(0).normal(size=(4000, 2)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    assert fit_linear_probe(x, y).score(x, y) < 0.7 and fit_hidden_probe(x, y, 16).score(x, y) > 0.9


@pytest.mark.parametrize("flushed", [True, False])
def test_nearly_constant_features_are_ignored(flushed):
    """The deviation of a dead unit may be subnormal, and 0 where such numbers are flushed."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 0] > 0.7)
    dead = np.concatenate([x, 1e-41 * y[:, None]], 1).astype(np.float32)
    torch.set_flush_denormal(flushed)
    try:
        for fit in (fit_linear_probe, lambda *given: fit_hidden_probe(*given, 8, decay=1e-4)):
            assert fit(dead, y).score(dead, y) == pytest.approx(fit(x, y).score(x, y), abs=0.02)
        assert np.isfinite(as_linear_map(fit_linear_probe(dead, y))[0]).all()
    finally:
        torch.set_flush_denormal(False)
