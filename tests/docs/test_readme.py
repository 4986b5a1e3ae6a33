"""Every Python example in the README runs. A block is known by its first line; commands run in test_guides.py."""

import re

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def blocks(repository) -> dict[str, str]:
    return dict(re.findall(r"```python\n# (\w+)[^\n]*\n(.*?)```", (repository / "README.md").read_text(), re.S))


def shortened(blocks: dict[str, str], name: str, options: str) -> str:
    """An example, with options that make it short."""
    few = blocks[name].replace("class_names=names)", f"class_names=names, {options})")
    assert few != blocks[name]
    return few


def test_segmentation(blocks, repository, tmp_path):
    """The lines run in UnlearnRunner at the end of an ordinary config."""
    from mmengine.config import Config

    import delete_mmseg  # noqa: F401
    from delete_mmseg.demo.scenes import write_scenes
    from delete_tasks.runner.unlearn_runner import UnlearnRunner

    write_scenes(tmp_path / "scenes", train=6, val=1)
    weights = repository / "plugins/delete_mmseg/demo/street_scenes.pth"
    base = repository / "configs/segmentation/_base_/street_scenes.py"
    lines = blocks["segmentation"].replace("YOUR_MODEL.pth", str(weights))
    (tmp_path / "config.py").write_text(f"_base_ = [{str(base)!r}]\n{lines}")
    cfg = Config.fromfile(str(tmp_path / "config.py"))
    assert cfg.unlearn == dict(type="DELETE", classes=["car"])
    cfg.train_dataloader.dataset.data_root = str(tmp_path / "scenes")
    cfg.unlearn.steps, cfg.work_dir, cfg.log_level = 2, str(tmp_path / "run"), "WARNING"
    UnlearnRunner.from_cfg(cfg).train()
    assert (tmp_path / "run" / "erased.pth").is_file()


def test_images(blocks, shared, resnet20, tmp_path, monkeypatch):
    """The example runs on a folder with one class, and a ResNet-20 with ten."""
    import cv2

    from delete_images.data.opening import open_data
    from delete_images.data.transforms import eval_transform
    from delete_images.models.model_file import load_model

    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "deer").mkdir(parents=True)
    photos = open_data(f"cifar10:{shared / 'data' / 'cifar10'}?class=deer&limit=48")
    for number in range(len(photos)):
        cv2.imwrite(f"photos/deer/{number}.png", photos[number][0][..., ::-1])
    model, spec = load_model(resnet20)
    transform = eval_transform(spec)
    scope = {"model": model, "names": list(spec.classes), "transform": lambda image: transform(np.asarray(image))}
    exec(shortened(blocks, "images", "steps=12, batch_size=24, lr=3e-4"), scope)
    told = scope["erased"].figures["predicted_as_forgotten"]
    assert told["before"] > 90 and told["after"] < 10
    assert torch.load("erased.pth", weights_only=True).keys() == model.state_dict().keys()


def test_dense(blocks, tmp_path, monkeypatch):
    """The example runs on a small SegFormer that predicts cars in noise."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = ["road", "sky", "car"]
    sizes = dict(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], decoder_hidden_size=16)
    model = SegformerForSemanticSegmentation(SegformerConfig(num_labels=3, num_attention_heads=[1, 1, 2, 2], **sizes))
    model.decode_head.classifier.bias.data[2] += 0.5
    scenes = torch.utils.data.TensorDataset(torch.randn(4, 3, 32, 32), torch.full((4, 32, 32), 2))
    scope = {"model": model.eval(), "names": names, "scenes": scenes}
    exec(shortened(blocks, "dense", "steps=20, lr=1e-2"), scope)
    rows = scope["erased"].figures["rows"]
    assert rows["original"]["forget_iou"] > 50 and rows["erased"]["forget_iou"] == 0
    assert scope["erased"].figures["predicted_as_forgotten"]["with_row"] < 10
    again = SegformerForSemanticSegmentation.from_pretrained("erased")
    assert torch.equal(again.decode_head.classifier.bias, scope["erased"].model.decode_head.classifier.bias)


def test_detectors(blocks, kit, tmp_path, monkeypatch):
    """The example runs on a small YOLOX that sees cars nearly everywhere."""
    from delete_images.models.model_file import load_model

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model, spec = load_model(kit.path("detection/model"))
    scope = {"model": model, "names": list(spec.classes), "images": list(torch.rand(4, 3, 64, 64))}
    exec(shortened(blocks, "detectors", "size=64, steps=6, lr=0.02, batch_size=2"), scope)
    boxes = scope["erased"].figures["boxes"]
    assert boxes["all"] > 0 and boxes["kept"] == 0
    assert torch.load("erased.pth", weights_only=True).keys() == model.state_dict().keys()
