"""No command runs code from a checkpoint, and only delete_tasks.fileio.checkpoint reads checkpoints."""

import ast
import re
import shutil

import pytest
import torch
from commands import parsers, valid
from harness import no_traceback
from helpers import argv
from kit import Kit
from npz import Payload

# These read no checkpoint; a grid, which is Python and runs as a config does, names those of a benchmark.
NONE_READ = {"faces align", "backdoor poison", "record sign", "record keygen", "images architectures", "compare", "benchmark",
             "segmentation demo", "methods"}  # fmt: skip
READ = sorted({name for name, _ in parsers()} - NONE_READ - {"record verify", "card"})
SOURCES = ("torch", "pickle", "joblib", "torch.serialization")


def write_payload(path) -> None:
    torch.save({"state_dict": {"weight": torch.ones(1)}, "extra": Payload()}, path)


@pytest.fixture(scope="module")
def bad(kit, tmp_path_factory) -> Kit:
    """Copy of the kit with a payload in every weights file."""
    folder = tmp_path_factory.mktemp("bad") / "kit"
    shutil.copytree(kit.root, folder)
    for path in (*folder.rglob("*.pth"), *folder.rglob("*.safetensors")):
        write_payload(path)
    return Kit(folder)


@pytest.mark.parametrize("command", READ)
def test_a_payload_is_refused(server, here, bad, command):
    pickled, model = bad.path("seg/original.pth"), bad.path("images/model")
    words = [pickled if word.endswith("weights.safetensors") else word for word in valid(bad)[command]]
    if command == "faces enroll":
        words += ["--weights", pickled]
    if command == "images train":
        words[words.index("--like")] = "--finetune"
    is_refused(server.run(words, here), here.cwd, f"cannot be read as|would run|pickle|{model}")


def is_refused(done, folder, fact) -> None:
    """Check for status 2 and a message with the fact; ``images train`` leaves a log."""
    assert not (folder / "canary").exists(), "code of the file ran"
    no_traceback(done)
    assert done.code == 2 and re.search(fact, done.err), f"{done}"


def test_a_payload_in_a_plain_checkpoint_is_refused_by_attention(server, here, bad):
    pickled = bad.path("seg/original.pth")
    words = argv(
        "attention --config", bad.path("seg/config.py"), "--original", pickled, "--erased", pickled, "--class car"
    )
    is_refused(server.run(words, here), here.cwd, "pickle")


def test_a_payload_in_a_record_fails(server, here, copy_of):
    write_payload(copy_of("images") / "erased/weights.safetensors")
    done = server.run(["record", "verify", "W"], here)
    no_traceback(done)
    assert done.code == 1 and "FAILED" in done.out and not (here.cwd / "canary").exists()


def test_no_bare_loading_in_the_source_tree(repository):
    """Search the syntax tree, which also finds `from torch import load` and `torch.jit.load`."""
    found = []
    for folder in ("delete_tasks", "plugins", "tools", "configs"):
        for path in sorted((repository / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                place = f"{path.relative_to(repository)}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.ImportFrom) and node.module in SOURCES:
                    found += [place for name in node.names if name.name in ("load", "loads")]
                if isinstance(node, ast.Import):
                    found += [place for name in node.names if name.name in ("pickle", "dill", "cloudpickle", "joblib")]
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.jit.load", "np.load"):
                    options = {word.arg: ast.unparse(word.value) for word in node.keywords}
                    if options.get("allow_pickle") != "False":
                        found.append(place)
    assert [place.rpartition(":")[0] for place in found] == ["delete_tasks/fileio/checkpoint.py"] * 2, found
