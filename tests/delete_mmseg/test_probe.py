"""Probes on a real network's features: what they read, and what they no longer read of features without the class."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS

from delete_mmseg.probe import probe_ious
from delete_tasks.audit.probes import as_linear_map, fit_hidden_probe, fit_linear_probe
from delete_tasks.errors import RequestError
from delete_tasks.fileio.checkpoint import load_weights


@pytest.fixture(scope="module")
def opened(shared, repository):
    os.environ["DELETE_TASKS_SHARED"] = str(shared)
    cfg = Config.fromfile(str(repository / "configs/segmentation/cgnet_camvid_forget-car.py"))
    init_default_scope("mmseg")
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    load_weights(model, cfg.load_from)
    dataset = cfg.test_dataloader.dataset
    train = DATASETS.build({**dataset, "data_prefix": cfg.train_dataloader.dataset.data_prefix, "indices": 24})
    return model.eval(), train, DATASETS.build({**dataset, "indices": 8})


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("how", [{}, {"hidden": 32}, {"neighbours": True}])
def test_cars_are_read_from_the_original_and_not_where_its_features_are_gone(opened, how):
    model, train, test = opened
    names = test.metainfo["classes"]
    read = probe_ious(model, train, test, names, **how)
    assert list(read) == list(names) and read["car"] > 60 and read["road"] > 80
    handle = model.decode_head.conv_seg.register_forward_pre_hook(lambda _, args: (torch.zeros_like(args[0]),))
    try:
        assert probe_ious(model, train, test, names, pixels=50, **how)["car"] < 5
    finally:
        handle.remove()


def test_two_classes_are_refused(opened):
    model, train, test = opened
    sky = [dict(train[0], data_samples=train[0]["data_samples"].clone()) for _ in range(2)]
    for sample in sky:
        sample["data_samples"].gt_sem_seg.data[:] = 0
    with pytest.raises(RequestError, match="1 class"):
        probe_ious(model, sky, test, test.metainfo["classes"])


def test_a_hidden_layer_reads_what_a_line_cannot():
    x = np.random.default_rng(0).normal(size=(4000, 2)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    assert fit_linear_probe(x, y).score(x, y) < 0.7 and fit_hidden_probe(x, y, 16).score(x, y) > 0.9


@pytest.mark.parametrize("flushed", [True, False])
def test_features_next_to_constant_say_nothing(flushed):
    """A dead unit's deviation may be subnormal, which a processor that flushes such numbers takes for 0."""
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
