"""Hostile cases: those without a marker run with all tests, all of them with ``make test-faults``."""

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import World, is_done
from killing import reference_of


@pytest.fixture(scope="session")
def recorded(server, kit, tmp_path_factory):
    """``recorded(task)``: the work dir W of a finished, signed run; see ``copy_of`` for changes."""

    @functools.cache
    def run(task: str) -> Path:
        here = World(tmp_path_factory.mktemp(f"recorded_{task}") / "world0")
        is_done(server.run(kit.argv(task, "W", "--sign", kit.path("key"), "--reference", "R-1"), here))
        return here.cwd / "W"

    return run


@pytest.fixture(scope="session")
def references(server, kit, tmp_path_factory):
    """``references(task)``: its uninterrupted run, made on first use."""
    return functools.cache(
        lambda task: reference_of(server, kit, task, World(tmp_path_factory.mktemp(f"whole_{task}") / "world0"))
    )


@pytest.fixture
def world(tmp_path) -> Iterator[Callable[[], World]]:
    """``world()``: a new empty world."""
    made: list[World] = []

    def make() -> World:
        made.append(World(tmp_path / f"world{len(made)}"))
        return made[-1]

    yield make
    for each in made:
        shutil.rmtree(each.root)


@pytest.fixture
def here(world) -> World:
    """A new empty world."""
    return world()


@pytest.fixture
def copy_of(recorded, here):
    """``copy_of(task)``: a copy of a finished run's work dir W, and of the files beside it."""

    def copy(task: str) -> Path:
        shutil.copytree(recorded(task).parent, here.cwd, dirs_exist_ok=True)
        return here.cwd / "W"

    return copy
