"""Audit in results, record and page: a hidden class is red, and green needs a measurement."""

import json

import jsonschema
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from delete_tasks.audit.in_run import THIRD, divided
from delete_tasks.evaluation import Predictions
from delete_tasks.report.record.verify import FAILED, verify
from delete_tasks.report.record.verify import SCHEMA as RECORD_SCHEMA
from delete_tasks.report.results import SCHEMA

WIDE = ("forget_acc", "forget_acc_train", "remain_drop", "worst_drop", "still_predicted", "ece_rise")
LOOSE = ["--accept", *(f"{name}=100" for name in WIDE), "nll_rise=1e6"]


def read(folder):
    results, record = (json.loads((folder / name).read_text()) for name in ("results.json", "record.json"))
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(results)
    jsonschema.Draft202012Validator(json.loads(RECORD_SCHEMA.read_text())).validate(record)
    return results, record, " ".join((folder / "record.html").read_text().split())


def test_head_only_is_red(forget, colours, tmp_path, publish_anyway, capsys, monkeypatch):
    """Every limit on accuracies holds, and the features are the original's. Table and audit fit a probe once."""
    fitted, fit = [], LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda *args: (fitted.append(1), fit(*args))[1])
    run, training = tmp_path / "run", f"{colours / 'data.npz'}?limit=60"
    words = ("--method", "HeadOnly", "--steps", 60, "--lr", 0.05, "--train-data", training, *LOOSE)
    forget(run, *words, audit="quick")
    told = " ".join(capsys.readouterr().out.split())
    results, record, page = read(run)
    assert results["verdict"]["word"] == "hidden" and "audit" in results["seconds"]
    assert len(fitted) == 2  # of the original and the erased model
    for metric, attack in (("linear_probe", "linear_probe"), ("few_shot", "prototypes_5")):
        assert results["rows"]["erased"][metric].items() <= results["audit"]["rows"]["erased"][attack].items()
    for name in ("linear_probe", "knn_probe", "prototypes_5"):
        assert results["audit"]["rows"]["erased"][name] == results["audit"]["rows"]["original"][name]
    assert {figure["status"] for figure in record["figures"]} == {"PASS"} and record["verdict"] == results["verdict"]
    assert record["verdict"]["level"] == "red" and 'class="verdict red"' in page and '<p class="word">HIDDEN' in page
    assert told.count("HIDDEN") == 1 and told.index("Verdict: HIDDEN") > told.index("Erasure record")
    shown = [picture["path"] for picture in record["pictures"]]
    assert "audit.png" in shown and "tsne.png" in shown and page.count("<img src") == len(shown)
    assert not [check for check in verify(run) if check.status == FAILED]


@pytest.mark.parametrize("audit", ["none", "quick"])
def test_without_an_audit_nothing_is_green(forget, colours, tmp_path, publish_anyway, capsys, audit):
    """No audit was requested, or there are too few held-out samples for attacks."""
    run, few = tmp_path / "run", ["--test", f"{colours / 'data.npz'}?limit=10&seed=1"]
    forget(run, *(few if audit == "quick" else []), *LOOSE, audit=audit)
    results, record, page = read(run)
    assert record["verdict"]["word"] == "cannot tell" and 'class="verdict grey"' in page
    assert "Verdict: CANNOT TELL" in capsys.readouterr().out
    if audit == "none":
        assert results["audit"] is None and record["audit"] is None
    else:
        assert "held-out samples" in record["verdict"]["sentence"] and "5" in record["verdict"]["sentence"]
    assert not (run / "audit.png").exists()


def test_without_training_samples_attacks_take_a_third_of_the_held_out_ones(forget, tmp_path, publish_anyway):
    results, record, _ = read(forget(tmp_path / "run", *LOOSE, audit="quick"))
    assert results["audit"]["trained_on"] == THIRD
    assert "a third" in record["audit"]["trained_on"]
    green = results["audit"]["rows"]["erased"]["linear_probe"]
    held = results["rows"]["erased"]["forget_acc"]["count"]
    assert green["count"] == held - held // 3 and green["details"]["trained_on"] < 3 * green["count"]


def test_thirds_are_disjoint_and_the_same_for_every_model():
    labels = torch.tensor([0, 1, 1, 0, 2, 0, 1, -1, 0])
    given = Predictions(torch.zeros(9, 3), torch.arange(9.0)[:, None], labels)
    found = divided({"test": given, "other": 1})
    assert found["train"].features[:, 0].tolist() == [0, 1] and found["other"] == 1
    assert found["test"].features[:, 0].tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert divided({"forget": given}) == {"forget": given}
