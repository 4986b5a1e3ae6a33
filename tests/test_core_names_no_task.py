"""The core names no task: what differs between tasks stands in their plugins, and entry points say which there are."""

import ast
import re
from pathlib import Path

import pytest

EXTRAS = {"require", "new_figure"}  # functions that are given the name of an extra, which may be a task's
NOUNS = {"images"}  # not only a task's name: identifiers may have it


def named(source: str, tasks: set[str], packages: set[str]) -> list[str]:
    """Find strings that are a task's name, and identifiers with a task's or its package's name as a word."""
    tree, found = ast.parse(source), []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") in EXTRAS]
    extras = {id(argument) for call in calls for argument in call.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in tasks and id(node) not in extras:
            found.append(f"line {node.lineno}: {node.value!r}")
        for text in (getattr(node, field, None) for field in ("id", "attr", "name", "arg", "module")):
            words = set(re.split(r"[_.]", text.lower())) | {text.split(".")[0]} if isinstance(text, str) else set()
            if words & (tasks - NOUNS | packages):
                found.append(f"line {getattr(node, 'lineno', '?')}: {text}")
    return found


@pytest.fixture(scope="module")
def plugins(repository: Path) -> dict[str, str]:
    """Package of each task, from pyproject.toml."""
    section = (repository / "pyproject.toml").read_text().partition('entry-points."delete_tasks.tasks"]\n')[2]
    return dict(re.findall(r'^(\w+) = "(\w+)"$', section.partition("\n[")[0], flags=re.M))


def test_the_core_names_no_task(repository, plugins):
    assert set(plugins) == {"segmentation", "images", "faces", "backdoor"}
    files = {
        path: named(path.read_text(), {*plugins}, {*plugins.values()})
        for path in repository.glob("delete_tasks/**/*.py")
    }
    assert len(files) > 100
    assert {str(path): found for path, found in files.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "recipes = {'images': 1}",
        "def _for_faces(): ...",
        "import delete_images.data",
        "task.backdoor",
        "f(segmentation=1)",
    ],
)
def test_what_it_finds(source):
    assert named(source, {"images", "faces", "backdoor", "segmentation"}, {"delete_images"})


def test_extras_and_nouns_are_none():
    assert not named("require('PIL', 'images'); images = sample.images", {"images"}, {"delete_images"})
