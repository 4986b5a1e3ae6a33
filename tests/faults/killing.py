"""Watched and killed runs: references of uninterrupted runs, and checks after a kill and a resume."""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from faults import WATCH
from harness import Done, Server, World, is_done, no_half_file, no_leftovers, no_traceback
from kit import PUBLISHED, Kit


def weights_of(task: str, work_dir: Path) -> dict[str, torch.Tensor]:
    from delete_tasks.fileio.checkpoint import load_file, state_dict_of

    path = work_dir / PUBLISHED[task]
    return state_dict_of(load_file(path if path.is_file() else path / "weights.safetensors"))


def names_in(folder: Path) -> set[str]:
    return {re.sub(r"\d{8}_\d{6}", "TIME", path.relative_to(folder).as_posix()) for path in folder.rglob("*")}


def results_of(work_dir: Path) -> dict[str, Any]:
    """Read results.json without values that differ between runs: seconds, memory, residue, paths, whether it was resumed."""
    results = json.loads((work_dir / "results.json").read_text())
    results["done"].pop("resumed")
    found = {name: value for name, value in results.items() if not re.search("seconds|memory|residue", name)}
    text = json.dumps(found)
    return json.loads(re.sub(r'("seconds[a-z_]*": )[\d.]+', r"\1 0", re.sub(r"/[^\" ]*/world\d+", "", text)))


@dataclass(frozen=True)
class Reference:
    """Uninterrupted run: file operations, names in its folder, weights, results and duration."""

    operations: list[str]
    names: set[str]
    weights: dict[str, torch.Tensor]
    results: dict[str, Any]
    seconds: float

    @property
    def half(self) -> int:
        """Number of the file operation after the last state but one was saved."""
        places = [
            number for number, text in enumerate(self.operations) if re.match("os.rename .*last_checkpoint$", text)
        ]
        return places[-2] + 1


def watched(server: Server, argv: list[str], here: World) -> list[str]:
    """Run a command to its end; return its file operations."""
    watch = here.root / "watch"
    is_done(server.run(argv, here, before=WATCH, watch=str(watch)))
    return watch.read_text().splitlines()


def reference_of(server: Server, kit: Kit, task: str, here: World) -> Reference:
    begin = time.monotonic()
    operations = watched(server, kit.argv(task, "W"), here)
    work_dir = here.cwd / "W"
    seconds = time.monotonic() - begin
    return Reference(operations, names_in(work_dir), weights_of(task, work_dir), results_of(work_dir), seconds)


def half_done(server: Server, argv: list[str], here: World, reference: Reference) -> None:
    """Kill a run after it saved its last state but one in the work dir W."""
    server.run(argv, here, before=WATCH, at=reference.half)
    assert list((here.cwd / "W").glob("step_*.pth")), "no state was saved before the kill"


def same(task: str, here: World, reference: Reference) -> None:
    """Check that the weights in W equal the uninterrupted run's."""
    found = weights_of(task, here.cwd / "W")
    assert found.keys() == reference.weights.keys()
    differing = [name for name, value in reference.weights.items() if not torch.equal(value, found[name])]
    assert not differing, f"other weights than the uninterrupted run's: {differing[:3]}"


def after_the_kill(
    server: Server, kit: Kit, task: str, here: World, killed: Done, reference: Reference, *more: str
) -> None:
    """Check the files of a killed run, resume it, and compare it with the uninterrupted run."""
    no_traceback(killed)
    no_half_file(here.cwd)
    # mmengine's copies of configs are made before there is a work dir; the next command deletes them, see no_leftovers.
    left = [path.name for path in here.tmp.rglob("*") if path.is_file() and "delete_tasks_config_" not in str(path)]
    assert not left, f"left in the temporary folder: {left}"
    again = server.run(kit.argv(task, "W", *more), here)
    if more or "finished on" not in again.err:  # killed after its record: nothing is replaced without being asked
        is_done(again)
    no_leftovers(here)
    same(task, here, reference)
    names = names_in(here.cwd / "W")
    assert names == reference.names, f"missing {reference.names - names}, left {names - reference.names}"
    results = results_of(here.cwd / "W")
    wrong = [name for name in reference.results if results.get(name) != reference.results[name]]
    assert not wrong, f"results.json differs in {wrong}"
    verified = server.run(["record", "verify", "W"], here)
    assert verified.code == 0, f"the record does not verify: {verified.out[-600:]}{verified.err[-300:]}"
