"""A method, a metric and an attack from outside, by entry points: those of docs/guides/benchmark.md."""

import configparser
import csv

import pytest
from helpers import python, read_json

RUN = """
import sys
from delete_tasks.cli import main
grid, work, audit, *rest = sys.argv[1:]
assert main(["benchmark", grid, "--work-dir", work]) == 0
assert main(["audit", "--task", "images", *rest, "--work-dir", audit]) == 0
"""


def test_all_three_are_in_benchmark_and_audit(repository, write_grid, few, tmp_path, monkeypatch):
    guide = (repository / "docs/guides/benchmark.md").read_text()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "beyond.py").write_text(guide.split("# beyond.py\n")[1].split("```")[0])
    declared = pytest.importorskip("tomllib").loads(guide.split("```toml\n")[1].split("```")[0])
    points = configparser.ConfigParser()
    points.optionxform = str
    points.read_dict(declared["project"]["entry-points"])
    (tmp_path / "beyond-1.dist-info").mkdir()
    (tmp_path / "beyond-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: beyond\nVersion: 1\n")
    with open(tmp_path / "beyond-1.dist-info" / "entry_points.txt", "w") as file:
        points.write(file)
    grid, data = write_grid("dict(uniform=dict(type='Uniform'))", "[0]"), few(6, 12)
    net = tmp_path / "w" / "models" / "net_original"
    models = ["--original", net, "--erased", net, "--forget", f"{data}?class=deer", "--data", data, "--test", data]
    done = python(RUN, grid, tmp_path / "w", tmp_path / "audit", *models)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "w" / "cells.csv") as file:
        cells = {row["method"]: {name: row[name] for name in ("entropy", "separation")} for row in csv.DictReader(file)}
    assert all(-1 <= float(row["separation"]) <= 1 for row in cells.values())
    assert float(cells["uniform"]["entropy"]) > float(cells["original"]["entropy"])
    rows = read_json(tmp_path / "audit", "audit.json")["rows"]
    assert rows["erased"]["separation"]["value"] == pytest.approx(float(cells["original"]["separation"]), abs=1e-3)
