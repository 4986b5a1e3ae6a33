"""The core names no task: differences between tasks are in their plugins, which entry points list."""

import ast
import re

from delete_tasks.plugins import plugin_modules

EXTRAS = {"require", "new_figure"}  # functions with the name of an extra as argument, which may be a task's
NOUNS = {"images"}  # identifiers may have this name of a task


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


def test_the_core_names_no_task(repository):
    plugins = plugin_modules()
    assert set(plugins) >= {"segmentation", "images", "faces", "backdoor", "detection"}
    files = list(repository.glob("delete_tasks/**/*.py"))
    found = {str(path): named(path.read_text(), {*plugins}, {*plugins.values()}) for path in files}
    assert len(files) > 100 and not any(found.values()), {path: names for path, names in found.items() if names}


def test_what_it_finds():
    tasks, packages = {"images", "faces", "backdoor", "segmentation"}, {"delete_images"}
    source = "import delete_images.data\ndef _for_faces(): ...\nx = {'images': 1}; task.backdoor; f(segmentation=1)"
    assert len(named(source, tasks, packages)) == 5
    assert not named("require('PIL', 'images'); images = sample.images", tasks, packages)
