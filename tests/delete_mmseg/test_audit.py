"""`delete-tasks audit` of a segmentor, where a sample is a pixel; `delete-tasks export` of checkpoints with their config."""

import onnxruntime
import pytest
import torch
from helpers import argv, read_json, run

from delete_mmseg.opened import check_order


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
    audit = read_json(tmp_path, "w/audit.json")
    rows = audit["rows"]
    assert audit["task"] == "segmentation" and audit["forgotten"] == ["car"]
    assert audit["samples_are"].startswith("pixels")
    assert audit["verdict"]["word"] == "hidden" and rows["erased"]["linear_probe"] == rows["original"]["linear_probe"]
    assert 0 < rows["erased"]["linear_probe"]["count"] <= 4 * 20  # up to 20 pixels in each of four images
    # Features are read at the pixel, so the original's last layer gives the pixel's logits.
    assert rows["original"]["original_head"]["value"] == rows["erased"]["original_head"]["value"] is not None
    assert "stage before" in rows["erased"]["linear_probe_before"]["note"]
    fails("cart", words, tmp_path / "x", "--classes cart")
    fails("10 of 10 samples of the test data", words, tmp_path / "x", "--classes car --test train")
    fails("'somewhere'", words, tmp_path / "x", "--classes car --forget somewhere")
    assert not (tmp_path / "x").exists()


@pytest.mark.long
def test_regions_are_read_from_the_original_and_not_from_blank_features(shared, repository, tmp_path, monkeypatch):
    """CGNet on CamVid, and the same network with nothing but zeros before its last layer."""
    monkeypatch.setenv("DELETE_TASKS_SHARED", str(shared))
    base = repository / "configs/segmentation/cgnet_camvid_forget-car.py"
    few = [f"{split}_dataloader = dict(dataset=dict(indices={n}))" for split, n in (("train", 30), ("test", 20))]
    (tmp_path / "few.py").write_text("\n".join([f"_base_ = [{str(base)!r}]", *few]))
    weights = shared / "weights" / "cgnet_camvid11_mmseg.pth"
    content = torch.load(weights, weights_only=True, map_location="cpu")
    state = content.get("state_dict", content)
    for name in ("weight", "bias"):
        state[f"backbone.norm_prelu_2.0.{name}"].zero_()
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "blank.pth")
    models = argv("--original", weights, "--erased", tmp_path / "blank.pth", "--config", tmp_path / "few.py")
    options = "--level full --forget train --data train --test test --classes car --work-dir"
    run("audit", models, options, tmp_path / "w")
    rows = read_json(tmp_path, "w/audit.json")["rows"]
    for name in ("linear_probe_iou", "hidden_probe_iou", "knn_probe_iou"):
        original, blank = rows["original"][name], rows["erased"][name]
        assert original["value"] > 60 and original["details"]["classes"]["road"] > 80, name
        assert blank["value"] < 5 and original["count"] == blank["count"] == 20 * 500, name


@pytest.mark.parametrize("command", ["audit --forget train --classes car --work-dir w", "attention --class car"])
def test_classes_in_another_order_are_refused(make_config, tmp_path, fails, monkeypatch, command):
    """By the names in the checkpoints; a neutral name and checkpoints without names are accepted."""
    monkeypatch.chdir(tmp_path)
    cfg = make_config("cgnet", tmp_path / "run")
    state = torch.load(cfg.load_from, weights_only=True)["state_dict"]
    cfg.dump(tmp_path / "config.py")
    for name, classes in (("original", "road car sky"), ("swapped", "car road sky"), ("erased", "road class_1 sky")):
        torch.save({"meta": {"dataset_meta": {"classes": classes.split()}}, "state_dict": state}, f"{name}.pth")
    words = argv(command, "--config config.py --original original.pth --erased")
    fails("class 0 of the erased model 'swapped.pth' is 'car', which is class 1 of the original", words, "swapped.pth")
    for original, erased in (("original.pth", "erased.pth"), ("swapped.pth", cfg.load_from)):
        check_order({"original": original, "erased": erased})


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["cgnet of CamVid", "segformer", "deeplabv3plus", "bisenetv2"])
def test_a_checkpoint_is_exported(name, make_config, shared, repository, tmp_path, tells, monkeypatch):
    monkeypatch.setenv("DELETE_TASKS_SHARED", str(shared))
    config = repository / "configs/segmentation/cgnet_camvid_forget-car.py"
    weights = shared / "weights" / "cgnet_camvid11_mmseg.pth"
    if name != "cgnet of CamVid":
        cfg = make_config(name, tmp_path / "run")
        config, weights = tmp_path / "config.py", cfg.load_from
        cfg.dump(config)
    words = argv("export", weights, "--config", config, "--onnx", tmp_path / "model.onnx")
    said, receipt = tells(words), read_json(tmp_path, "model.onnx.json")
    shape = receipt["file"]["shapes"]["logits"]
    assert shape[2:] == receipt["file"]["shapes"]["input"][2:] and "of test: largest difference" in said
    assert receipt["compared"]["difference"] <= 1e-4 * receipt["compared"]["of"]
    names = {value.name for value in onnxruntime.InferenceSession(tmp_path / "model.onnx").get_inputs()}
    assert names == {"input"}
    print(name, said)
