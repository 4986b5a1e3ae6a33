"""images forget --deep: public data are read without labels, said, and kept apart from what is measured."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from delete_images.data.opening import open_unlabelled
from delete_images.forget import make_config
from delete_tasks.cli import main, parse
from delete_tasks.runner.forget_set import digest_of


@pytest.fixture(scope="module")
def public(shared) -> str:
    return f"cifar100:{shared / 'data' / 'cifar100'}"


def words(resnet20, cifar, work_dir, *more) -> list[str]:
    return ["images", "forget", "--model", str(resnet20), "--forget", f"{cifar}?class=deer&limit=32", "--classes", "deer",
            "--work-dir", str(work_dir), "--device", "cpu", "--deep", *more]  # fmt: skip


def test_what_was_read_is_said(resnet20, cifar, public, tmp_path, publish_anyway):
    named = f"{public}?limit=40"
    more = ["--public", named, "--test", f"{cifar}?limit=50", "--steps", "3", "--batch-size", "16", "--audit", "none"]
    assert main(words(resnet20, cifar, tmp_path / "w", *more)) in (0, 4)
    results = json.loads((tmp_path / "w" / "results.json").read_text())
    names = open_unlabelled(named).names
    assert results["public_data"] == {"read": 40, "sha256": digest_of(sorted(names))} and results["retain_set"] is None
    assert (
        results["recipe"]["type"] == "DeepDELETE" and results["recipe"]["public"] == results["data"]["public"] == named
    )
    record = json.loads((tmp_path / "w" / "record.json").read_text())
    assert record["samples"]["read"] == {"forget set": 32, "public data": 40}
    listed = (tmp_path / "w" / "samples.txt").read_text().splitlines()
    assert [line for line in listed if line.startswith("public data")] == [f"public data\t{name}" for name in names]
    page = re.sub(r"\s+", " ", (tmp_path / "w" / "record.html").read_text())
    assert "forget set: 32, public data: 40" in page


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--public", "PUBLIC?limit=9", "--retain", "CIFAR?class=ship&limit=9"], "a retain set and public data are both given"),
        (["--public", "CIFAR?split=test&limit=20", "--test", "CIFAR?limit=40"], "of --test are among those used as public"),
        (["--public", "CIFAR?class=deer&limit=32"], "are images that are to be forgotten, and no others"),
        (["--test", "CIFAR?split=train"], "of --test are among those used to forget"),
        (["--retain", "CIFAR?class=ship&split=test&limit=9", "--test", "CIFAR"], "of --test are among those used as retain set"),
        (["--retain", "CIFAR?limit=60"], "shows deer, which is to be forgotten; leave that out, e.g. with ?without=deer"),
        (["--public", "EMPTY"], "holds no images"),
        (["--public", "nowhere"], "no data at 'nowhere'"),
        (["--method", "TREW"], "--deep is --method DeepDELETE, and --method TREW is given, too"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_is_written(more, message, resnet20, cifar, public, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    places = {"CIFAR": cifar, "PUBLIC": public, "EMPTY": str(tmp_path / "empty")}
    for name, place in places.items():
        more = [word.replace(name, place) for word in more]
    assert main(words(resnet20, cifar, tmp_path / "w", "--steps", "1", *more)) == 2
    assert message in capsys.readouterr().err
    left = [path for path in (tmp_path / "w").rglob("*") if path.is_file()] if (tmp_path / "w").exists() else []
    assert not left, left


def test_the_recipe_is_its_own(resnet20, cifar, public, tmp_path):
    """With public data or without, and a user's own rate stands."""
    rates = {}
    for name, more in {"both": ["--public", public], "alone": [], "own": ["--public", public, "--lr", "1e-4"]}.items():
        cfg = make_config(None, vars(parse(words(resnet20, cifar, tmp_path / "w", *more))))
        assert cfg.unlearn.type == "DeepDELETE" and cfg.unlearn.steps == 900
        assert (cfg.unlearn.get("feature_distillation"), cfg.unlearn.schedule) == (
            (None, "cosine") if name == "alone" else (30, "warmup_cosine")
        )
        assert cfg.train_dataloader.dataset.augment == "strong"
        rates[name] = cfg.unlearn.optimizer.lr, cfg.unlearn.temperature
    assert rates == {"both": (1e-3, 3), "alone": (4e-4, 4), "own": (1e-4, 3)}


def test_public_data_are_for_deep_alone(resnet20, cifar, public, tmp_path, capsys):
    plain = [word for word in words(resnet20, cifar, tmp_path / "w", "--public", public) if word != "--deep"]
    assert main(plain) == 2
    assert (
        "DELETE reads no public data; leave public out, or use method='DeepDELETE' (--deep)" in capsys.readouterr().err
    )


def test_public_images_need_no_class_folders(tmp_path):
    for name in ("a.png", "below/b.png", "below/deeper/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    found = open_unlabelled(str(tmp_path))
    assert found.names == ["a.png", "below/b.png", "below/deeper/c.png"] and set(found.labels.tolist()) == {-1}


def test_public_classes_can_be_left_out(public):
    kept, all_of_them = (open_unlabelled(f"{public}{query}") for query in ("?without=cattle,kangaroo", ""))
    assert 0 < len(kept) < len(all_of_them) == 8000 and set(kept.labels.tolist()) == {-1}
