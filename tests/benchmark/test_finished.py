"""Finished cells: what a cell.json may hold, and what it was made of."""

import contextlib
import io
import json
from unittest.mock import Mock

import numpy as np
import pytest

from delete_tasks.benchmark.cells import check_cells, claim_root, digest, read_cell, run_cell
from delete_tasks.benchmark.figures import read_features
from delete_tasks.benchmark.grid import Cell
from delete_tasks.benchmark.measure import COLUMNS, COMPARED, FEATURES
from delete_tasks.cli import main
from delete_tasks.errors import RequestError

CELL = Cell("net", "one", ("deer",), "DELETE", {"type": "DELETE"}, 0)
MADE_OF = {"settings": "0a", "test data": "1b", "weights of the original": "2c"}
CONTENT = {"network": "net", "group": "one", "classes": 1, "ids": [4], "method": "DELETE", "retain": False, "seed": 0,
           "figures": {column.name: 50.0 for column in COLUMNS if column.name not in COMPARED},
           "by_class": [50.0, None], "not_measured": {},
           "made_of": MADE_OF, "code": {}}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """``write(content)``: writes the file of the cell, with its digest unless it is text; returns the work dir."""

    def write(content, sealed=True):
        folder = tmp_path / CELL.folder
        folder.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, str):
            content = json.dumps({**content, "sha256": digest(content)} if sealed else content)
        (folder / "cell.json").write_text(content)
        return tmp_path

    return write


def check(root, made_of=MADE_OF):
    with contextlib.redirect_stdout(io.StringIO()) as told:
        check_cells(root, [CELL], lambda cell: made_of)
    return told.getvalue()


def test_a_cell_as_its_run_wrote_it(write, tmp_path):
    assert read_cell(tmp_path, CELL) is None
    assert read_cell(write(CONTENT), CELL)["figures"] == CONTENT["figures"]
    assert "run by another version of the code" in check(tmp_path)
    check(tmp_path, {**MADE_OF, "weights of the original": None})  # not trained again yet


@pytest.mark.parametrize("name", MADE_OF)
def test_a_cell_of_other_data_is_refused_with_both_digests(write, name):
    with pytest.raises(RequestError, match=rf"of other {name} \(SHA-256 {MADE_OF[name]}\) than now \(ff\).*--work-dir"):
        check(write(CONTENT), {**MADE_OF, name: "ff"})


@pytest.mark.parametrize(("change", "message"), [
    ({"figures": {**CONTENT["figures"], "acc_ft": 1.0}}, "was changed after its run: its content has another SHA-256"),
    ({"ids": [5]}, "was changed after its run"), ({"made_of": {}}, "was changed after its run"),
    ({"group": "two"}, "is of another cell, 'net, two, DELETE, seed 0', and not of 'net, one, DELETE, seed 0'"),
    ({"seed": 1}, "is of another cell"), ({"figures": {"acc_ft": 1.0}}, "lacks the figures acc_f, acc_r, "),
    ({"figures": None}, "figures is None: Expected `object`, got `null`"),
    ({"figures": {"acc_ft": "x"}}, "Expected `float | null`, got `str`"),
    ({"figures": {"acc_ft": 1e13}}, "Expected `float` <= 1"), ({"ids": {"a": 1}}, "ids is {'a': 1}: Expected `array`"),
    ({"not_measured": [1]}, "not_measured is .1.: Expected `object`"), ("[]", "Expected `object`, got `array`"),
    ("{", "cannot be read"), ('{"a": NaN}', "cannot be read"),
])  # fmt: skip
def test_other_content_is_refused_with_the_way_out(write, change, message):
    root = write(change if isinstance(change, str) else {**CONTENT, **change, "sha256": digest(CONTENT)}, sealed=False)
    with pytest.raises(RequestError, match=message) as error:
        read_cell(root, CELL)
    assert "delete its folder to run the cell again" in str(error.value)


def test_only_files_are_read(tmp_path):
    (tmp_path / CELL.folder / "cell.json").mkdir(parents=True)
    with pytest.raises(RequestError, match="is no file"):
        read_cell(tmp_path, CELL)


@pytest.mark.parametrize("content", [
    "", "PK\x03\x04", {"features": np.ones((4, 2))}, {"features": np.ones((4, 2)), "labels": np.ones(3)},
    {"features": np.full((4, 2), np.nan), "labels": np.ones(4)},
])  # fmt: skip
def test_features_of_other_content_are_not_drawn(tmp_path, content):
    if isinstance(content, str):
        (tmp_path / FEATURES).write_text(content)
    else:
        np.savez(tmp_path / FEATURES, **content)
    assert read_features(tmp_path / FEATURES) is None


def test_a_killed_run_does_not_continue_with_other_data(tmp_path):
    """Its state is deleted unless the run began with the same data, settings and weights."""

    class Source:
        made = None

        def names(self, network):
            return ["ant", "deer"]

        def made_of(self, cell):
            return self.made

        def erase(self, cell, folder):
            self.left = sorted(path.name for path in folder.glob("*"))
            raise RequestError("killed")

    source, run = Source(), tmp_path / CELL.folder / "run"
    for made, left in (({}, []), (MADE_OF, []), (MADE_OF, ["step_1.pth"]), ({**MADE_OF, "test data": "ff"}, [])):
        source.made = made
        with pytest.raises(RequestError, match="killed"):
            run_cell(source, CELL, tmp_path)
        assert source.left == left, made
        run.mkdir(parents=True, exist_ok=True)
        (run / "step_1.pth").write_text("")


def test_nothing_is_written_before_the_check(tmp_path):
    with pytest.raises(RequestError, match="other data"):
        claim_root(tmp_path / "w", {"task": "images"}, Mock(side_effect=RequestError("other data")))
    assert not (tmp_path / "w").exists()


@pytest.mark.long
def test_replaced_data_and_edited_cells_stop_the_command(kit, tmp_path, capsys):
    """A real run, then the same command over other test images of the same name."""
    data, grid, work = tmp_path / "data.npz", tmp_path / "grid.py", tmp_path / "w"
    arrays = dict(np.load(kit.path("images/data.npz")))
    np.savez(data, **arrays)
    grid.write_text((kit.root / "grid.py").read_text().replace(kit.path("images/data.npz"), str(data)))
    words = ["benchmark", str(grid), "--work-dir", str(work), "--device", "cpu"]
    assert main([*words, "--cells-only"]) == 0
    files = {path: path.read_bytes() for path in work.glob("cells/**/cell.json")}
    assert len(files) == 3
    np.savez(data, **{**arrays, "x_test": arrays["x_test"][:, ::-1]})
    capsys.readouterr()
    assert main(words) == 2
    assert "of other test data (SHA-256" in capsys.readouterr().err
    np.savez(data, **arrays)
    assert main([*words, "--tables-only"]) == 0
    path = work / "cells" / "mine" / "one" / "DELETE_seed0" / "cell.json"
    path.write_text(path.read_text().replace('"steps": 1', '"steps": 2'))
    assert main([*words, "--tables-only"]) == 2
    assert "was changed after its run" in capsys.readouterr().err
