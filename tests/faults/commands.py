"""Every command of the package with words that it takes, and its numeric options as its parser declares them."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
from collections.abc import Iterator
from pathlib import Path

from kit import Kit

OPEN = {"images train": ["--finetune"], "faces enroll": ["--finetune"]}  # ways to use some of the options at all


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """(command, its parser) for every command and sub-command; the one place that knows how the command line is declared."""
    from delete_tasks import cli
    from delete_tasks.task import plugin_modules

    modules = {**{name: f"{module}.commands" for name, module in plugin_modules().items()}, **cli.CORE_COMMANDS}
    for name, module in sorted(modules.items()):
        parser = argparse.ArgumentParser(prog=name)
        importlib.import_module(module).add_arguments(parser)
        below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not below:
            yield name, parser
        for action in below:
            yield from ((f"{name} {word}", child) for word, child in action.choices.items())


def _is_number(action: argparse.Action) -> bool:
    if action.type is None or not callable(action.type):
        return False
    for text in ("1", "2", "16", "0.5", "0"):
        with contextlib.suppress(Exception), contextlib.redirect_stderr(io.StringIO()):
            return isinstance(action.type(text), int | float)
    return False


def numeric_options() -> dict[str, list[str]]:
    """Command -> its options that take numbers, e.g. ``--lr``."""
    return {
        name: [action.option_strings[-1] for action in parser._actions if action.option_strings and _is_number(action)]
        for name, parser in parsers()
    }


def valid(kit: Kit, faces: Path | None = None) -> dict[str, list[str]]:
    """Command -> words that it takes, writing into the current folder."""
    data, model = kit.path("images/data.npz"), kit.path("images/model")
    photos, photo = kit.path("faces/photos"), kit.path("faces/photos/test/Bo/Bo_25.png")
    backdoored, poisoned = kit.path("backdoor/model"), kit.path("backdoor/poisoned.npz")
    runs = {
        "images forget": "images",
        "segmentation": "segmentation",
        "faces remove": "faces",
        "backdoor clean": "backdoor",
    }
    return {
        **{name: kit.argv(task, "W/run", "--no-record") for name, task in runs.items()},
        "images import": ["images", "import", f"{model}/weights.safetensors", "W/model", "--architecture", "cifar_resnet20",
                          "--classes", "red", "green", "blue", "grey", "--size", "16"],
        "images train": ["images", "train", "--like", model, "--data", f"{data}?limit=16", "--epochs", "1", "--work-dir", "W/run",
                         "--device", "cpu"],
        "images evaluate": ["images", "evaluate", model, "--eval", data, "--out", "W/figures.json"],
        "faces align": ["faces", "align", "--photos", str(faces or photos), "--out", "W/faces"],
        "faces enroll": ["faces", "enroll", "--photos", photos, "--aligned", "--backbone", "cifar_resnet20", "--out", "W/model"],
        "faces identify": ["faces", "identify", "--model", kit.path("faces/model"), "--aligned", photo],
        "backdoor find": ["backdoor", "find", "--model", backdoored, "--data", poisoned, "--out", "W/ranking.json"],
        "backdoor poison": ["backdoor", "poison", "--data", data, "--trigger", "badnets:size=3,pos=1,1", "--target", "red",
                            "--out", "W/poisoned.npz"],
        "attention": ["attention", "--original", model, "--erased", model, "--class", "green", f"{data}?limit=12", "--limit", "2",
                      "--show", "1", "--out", "W/picture.png"],
        "images architectures": ["images", "architectures", "resnet"],
        "compare": ["compare", "W", "--out", "W/compare.png"],
        "record verify": ["record", "verify", "W"],
        "record sign": ["record", "sign", "W", "--key", kit.path("key")],
        "record keygen": ["record", "keygen", "W/key"],
    }  # fmt: skip
