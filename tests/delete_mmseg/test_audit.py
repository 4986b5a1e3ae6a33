"""delete-tasks audit of a segmentor: a sample is a pixel."""

from __future__ import annotations

import json

import torch

from delete_tasks.cli import main


def test_a_changed_last_layer_is_hidden(make_config, tmp_path, capsys):
    cfg = make_config("fastscnn", tmp_path / "run")
    cfg.dump(tmp_path / "config.py")
    state = torch.load(cfg.load_from, weights_only=True)["state_dict"]
    state["decode_head.conv_seg.weight"][13] = 0
    state["decode_head.conv_seg.bias"][13] = -20
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "hidden.pth")
    words = argv("audit --original", cfg.load_from, "--erased", tmp_path / "hidden.pth", "--config", tmp_path / "config.py")
    words += ["--forget", "train", "--data", "train", "--test", "test", "--classes"]
    assert main([*words, "car", "--work-dir", str(tmp_path / "w")]) == 0
    said = json.loads((tmp_path / "w" / "audit.json").read_text())
    rows = said["rows"]
    assert said["task"] == "segmentation" and said["forgotten"] == ["car"] and said["samples_are"].startswith("pixels")
    assert said["verdict"]["word"] == "hidden" and rows["erased"]["linear_probe"] == rows["original"]["linear_probe"]
    assert 0 < rows["erased"]["linear_probe"]["count"] <= 4 * 20  # up to 20 pixels in each of four images
    # The last layer's rows are read where the pixel is, so that what it makes of them are the pixel's logits.
    assert rows["original"]["original_head"]["value"] == rows["erased"]["original_head"]["value"] is not None
    assert "stage before" in rows["erased"]["linear_probe_before"]["note"]
    capsys.readouterr()
    assert main([*words, "cart", "--work-dir", str(tmp_path / "x")]) == 2 and "cart" in capsys.readouterr().err
    beside = [*words, "car", "--work-dir", str(tmp_path / "x")]
    beside[beside.index("test")] = "train"
    assert main(beside) == 2 and "10 of 10 test images are among those of train_dataloader" in capsys.readouterr().err
    words[words.index("train")] = "somewhere"
    assert main([*words, "car", "--work-dir", str(tmp_path / "x")]) == 2
    assert "'somewhere' is no split of the config" in capsys.readouterr().err and not (tmp_path / "x").exists()
