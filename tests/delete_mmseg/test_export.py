"""``delete-tasks export`` of real segmentation networks, checkpoints with their config."""

import onnxruntime
import pytest
from helpers import argv, read_json


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["cgnet of CamVid", "segformer", "deeplabv3plus", "bisenetv2"])
def test_a_checkpoint(name, make_config, shared, repository, tmp_path, tells, monkeypatch):
    monkeypatch.setenv("DELETE_TASKS_SHARED", str(shared))
    config, weights = repository / "configs/segmentation/cgnet_camvid_forget-car.py", "weights/cgnet_camvid11_mmseg.pth"
    weights = shared / weights
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
