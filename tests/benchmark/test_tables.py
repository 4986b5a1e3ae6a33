"""Tables and pictures of made figures: means, spread, best values, rendering."""

import csv
import io
from dataclasses import replace

import pytest

from delete_tasks.benchmark import figures as drawing
from delete_tasks.benchmark.figures import draw_by_classes, draw_probe, draw_seeds
from delete_tasks.benchmark.grid import Cell
from delete_tasks.benchmark.measure import COLUMNS, COMPARED
from delete_tasks.benchmark.table import best, chosen_columns, lines, to_csv, to_latex, to_markdown
from delete_tasks.errors import RequestError

BASE = {column.name: 50.0 for column in COLUMNS if column.name not in COMPARED}
HALF = (50.0,) * 10


def cell(method, seed=0, retain=False, group="deer", classes=("deer",), network="net_1", by_class=HALF, **figures):
    one = Cell(network, group, classes, method, {}, seed, retain)
    content = {name: getattr(one, name) for name in ("network", "group", "method", "retain", "seed")}
    return one, {**content, "classes": len(classes), "ids": [4], "figures": {**BASE, **figures}, "by_class": by_class}


@pytest.fixture
def found():
    none = {"seconds": None, "samples": None}
    return [
        cell("original", acc_ft=90.0, acc_rt=92.0, **none),
        cell("logit_cut", acc_ft=0.0, acc_rt=93.0, **none),
        cell("ours", 0, acc_ft=0.0, acc_rt=90.0, seconds=10.0, membership_auc=52.0),
        cell("ours", 1, acc_ft=2.0, acc_rt=92.0, seconds=20.0, membership_auc=50.0),
        cell("theirs", 0, acc_ft=30.0, acc_rt=91.0, seconds=5.0, membership_auc=70.0, linear_probe=None),
        cell("theirs", 1, acc_ft=30.0, acc_rt=91.0, seconds=5.0, membership_auc=70.0),
        cell("tuned", 0, True, acc_ft=40.0, acc_rt=99.0, seconds=1.0),
    ]


def test_lines(found):
    rows = lines(found)
    assert [row.cell.method for row in rows] == ["original", "logit_cut", "ours", "theirs", "tuned"]
    ours = rows[2]
    assert ours.mean("acc_rt") == 91.0 and [one.seed for one in ours.cells] == [0, 1]
    assert ours.values["h_mean"] == [90.0, pytest.approx(2 * 88 * 92 / 180, abs=0.01)], "drop of 90 and 88 points"
    assert rows[0].mean("h_mean") is None and rows[3].values["linear_probe"] == [50.0]


def test_figures_that_compare_cells():
    """The class that lost most, the information between the original's and the retrained networks' and the gap to these."""
    after = (49.0, None, 53.0, 50.0, 0.0, *(47.5,) * 5)
    results = [
        cell("original", information=0.9),
        *(cell("retrained", i, information=info, prototypes_5=30 + 9 * i) for i, info in enumerate((0.1, 0.3))),
        cell("ours", by_class=after, information=0.55),
        cell("theirs", information=None),
        cell("ours", network="net_2", information=0.9),  # its original is not there
    ]
    rows = lines(results)
    assert [row.values["idi"] for row in rows] == [[1.0], [-0.14, 0.14], [0.5], [], []]
    # 50 of 30 to 39, one in three.
    assert [row.values["gap"] for row in rows] == [[11 / 3], [0.0, 0.0], [11 / 3], [11 / 3], []]
    assert [row.values["worst_drop"] for row in rows] == [[], [0.0, 0.0], [2.5], [0.0], []]
    together = lines(results, merge=True)
    assert [(row.cell.network, len(row.cells)) for row in together] == [("2 networks", n) for n in (1, 2, 2, 1)]
    assert together[2].values["information"] == [0.55, 0.9]


def test_chosen_columns(found):
    text = to_markdown(lines(found), chosen_columns(["acc_rt", "idi"]))
    assert "| method | Acc_rt | IDI |" in text and chosen_columns([]) == COLUMNS
    fact = r"columns of the grid holds 'rt'; expected names of acc_f, acc_r, .*worst_drop"
    with pytest.raises(RequestError, match=fact):
        chosen_columns(["rt"])


def test_csv_holds_every_cell(found):
    rows = list(csv.DictReader(to_csv(found).splitlines()))
    assert len(rows) == 7 and rows[6]["retain"] == "True"
    assert rows[3]["acc_ft"] == "2.0" and rows[4]["linear_probe"] == ""


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A)", "\t=1", '=A("x","a, b")', "plain, -1", 'a"b', "a\nb"])
def test_no_text_of_the_csv_is_a_formula(name):
    rows = list(csv.DictReader(io.StringIO(to_csv([cell(name, 0, acc_ft=-2.0)]), newline="")))
    assert rows[0]["method"] == (name if name[0] in "pa" else f"'{name}") and rows[0]["acc_ft"] == "-2.0"


def test_best_is_among_methods_without_other_data(found):
    one, content = cell("public", acc_rt=100.0)
    found = [*found, (replace(one, unlearn={"public": "cifar100"}), content)]
    rows, columns = lines(found), {column.name: column for column in COLUMNS}
    assert best(rows, columns["acc_ft"]) == {2} and best(rows, columns["seconds"]) == {3}
    assert best(rows, columns["acc_rt"]) == {2, 3}, "equal means share it; the cut logit and retain data stay out"
    assert best(rows, columns["membership_auc"]) == {2}, "the nearest to a guess"
    ruined = lines([*found, cell("ruins", acc_rt=86.9, acc_ft=0.0, linear_probe=1.0)])
    assert ruined[-1].mean("linear_probe") == 1.0
    assert best(ruined, columns["linear_probe"]) == {2, 3}, "5.1 points are lost"


def test_markdown_and_latex(found):
    text = to_markdown(lines(found))
    assert "### net_1: deer" in text and "| ours | " in text and "**1.00 ± 1.41**" in text
    assert "| *tuned* | *50.00* |" in text and "original, logit cut off" in text and "| - |" in text
    tex = to_latex(lines(found))
    assert "\\rowcolor{gray!20} tuned & 50.00" in tex and "\\textbf{1.00 $\\pm$ 1.41}" in tex and "net\\_1: deer" in tex
    assert tex.count("\\midrule") == 2 and tex.count("&") == (len(COLUMNS)) * 6 + 0


def test_no_title_is_clipped(found, tmp_path, monkeypatch):
    """Also with long names."""
    figures = []
    monkeypatch.setattr(drawing, "save_figure", lambda figure, path: figures.append(figure))
    long = lines([cell(f"{'long ' * 9}{i}", group="deer " * 9) for i in range(2)])
    for draw, rows in ((draw_seeds, long), (draw_probe, long)):
        draw(rows, tmp_path / "x.png")
        figures[-1].draw_without_rendering()
        whole, title = figures[-1].bbox, figures[-1]._suptitle.get_window_extent()
        assert whole.x0 <= title.x0 and title.x1 <= whole.x1 and title.y1 <= whole.y1, figures[-1]._suptitle.get_text()


def test_figures_are_drawn(found, tmp_path):
    both = ("deer", "ship")
    two = [cell(one.method, one.seed, one.retain, "two", both, **content["figures"]) for one, content in found]
    rows = lines([*found, *two])
    draws = {"seeds": draw_seeds, "probe": draw_probe, "classes": draw_by_classes}
    for name, draw in draws.items():
        draw(rows if name == "classes" else lines(found), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000, name
    with pytest.raises(RequestError, match="no network forgets different numbers of classes"):
        draw_by_classes(lines(found), tmp_path / "none.png")
