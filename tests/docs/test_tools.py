"""Scripts in tools/ that no other test runs."""

import json
import runpy
import subprocess
import sys

import pytest
import torch

from delete_images.models.model_file import load_model
from delete_tasks.fileio.checkpoint import load_file


@pytest.mark.slow
@pytest.mark.long
def test_references_are_trained_once(repository, shared, tmp_path, monkeypatch, capsys):
    """Weights are float16, accuracies are those of the published model, and a second run trains only missing models."""
    data, out = f"cifar10:{shared / 'data' / 'cifar10'}", tmp_path / "references"
    script = str(repository / "tools" / "train_references.py")
    words = ["--data", f"{data}?limit=40", "--test", f"{data}?limit=20", "--out", str(out), "--epochs", "1"]
    words += ["--work-dir", str(tmp_path / "W"), "--seeds", "0"]

    def run(*only: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *words, "--only", *only])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(script, run_name="__main__")
        assert end.value.code == 0
        return capsys.readouterr().out

    assert "without_ship_seed0: 1 epochs" in run("without_ship")
    weights = out / "without_ship_seed0" / "weights.safetensors"
    found = load_file(weights)
    assert weights.stat().st_size < 600_000
    assert {value.dtype for value in found.values() if value.is_floating_point()} == {torch.float16}
    assert load_model(out / "without_ship_seed0")[1].classes[8] == "ship"
    figures = json.loads((out / "without_ship_seed0" / "accuracy.json").read_text())
    assert figures["images"] == 20 and figures["seed"] == 0 and figures["forget_acc"] is not None
    told = run("all", "without_ship")
    assert "all_seed0: 1 epochs" in told and "without_ship_seed0:" not in told
    rows = [line.split(" | ")[0] for line in (out / "README.md").read_text().splitlines() if line.startswith("| ")]
    assert rows == ["| network", "| all_seed0", "| without_ship_seed0"]
    assert not list((tmp_path / "W").iterdir())


@pytest.mark.parametrize(("script", "words", "fact"), [
    ("remove_identity.py", "--model nowhere --person x --photos nowhere", "'nowhere' is not a model"),
    ("defend_backdoor.py", "", "--model"),
])  # fmt: skip
def test_a_script_is_the_command(repository, tmp_path, script, words, fact):
    command = [sys.executable, str(repository / "tools" / script), "--work-dir", str(tmp_path / "w"), *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and fact in done.stderr and not (tmp_path / "w").exists()


def test_every_script_can_be_imported(repository):
    """Benchmarks run rarely, so their imports are checked here."""
    for path in sorted((repository / "tools").glob("*.py")):
        runpy.run_path(str(path), run_name="imported")
