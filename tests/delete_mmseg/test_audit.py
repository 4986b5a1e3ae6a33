"""delete-tasks audit of a segmentor: a sample is a pixel."""

from __future__ import annotations

import torch
from helpers import argv, read_json, run


def test_a_changed_last_layer_is_hidden(make_config, tmp_path, fails):
    cfg = make_config("fastscnn", tmp_path / "run")
    cfg.dump(tmp_path / "config.py")
    state = torch.load(cfg.load_from, weights_only=True)["state_dict"]
    state["decode_head.conv_seg.weight"][13] = 0
    state["decode_head.conv_seg.bias"][13] = -20
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "hidden.pth")
    models = argv("--original", cfg.load_from, "--erased", tmp_path / "hidden.pth", "--config", tmp_path / "config.py")
    words = argv("audit", models, "--forget train --data train --test test --work-dir")
    run(words, tmp_path / "w", "--classes car")
    said = read_json(tmp_path, "w/audit.json")
    rows = said["rows"]
    assert said["task"] == "segmentation" and said["forgotten"] == ["car"] and said["samples_are"].startswith("pixels")
    assert said["verdict"]["word"] == "hidden" and rows["erased"]["linear_probe"] == rows["original"]["linear_probe"]
    assert 0 < rows["erased"]["linear_probe"]["count"] <= 4 * 20  # up to 20 pixels in each of four images
    # The last layer's rows are read where the pixel is, so that what it makes of them are the pixel's logits.
    assert rows["original"]["original_head"]["value"] == rows["erased"]["original_head"]["value"] is not None
    assert "stage before" in rows["erased"]["linear_probe_before"]["note"]
    fails("cart", words, tmp_path / "x", "--classes cart")
    fails("10 of 10 test images", words, tmp_path / "x", "--classes car --test train")
    fails("'somewhere'", words, tmp_path / "x", "--classes car --forget somewhere")
    assert not (tmp_path / "x").exists()
