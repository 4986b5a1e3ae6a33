"""Plan of a run, and the next step after it."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from delete_tasks.report.finish import notes, tell_before, tell_next
from delete_tasks.report.record.files import UNKNOWN


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=400, markup=False)


def test_plan_of_a_run(console, tmp_path):
    args = SimpleNamespace(work_dir=str(tmp_path), resume=False)
    for resume, state in ((False, None), (True, None), (True, "step_4.pth")):
        args.resume = resume
        if state:
            (tmp_path / "last_checkpoint").write_text(f"/elsewhere/{state}\n")
        tell_before(console, args, ["[red]", "bus"], "M", "D", {"type": "DELETE", "steps": 9, "batch_size": 2})
    two = "Unlearning [red], bus from M (DELETE, at most 9 steps of 2 samples)."
    two += f" Reads D; writes to {tmp_path} (log: run.log)."
    told = f"{two} {two} Nothing to resume: starts from the beginning. {two} Continues from step_4.pth."
    assert " ".join(console.file.getvalue().split()) == told


@pytest.mark.parametrize(("results", "record", "expected"), [
    ({"withheld": "nothing forgotten"}, True, "Next: change the recipe"),
    ({"withheld": None}, True, "Next: delete-tasks record verify"),
    ({"withheld": None}, False, "Next: delete-tasks compare"),
    (None, True, ""),
])  # fmt: skip
def test_next_step(console, tmp_path, monkeypatch, results, record, expected):
    if record:
        (tmp_path / "record.json").write_text("{}")
    args = SimpleNamespace(work_dir=str(tmp_path), no_record=not record)
    if results is not None:
        residue = [("weights [/b]", "/m/w.pth"), ("log", "/m/a.log"), ("log", "/m/b.log"), ("copies", UNKNOWN)]
        residue += [(f"kind {i}: a, b", "/m/" + 100 * "deep/" + "k") for i in range(9)]
        found = [{"what": what, "where": where} for what, where in residue]
        results = results | {"forgotten": ["Zoë"], "residue": found, "exit_status": 3}
    assert tell_next(console, args, results) == (0 if results is None else 3)
    told = console.file.getvalue()
    finished = "record" in expected or "compare" in expected
    assert told.startswith(expected) and (told.count("\n  ") == 7) == finished
    if finished:
        files = "results.json and record.html" if record else "results.json"
        assert f"12 places that may still hold Zoë (listed in {files}), and copies" in " ".join(told.split())
        assert "\n  weights [/b]: /m/w.pth\n  log: 2 places\n  kind 0: .../k\n" in told
        assert told.endswith("\n  others: 5 places\n")
    monkeypatch.setenv("RANK", "1")
    tell_next(console, args, results)
    assert console.file.getvalue() == told, "only the first process speaks"


@pytest.mark.parametrize(("lost", "text"), [
    ("bird", "a class: bird, 4.00 points; it is the run's target."), ("cat", "a retained class: cat"),
])  # fmt: skip
def test_the_class_that_lost_most_may_be_a_backdoors_target(lost, text):
    results = {"forgotten": ["bird"], "rows": {"erased": {"worst_drop": {"value": 4.0, "of_class": lost}}}, "steps": 2,
               "recipe": {"steps": 2, "optimizer": {}}, "forget_set": {"read": 1, "available": 1}, "seconds": {},
               **dict.fromkeys(("prediction_shares", "forget_check", "finished", "audit")), "not_measured": {}}  # fmt: skip
    assert notes(results)[0].startswith(f"Largest loss of {text}")
