"""Helpers of many tests: arguments and results of a command, equal tensors, a new interpreter, counted comparisons."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from delete_tasks.cli import main
from delete_tasks.fileio.checkpoint import load_file
from delete_tasks.runner.done import sentences


def argv(*parts: object) -> list[str]:
    """Words of a command: text is split at blanks; a path, a number, and each item of a list are one word."""
    words: list[str] = []
    for part in parts:
        words += part.split() if isinstance(part, str) else map(str, part if isinstance(part, list | tuple) else [part])
    return words


def run(*parts: object, status: int | tuple[int, ...] = 0) -> None:
    """Run ``delete-tasks`` in this process; it must end with ``status``, or one of them."""
    found = main(argv(*parts))
    assert found in (status if isinstance(status, tuple) else (status,)), f"status {found} of {parts}"


def read_json(*place: object) -> Any:
    return json.loads(Path(*map(str, place)).read_text())


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    """Change what a JSON file holds, in place."""
    content = read_json(path)
    change(content)
    path.write_text(json.dumps(content, indent=1))


def files_in(folder: Path) -> list[str]:
    """Return the paths of the files in a folder, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def read_results(work_dir: Path) -> Any:
    return read_json(work_dir, "results.json")


def values(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Row -> metric -> value, of the rows of results.json."""
    return {row: {name: figure["value"] for name, figure in figures.items()} for row, figures in rows.items()}


def same_tensors(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> bool:
    """Return True if two state dicts hold the same bits under the first one's names."""
    return all(torch.equal(value, found[name]) for name, value in expected.items())


def check_done(runner: Any) -> None:
    """Compare a run's statement of what it changed with the original's and the published tensors, layer by layer, both ways."""
    done = runner.outcome.done
    if done is None:  # another process states it
        return
    before = runner.task.published(runner.teacher).state_dict()
    path = runner.outcome.published
    ids = () if done["withheld"] else runner.selection.forget_ids
    after = runner.task.published(runner.unwrapped_model, ids).state_dict()
    if path is not None:
        content = load_file(next(iter(Path(path).glob("weights.*")), path))
        after = content.get("state_dict", content)
        after = {name.removeprefix("network.") if name not in before else name: value for name, value in after.items()}
    layers: dict[str, bool] = {}
    for name in before:
        layer = name.rpartition(".")[0] or name
        # Bits, since a number too small for flush_subnormals equals 0.
        same = torch.equal(*(tensor.cpu().reshape(-1).view(torch.uint8) for tensor in (before[name], after[name])))
        layers[layer] = layers.get(layer, True) and same
    said = {layer for change in done["changes"] for layer in change["layers"]}
    assert said == {layer for layer, same in layers.items() if not same}, done
    assert done["unchanged"] == [layer for layer, same in layers.items() if same]
    causes = [change["by"] for change in done["changes"]]
    assert "not attributed" not in causes, done
    assert done["steps"] or not any("optimizer" in change for change in done["changes"])
    assert sentences(done) and (Path(runner.work_dir) / "run.log").read_text().count(sentences(done)[0]) >= 1


def not_finished(folder: Path) -> None:
    """Make a finished run's work dir that of a run that was killed after its last step."""
    edit_json(folder / ".delete-tasks.json", lambda content: content.update(finished=None))


def python(code: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that finds what this one does."""
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


SCRIPT = """
import runpy, sys
sys.path.insert(0, case["path"])
sys.argv = case["words"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def launch(server: Any, folder: Any, processes: int, argv: Any = (), script: Any = (), path: Any = ".") -> list[Any]:
    """Run a command or a script, which imports from ``path``, on so many processes with the environment of torchrun; how each
    ended."""
    from harness import World

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world, started = folder if isinstance(folder, World) else World(folder / f"launched_{processes}"), []
    more = {"code": SCRIPT, "path": str(path), "words": list(map(str, script))} if script else {}
    for rank in map(str, range(processes)):
        environment = {"OMP_NUM_THREADS": "1"}
        if processes > 1:
            environment |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
            environment |= {"MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(processes)}
        started.append(server.start(argv, world, env=environment, **more))
    return [server.wait(one, timeout=600) for one in started]


class Counted(str):
    """A name that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__
