"""The methods that need the forget set alone, on a person's photos."""

from __future__ import annotations

import json

import pytest

from delete_images.models.model_file import load_model
from delete_tasks.cli import main

METHODS = ("Projection", "BoundaryShrink", "BoundaryExpand", "InfluenceUnlearning", "TREW", "L2UL")


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_it_removes_a_person(method, models, faces, head, tmp_path, publish_anyway):
    words = ["faces", "remove", "--model", str(models[head]), "--person", "colin powell", "--photos", str(faces)]
    words += ["--aligned", "--work-dir", str(tmp_path / "w"), "--device", "cpu", "--no-record", "--method", method]
    words += ["--steps", "34" if method == "InfluenceUnlearning" else "4"]
    assert main(words) in (0, 4)
    results = json.loads((tmp_path / "w" / "results.json").read_text())
    assert results["recipe"]["type"] == method
    erased, _ = load_model(tmp_path / "w" / "erased")
    original, _ = load_model(models[head])
    before = original.state_dict()
    changed = [
        name for name, value in erased.embedder.state_dict().items() if (value != before[f"embedder.{name}"]).any()
    ]
    assert changed, "the embedding itself has changed"


@pytest.mark.long
def test_methods_of_a_retain_set_are_refused(models, faces, tmp_path, capsys):
    words = ["faces", "remove", "--model", str(models["linear"]), "--person", "colin powell", "--photos", str(faces)]
    assert main([*words, "--aligned", "--work-dir", str(tmp_path / "w"), "--method", "SalUn"]) == 2
    assert "SalUn learns from a retain set alone, and none is read here" in capsys.readouterr().err


def test_deep_erasure_is_refused_with_the_reason(models, faces, tmp_path, capsys):
    words = ["faces", "remove", "--model", str(models["linear"]), "--person", "colin powell", "--photos", str(faces)]
    assert main([*words, "--aligned", "--work-dir", str(tmp_path / "w"), "--method", "DeepDELETE"]) == 2
    assert (
        "DeepDELETE does not take models of 'faces': what it learns of a person's few photos" in capsys.readouterr().err
    )
    assert not (tmp_path / "w").exists()
