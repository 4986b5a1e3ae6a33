"""The images commands, as a user types them."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys

import jsonschema
import pytest
import torch
from mmengine.hooks import Hook
from rich.console import Console

from delete_images import forget
from delete_images.model_file import load_model
from delete_images.train import without_classes
from delete_tasks.checkpoint import load_file
from delete_tasks.cli import main
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.predictions import ROWS
from delete_tasks.evaluation.results import SCHEMA
from delete_tasks.evaluation.table import notes, show_rows
from delete_tasks.runner import UnlearnRunner


@pytest.fixture(scope="module")
def done(resnet20, cifar, tmp_path_factory):
    """One run of the command with everything asked for."""
    folder = tmp_path_factory.mktemp("forget")
    words = ["images", "forget", "--model", str(resnet20), "--forget", f"{cifar}?limit=2000", "--classes", "deer"]
    words += ["--test", f"{cifar}?limit=300", "--train-data", f"{cifar}?limit=300", "--retrained", str(resnet20)]
    words += ["--work-dir", str(folder), "--steps", "12", "--batch-size", "64", "--lr", "3e-4", "--temperature", "1"]
    words += ["--device", "cpu"]
    assert main(words) == 0
    return folder


def test_results(done):
    results = json.loads((done / "results.json").read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(results)
    rows = values(results)
    assert list(rows) == list(ROWS)
    assert rows["original"]["forget_acc"] > 85
    assert rows["erased"]["forget_acc"] < 5
    assert rows["erased"]["remain_acc"] > rows["original"]["remain_acc"] - 12
    assert rows["logit_cut"]["forget_acc"] == 0 and rows["head_only"]["forget_acc"] < 20
    assert rows["retrained"] == rows["original"]
    assert set(results["details"]["per_class"]["erased"]) == set(load_model_names(done))
    assert rows["erased"]["forget_acc_train"] < 5 and rows["erased"]["h_mean"] > 70
    assert results["rows"]["erased"]["worst_drop"]["of_class"] != "deer"
    assert rows["original"]["linear_probe"] > 60 and rows["erased"]["few_shot"] is not None
    assert rows["erased"].pop("still_predicted") < 5
    for name, row in results[
        "rows"
    ].items():  # hiding a logit, or changing the head alone, leaves the features as they are
        for metric, figure in row.items():
            measured = name == "erased" or metric != "still_predicted"  # the run itself measures that one
            assert bool(figure["count"]) == measured and (figure["interval"] or figure["note"])
    assert rows["logit_cut"]["linear_probe"] == rows["head_only"]["linear_probe"] == rows["original"]["linear_probe"]
    assert results["forget_set"]["available"] == 2000 and 150 < results["forget_set"]["read"] < 250
    assert results["steps"] == 12 and abs(sum(results["prediction_shares"].values()) - 100) < 0.1


def values(results) -> dict:
    """Row -> metric -> value."""
    return {
        row: {name: figure["value"] for name, figure in figures.items()} for row, figures in results["rows"].items()
    }


def load_model_names(done) -> list[str]:
    names = list(load_model(done / "erased")[1].classes)
    assert names[4] == "class_4"
    return [*names[:4], "deer", *names[5:]]


def test_residue(done):
    """The erased folder is the model and no more: no teacher, no optimizer state, no name."""
    assert sorted(path.name for path in (done / "erased").iterdir()) == ["model.json", "weights.safetensors"]
    for path in (done / "erased").iterdir():
        assert b"deer" not in path.read_bytes()
    network, _ = load_model(done / "erased")
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    assert (done / "erased" / "weights.safetensors").stat().st_size < size + 20_000
    assert not (done / "erased.pth").exists()


def test_picture(done):
    from PIL import Image

    with Image.open(done / "confusion_before_after.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24)) > 50


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--forget", "cifar10"], "--model, --classes missing"),
        (["--model", "nowhere", "--forget", "cifar10", "--classes", "deer"], "'nowhere' is not a model"),
        (["--model", "MODEL", "--forget", "CIFAR?limit=5", "--classes", "dear"], "Did you mean 'deer'"),
        (["--model", "MODEL", "--forget", "CIFAR?class=cat&limit=5", "--classes", "deer"], "the forget set is empty"),
        (
            [
                "--model",
                "MODEL",
                "--forget",
                "CIFAR?limit=5&label=none",
                "--classes",
                "deer",
                "--method",
                "RandomLabel",
            ],
            "5 of 5 images .* have none; say what they are",
        ),
        (
            ["--model", "MODEL", "--forget", "X", "--classes", "deer", "--retain", "X", "--method", "NegativeGradient"],
            "learns nothing from a retain set",
        ),
        (["--model", "MODEL", "--forget", "X", "--classes", "deer", "--device", "tpu"], "--device takes cpu, cuda"),
    ],
)
def test_mistakes_are_one_message(words, message, resnet20, cifar, tmp_path, capsys):
    import re

    words = [word.replace("MODEL", str(resnet20)).replace("CIFAR", cifar) for word in words]
    assert main(["images", "forget", *words, "--work-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error


class PullThePlugHook(Hook):
    """Ends a run in the middle of a step."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 3:
            raise KeyboardInterrupt


def command_config(resnet20, cifar, work_dir, **changes):
    from delete_tasks.cli import parse

    words = [
        "images",
        "forget",
        "--model",
        str(resnet20),
        "--forget",
        f"{cifar}?class=deer&limit=40",
        "--classes",
        "deer",
    ]
    words += [
        "--work-dir",
        str(work_dir),
        "--steps",
        "6",
        "--batch-size",
        "8",
        "--retain",
        f"{cifar}?class=ship&limit=20",
    ]
    options = {**vars(parse(words)), "launcher": "none", **changes}
    cfg = forget.make_config(None, options)
    cfg.unlearn.checkpoint_interval, cfg.log_level = 1, "WARNING"
    return cfg


@pytest.mark.parametrize("schedule", [pytest.param("constant", marks=pytest.mark.long), "cosine"])
def test_resumed_is_uninterrupted(schedule, resnet20, cifar, tmp_path):
    def config(name, **changes):
        cfg = command_config(resnet20, cifar, tmp_path / name, **changes)
        cfg.unlearn.schedule = schedule
        return cfg

    UnlearnRunner.from_cfg(config("whole")).train()
    runner = UnlearnRunner.from_cfg(config("broken"))
    runner.register_hook(PullThePlugHook(), priority="VERY_HIGH")
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert not (tmp_path / "broken" / "erased").exists()
    runner = UnlearnRunner.from_cfg(config("broken", resume=True))
    runner.train()
    assert runner.resumed_from.endswith("step_3.pth")
    rate = 6e-4 if schedule == "constant" else 6e-4 * (1 + math.cos(math.pi * 5 / 6)) / 2
    assert runner.optim_wrapper.get_lr()["lr"][0] == pytest.approx(rate)
    whole, resumed = (load_model(tmp_path / name / "erased")[0].state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.slow
@pytest.mark.long
def test_killed_three_times_gives_the_same_tensors(resnet20, cifar, killed, tmp_path):
    """At a step, while a state is being written, and at another step."""
    found = {}
    for name in ("whole", "killed"):
        cfg = command_config(resnet20, cifar, tmp_path / name)
        cfg.unlearn.checkpoint_interval = 2
        cfg.dump(tmp_path / f"{name}.py")
        words = [sys.executable, "-m", "delete_tasks", "images", "forget", "--config", str(tmp_path / f"{name}.py")]
        words += ["--work-dir", str(tmp_path / name), "--resume"]
        for pattern in (".step_2.pth.*.delete-tasks.tmp", "step_2.pth", "step_4.pth") if name == "killed" else ():
            killed(words, pattern, within=0.01)
        assert subprocess.run(words, capture_output=True, timeout=300).returncode == 0
        found[name] = load_model(tmp_path / name / "erased")[0].state_dict()
    assert all(torch.equal(value, found["killed"][name]) for name, value in found["whole"].items())


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_are_one(resnet20, cifar, tmp_path):
    found = {}
    for processes in (1, 2):
        launch = [sys.executable, "-m", "delete_tasks"]
        if processes > 1:
            launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
            launch += ["-m", "delete_tasks"]
        words = ["images", "forget", "--model", str(resnet20), "--forget", f"{cifar}?class=deer&limit=40"]
        words += ["--classes", "deer", "--work-dir", str(tmp_path / str(processes)), "--steps", "3", "--device", "cpu"]
        words += ["--batch-size", str(8 // processes), "--retain", f"{cifar}?class=ship&limit=20", "--lr", "1e-5"]
        words += ["--keep-states"]  # three such steps forget nothing, and no model is published
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*launch, *words], env=environment, capture_output=True, text=True, timeout=300)
        assert done.stdout.count("Written:") == 1, done.stderr[-3000:]
        state = load_file(tmp_path / str(processes) / "step_3.pth")["state_dict"]
        found[processes] = {name.removeprefix("network."): value for name, value in state.items()}
    original = load_model(resnet20)[0].state_dict()
    moved = max(float((value - original[name]).abs().max()) for name, value in found[1].items())
    worst = max(float((value - found[2][name]).abs().max()) for name, value in found[1].items())
    assert worst <= 2e-6 and worst < moved / 5, (worst, moved)


def test_import_train_and_evaluate(shared, cifar, tmp_path, capsys):
    weights = shared / "weights" / "nad_wrn16-1_erased.pth"
    words = [
        "images",
        "import",
        str(weights),
        str(tmp_path / "wrn"),
        "--architecture",
        "wrn16_1",
        "--classes",
        "cifar10",
    ]
    assert main([*words, "--normalization", "none"]) == 0
    assert main(["images", "evaluate", str(tmp_path / "wrn"), "--test", f"{cifar}?limit=50", "--classes", "deer",
                 "--out", str(tmp_path / "out.json")]) == 0  # fmt: skip
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["images"] == 50 and figures["accuracy"] > 60 and figures["forget_acc"] is not None
    words = ["images", "train", "--like", str(tmp_path / "wrn"), "--data", f"{cifar}?limit=60", "--without", "deer"]
    words += ["--test", f"{cifar}?limit=20", "--epochs", "2", "--batch-size", "16", "--work-dir", str(tmp_path / "t")]
    assert main(words) == 0
    network, spec = load_model(tmp_path / "t" / "model")
    assert spec.classes[4] == "deer" and torch.isfinite(network.fc.weight).all()
    assert "Accuracy in percent" in capsys.readouterr().out


def test_finetuning_starts_from_the_models_weights(shared, cifar, tmp_path, capsys):
    weights = shared / "weights" / "nad_wrn16-1_erased.pth"
    words = ["--architecture", "wrn16_1", "--classes", "cifar10", "--normalization", "none"]
    assert main(["images", "import", str(weights), str(tmp_path / "wrn"), *words]) == 0
    words = ["images", "train", "--finetune", str(tmp_path / "wrn"), "--data", f"{cifar}?limit=32", "--epochs", "1"]
    words += ["--lr", "0", "--work-dir", str(tmp_path / "t")]
    assert main(words) == 0
    before, after = (load_model(tmp_path / name)[0] for name in ("wrn", "t/model"))
    assert torch.equal(before.fc.weight, after.fc.weight)
    assert main([*words, "--like", str(tmp_path / "wrn")]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_training_without_a_class_reads_none_of_it():
    assert without_classes("cifar10", []) == "cifar10"
    assert without_classes("cifar10:/d?limit=3", ["deer", "a,b"]) == "cifar10:/d?limit=3&without=deer,a%2Cb"
    with pytest.raises(RequestError, match="says without= already"):
        without_classes("cifar10?without=cat", ["deer"])


def test_what_is_missing_is_named(tmp_path):
    words = [sys.executable, "-m", "delete_tasks", "images", "forget", "--work-dir", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "missing: give --model" in done.stderr
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits(done, width):
    """No header is cut, no row or column holds dashes alone, and what is left out is said."""
    results = json.loads((done / "results.json").read_text())
    text = shown(results, width)
    assert "…" not in text and all(len(line) <= width for line in text.splitlines())
    for column in ("forgotten", "others", "worst drop", "NLL", "ECE"):
        assert column in text
    assert "erased, original head" in text and "Predicted in place of deer: " in text
    assert "lost most" in text and " others left out)" in text
    assert ("5-shot" in text.split("Not shown")[0]) == (width > 80)
    assert "H-mean" in shown(results, 40, wide=True) and "Not shown" not in shown(results, 40, wide=True)


def shown(results, width: int, wide: bool = False) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    show_rows(console, "Forgetting deer", results, wide)
    for line in notes(results):
        console.print(line)
    return console.export_text()


def test_not_forgotten_is_said(done):
    results = json.loads((done / "results.json").read_text())
    assert "NOT FORGOTTEN" not in shown(results, 100)
    results["forget_check"] |= {"still": 21.7}
    said = " ".join(shown(results, 100).split())
    assert (
        "NOT FORGOTTEN: 21.7% of what" in said and "more steps than 12, or a higher learning rate than 0.0003" in said
    )
    results["forget_check"] |= {"still": 0.4}
    assert "NOT FORGOTTEN" not in shown(results, 100) and "0.4% still was" in shown(results, 100)


def test_the_row_is_taken_out_and_the_scale_comes_back(done, resnet20):
    """What is measured is what is published; the original's head is put back for its own row of the table."""
    erased, original = (load_model(path)[0].linear for path in (done / "erased", resnet20))
    assert not erased.weight[4].any() and erased.bias[4] == -10
    assert erased.weight.sum(0).norm() < 1e-3 * original.weight[4].norm()  # the others' sum would be minus the template
    results = json.loads((done / "results.json").read_text())
    finished, rows = results["finished"], values(results)
    assert finished["rows_replaced"] == ["linear"] and 0.2 < finished["scale"] < 1
    assert rows["erased"]["forget_acc"] == 0
    assert rows["original"]["nll"] > 0.2 and rows["erased"]["nll"] < rows["original"]["nll"] + 0.35
    assert rows["erased"]["ece"] is not None and rows["head_only"]["nll"] is not None
    assert torch.nn.functional.cosine_similarity(erased.weight[5], original.weight[5], dim=0) > 0.9


def test_keep_row(resnet20, cifar, tmp_path):
    words = ["images", "forget", "--model", str(resnet20), "--forget", f"{cifar}?class=deer&limit=20", "--keep-row"]
    words += [
        "--classes",
        "deer",
        "--work-dir",
        str(tmp_path),
        "--steps",
        "6",
        "--batch-size",
        "8",
        "--augment",
        "none",
    ]
    words += ["--no-record", "--audit", "none"]
    assert main([*words, "--lr", "1e-3", "--cfg-options", "unlearn.match_scale=False"]) == 0
    erased, original = (load_model(path)[0].linear.weight[4] for path in (tmp_path / "erased", resnet20))
    assert torch.nn.functional.cosine_similarity(erased, original, dim=0) > 0.99
    finished = json.loads((tmp_path / "results.json").read_text())["finished"]
    assert finished == {"rows_replaced": [], "scale": None, "scale_not_matched": "match_scale is off"}


FAILING = {
    "retrained classes": (["--test", "CIFAR?limit=20", "--retrained", "OTHER"], "has no class airplane, automobile"),
    "retrained size": (["--test", "CIFAR?limit=20", "--retrained", "SMALL"], "the retrained model on --test fails"),
    "test data": (["--test", "cifar10:/nowhere"], "nowhere"),
    "class": (["--classes", "dear"], "Did you mean 'deer'"),
}


@pytest.mark.parametrize(("words", "message"), FAILING.values(), ids=FAILING)
def test_what_fails_fails_before_the_first_step(words, message, resnet20, cifar, tmp_path, capsys):
    """One batch of every evaluation is run; and nothing is written."""
    from dataclasses import replace

    from delete_images.architectures import build
    from delete_images.model_file import save_model
    from delete_images.spec import Preprocessing

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
    common = [
        "images",
        "forget",
        "--model",
        str(resnet20),
        "--forget",
        f"{cifar}?class=deer&limit=20",
        "--classes",
        "deer",
    ]
    assert (
        main(
            [
                *common,
                "--work-dir",
                str(tmp_path),
                "--steps",
                "1",
                "--batch-size",
                "8",
                "--lr",
                "1e-3",
                "--no-record",
                *words,
            ]
        )
        == 0
    )
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
        "fit_linear_probe",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("draw_confusions", "head_only")),
    ],
)
def test_what_fails_while_measuring_leaves_the_model(where, resnet20, cifar, tmp_path, monkeypatch):
    from delete_images import rows
    from delete_tasks.audit import linear_probe

    calls = []

    def broken(*args, **kwargs):
        calls.append(1)
        if where == "predict_images" and len(calls) < 3:  # the batches that are tried before the run
            return real(*args, **kwargs)
        raise OSError("disk on fire")

    module = {"draw_confusions": forget, "fit_linear_probe": linear_probe}.get(where, rows)
    real = getattr(module, where)
    monkeypatch.setattr(module, where, broken)
    words = [
        "images",
        "forget",
        "--model",
        str(resnet20),
        "--forget",
        f"{cifar}?class=deer&limit=20",
        "--classes",
        "deer",
    ]
    words += [
        "--test",
        f"{cifar}?limit=20",
        "--train-data",
        f"{cifar}?limit=60",
        "--work-dir",
        str(tmp_path),
        "--steps",
        "1",
    ]
    assert main([*words, "--batch-size", "8", "--lr", "1e-3", "--no-record"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    parts = {"predict_images": "rows", "fit_linear_probe": "linear_probe", "draw_confusions": forget.PICTURE}
    assert (tmp_path / "erased" / "weights.safetensors").exists()
    assert results["not_measured"][parts.get(where, "head_only")] == "OSError: disk on fire"
    assert (values(results)["erased"]["remain_acc"] is None) == (where == "predict_images")


@pytest.mark.parametrize(
    "words",
    [
        ["--lr", "nan"],
        ["--lr", "-1"],
        ["--epochs", "0"],
        ["--lr", "1e30", "--epochs", "9", "--batch-size", "8"],
        ["--weight-decay", "inf"],
        ["--batch-size", "0"],
    ],
)
def test_training_that_gives_no_model_writes_none(words, cifar, tmp_path, capsys):
    model = ["--architecture", "wrn16_1", "--classes", "cifar10", "--normalization", "none"]
    train = ["images", "train", *model, "--data", f"{cifar}?limit=32", "--work-dir", str(tmp_path), "--epochs", "1"]
    assert main([*train, *words]) == 2
    error = capsys.readouterr().err
    assert ("expected a" in error or "nan or infinity" in error) and "Traceback" not in error
    assert not (tmp_path / "model").exists()
