"""Grid files: their cells, and every refusal."""

import pytest

import delete_tasks.methods.builtin  # noqa: F401
from delete_tasks.benchmark.cells import claim_root, claimed
from delete_tasks.benchmark.grid import read_grid, slug
from delete_tasks.errors import RequestError

GRID = """
task = "images"
networks = dict(a=dict(), b=dict())
data = dict(forget="x")
classes = {"one": ["deer"], "two": ["deer", "ship"]}
methods = {"ours": dict(type="DELETE", lr=1e-3), "tuned": dict(type="FineTune")}
unlearn = dict(keep_row=True)
seeds = [0, 1]
"""


def write(path, text):
    path.write_text(text)
    return path


def test_cells(tmp_path):
    grid = read_grid(write(tmp_path / "g.py", GRID))
    cells = list(grid.cells(lambda network, classes, seed: network == "b" and len(classes) == 1))
    assert len(cells) == 2 * 2 * (2 + 2 * 2) + 1 == len({cell.folder for cell in cells})
    first = cells[:6]
    assert [cell.method for cell in first] == ["original", "logit_cut", "ours", "tuned", "ours", "tuned"]
    assert [cell.retain for cell in first] == [False, False, False, True, False, True]
    assert first[2].unlearn == {"keep_row": True, "type": "DELETE", "lr": 1e-3} and first[2].seed == 0
    assert first[4].folder == "cells/a/one/ours_seed1" and first[4].title == "a, one, ours, seed 1"
    assert sum(cell.method == "retrained" for cell in cells) == 1


@pytest.mark.parametrize(("change", "message"), [
    (("seeds = [0, 1]", "sedes = [0]"), "unknown field `sedes`; its fields are task, "),
    (("task = ", "tusk = "), "unknown field `tusk`"), (('type="DELETE"', 'type="DELTE"'), "did you mean 'DELETE'"),
    (("lr=1e-3", "rate=1e-3"), r"unknown option\(s\) in unlearn: rate"),
    (("seeds = [0, 1]", "seeds = []"), r"seeds is \[\]: Expected `array` of length >= 1"),
    (("seeds = [0, 1]", "seeds = [-1]"), r"seeds\[0\] is -1: Expected `int` >= 0"),
    (('["deer"],', "[],"), r"classes\[...\] is .*length >= 1"),
    (('"tuned": dict(type="FineTune")', '"tuned": 3'), r"methods\[...\] is .*'tuned': 3}: Expected `object`, got `int`"),
    (('"tuned"', '"original"'), "'original'"),
    (('"tuned"', '"ours!"'), "'ours' and 'ours!', which have the same folder name, 'ours'"),
    (("networks = dict(a=dict(), b=dict())", "networks = dict()"), "networks is {}: .* length >= 1"),
])  # fmt: skip
def test_refusals(tmp_path, change, message):
    assert change[0] in GRID
    with pytest.raises(RequestError, match=message):
        read_grid(write(tmp_path / "g.py", GRID.replace(*change)))


def test_slug():
    assert slug("Swin-T / 4 px") == "Swin-T-4-px" and slug("..") == "-" and slug("../x") == "x"
    assert slug("one class") == "one-class" and slug("o\u0308") == slug("ö") == "ö" != slug("ä")


@pytest.mark.parametrize("names", ["a b|a-b", "a|a.", "a|.a", "a|A", "ä|A\u0308", "a/b|a b", "a_b|a b", "?|!"])
@pytest.mark.parametrize("key", ["networks", "methods", "classes"])
def test_names_that_would_share_a_folder_are_refused(tmp_path, key, names):
    """Also where file names ignore case."""
    first, second = names.split("|")
    value = {"networks": "dict()", "methods": "dict(type='DELETE')", "classes": "['deer']"}[key]
    text = f"{GRID}{key} = {{{first!r}: {value}, {second!r}: {value}}}\n"
    fact = rf"{key} holds '.+' and '.+', which have the same folder name, .*; rename one"
    with pytest.raises(RequestError, match=fact):
        read_grid(write(tmp_path / "g.py", text))


@pytest.mark.parametrize("name", ["", " ", "a\x1b[2J", "a\nb", "a\0", "\ud800", "x" * 300, "Logit cut"])
def test_names_that_no_folder_or_terminal_can_show_are_refused(tmp_path, name):
    with pytest.raises(RequestError, match="methods") as error:
        read_grid(write(tmp_path / "g.py", f"{GRID}methods = {{{name!r}: dict(type='DELETE')}}\n"))
    assert str(error.value).isprintable()


def test_values_that_json_cannot_hold_are_refused(tmp_path):
    values = "object() float('nan') -float('inf') b'x' {3:4} '\\x1b' ['\\ud800'] int {'a':[{1}]}"
    for value in values.split():
        with pytest.raises(RequestError, match=r"data\['forget'\].*expected"):
            read_grid(write(tmp_path / "g.py", f"{GRID}data = dict(forget={value})\n"))


def test_a_work_dir_belongs_to_one_grid(tmp_path):
    root = tmp_path / "w"

    def claim(*change, **originals):
        grid = read_grid(write(tmp_path / "g.py", GRID.replace(*change) if change else GRID))
        claim_root(root, grid.json() | {"originals": originals})

    claim(a="0123")
    with pytest.raises(RequestError, match=r"differs in originals\['a'\]"):
        claim(a="4567")
    claim("seeds = [0, 1]", "seeds = [0, 1, 2]", a="0123")  # more of the same
    claim("b=dict()", "b=dict(), c=dict()", a="0123", c="89")
    with pytest.raises(RequestError, match=r"cells of another grid, which differs in methods\['ours'\]"):
        claim("lr=1e-3", "lr=1e-2")
    with pytest.raises(RequestError, match="differs in data"):
        claim('"x"', '"y"')
    root = tmp_path / "mine"
    root.mkdir()
    (root / "thesis.tex").write_text("")
    with pytest.raises(RequestError, match="holds other files"):
        claim()


def test_a_cell_is_claimed_by_one_process(tmp_path):
    with claimed(tmp_path / "cell") as mine, claimed(tmp_path / "cell") as second:
        assert mine and not second
    with claimed(tmp_path / "cell") as again:
        assert again
