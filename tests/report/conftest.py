"""Recorded runs of the kit's small networks, one for each task."""

import contextlib
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from helpers import edit_json, run

from delete_tasks.fileio.digests import section_digests, write_sums

# Runs of two steps forget nothing; the record is the question.
NOTHING_WITHHELD = "delete_tasks.runner.forget_check.LEAST_CHANGE"


@pytest.fixture(scope="session")
def colours(kit) -> Path:
    """Folder with ``model/``, a classifier of red, green, blue and grey pictures of 16 pixels, and ``data.npz``."""
    return kit.root / "images"


def _forget(colours: Path, work_dir: Path, *words: str, audit: str = "none", model: Path | None = None) -> Path:
    images = f"{colours / 'data.npz'}?limit=40"
    classes = [] if "--classes" in words else ["--classes", "green"]
    run("images forget --model", model or colours / "model", f"--forget {images} --test {images}&seed=3 --work-dir", work_dir,
        "--steps 4 --batch-size 8 --lr 1e-3 --augment none --device cpu --audit", audit, classes, list(words))  # fmt: skip
    return work_dir


@pytest.fixture(scope="session")
def forget(colours) -> Callable[..., Path]:
    """``forget(work_dir, *words, audit="none", model=None)``: run ``images forget`` on it; returns the work dir."""
    return partial(_forget, colours)


@pytest.fixture(scope="session")
def recorded(forget, once) -> Path:
    """Work dir of one run; copy it before a change."""
    words = ("--reference", "REQ-7", "--requested", "2026-11-02", "--accept", "remain_drop=50")
    return once("runs")(lambda folder: forget(folder / "first", *words, audit="quick")) / "first"


SEGMENTATION = """
_base_ = ["config.py"]
train_dataloader = dict(dataset=dict(data_root="scenes"))
test_dataloader = dict(dataset=dict(data_root="scenes"))
val_dataloader = test_dataloader
"""


@pytest.fixture(scope="session")
def segmented(kit, once) -> Path:
    """Work dir of a run whose config has paths relative to the folder in which it was started."""

    @once("streets")
    def folder(folder: Path) -> None:
        shutil.copytree(kit.path("seg"), folder, dirs_exist_ok=True)
        (folder / "relative.py").write_text(SEGMENTATION)
        words = "--checkpoint original.pth --classes car --steps 2 --batch-size 1 --work-dir runs/first --device cpu"
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(NOTHING_WITHHELD, -1.0)
            run("segmentation relative.py", words)

    return folder / "runs" / "first"


@pytest.fixture
def copy(recorded, tmp_path) -> Path:
    """A copy of the run."""
    shutil.copytree(recorded.parent, tmp_path / "runs")
    return tmp_path / "runs" / recorded.name


def _write_anew(folder: Path, record: dict) -> None:
    """Write a changed record with new digests, as far as they can be computed."""
    with contextlib.suppress(KeyError, ValueError, RecursionError):
        record["section_sha256"] = record["section_sha256"] and section_digests(record)
    (folder / "record.json").write_text(json.dumps(record, indent=2) + "\n")
    write_sums(folder, ["record.json", "record.html", "samples.txt"])


@pytest.fixture(scope="session")
def write_anew():
    """``write_anew(folder, record)``."""
    return _write_anew


PEOPLE = ("Alice_Ng", "Bob_Lee", "points", "2")


@pytest.fixture(scope="session")
def faced(kit, once) -> Path:
    """Work dir ``AliceNgTakedown`` of a run that removes Alice_Ng, with photos in ``ALICE-NG/``."""

    @once("faced")
    def folder(folder: Path) -> None:
        model, photos = shutil.copytree(kit.path("faces/model"), folder / "alice.ng-and-others"), folder / "photos"
        edit_json(model / "model.json", lambda content: content.update(classes=PEOPLE))
        for path in Path(kit.path("faces/photos")).glob("*/*/*.png"):
            person = ("ALICE-NG", *PEOPLE[1:])[("Ada", "Bo", "Cyd", "Dee").index(path.parent.name)]
            place = photos / path.parts[-3] / person / path.name.replace(path.parent.name, person)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(NOTHING_WITHHELD, -1.0)
            run("faces remove --model", model, "--person Alice_Ng --aligned --force --photos", photos,
                "--test", [f"{photos}?class=alice ng,bob lee,points,2"],
                "--reference", ["GDPR 17: erase Alice NG (ALICE.NG@example.org), room 2"],
                "--record-log", folder / "records.jsonl", "--steps 2 --directions 0 --device cpu",
                "--work-dir", folder / "AliceNgTakedown")  # fmt: skip

    return folder / "AliceNgTakedown"


@pytest.fixture(scope="session")
def boxed(kit, once) -> Path:
    """Work dir of a run that makes a detector forget."""

    @once("boxed")
    def folder(folder: Path) -> None:
        data = kit.path("detection/coco")
        images = ("--images", f"{data}/instances_train.json", "--test", f"{data}/instances_val.json")
        run("detection forget --classes car --steps 4 --lr 3e-2 --batch-size 2 --model", kit.path("detection/model"), *images,
            "--work-dir", folder / "runs" / "first")  # fmt: skip

    return folder / "runs" / "first"


@pytest.fixture(scope="session")
def cleaned(kit, once) -> Path:
    """Work dir of a run that cleans the backdoored network."""

    @once("cleaned")
    def folder(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(NOTHING_WITHHELD, -1.0)
            run(kit.argv("backdoor", folder / "runs" / "first", "--steps", 2, "--trigger", "badnets:size=4,pos=11,11"))

    return folder / "runs" / "first"
