"""Comparison of runs: table, notes, refusals, and the results that each command writes."""

import copy
import json
import re
import shutil
from pathlib import Path

import pytest

from delete_tasks.cli import main
from delete_tasks.evaluation import Measured
from delete_tasks.plugins import plugin_modules
from delete_tasks.report.compare import metrics_of, read_runs
from delete_tasks.report.results import FORMAT, VERSION
from delete_tasks.task import load_task


def results_of(task: str, forgotten: str, rows: dict, **more) -> dict:
    """Content of a results.json whose rows have these values, by metric."""
    metrics = load_task(task).metrics
    return {
        "format": FORMAT, "version": VERSION, "task": task, "forgotten": [forgotten],
        "metrics": [metric.json() for metric in metrics],
        "rows": {row: {one.name: Measured(values.get(one.name)).json() for one in metrics} for row, values in rows.items()},
        "not_measured": {}, "prediction_shares": None, "data": {}, "measured_on": "cifar10",
        "recipe": {"type": "DELETE", "classes": [forgotten], "steps": 300, "temperature": 8,
                   "optimizer": {"type": "AdamW", "lr": 6e-4}},
        "steps": 300,
        "seconds": {"selecting": 0.0, "unlearning": 12.3, "evaluating": 1.0},
        "forget_set": {"read": 1, "available": 1},
        **dict.fromkeys(("retain_set", "forget_check", "finished", "withheld")),
        **{name: {} for name in ("code", "environment", "details")}, "published": True, "peak_memory_mb": 1, **more,
    }  # fmt: skip


ROWS = {
    "original": {"forget_acc": 91.0, "remain_acc": 92.5, "forget_acc_train": 99.0, "remain_acc_train": 99.5,
                 "linear_probe": 96.0, "few_shot": 95.0},
    "erased": {"forget_acc": 0.25, "remain_acc": 92.25, "forget_acc_train": 0.5, "remain_acc_train": 99.0,
               "worst_drop": 1.5, "linear_probe": 93.0, "few_shot": 70.0},
}  # fmt: skip
IMAGES = results_of("images", "green", ROWS)
CLEANED = {"original": {"asr": 97.5, "acc": 93.0, "ra": 2.0}, "erased": {"asr": 1.0, "acc": 92.0, "ra": 90.0}}
WITHOUT_TEST = {f"rows__{row}__{name}_acc__value": None for row in ROWS for name in ("forget", "remain")}
VERDICT = {"word": "weakened", "title": "WEAKENED: still read", "sentence": "Probe 80.7, original 82.3.", "level": "red",
           "decided_by": "linear_probe", "words": {}, "reasons": {}, "limits": {"exceeded": ["remain_drop"]}}  # fmt: skip


def changed(**places) -> dict:
    """IMAGES with other values: ``changed(rows__erased__forget_acc__value=3)``."""
    results = copy.deepcopy(IMAGES)
    for place, value in places.items():
        *keys, last = place.split("__")
        part = results
        for key in keys:
            part = part[key]
        part[last] = value
    return results


@pytest.fixture
def compare(tmp_path, monkeypatch, capsys):
    """``compare({"a": results, ...}, *words)`` -> exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(runs: dict[str, dict], *words: str) -> tuple[int, str, str]:
        for name, results in runs.items():
            Path(name).mkdir(parents=True, exist_ok=True)
            Path(name, "results.json").write_text(json.dumps(results))
        status = main(["compare", *runs, *words])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_table(compare):
    second = changed(rows__erased__forget_acc__value=4.0, recipe__optimizer__lr=1e-3)
    second["rows"]["erased"]["remain_acc"]["value"] = 90.0
    status, out, _ = compare({"first": IMAGES, "second": second})
    assert status == 0 and max(map(len, out.splitlines())) <= 80
    assert "images, green forgotten (percent; before -> after)" in out
    (first, other) = (line.split() for line in out.splitlines() if "->" in line and "(" not in line)
    assert first == ["first", "91.00", "->", "0.25", "92.50", "->", "92.25", "300", "12"]
    assert other == ["second", "91.00", "->", "4.00", "92.50", "->", "90.00", "300", "12"]
    assert "first: optimizer.lr=0.0006" in out and "second: optimizer.lr=0.001" in out and "temperature" not in out


def test_wide(compare):
    _, out, _ = compare({"run": IMAGES}, "--wide")
    (line,) = (line for line in out.splitlines() if line.startswith("run ") and "300" in line)
    for cell in ("99.00 -> 0.50", "99.50 -> 99.00", "1.50", "96.00 -> 93.00", "95.00 -> 70.00"):
        assert cell in line


@pytest.mark.parametrize(("runs", "texts"), [
    # Several requests get a column; the longest names leave room for the figures.
    ({"a": IMAGES, "b": changed(forgotten=["red", "blue"])}, ["a     green", "b     red, blue"]),
    ({"x" * 60: IMAGES, "y": IMAGES}, ["91.00 -> 0.25", "92.50 -> 92.25", "run 1   91.00", f"run 1: {'x' * 60}"]),
    ({"erased_with_temperature_8": IMAGES, "b": IMAGES}, ["erased_with_temperature_8   91.00 -> 0.25"]),
    # Options, data and seeds in which the runs differ; numbers of samples tell data of the same name apart.
    ({"a": changed(data={"retain": "r?limit=5", "public": None}, recipe__seed=1),
     "b": changed(data={"retain": None, "public": "p"}, recipe__seed=2)},
     ["a: seed=1, data.retain=r?limit=5, data.public=none", "b: seed=2, data.retain=none, data.public=p"]),
    ({"a": IMAGES, "b": changed(forget_set__read=9, forget_set__sha256="f" * 64)},
     ["a: forget_set.read=1\n", "b: forget_set.read=9\n"]),
    ({"a": IMAGES, "b": changed(forget_set__sha256="f" * 64)},
     ["a: forget_set.sha256=none\n", f"b: forget_set.sha256={'f' * 12}\n"]),
    ({"a": IMAGES, "b": IMAGES}, ["No recorded option or data of the runs differs.", "Measured on the same data, cifar10"]),
    ({"a": IMAGES, "b": changed(rows__original__forget_acc__value=90.5)}, ["but the original's figures differ: another"]),
    ({"a": changed(verdict=VERDICT), "b": IMAGES},
     ["a: WEAKENED: still read. Probe 80.7, original 82.3. Limits exceeded:\n  remain_drop."]),
    # Without test images: the columns of training images.
    ({"a": changed(**WITHOUT_TEST)}, ["99.00 -> 0.50", "Not measured in any run: forgotten; others"]),
    ({"a": IMAGES, "b": changed(rows__erased__forget_acc__value=None)}, ["91.00 -> -"]),
    ({"a": IMAGES, "b": changed(measured_on="mine.npz")}, ["Not measured on the same data", "a on cifar10; b on"]),
    # Folders of the same name are distinguished; control characters and rich's markup are printed.
    ({"p/w": IMAGES, "q/w": IMAGES}, ["p/w   91.00", "q/w   91.00"]),
    ({"a": changed(forgotten=["[bold]\x1b[2J$x$"])}, ["[bold]\N{REPLACEMENT CHARACTER}[2J$x$ forgotten"]),
    # One table per task.
    ({"a": IMAGES, "b": results_of("backdoor", "red", CLEANED), "c": IMAGES},
     ["images, green forgotten", "backdoor, red forgotten", "97.50 -> 1.00", "93.00 -> 92.00"]),
])  # fmt: skip
def test_notes(runs, texts, compare):
    status, out, error = compare(runs)
    assert status == 0, error
    assert max(map(len, out.splitlines())) <= 80
    for text in texts:
        assert text in out, out


@pytest.mark.parametrize(("content", "words", "message"), [
    (None, [], r"no results at 'run/results.json' \(No such file or directory\); give work dirs of finished runs"),
    ("{", [], "'run/results.json' is no JSON"),
    ("[1]", [], "holds no results of a run"),
    (json.dumps({"task": "images", "rows": {}}), [], "holds no results of a run"),
    (json.dumps(changed(version=2)), [], "holds no results of a run"),
    (json.dumps(changed(task=["images"])), [], "'run/results.json': \\$.task: "),
    (json.dumps(changed(rows={})), [], "\\$.rows: 'original' is a required property"),
    (json.dumps(changed(steps="many")), [], "\\$.steps: 'many' is not of type 'integer'"),
    (json.dumps(IMAGES).replace("0.25", "1e999"), [], "1e999 is not a finite number"),
    (json.dumps(changed(rows__erased__forget_acc={})), [], "\\$.rows.erased.forget_acc: 'value' is a required"),
    (json.dumps(IMAGES), ["run/../run"], "a run is given twice: run, run/../run"),
])  # fmt: skip
def test_refusals(content, words, message, tmp_path, monkeypatch, capsys):
    """The status is 2, with one message, and nothing is written or replaced."""
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    if content is not None:
        Path("run/results.json").write_text(content)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert main(["compare", "run", *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_results_of_each_command(recorded, segmented, faced, cleaned, boxed, tmp_path, monkeypatch, capsys):
    """The first figures of both roles are measured in every task."""
    monkeypatch.chdir(tmp_path)
    runs = {"images": recorded, "segmentation": segmented, "faces": faced, "backdoor": cleaned, "detection": boxed}
    assert set(runs) == set(plugin_modules())
    for one in read_runs(map(str, runs.values())):
        first = {metric["role"]: metric for metric in reversed(metrics_of([one])) if metric["role"] is not None}
        assert set(first) == {"forget", "retain"}, one.task
        assert all(None not in one.values(metric) for metric in first.values()), one.task
        assert one.forgotten != "-" and one.results["steps"] in (2, 4) and one.results["measured_on"]
    names = [f"{task}_{which}" for task in runs for which in ("run", "again")]
    for name in names:
        shutil.copytree(runs[name.partition("_")[0]], name)
    capsys.readouterr()
    assert main(["compare", *names]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80 and all(name in out for name in names)
