"""What cannot be measured: refused before the first step, or said with the reason."""

from __future__ import annotations

import json

import pytest

from delete_images import forget
from delete_images.models.model_file import load_model
from delete_tasks.cli import main


def values(results) -> dict:
    """Row -> metric -> value."""
    return {
        row: {name: figure["value"] for name, figure in figures.items()} for row, figures in results["rows"].items()
    }


def short_run(model, cifar, work_dir, *more: str) -> list[str]:
    """Words of a run of one step on twenty deer."""
    words = ["images", "forget", "--model", str(model), "--forget", f"{cifar}?class=deer&limit=20", "--classes", "deer"]
    return [*words, "--work-dir", str(work_dir), "--steps", "1", "--batch-size", "8", "--no-record", *more]


def test_nothing_given_is_not_measured(resnet20, cifar, tmp_path, capsys):
    words = ["images", "forget", "--model", str(resnet20), "--forget", f"{cifar}?class=deer&limit=20&label=none"]
    words += [
        "--classes",
        "#4",
        "--work-dir",
        str(tmp_path),
        "--steps",
        "1",
        "--batch-size",
        "8",
        "--augment",
        "none",
        "--no-record",
    ]
    assert main(words) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    found = values(results)["erased"]
    assert 5 < found.pop("still_predicted") <= 100  # the run itself measures it
    assert set(found.values()) == {None} and "retrained" not in results["rows"]
    reasons = {name: figure["note"] for name, figure in results["rows"]["erased"].items()}
    assert reasons["forget_acc"] == "no test images were given (--test)" and "--train-data" in reasons["linear_probe"]
    assert not (tmp_path / "confusion_before_after.png").exists()
    assert "-" in capsys.readouterr().out


FAILING = {
    "retrained classes": (["--test", "CIFAR?limit=20", "--retrained", "OTHER"], "has no class airplane, automobile"),
    "retrained size": (["--test", "CIFAR?limit=20", "--retrained", "SMALL"], "the retrained model on --test fails"),
    "test data": (["--test", "cifar10:/nowhere"], "nowhere"),
    "class": (["--classes", "dear"], "Did you mean 'deer'"),
}


@pytest.mark.parametrize(("words", "message"), FAILING.values(), ids=FAILING)
def test_what_fails_fails_before_the_first_step(words, message, resnet20, cifar, tmp_path, capsys):
    """One batch of every evaluation is run; and nothing is written."""
    from msgspec.structs import replace

    from delete_images.models.architectures import build
    from delete_images.models.model_file import save_model
    from delete_images.models.spec import Preprocessing

    network, spec = load_model(resnet20)
    names = tuple(f"x{i}" if i < 2 else name for i, name in enumerate(spec.classes))
    save_model(tmp_path / "other", network, replace(spec, classes=names))
    small = replace(spec, architecture="ibau_vgg", preprocessing=Preprocessing((16, 16)))  # made for 32x32
    save_model(tmp_path / "small", build("ibau_vgg", num_classes=10), small)
    words = [w.replace("CIFAR", cifar).replace("OTHER", str(tmp_path / "other")).replace("SMALL", str(tmp_path / "small"))
             for w in words]  # fmt: skip
    common = ["images", "forget", "--model", str(resnet20), "--forget", f"{cifar}?class=deer&limit=20"]
    common += [
        "--work-dir",
        str(tmp_path / "W"),
        "--steps",
        "1",
        *([] if "--classes" in words else ["--classes", "deer"]),
    ]
    assert main([*common, *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "W").exists()


UNMEASURED = {
    "no test images of the class": (
        ["--test", "CIFAR?without=deer&limit=30", "--train-data", "CIFAR?limit=100"],
        "show no deer",
    ),
    "few training images": (["--test", "CIFAR?limit=30", "--train-data", "CIFAR?limit=30"], "takes 5 training images"),
    "no training images of it": (
        ["--test", "CIFAR?limit=30", "--train-data", "CIFAR?without=deer&limit=90"],
        "show no deer",
    ),
    "no test": (["--train-data", "CIFAR?limit=60"], "--test, which is not given"),
}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.long] * (name not in ("few training images", "no test")))
        for name, case in UNMEASURED.items()
    ],
)
def test_probes_that_cannot_be_are_not_measured_with_the_reason(words, reason, resnet20, cifar, tmp_path, capsys):
    words = [word.replace("CIFAR", cifar) for word in words]
    assert main(short_run(resnet20, cifar, tmp_path, "--lr", "1e-3", *words)) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    for name in ("linear_probe", "few_shot"):
        assert reason in results["not_measured"][name]
        assert all(row[name]["value"] is None and reason in row[name]["note"] for row in results["rows"].values())
    assert values(results)["erased"]["remain_acc_train"] is not None
    assert "Not measured: linear_probe, because" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    "where",
    [
        "predict_images",
        "probe_hits",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("draw_confusions", "head_only")),
    ],
)
def test_what_fails_while_measuring_leaves_the_model(where, resnet20, cifar, tmp_path, monkeypatch):
    from delete_images import rows
    from delete_tasks.audit.attacks import probes

    calls = []

    def broken(*args, **kwargs):
        calls.append(1)
        if where == "predict_images" and len(calls) < 3:  # the batches that are tried before the run
            return real(*args, **kwargs)
        raise OSError("disk on fire")

    module = {"draw_confusions": forget, "probe_hits": probes}.get(where, rows)
    real = getattr(module, where)
    monkeypatch.setattr(module, where, broken)
    words = short_run(resnet20, cifar, tmp_path, "--lr", "1e-3")
    assert main([*words, "--test", f"{cifar}?limit=20", "--train-data", f"{cifar}?limit=60"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    parts = {"predict_images": "rows", "probe_hits": "linear_probe", "draw_confusions": forget.PICTURE}
    assert (tmp_path / "erased" / "weights.safetensors").exists()
    assert results["not_measured"][parts.get(where, "head_only")] == "OSError: disk on fire"
    assert (values(results)["erased"]["remain_acc"] is None) == (where == "predict_images")
