"""Audit in results, record and page: a hidden class is red, and green needs a measurement."""

import json

import jsonschema
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from toys import fit

from delete_images.models.architectures import build
from delete_images.models.model_file import ModelSpec, Preprocessing, save_model
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


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Folder with ``model/``, a classifier that makes no mistake, and ``data.npz``: 30 images a class to train and 30 to test."""
    folder, labels = tmp_path_factory.mktemp("many"), np.repeat(np.arange(3), 30)
    drawn = np.random.default_rng(0).integers(0, 90, (2, 90, 16, 16, 3)).astype(np.uint8)
    for image, label in zip(drawn.reshape(180, 16, 16, 3), np.tile(labels, 2), strict=True):
        image[4:12, 4:12, label] += 150
    names = ("red", "green", "blue")
    arrays = {"x_train": drawn[0], "y_train": labels, "x_test": drawn[1], "y_test": labels}
    np.savez(folder / "data.npz", classes=np.array(names), **arrays)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build("cifar_resnet20", num_classes=3)
        inputs = torch.from_numpy(drawn[0]).permute(0, 3, 1, 2).float() / 255
        fit(model, inputs, torch.from_numpy(labels), torch.optim.Adam(model.parameters(), lr=3e-3), 12)
    save_model(folder / "model", model, ModelSpec("cifar_resnet20", names, Preprocessing.named("none", 16)))
    return folder


def test_head_only_is_red(forget, many, tmp_path, publish_anyway, capsys, monkeypatch):
    """Every limit on accuracies holds, and the features are the original's. Table and audit fit a probe once."""
    fitted, fitting = [], LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda *args: (fitted.append(1), fitting(*args))[1])
    run, data = tmp_path / "run", many / "data.npz"
    sets = ("--forget", f"{data}?limit=30", "--test", f"{data}?limit=30&seed=1", "--train-data", f"{data}?limit=60")
    words = ("--method", "HeadOnly", "--steps", 60, "--lr", 0.05, *sets, *LOOSE)
    forget(run, *words, audit="quick", model=many / "model")
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
