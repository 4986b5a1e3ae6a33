"""A method, a metric and an attack from outside, by entry points: those of docs/guides/benchmark.md."""

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
    groups = pytest.importorskip("tomllib").loads(guide.split("```toml\n")[1].split("```")[0])["project"][
        "entry-points"
    ]
    listed = "".join(
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items()
    )
    (tmp_path / "beyond-1.dist-info").mkdir()
    (tmp_path / "beyond-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: beyond\nVersion: 1\n")
    (tmp_path / "beyond-1.dist-info" / "entry_points.txt").write_text(listed)
    grid, net, data = (
        write_grid("dict(uniform=dict(type='Uniform'))", "[0]"),
        tmp_path / "w/models/net_original",
        few(6, 12),
    )
    models = ["--original", net, "--erased", net, "--forget", f"{data}?class=deer", "--data", data, "--test", data]
    done = python(RUN, grid, tmp_path / "w", tmp_path / "audit", *models)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "w" / "cells.csv") as file:
        cells = {row["method"]: row for row in csv.DictReader(file)}
    assert float(cells["original"]["cka"]) == 1 and float(cells["uniform"]["entropy"]) > float(
        cells["original"]["entropy"]
    )
    rows = read_json(tmp_path / "audit", "audit.json")["rows"]
    assert rows["erased"]["cka"]["value"] == 1
