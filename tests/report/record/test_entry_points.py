"""No command runs code from a checkpoint, and nothing but delete_tasks.fileio.checkpoint reads one."""

from __future__ import annotations

import ast
import os
import shutil
from pathlib import Path

import click
import pytest
import torch

from delete_tasks.cli import main
from delete_tasks.cli.tree import make_root

# What reads a checkpoint: words of a command, with BAD for a file and FOLDER for a model folder that hold a payload.
WORDS = {
    "segmentation forget": ["CONFIG", "--checkpoint", "BAD", "--work-dir", "WORK", "--cfg-options", "TRAIN", "TEST"],
    "images import": ["BAD", "OUT", "--architecture", "cifar_resnet20", "--classes", "a", "b", "c"],
    "images forget": ["--model", "FOLDER", "--forget", "DATA", "--classes", "green", "--work-dir", "WORK"],
    "images evaluate": ["FOLDER", "--test", "DATA"],
    "faces enroll": ["--photos", "PHOTOS", "--weights", "BAD", "--out", "OUT", "--aligned"],
    "images train": ["--finetune", "FOLDER", "--data", "DATA", "--work-dir", "WORK"],
    "faces remove": ["--model", "FOLDER", "--person", "green", "--photos", "PHOTOS", "--work-dir", "WORK"],
    "faces import": ["--weights", "BAD", "--out", "OUT"],
    "faces embed": ["--model", "FOLDER", "--photos", "PHOTOS", "--aligned", "--out", "OUT.npz"],
    "faces identify": ["--model", "FOLDER", "PHOTO"],
    "backdoor clean": ["--model", "FOLDER", "--poisoned", "DATA", "--target", "green", "--work-dir", "WORK"],
    "backdoor find": ["--model", "FOLDER", "--data", "DATA", "--out", "OUT.json"],
    "attention": ["--original", "FOLDER", "--erased", "FOLDER", "--class", "green", "DATA"],
    "audit": ["--original", "FOLDER", "--erased", "FOLDER", "--forget", "DATA", "--work-dir", "WORK"],
    "record verify": ["RECORD"],
}
# These read no checkpoint.
NONE_READ = {
    "faces align",
    "backdoor poison",
    "record sign",
    "record keygen",
    "images architectures",
    "compare",
    "methods",
    "benchmark",  # of a grid that it is given, which is Python and runs, as a config does
    "segmentation demo",
}


class Payload:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def _commands() -> set[str]:
    found, root = set(), make_root()
    context = click.Context(root)
    for name in root.list_commands(context):
        inner = getattr(root.get_command(context, name), "commands", {})
        found |= {f"{name} {word}" for word in inner} if inner else {name}
    return found


def test_every_command_is_tried():
    assert _commands() == set(WORDS) | NONE_READ


@pytest.fixture
def places(colours, recorded, repository, tmp_path, monkeypatch) -> dict[str, str]:
    """Files with a payload in them, and what else commands ask for; the current folder is where it would show."""
    from PIL import Image

    from delete_mmseg.demo.scenes import write_scenes

    monkeypatch.chdir(tmp_path)
    state = {"state_dict": {"weight": torch.ones(1)}, "extra": Payload()}
    torch.save(state, tmp_path / "bad.pth")
    shutil.copytree(colours / "model", tmp_path / "folder")
    shutil.copy(tmp_path / "bad.pth", tmp_path / "folder" / "weights.safetensors")
    shutil.copytree(recorded.parent, tmp_path / "runs")
    shutil.copy(tmp_path / "bad.pth", tmp_path / "runs" / "first" / "erased" / "weights.safetensors")
    write_scenes(tmp_path / "scenes", train=2, val=1)
    for person in ("green", "red"):
        (tmp_path / "photos" / person).mkdir(parents=True)
        Image.new("RGB", (112, 112), "grey").save(tmp_path / "photos" / person / "1.png")
    return {
        "BAD": "bad.pth",
        "FOLDER": "folder",
        "CONFIG": str(repository / "configs/segmentation/demo_street-scenes_forget-car.py"),
        "TRAIN": "train_dataloader.dataset.data_root=scenes",
        "TEST": "test_dataloader.dataset.data_root=scenes",
        "DATA": str(colours / "data.npz"),
        "PHOTOS": "photos",
        "PHOTO": "photos/red/1.png",
        "RECORD": "runs/first",
        "WORK": "work",
        "OUT": "out",
        "OUT.json": "out.json",
    }


@pytest.mark.parametrize("command", WORDS)
def test_a_payload_is_refused(command, places, capsys):
    words = [*command.split(), *(places.get(word, word) for word in WORDS[command])]
    status = main(words)
    told = capsys.readouterr()
    if command == "record verify":
        assert status == 1 and "FAILED       erased model: tensors" in told.out
    else:
        assert status == 2 and ("cannot be read as" in told.err or "would run" in told.err), told.err
    assert not Path("pwned").exists()


def test_a_payload_in_a_plain_checkpoint_is_refused_by_attention(places, capsys):
    words = [
        "attention",
        "--config",
        places["CONFIG"],
        "--original",
        "bad.pth",
        "--erased",
        "bad.pth",
        "--class",
        "car",
    ]
    assert main(words) == 2 and "needs pickle, which can run any code" in capsys.readouterr().err
    assert not Path("pwned").exists()


def test_no_bare_loading_in_the_source_tree(repository):
    """By syntax, not by text, so that `from torch import load` and `torch.jit.load` are seen, too."""
    found = []
    for folder in ("delete_tasks", "plugins", "tools", "configs"):
        for path in sorted((repository / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                place = f"{path.relative_to(repository)}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.ImportFrom) and node.module in (
                    "torch",
                    "pickle",
                    "joblib",
                    "torch.serialization",
                ):
                    found += [place for name in node.names if name.name in ("load", "loads")]
                if isinstance(node, ast.Import):
                    found += [place for name in node.names if name.name in ("pickle", "dill", "cloudpickle", "joblib")]
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.jit.load", "np.load"):
                    options = {word.arg: ast.unparse(word.value) for word in node.keywords}
                    if options.get("allow_pickle") != "False":
                        found.append(place)
    assert [place.rpartition(":")[0] for place in found] == ["delete_tasks/fileio/checkpoint.py"] * 2, found
