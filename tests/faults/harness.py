"""Parts of a case: a separate world on disk, a command that runs in it, and checks of the result."""

import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kit import TASKS

HERE = Path(__file__).resolve().parent
PATHS = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
Snapshot = dict[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Done:
    """Result of a command: its exit status (negative: number of a signal) and output."""

    argv: list[str]
    code: int
    out: str
    err: str

    @property
    def output(self) -> str:
        return self.out + self.err

    def __str__(self) -> str:
        words = " ".join(word.replace(tempfile.gettempdir(), "") for word in self.argv[-9:])
        text = f"... {words}: exit {self.code}; stderr ends: {self.err.strip()[-500:]!r}"
        return text.encode(errors="backslashreplace").decode()  # a worker cannot send lone surrogates


def snapshot(*folders: Path) -> Snapshot:
    """Return the state of folders and all paths in them: mode, SHA-256 of a file's content, and target of a link."""
    found: Snapshot = {}
    for folder in folders:
        for path in (folder, *folder.rglob("*")) if folder.exists() else ():
            state = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
            link = os.readlink(path) if path.is_symlink() else ""
            found[str(path)] = (state.st_mode, content, link)
    return found


def difference(before: Snapshot, after: Snapshot) -> str:
    """List added, changed and lost paths; empty if there are none."""
    kinds = {"added": after.keys() - before.keys(), "lost": before.keys() - after.keys()}
    kinds["changed"] = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    common = os.path.commonpath([*before, *after]) if before or after else ""
    shown = {
        kind: ", ".join(os.path.relpath(name, common) for name in sorted(names)[:5]) for kind, names in kinds.items()
    }
    return "; ".join(f"{kind}: {names}" for kind, names in shown.items() if names)


class World:
    """Folder for one case: ``cwd``, the command's current folder, and ``tmp``, its temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cwd, self.tmp = root / "cwd", root / "tmp"
        self.cwd.mkdir(parents=True)
        self.tmp.mkdir()

    def look(self) -> Snapshot:
        return snapshot(self.cwd, self.tmp)


class Server:
    """Client of server.py, which runs commands in forked children."""

    def __init__(self) -> None:
        self.logs = tempfile.mkdtemp(prefix="faults_")
        self.count = 0
        environment = {**os.environ, **THREADS, "PYTHONPATH": PATHS}
        self.errors = open(Path(self.logs) / "server", "w")  # noqa: SIM115
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.process = subprocess.Popen([sys.executable, str(HERE / "server.py")], env=environment, **pipes)
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the server did not start: {(Path(self.logs) / 'server').read_text()[-2000:]}")

    def _ask(self, **request: Any) -> dict[str, Any]:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, argv: Sequence[Any], world: World, **options: Any) -> tuple[int, dict[str, Any]]:
        """Begin a command; see :meth:`run`."""
        self.count += 1
        request = {"argv": [os.fsencode(str(word)).hex() for word in argv], "cwd": str(options.pop("cwd", world.cwd))}
        request |= {name: f"{self.logs}/{self.count}.{name}" for name in ("out", "err")}
        request["env"] = {"TMPDIR": str(world.tmp), **options.pop("env", {})}
        request |= options
        return self._ask(do="start", **request)["pid"], {**request, "words": [str(word) for word in argv]}

    def wait(self, started: tuple[int, dict[str, Any]], timeout: float = 240) -> Done:
        """Wait for the end of a command."""
        number, request = started
        answer = self._ask(do="wait", pid=number, timeout=timeout)
        out, err = (Path(request[name]).read_text(errors="replace") for name in ("out", "err"))
        Path(request["out"]).unlink()
        Path(request["err"]).unlink()
        done = Done(request["words"], answer["code"], out, err)
        assert not answer["late"], f"it did not end within {timeout} s: {done}"
        return done

    def run(self, argv: Sequence[Any], world: World, **options: Any) -> Done:
        """Run ``delete-tasks`` with words in a world.

        Options: ``before``, Python code that runs first; ``code``, Python code that runs in the command's place; ``umask``,
        ``memory`` (bytes), ``env, cwd, timeout``; ``stop=(signal, seconds)``, sent from outside.
        """
        timeout, stop = options.pop("timeout", 240), options.pop("stop", None)
        started = self.start(argv, world, **options)
        if stop is not None:
            time.sleep(stop[1])
            with contextlib.suppress(ProcessLookupError):
                os.kill(started[0], stop[0])
        return self.wait(started, timeout)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.errors.close()
        for path in Path(self.logs).iterdir():
            path.unlink()
        os.rmdir(self.logs)


def make_socket(place: Path) -> None:
    here = os.getcwd()
    os.chdir(place.parent)  # its path may have 108 bytes at most
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(place.name)
    os.chdir(here)


# Verdicts


def no_traceback(done: Done) -> None:
    """Check for no traceback, and no control character that a terminal would obey."""
    assert "Traceback (most recent call last)" not in done.output, f"a traceback: {done}"
    raw = re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", done.output)
    assert raw is None, f"raw {raw[0]!r}: {done}"


def is_refused(done: Done, world: World, before: Snapshot, says: str = "", ignore: tuple[str, ...] = ()) -> None:
    """Check for exit status 2, a message without traceback, and no change on disk but in files whose names end in ``ignore``."""
    no_traceback(done)
    assert done.code == 2, f"not refused: {done}"
    assert done.err.strip(), f"no message: {done}"
    assert re.search(says, " ".join(done.err.split()), re.I | re.S), f"the message does not say {says!r}: {done}"
    looks = (
        {path: state for path, state in look.items() if not path.endswith(ignore)} for look in (before, world.look())
    )
    changed = difference(*looks)
    assert not changed, f"something was written ({changed}): {done}"


def is_done(done: Done) -> None:
    """Check for exit status 0 without a traceback."""
    no_traceback(done)
    assert done.code == 0, f"it failed: {done}"


def no_leftovers(world: World) -> None:
    """Check for no temporary file in the output, and an empty temporary folder."""
    left = [str(path) for path in world.cwd.rglob("*") if re.search(r"\.tmp(\.\w+)?$|^\.tmp", path.name)]
    # torchrun's own, and the empty cache folder that PyTorch makes when it first imports its compiler, wherever that is.
    own = re.compile(r"torchelastic_|torchinductor_\w+$")
    left += [str(path) for path in world.tmp.rglob("*") if not own.search(str(path))]
    assert not left, f"left behind: {', '.join(left[:6])}"


def no_half_file(folder: Path) -> None:
    """Check that every file under its final name is complete."""
    import torch
    from PIL import Image

    from delete_images.models.model_file import load_model

    for path in folder.rglob("*"):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.suffix == ".json" and "vis_data" not in path.parts and not re.match(r"\d{8}_", path.name):
            json.loads(path.read_text())
        elif path.suffix == ".pth":
            torch.load(path, weights_only=True)
        elif path.suffix in (".png", ".jpg"):
            with Image.open(path) as picture:
                picture.load()
        elif path.name == "weights.safetensors" and (path.parent / "model.json").exists():
            load_model(path.parent)
        elif path.suffix == ".jsonl":
            assert path.read_bytes().endswith(b"\n"), f"{path.name} has a torn last line"
            [json.loads(line) for line in path.read_text().splitlines()]


def some(table: Iterable[Any], fast: int | None, only: Callable[[Any], bool] = lambda row: True) -> list[Any]:
    """Make parameters of a test from a table of cases. Of those for which ``only`` holds, ``fast`` (None: all), evenly spread,
    run with all tests, the others have the mark ``faults``. A tuple gives a parameter for each item."""
    rows = list(table)
    fit = [i for i, row in enumerate(rows) if only(row)]
    fast = len(fit) if fast is None else fast
    chosen = {fit[round(i * (len(fit) - 1) / max(1, fast - 1))] for i in range(fast)} if fast and fit else set()
    return [
        pytest.param(*(row if isinstance(row, tuple) else (row,)), marks=[] if i in chosen else pytest.mark.faults)
        for i, row in enumerate(rows)
    ]


def long(*fast: str) -> list[Any]:
    """Make parameters of all tasks; those not named have the mark ``faults``."""
    return [pytest.param(task, marks=[] if task in fast else pytest.mark.faults) for task in TASKS]
