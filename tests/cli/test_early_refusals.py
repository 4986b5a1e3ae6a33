"""Typical mistakes are refused without torch or any other heavy module, and nothing is written."""

import json
import re

import numpy as np
import pytest
from helpers import argv, python

from delete_images.models.spec import ModelSpec, Preprocessing, spec_to_json
from delete_tasks.request.config import declared_classes, read_config

HEAVY = ["torch", "torchvision", "mmengine", "mmcv", "mmseg", "matplotlib", "sklearn", "scipy", "cv2", "albumentations",
         "transformers", "timm"]  # fmt: skip
CODE = f"import sys; from delete_tasks.cli import main; print(main(sys.argv[1:]), *({{*{HEAVY}}} & {{*sys.modules}}))"
IMAGES = "images forget --model MODEL --forget DATA.npz --classes green --work-dir W"
SEGMENTATION = "segmentation forget CONFIG.py --checkpoint O.pth --classes car --work-dir W"
AUDIT = "audit --original MODEL --erased nothing --forget DATA.npz --work-dir W"
LONG = pytest.mark.long


@pytest.fixture
def folder(tmp_path):
    """A folder with a model's description, data, a config with a dataset of MMSegmentation, and a used work dir."""
    (tmp_path / "MODEL").mkdir()
    spec = ModelSpec("resnet18", ("red", "green"), Preprocessing.named("none", 16))
    (tmp_path / "MODEL/model.json").write_text(json.dumps(spec_to_json(spec)))
    np.savez(tmp_path / "DATA.npz", x=np.zeros((2, 16, 16, 3), np.uint8), y=[0, 1])
    (tmp_path / "CONFIG.py").write_text("train_dataloader = dict(dataset=dict(type='CityscapesLabelIdsDataset'))")
    (tmp_path / "O.pth").touch()
    (tmp_path / "USED").mkdir()
    (tmp_path / "USED/notes.txt").touch()
    return tmp_path


@pytest.mark.parametrize(("words", "message", "imported"), [
    (IMAGES.replace("green", "gren"), "'gren'.*Did you mean 'green'", ""),
    (SEGMENTATION.replace("car", "carr"), "'carr'.*Did you mean 'car'", "mmengine"),  # its config reader alone
    (SEGMENTATION.replace(" W", " USED"), "notes.txt", ""),
    *(
        pytest.param(words, message, "", marks=LONG)
        for words, message in (
            (IMAGES.replace("MODEL", "nothing"), "'nothing' is not a model"),
            (IMAGES.replace("DATA", "nothing"), "no data at 'nothing.npz'"),
            (f"{IMAGES} --stepz 3", "did you mean '--steps'"),
            (IMAGES.replace(" W", " USED"), "notes.txt"),
            (SEGMENTATION.replace("CONFIG", "nothing"), "'nothing.py': nothing there"),
            (SEGMENTATION.replace("O.pth", "nothing"), "--checkpoint 'nothing': nothing there"),
            ("faces remove --model MODEL --person gren --work-dir W", "'gren'.*Did you mean 'green'"),
            ("backdoor clean --model MODEL --poisoned nothing --work-dir W", "--poisoned 'nothing': nothing there"),
            (AUDIT, "--erased 'nothing': nothing there"),
            ("record verify nothing", "'nothing': nothing there"),
        )
    ),
])  # fmt: skip
def test_mistakes_are_refused_without_heavy_modules(words, message, imported, folder):
    before = sorted(folder.rglob("*"))
    done = python(f"import os; os.chdir({str(folder)!r}); {CODE}", *argv(words))
    assert done.stdout.split() == ["2", *imported.split()], done.stderr
    assert re.search(message, " ".join(done.stderr.split())), done.stderr
    assert sorted(folder.rglob("*")) == before


BESIDE = """
class Base(Anything):
    METAINFO = dict(classes=("road", "car"), palette=[[0, 0, 0]] * 2)
class Street(Base):
    def __init__(self, suffix=".png", **more): ...
class Literal(Anything):
    METAINFO = {"classes": ["sky", "tree"]}
class Other(Base):
    def __init__(self, **more): super().__init__(metainfo=dict(classes=("a", "b")), **more)
"""


@pytest.mark.parametrize(("dataset", "expected"), [
    ("type='Base', metainfo=dict(classes=('lane', 'verge'))", ["lane", "verge"]),
    ("type='RepeatDataset', dataset=dict(type='my.Street')", ["road", "car"]), ("type='Literal'", ["sky", "tree"]),
    ("type='CamVidDataset'", ["sky", "building", "pole"]), ("type='Base', metainfo=dict(classes='names.txt')", []),
    ("type='Other'", []), ("type='Unknown'", []), ("type=3", []),
])  # fmt: skip
def test_class_names_are_read_from_a_config_and_the_source_of_its_dataset(dataset, expected, tmp_path):
    (tmp_path / "street.py").write_text(BESIDE)
    config = f"custom_imports = dict(imports=['street'])\ntrain_dataloader = dict(dataset=dict({dataset}))"
    (tmp_path / "config.py").write_text(config)
    assert declared_classes(read_config(tmp_path / "config.py"), "mmseg", "delete_mmseg", "no_such")[:3] == expected
