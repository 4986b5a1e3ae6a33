"""``record verify --rerun``: every figure is measured again, from any folder, and nothing that a record names is run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from delete_tasks.cli import main
from delete_tasks.record.verify import NOT_CHECKED, OK, verify

FIGURES = {
    "recorded": ("forget_acc", "forget_acc_train", "remain_drop", "worst_drop"),
    "segmented": ("forget_iou", "others_drop"),
    "faced": ("identified", "kept_drop", "verified"),
    "cleaned": ("asr", "acc_drop", "worst_drop"),
}


def again(folder: Path, **options) -> dict[str, tuple[str, str]]:
    checks = verify(folder, rerun=True, **options)
    assert not [check for check in checks if check.status == "FAILED"], checks
    return {check.what.split()[1]: (check.status, check.why) for check in checks if check.what.startswith("figure ")}


@pytest.mark.parametrize("run", FIGURES)
def test_every_figure_is_measured_again_from_any_folder(run, request, tmp_path, monkeypatch, capsys):
    folder = request.getfixturevalue(run)
    record = json.loads((folder / "record.json").read_text())
    measured = {figure["name"] for figure in record["figures"] if figure["value"] is not None}
    monkeypatch.chdir(tmp_path)
    found = again(folder)
    assert set(found) == set(FIGURES[run])
    assert {name for name, (status, _) in found.items() if status == OK} == measured, found
    assert len(measured) >= len(FIGURES[run]) - 1
    assert main(["record", "verify", str(folder), "--rerun"]) == 0
