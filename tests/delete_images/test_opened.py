"""Errors of measuring: found before the first step, or reported with the reason."""

import re
from collections import Counter
from types import SimpleNamespace

import pytest
from helpers import read_results, run, values
from msgspec.structs import replace

from delete_images import forget
from delete_images.models.architectures import build
from delete_images.models.model_file import load_model, save_model
from delete_images.models.spec import Preprocessing
from delete_images.opened import some_of
from delete_tasks.audit import in_run
from delete_tasks.evaluation.reader import TRIED, _Reader

ONE_STEP = "--steps 1 --batch-size 8 --no-record"


def test_without_data_nothing_is_measured(deer, tmp_path, tells):
    given = dict(classes="#4", query="class=deer&limit=20&label=none")
    said = tells(deer(tmp_path, ONE_STEP, "--augment none --lr 6e-4", **given))
    results = read_results(tmp_path)
    figures = values(results["rows"])["erased"]
    assert 5 < figures.pop("still_predicted") <= 100  # the run itself measures it
    assert set(figures.values()) == {None} and "retrained" not in results["rows"]
    reasons = {name: figure["note"] for name, figure in results["rows"]["erased"].items()}
    assert "--test" in reasons["forget_acc"] and "--train-data" in reasons["linear_probe"]
    assert not (tmp_path / "confusion_before_after.png").exists()
    assert "-" in said


@pytest.mark.usefixtures("publish_anyway")
def test_the_table_is_printed_before_the_audit_which_reads_no_sample_again(deer, cifar, tmp_path, capsys, monkeypatch):
    printed, read, audit, outputs = list[str](), Counter[int](), in_run.audit_run, _Reader.outputs

    def counted(reader, inputs, labels):
        read[id(reader.model.module)] += len(inputs)
        return outputs(reader, inputs, labels)

    monkeypatch.setattr(_Reader, "outputs", counted)
    monkeypatch.setattr(in_run, "audit_run", lambda *args: printed.append(capsys.readouterr().out) or audit(*args))
    run(deer(tmp_path, ONE_STEP, f"--test {cifar}?limit=60"))
    assert sorted(read.values()) == [60 + 20, TRIED + 60 + 20]  # test and forget images, by both models
    before, after = printed[0], capsys.readouterr().out
    assert re.findall(r"Stage (\d) of 7: ", before) == [*"123456"] and "Verdict: " not in before
    places = [before.index(text) for text in ("logit cut off", "Predicted in place of deer", "Stage 6 of 7: audit.")]
    assert places == sorted(places)
    assert after.index("Stage 7 of 7: record.") < after.index("Time: ") < after.index("Verdict: ")


def test_a_large_forget_set_is_measured_in_part():
    images = SimpleNamespace(subset=len)
    assert [some_of(images, range(count)) for count in (9, 1999, 2000, 5000)] == [9, 1999, 1000, 1000]


def test_a_dry_run_forecasts_the_time_and_writes_nothing(deer, cifar, tmp_path, tells):
    said = tells(deer(tmp_path / "w", f"--steps 60000 --batch-size 4 --dry-run --test {cifar}?limit=20"))
    assert "Would forget: deer Forget set: 20 of 20 images (labels) Loss replaced in: " in said
    time = r"Time: about \d+ minutes on this machine \(measured: [\d.]+ s a step, [\d.]+ s for the table"
    assert re.search(time, said)
    assert not (tmp_path / "w").exists()


FAILING = {
    "retrained classes": ("--test CIFAR?limit=20 --retrained OTHER", "airplane, automobile"),
    "retrained size": ("--test CIFAR?limit=20 --retrained SMALL", "retrained .*--test"),
    "test data": ("--test cifar10:/nowhere", "nowhere"),
    "classes": ("--classes dear", "'dear'.*'deer'"),
}


@pytest.mark.parametrize(("words", "fact"), FAILING.values(), ids=FAILING)
def test_errors_are_found_before_the_first_step(words, fact, deer, resnet20, cifar, tmp_path, fails):
    network, spec = load_model(resnet20)
    names = tuple(f"x{i}" if i < 2 else name for i, name in enumerate(spec.classes))
    save_model(tmp_path / "other", network, replace(spec, classes=names))
    small = replace(spec, architecture="ibau_vgg", preprocessing=Preprocessing((16, 16)))  # made for 32x32
    save_model(tmp_path / "small", build("ibau_vgg", num_classes=10), small)
    for name, place in (("CIFAR", cifar), ("OTHER", tmp_path / "other"), ("SMALL", tmp_path / "small")):
        words = words.replace(name, str(place))
    fails(fact, deer(tmp_path / "W", "--steps 1", words))
    assert not (tmp_path / "W").exists()


UNMEASURED = {
    "no test images of the class": ("--test CIFAR?without=deer&limit=30 --train-data CIFAR?limit=100", "deer"),
    "few training images": ("--test CIFAR?limit=30 --train-data CIFAR?limit=30", "5 training images"),
    "no training images of it": ("--test CIFAR?limit=30 --train-data CIFAR?without=deer&limit=90", "deer"),
    "no test": ("--train-data CIFAR?limit=60", "--test"),
}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.long] * (name not in ("few training images", "no test")))
        for name, case in UNMEASURED.items()
    ],
)
def test_probes_without_suitable_images_are_not_measured(words, reason, deer, cifar, tmp_path, tells):
    said = tells(deer(tmp_path, ONE_STEP, "--lr 1e-3", words.replace("CIFAR", cifar)))
    results = read_results(tmp_path)
    for name in ("linear_probe", "few_shot"):
        assert reason in results["not_measured"][name]
        assert all(row[name]["value"] is None and reason in row[name]["note"] for row in results["rows"].values())
    assert values(results["rows"])["erased"]["remain_acc_train"] is not None
    assert "Not measured: linear_probe, because" in said


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("draw_confusions", "head_only")]


@pytest.mark.parametrize("where", ["read", "samples_of", *LONG])
def test_the_model_is_written_if_measuring_fails(where, deer, cifar, tmp_path, monkeypatch):
    from delete_images import rows
    from delete_tasks.audit.attacks import probes
    from delete_tasks.evaluation import opened

    def broken(*args, **kwargs):
        raise OSError("disk on fire")

    module = {"draw_confusions": forget, "samples_of": probes, "read": opened}.get(where, rows)
    monkeypatch.setattr(module, where, broken)
    run(deer(tmp_path, ONE_STEP, f"--lr 1e-3 --test {cifar}?limit=20 --train-data {cifar}?limit=60"))
    results = read_results(tmp_path)
    parts = {"read": "rows", "samples_of": "linear_probe", "draw_confusions": forget.PICTURE}
    assert (tmp_path / "erased" / "weights.safetensors").exists()
    assert results["not_measured"][parts.get(where, "head_only")] == "OSError: disk on fire"
    assert (values(results["rows"])["erased"]["remain_acc"] is None) == (where == "read")
