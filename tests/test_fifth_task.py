"""A fifth task is one folder with command, table, record, rerun, compare and resume, and the core does not name it."""

import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch
from helpers import read_json, read_results, same_tensors, values

from delete_tasks.report.results import SCHEMA

FOLDER = Path(__file__).parent / "fifth_task"
MOST_LINES = 150
BROKEN = """
from delete_tasks.runner.unlearn_runner import UnlearnRunner
save, saved = UnlearnRunner.save_checkpoint, []
def stop(self, *args, **kwargs):
    save(self, *args, **kwargs)
    saved.append(1)
    if len(saved) == 2:
        raise KeyboardInterrupt
UnlearnRunner.save_checkpoint = stop
"""


def test_it_is_one_small_folder(repository):
    lines = [path.read_text().count("\n") for path in FOLDER.rglob("*") if path.suffix in (".py", ".toml")]
    assert sum(lines) <= MOST_LINES
    core = [path for root in ("delete_tasks", "plugins") for path in (repository / root).rglob("*.py")]
    assert len(core) > 100 and not [path for path in core if "time_steps" in path.read_text()]
    assert "time_steps" not in (repository / "pyproject.toml").read_text()


@pytest.fixture(scope="module")
def installed(server, tmp_path_factory):
    """``call(*words, before=code)`` runs a command with the installed plugin; ``call.folder`` holds model.pth."""
    from harness import World, is_done

    folder = tmp_path_factory.mktemp("fifth")
    shutil.copytree(FOLDER, folder / "source")
    target = folder / "site"
    build = "import sys; from setuptools import build_meta as b; b.prepare_metadata_for_build_wheel(sys.argv[1])"
    target.mkdir()
    subprocess.run([sys.executable, "-c", build, target], cwd=folder / "source", check=True, capture_output=True)
    shutil.copytree(FOLDER / "time_steps", target / "time_steps")
    world = World(folder / "world")

    def call(*words, before=""):
        see = f"import sys; sys.path.insert(0, {str(target)!r})\n"
        return server.run(words, world, before=see + before, cwd=folder, env={"COLUMNS": "80"})

    train = """
import torch
from time_steps.register import StepModel, MadeSteps
torch.manual_seed(0)
model, data = StepModel(), MadeSteps(128, 0)
x, y = (torch.stack([one[name] for one in data]) for name in ("inputs", "labels"))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(150):
    optimizer.zero_grad(); model(x, y, mode="loss")["loss_ce"].backward(); optimizer.step()
torch.save({"state_dict": model.state_dict()}, "model.pth")
"""
    is_done(server.run([], world, before=f"import sys; sys.path.insert(0, {str(target)!r})", code=train, cwd=folder))
    call.folder = folder
    return call


@pytest.fixture(scope="module")
def run(installed):
    done = installed("time_steps", "--model", "model.pth", "--classes", "walk", "--work-dir", "W")
    assert done.code == 0, done.err
    return installed.folder / "W", done.out


def test_command_table_and_results(installed, run):
    folder, out = run
    assert "forget an activity" in installed("time_steps", "--help").out
    assert "Forgetting walk: percent of steps" in out and "logit cut off" in out
    results = read_results(folder)
    jsonschema.Draft202012Validator(read_json(SCHEMA)).validate(results)
    rows = values(results["rows"])
    assert list(rows) == ["original", "logit_cut", "erased"] and rows["original"]["forget_iou"] > 60
    assert rows["logit_cut"]["forget_iou"] == 0 and rows["erased"]["forget_iou"] < 5
    assert rows["erased"]["others_iou"] > rows["original"]["others_iou"] - 10
    assert results["recipe"]["optimizer"] == {"type": "AdamW", "lr": 0.03} and results["steps"] == 60
    assert results["rows"]["erased"]["forget_iou"]["count"] == 32
    meta = torch.load(folder / "erased.pth", weights_only=True)["meta"]
    assert meta == {"classes": ["rest", "class_1", "run", "jump"]}


def test_record_rerun_and_limits(installed, run):
    folder, out = run
    record = read_json(folder, "record.json")
    assert record["forgotten"]["kind"] == "activity"
    assert [figure["name"] for figure in record["figures"]] == ["forget_iou", "others_drop"]
    assert "forget_iou" in out and "limit 5" in out
    done = installed("record", "verify", folder, "--rerun")
    assert done.code == 0 and done.out.count("figure ") >= 2, done.out + done.err
    assert "NOT CHECKED" not in "".join(line for line in done.out.splitlines() if "figure " in line)
    words = ["time_steps", "--model", "model.pth", "--classes", "walk", "--work-dir", "X", "--accept"]
    done = installed(*words, "forget_io=1")
    assert done.code == 2 and "'forget_iou'" in done.err
    assert installed(*words, "others_drop=-50", "--fail-on-limit").code == 3


def test_compare_and_attention(installed, run):
    done = installed("compare", run[0])
    assert done.code == 0 and "time_steps, walk forgotten (percent; before -> after)" in done.out, done.err
    words = ["--original", "model.pth", "--erased", run[0] / "erased.pth", "--class", "walk", "--task", "time_steps"]
    done = installed("attention", "x.png", *words)
    assert done.code == 2 and "time_steps does not offer attention" in done.err


def test_resume(installed, run):
    words = ["time_steps", "--model", "model.pth", "--classes", "walk", "--work-dir", "R"]
    assert installed(*words, before=BROKEN).code == 130
    assert not (installed.folder / "R" / "erased.pth").exists()
    done = installed(*words, "--resume")
    assert done.code == 0, done.err
    paths = run[0] / "erased.pth", installed.folder / "R" / "erased.pth"
    assert same_tensors(*(torch.load(path, weights_only=True)["state_dict"] for path in paths))
