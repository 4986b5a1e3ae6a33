"""All commands of the package: valid words, and the numeric options that their parsers declare."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
from kit import PICTURES, PUBLISHED, TASKS, Kit


def parsers() -> Iterator[tuple[str, click.Command]]:
    """Yield name and parser of every command; no other test depends on how commands are declared."""
    from delete_tasks.cli.tree import make_root

    root = make_root()
    context = click.Context(root)
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        inner = getattr(command, "commands", {})
        yield from ((f"{name} {word}", child) for word, child in inner.items())
        if not inner:
            yield name, command


def _is_number(param: click.Parameter) -> bool:
    for text in ("1", "2", "16", "0.5", "0"):
        with contextlib.suppress(Exception):
            return isinstance(param.type.convert(text, None, None), int | float)
    return False


def numeric_options() -> dict[str, list[str]]:
    """List the options with numbers, e.g. ``--lr``, by command."""

    def options(command: click.Command) -> list[str]:
        found = [param for param in command.params if isinstance(param, click.Option) and not param.is_flag]
        return [param.opts[-1] for param in found if _is_number(param)]

    return {name: options(command) for name, command in parsers()}


def text_options() -> Iterator[tuple[str, str]]:
    """Yield command and option, or name of an argument, for each text, e.g. a path or the name of a class."""
    for name, command in parsers():
        for param in command.params:
            if not getattr(param, "is_flag", False) and not _is_number(param):
                yield name, param.opts[-1]


def valid(kit: Kit, faces: Path | None = None) -> dict[str, list[str]]:
    """Return valid words by command; output goes to the current folder."""
    data, model = kit.path("images/data.npz"), kit.path("images/model")
    photos, photo = kit.path("faces/photos"), kit.path("faces/photos/test/Bo/Bo_25.png")
    face, weights = kit.path("faces/model"), kit.path("faces/model/weights.safetensors")
    boxes, seg = f"{kit.path('detection/coco')}/instances_train.json", kit.path("seg")
    runs = zip(("images forget", "segmentation forget", "faces remove", "backdoor clean"), TASKS, strict=True)
    others = {
        "images import": f"{model}/weights.safetensors W/model --architecture cifar_resnet20 --size 16 "
                         "--classes red green blue grey",
        "images train": f"--like {model} --data {data}?limit=16 --epochs 1 --work-dir W/run --device cpu",
        "images evaluate": f"{model} --test {data} --out W/figures.json",
        "faces align": f"--photos {faces or photos} --out W/faces",
        "faces enroll": f"--photos {photos} --aligned --backbone cifar_resnet20 --out W/model",
        "faces import": f"--weights {weights} --backbone cifar_resnet20 --embedding-size 16 --head cosine --out W/model",
        "faces embed": f"--model {face} --photos {photos} --aligned --out W/templates.npz",
        "faces update": f"{kit.path('faces/store.npz')} --original {face} --erased {kit.path('faces/erased')} --out W/new.npz",
        "faces identify": f"--model {face} --aligned {photo}",
        "benchmark": f"{kit.path('grid.py')} --work-dir W/grid --cells-only --device cpu",
        "backdoor find": f"--model {kit.path('backdoor/model')} --data {kit.path('backdoor/poisoned.npz')} --out W/ranking.json",
        "backdoor poison": f"--data {data} --trigger badnets:size=3,pos=1,1 --target red --out W/poisoned.npz",
        "detection import": f"{kit.path('detection/yolox.pth')} W/model --architecture yolox --arguments width=0.125 "
                            "--classes person car cup --size 64",
        "detection forget": f"--model {kit.path('detection/model')} --images {boxes} --classes car --steps 6 --lr 2e-2 "
                            "--batch-size 2 --audit none --no-record --device cpu --work-dir W/run",
        "attention": f"--original {model} --erased {model} --class green {data}?limit=12 --limit 2 --show 1 --out W/picture.png",
        "audit": f"--original {model} --erased {model} --forget {data}?class=green&limit=12 --data {data} "
                 f"--test {data}?limit=40 --work-dir W/run",
        "export": f"{model} --data {data}?limit=4 --onnx W/model.onnx",
        "images architectures": "resnet", "card": "W --out V", "compare": "W", "methods": "", "record verify": "W",
        "record sign": f"W --key {kit.path('key')}", "record keygen": "W/key",
        "segmentation evaluate": f"{seg}/config.py --erased {seg}/erased.pth --original {seg}/original.pth --audit none "
                                 "--work-dir W/run",
        "segmentation demo": "--out W/demo --train-scenes 1 --test-scenes 1 --steps 1",
    }  # fmt: skip
    return {
        **{name: kit.argv(task, "W/run", "--no-record") for name, task in runs},
        **{name: f"{name} {words}".split() for name, words in others.items()},
    }


# Those that write, beside the tasks' runs.
WRITERS = ("images train", "images import", "images evaluate", "backdoor poison", "backdoor find", "faces enroll", "attention",
           "record keygen")  # fmt: skip


def written(task: str) -> list[str]:
    """Return names of files and folders that a task's run writes into its work dir."""
    names = ["results.json", "results.csv", "record.json", "record.html", "record.sha256", "samples.txt", "run.log",
             "attention.jpg", PICTURES[task], ".delete-tasks.json", ".delete-tasks.lock", "last_checkpoint", "forget_set.json",
             PUBLISHED[task]]  # fmt: skip
    return names + [
        f"{PUBLISHED[task]}/{name}" for name in ("weights.safetensors", "model.json") if task != "segmentation"
    ]


def writing(kit: Kit, name: str, out: str) -> list[str]:
    """Return words of a command that writes into the folder ``out``."""
    return [re.sub("^W(?=/)", lambda _: out, word) for word in valid(kit)[name]]
