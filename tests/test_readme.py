"""Every example in the README runs. A block is known by its first line."""

from __future__ import annotations

import re

import pytest


@pytest.fixture(scope="module")
def blocks(repository) -> dict[str, str]:
    found = re.findall(r"```python\n# (\w+)[^\n]*\n(.*?)```", (repository / "README.md").read_text(), re.S)
    return dict(found)


def test_loss(blocks):
    scope: dict = {}
    exec(blocks["loss"], scope)
    assert scope["student"].grad.shape == scope["student"].shape


def test_segmentation(blocks, repository, tmp_path):
    """The four lines, at the end of an ordinary config, run in UnlearnRunner."""
    from mmengine.config import Config

    import delete_mmseg  # noqa: F401
    from delete_mmseg.demo.scenes import write_scenes
    from delete_tasks.runner import UnlearnRunner

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
