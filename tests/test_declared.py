"""What files declare is read without running them, and is what the classes themselves say."""

from __future__ import annotations

import importlib.util

from delete_tasks.declared import describe, read_declared

FIRST = '''
"""A file."""
from __future__ import annotations
import no_such_module

@register("base", 3, more="x")
class Base(no_such_module.Thing):
    """Its help.

    More of it.
    """
    rate: float = 0.5
    steps, other = 1, 2
    made = no_such_module.make()

    def __init__(self, a: int, b: float | None = None, *rest, c: str = MOST, **options) -> None:
        pass
'''
SECOND = """
@register
class Derived(Base):
    rate = 2
"""


def test_files_are_read_and_not_run(tmp_path):
    (tmp_path / "z.py").write_text(FIRST)
    (tmp_path / "a.py").write_text(SECOND)  # ahead of the file of its base
    (tmp_path / "notes.txt").write_text("class No: pass")
    found = read_declared(tmp_path)
    assert set(found) == {"Base", "Derived"}
    base, derived = found["Base"], found["Derived"]
    assert base.help == "Its help." and base.decorators == {"register": ("base",)} and base.values["rate"] == 0.5
    assert "made" not in base.values and base.bases == {"no_such_module.Thing"}
    shown = {name: (each.annotation, each.default) for name, each in base.parameters.items()}
    empty = base.parameters["a"].empty
    assert shown == {"a": ("int", empty), "b": ("float | None", None), "c": ("str", "MOST")}
    assert derived.help == "" and derived.values["rate"] == 2 and derived.parameters == base.parameters
    assert derived.bases == {"Base", "no_such_module.Thing"} and derived.decorators == {}


def test_a_loaded_class_says_the_same(tmp_path):
    text = FIRST.replace("import no_such_module\n", "").replace("(no_such_module.Thing)", "").replace("MOST", "'most'")
    text = text.replace("    made = no_such_module.make()\n", "").replace("*rest, ", "*, ").replace(", **options", "")
    text = text.replace('@register("base", 3, more="x")\n', "")
    (tmp_path / "one.py").write_text(text)
    spec = importlib.util.spec_from_file_location("one_declared", tmp_path / "one.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    read, loaded = read_declared(tmp_path)["Base"], describe(module.Base)
    assert read.help == loaded.help and read.values["rate"] == loaded.values["rate"]
    each = [{name: (one.annotation, one.default) for name, one in found.parameters.items()} for found in (read, loaded)]
    assert each[0] == each[1] and len(each[0]) == 3
