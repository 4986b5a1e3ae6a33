"""Figures, their counts and intervals, limits, the verdict and its exit status."""

import contextlib
import json
import math
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from helpers import read_json
from scipy import stats

from delete_tasks.audit.verdict import conclude, decide
from delete_tasks.evaluation import Measured, Metric
from delete_tasks.evaluation.functional import independent_pairs, paired, wilson
from delete_tasks.evaluation.metric import share
from delete_tasks.report.record import figures as limits_of
from delete_tasks.report.record.figures import exit_status, lines_of
from delete_tasks.report.record.html import render, setting
from delete_tasks.report.record.verify import FAILED, SCHEMA, verify


@pytest.mark.parametrize(("hits", "count"), [(0, 4), (4, 4), (1, 10), (50, 1000), (999, 1000), (3, 7)])
def test_wilson_is_scipys(hits, count):
    low, high = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(100 * hits / count, count) == pytest.approx((100 * low, 100 * high), abs=0.006)
    assert wilson(None, count) is None and wilson(50.0, 0) is None and wilson(50.0, None) is None


def test_the_paired_interval_holds_the_true_loss():
    """In 95% of 2,000 draws, and Wald's formula with half a sample more in each cell."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(2000):
        lost, gained, _ = rng.multinomial(60, [0.15, 0.05, 0.8])
        low, high = paired(int(lost), int(gained), 60)
        held += low <= 10.0 <= high
    assert 0.93 < held / 2000 < 0.98
    b, c, n = 5.5, 1.5, 62
    half = 1.959964 * math.sqrt((b + c) - (b - c) ** 2 / n) / n
    assert paired(5, 1, 60) == pytest.approx((100 * ((b - c) / n - half), 100 * ((b - c) / n + half)), abs=0.006)
    assert paired(None, 1, 60) is None and paired(0, 0, 0) is None and paired(0, 0, 20)[0] < 0 < paired(0, 0, 20)[1]


def test_independent_pairs_of_photos():
    assert independent_pairs([4]) == 2 and independent_pairs([5]) == 2 and independent_pairs([1, 0]) == 0
    assert independent_pairs([4, 4]) == 4 and 4 < independent_pairs([4, 20]) < 12
    rng, held, draws = np.random.default_rng(0), 0, 400
    for _ in range(draws):  # photos that match where both are close to the person's centre
        near = rng.random(12) < 0.7
        first, second = np.triu_indices(12, 1)
        low, high = wilson(100 * float((near[first] & near[second]).mean()), independent_pairs([12]))
        held += low <= 49.0 <= high
    assert held / draws > 0.95


def metric(name: str, unit: str, limit: float | None, of: str = "samples") -> Metric:
    return Metric(name, name.upper(), unit, lambda row: Measured(), limit=limit, of=of)


A, B, C = metric("a", "percent", 5.0, "photos"), metric("b", "points", 2.0, "test images"), metric("c", "points", None)


def rows_of(figures, accept) -> list[dict]:
    """Rows of (metric, erased, original) triples."""
    erased, original = ({one.name: figure[place].json() for one, *figure in figures} for place in (0, 1))
    return limits_of.rows_of([one for one, *_ in figures], {"original": original, "erased": erased}, accept)


def of(one: Metric, value: float, original: float, count: int) -> tuple[Metric, Measured, Measured]:
    return one, share(value, count), share(original, count)


NO_B = (B, Measured(), Measured())


def test_limits_of_figures():
    figures = [of(A, 3.0, 90.0, 100), NO_B, (C, Measured(9.0), Measured())]
    rows = rows_of(figures, {})
    assert [(row["name"], row["status"]) for row in rows] == [("a", "UNCERTAIN"), ("b", "NOT MEASURED")]
    assert rows[0]["interval"] == [1.03, 8.45] and rows[0]["original_interval"] == [82.56, 94.48]
    assert rows[0]["count"] == 100
    rows = rows_of(figures, {"a": 2.0, "c": 10.0})
    assert [row["status"] for row in rows] == ["UNCERTAIN", "NOT MEASURED", "PASS"]
    assert [row["limit_set_by"] for row in rows] == ["user", "default", "user"]


def verdict_of(rows, withheld=None, word="weakened") -> dict:
    return {**conclude(decide([]) | {"word": word}, rows, withheld)}


@pytest.mark.parametrize(("figures", "accept", "withheld", "word", "exits", "told"), [
    ([of(A, 0.0, 90.0, 100)], {}, None, "weakened", 0, "1 hold"),
    ([of(A, 0.0, 90.0, 100)], {}, None, "hidden", 3, "1 hold"),
    ([of(A, 0.0, 90.0, 100)], {}, None, "not forgotten", 3, "1 hold"),
    ([of(A, 0.0, 90.0, 100)], {}, None, "cannot tell", 0, "1 hold"),
    ([of(A, 0.0, 90.0, 4)], {}, None, "weakened", 0, "1 uncertain"),
    ([of(A, 25.0, 90.0, 4)], {}, None, "weakened", 0, "1 uncertain"),  # 4 photos carry no FAIL
    ([of(A, 0.0, 90.0, 4)], {"a": 5.0}, None, "weakened", 3, "1 uncertain"),
    ([of(A, 12.0, 90.0, 100)], {}, None, "weakened", 3, "1 exceeded"),
    ([of(A, 0.0, 90.0, 100), NO_B], {}, None, "weakened", 0, "1 hold, 1 not measured"),
    ([of(A, 0.0, 90.0, 100), NO_B], {"b": 1.0}, None, "weakened", 3, "NOT MEASURED b"),
    ([of(A, 12.0, 90.0, 100), NO_B], {}, None, "weakened", 3, "1 exceeded, 1 not measured"),
    ([of(A, 0.0, 90.0, 100)], {}, "the model did not change", "weakened", 4, "1 hold"),
    ([], {}, None, "cannot tell", 0, "none"),
])  # fmt: skip
def test_the_exit_status_follows_the_verdict(figures, accept, withheld, word, exits, told):
    rows = rows_of(figures, accept)
    verdict = verdict_of(rows, withheld, word)
    assert exit_status(verdict, rows, withheld, True) == exits
    assert exit_status(verdict, rows, withheld, False) == (0 if withheld is None else 4)
    lines = lines_of(rows)
    assert re.search(told, " ".join(" ".join(lines).split())) and max(map(len, lines)) <= 80


def test_a_run_whose_model_was_withheld(forget, tmp_path, monkeypatch, capsys):
    from delete_tasks.runner.unlearn_runner import UnlearnRunner

    def withheld(runner):
        runner.outcome.withheld = "the predictions on the forget set did not change"
        runner.outcome.forget_check = {"samples": 10, "locations": 10, "before": 100.0, "after": 100.0, "still": 100.0}

    monkeypatch.setattr(UnlearnRunner, "publish", withheld)
    run, names = tmp_path / "run", "forget_acc forget_acc_train remain_drop worst_drop still_predicted ece_rise"
    limits = [*(f"{name}=100" for name in names.split()), "nll_rise=1e6"]
    with contextlib.suppress(AssertionError):  # the command may say so by its status
        forget(run, "--accept", *limits)
    record = read_json(run, "record.json")
    assert record["verdict"]["level"] == "red" and {figure["status"] for figure in record["figures"]} == {"PASS"}
    assert record["withheld"] == "the predictions on the forget set did not change"
    assert record["models"]["erased"] is None
    assert record["forget_check"]["after"] == 100.0 and record["forget_check"]["interval"] == [72.25, 100.0]
    assert "NOT written" in capsys.readouterr().out
    checks = verify(run, rerun=True)
    assert not [check for check in checks if check.status == FAILED]
    assert {"no erased model" in check.why for check in checks if check.what.startswith("figure ")} == {True}


UNCHANGED = "the predictions did not change"
PAGES = [
    ([of(A, 0.0, 90.0, 4)], None, ["UNCERTAIN", "0.0 to 49.0", "4 photos"]),
    ([of(A, 0.0, 90.0, 400)], None, ["400 photos"]),
    ([(B, Measured(1.0, 30, note="why"), Measured())], None, ["interval not measured", "30 test images; why"]),
    ([of(A, 9.0, 90.0, 400)], None, ["FAIL", 'class="verdict red"']),
    ([(A, Measured(), Measured())], UNCHANGED, ["verdict red", UNCHANGED]),
]


@pytest.mark.parametrize(("figures", "withheld", "told"), PAGES)
def test_counts_and_intervals_on_the_page(figures, withheld, told, recorded):
    record = read_json(recorded, "record.json")
    rows = rows_of(figures, {})
    check = {"samples": 4, "locations": 4, "before": 97.25, "after": 0.5, "interval": [0.0, 49.0]}
    record |= {"figures": rows, "withheld": withheld, "verdict": verdict_of(rows, withheld), "forget_check": check}
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(record)
    page = render(record, recorded)
    flat = " ".join(page.split())
    for part in (*told, "97.25%"):
        assert part in flat, part
    assert "{&#39;" not in page


@pytest.mark.parametrize(("name", "value", "told"), [
    ("optimizer", {"type": "AdamW", "lr": 6e-4}, "Optimizer: AdamW, .*0.0006"),
    ("stop", {"ratio": 0.01, "window": 3}, "Stops early: .*0.01 .*3 steps"),
    ("stop", 0.1, "Stops early: .*0.1 (?!.*steps)"),
    ("schedule", "cosine", "Learning rate: .*cosine"),
    ("resumed", False, "Resumed.*: no"),
    ("my_option", [1, True, {"type": "X"}], "my option: 1, yes, X"),
])  # fmt: skip
def test_settings_in_words(name, value, told):
    assert re.fullmatch(f"(?:{told}).*", ": ".join(setting(name, value)))


def test_the_page_of_a_run_has_no_python_in_it(recorded, faced, segmented, cleaned):
    for folder in (recorded, faced, segmented, cleaned):
        page = re.sub('base64,[^"]*', "", (Path(folder) / "record.html").read_text())
        assert not any(text in page for text in ("{&#39;", "{'", "None", "A / A", "[&#39;")), folder
        record = read_json(folder, "record.json")
        check = record["forget_check"]  # locations of one sample depend on each other
        assert (check["interval"] is None) == (check["locations"] > check["samples"]), folder
        for figure in record["figures"]:
            assert figure["count"] is not None and (figure["interval"] or figure["note"]), figure
