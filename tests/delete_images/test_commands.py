"""The images commands on a command line."""

import csv
import json
import os
import shutil

import jsonschema
import pytest
import torch
from helpers import argv, read_results, run, values
from msgspec.structs import replace
from rich.console import Console
from torch.nn import Sequential

from delete_images.metrics import damage, lines_of
from delete_images.models.architectures import ARCHITECTURES, build
from delete_images.models.model_file import load_model, save_model
from delete_tasks.evaluation.predictions import ROWS
from delete_tasks.report.finish import notes, show_rows
from delete_tasks.report.results import SCHEMA


@pytest.fixture(scope="module")
def done(deer, resnet20, cifar, tmp_path_factory):
    """One run of the command with all options for measuring."""
    folder = tmp_path_factory.mktemp("forget")
    data = f"--test {cifar}?limit=300 --train-data {cifar}?limit=300 --retrained"
    recipe = "--steps 12 --batch-size 64 --lr 3e-4 --temperature 1 --device cpu"
    run(deer(folder, data, resnet20, recipe, query="limit=2000"))
    return folder


def test_results(done):
    results = read_results(done)
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(results)
    rows = values(results["rows"])
    assert list(rows) == list(ROWS)
    assert rows["original"]["forget_acc"] > 85
    assert rows["erased"]["forget_acc"] < 5
    assert rows["erased"]["remain_acc"] > rows["original"]["remain_acc"] - 12
    assert rows["logit_cut"]["forget_acc"] == 0 and rows["head_only"]["forget_acc"] < 20
    assert rows["retrained"] == rows["original"]
    lines = [*csv.DictReader((done / "results.csv").read_text().splitlines())]
    assert len(lines) == len(ROWS) * len(results["metrics"])
    accuracy = next(line for line in lines if (line["row"], line["metric"]) == ("original", "forget_acc"))
    assert float(accuracy["low"]) < float(accuracy["value"]) == rows["original"]["forget_acc"] < float(accuracy["high"])
    erased_names = load_model(done / "erased")[1].classes
    assert erased_names[4] == "class_4"
    assert set(results["details"]["per_class"]["erased"]) == {*erased_names, "deer"} - {"class_4"}
    assert rows["erased"]["forget_acc_train"] < 5 and rows["erased"]["h_mean"] > 70
    assert results["rows"]["erased"]["worst_drop"]["of_class"] != "deer"
    assert rows["original"]["linear_probe"] > 60 and rows["erased"]["few_shot"] is not None
    assert rows["erased"].pop("still_predicted") < 5
    for name, row in results["rows"].items():
        for metric, figure in row.items():
            # The run itself measures still_predicted, and --expect and --avoid are not given.
            measured = metric not in ("unexpected", "avoided") and (name == "erased" or metric != "still_predicted")
            assert bool(figure["count"]) == measured and (figure["interval"] or figure["note"])
    # Hiding a logit, or changing the head alone, leaves the features as they are.
    assert rows["logit_cut"]["linear_probe"] == rows["head_only"]["linear_probe"] == rows["original"]["linear_probe"]
    assert results["forget_set"]["available"] == 2000 and 150 < results["forget_set"]["read"] < 250
    assert results["steps"] == 12 and abs(sum(results["prediction_shares"].values()) - 100) < 0.1


def test_what_was_done(done):
    stated = read_results(done)["done"]
    assert [change["by"] for change in stated["changes"]] == ["training", "class weights replaced", "scale restored"]
    trained, replaced, scaled = stated["changes"]
    assert trained["steps"] == 12 and trained["optimizer"] == {"type": "AdamW", "lr": 3e-4}
    assert replaced["layers"] == scaled["layers"] == ["linear"] and scaled["factor"] != 1 and stated["unchanged"] == []
    assert stated["data"][-1] | {"samples": 0} == {
        "set": "forget set", "use": "trained on", "samples": 0, "reads": 12 * 64, "classes": 1, "labels_used": False}  # fmt: skip


def test_residue(done):
    """The erased folder holds only the model: no teacher, no optimizer state, no name of a class."""
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


@pytest.mark.parametrize(("words", "fact"), [
    ("--forget cifar10", "--model, --classes"), ("--model nowhere --forget cifar10 --classes deer", "'nowhere'"),
    ("--model MODEL --forget CIFAR?class=cat&limit=5 --classes deer", "forget set is empty"),
    ("--model MODEL --forget CIFAR?limit=5&label=none --classes deer --method RandomLabel", "5 of 5 images"),
    ("--model MODEL --forget CIFAR --classes deer --retain CIFAR --method NegativeGradient", "Negat.*retain set"),
    ("--model MODEL --forget CIFAR --classes deer --method FineTune", "FineTune .*--retain"),
    ("--model MODEL --forget CIFAR --classes deer --public CIFAR --method DELETE", "DELETE .*public.*--deep"),
    ("--model MODEL --forget X --classes deer --device tpu", "--device .*cpu, cuda"), ("", "give --model"),
])  # fmt: skip
def test_mistakes_are_one_message(words, fact, resnet20, cifar, tmp_path, fails):
    words = words.replace("MODEL", str(resnet20)).replace("CIFAR", cifar)
    fails(fact, "images forget", words, "--work-dir", tmp_path / "w")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits(done, width):
    """No header is cut, and columns that are left out are named."""
    results = read_results(done)
    text = shown(results, width)
    assert "…" not in text and all(len(line) <= width for line in text.splitlines())
    for column in ("forgotten", "others", "worst drop", "NLL", "ECE"):
        assert column in text
    assert "erased, original head" in text and "Predicted in place of deer: " in text
    assert "Largest loss" in text and "Done: 12 training steps (AdamW, " in text
    assert "samples of the data were not read." in " ".join(text.split())
    assert ("5-shot" in text.split("Not shown")[0]) == (width > 80)
    assert "H-mean" in shown(results, 40, wide=True) and "Not shown" not in shown(results, 40, wide=True)


def shown(results, width: int, wide: bool = False) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    show_rows(console, "Forgetting deer", results, wide)
    for line in notes(results):
        console.print(line)
    return console.export_text()


def test_not_forgotten_is_reported(done):
    results = read_results(done)
    assert "Take more steps" not in shown(results, 100)
    results["forget_check"] |= {"still": 21.7}
    text = " ".join(shown(results, 100).split())
    assert all(fact in text for fact in ("Take more steps", "21.7%", "12", "0.0003"))
    results["forget_check"] |= {"still": 0.4}
    assert "Take more steps" not in shown(results, 100) and "0.4%" in shown(results, 100)


def test_the_class_weights_are_removed_and_the_scale_is_restored(done, resnet20):
    erased, original = (load_model(path)[0].linear for path in (done / "erased", resnet20))
    assert not erased.weight[4].any() and erased.bias[4] == -10
    assert erased.weight.sum(0).norm() < 1e-3 * original.weight[4].norm()  # the others' sum would be minus the template
    results = read_results(done)
    finished, rows = results["finished"], values(results["rows"])
    assert finished["rows_replaced"] == ["linear"] and 0.2 < finished["scale"] < 1
    assert rows["erased"]["forget_acc"] == 0
    assert rows["original"]["nll"] > 0.2 and rows["erased"]["nll"] < rows["original"]["nll"] + 0.35
    assert rows["erased"]["ece"] is not None and rows["head_only"]["nll"] is not None
    assert torch.nn.functional.cosine_similarity(erased.weight[5], original.weight[5], dim=0) > 0.9


def test_notes_without_labels():
    """A run without test images says what the other classes kept, and first whether they are damaged."""
    results: dict = {"details": {}, "forgotten": ["deer"]}
    assert lines_of(results) == [], "it has test images"
    kept = {"on": "views", "samples": 59, "same_prediction": 67.8}
    kept["worst_class"] = {"class": "dog", "same_prediction": 20.0}
    kept["predicted_as_forgotten"] = {"before": 43.2, "after": 0.0}
    results["details"] |= {"kept": kept, "damaged": damage(kept, {"lr": 1})}
    warning, note = lines_of(results)
    assert warning.startswith("OTHERS DAMAGED: 32.2% of ")
    assert "67.8% of the original's 59" in note and "dog: 20.0%" in note and "as deer: 43.2% before, 0.0% after" in note
    results["details"] |= {"kept": None, "damaged": None}
    assert "--test or --retain" in lines_of(results)[0]


@pytest.mark.parametrize("last", [torch.nn.Softmax, torch.nn.Sigmoid])
def test_a_model_folder_with_probabilities_is_refused(last, resnet20, cifar, tmp_path, fails, monkeypatch):
    network, spec = load_model(resnet20)
    made = lambda num_classes: Sequential(build("cifar_resnet20", num_classes=num_classes), last())  # noqa: E731
    monkeypatch.setitem(ARCHITECTURES, "probable", made)
    model = save_model(tmp_path / "m", Sequential(network, last()), replace(spec, architecture="probable"))
    words = f"--forget {cifar}?class=deer&limit=9 --classes deer --work-dir"
    fact = f"as after a {last.__name__.lower()}.*'1', {last.__name__}"
    fails(fact, "images forget --model", model, words, tmp_path / "w")
    assert not (tmp_path / "w").exists()


FEW_STEPS = "--steps 6 --batch-size 8 --lr 6e-4 --no-record --audit none"


def test_mixed_precision(deer, tmp_path):
    run(deer(tmp_path / "amp", FEW_STEPS, "--amp"))
    run(deer(tmp_path / "plain", FEW_STEPS))
    kept = read_results(tmp_path / "plain")["details"]["kept"]
    assert kept["on"] == "views" and 0 < kept["samples"] <= 20 and kept["predicted_as_forgotten"]["after"] == 0
    trained = [read_results(tmp_path / name)["done"]["changes"][0] for name in ("amp", "plain")]
    assert [each.get("precision") for each in trained] == ["bfloat16", None]
    assert "cosine, forward passes in bfloat16)" in (tmp_path / "amp" / "run.log").read_text()
    coarse, fine = (load_model(tmp_path / name / "erased")[0].state_dict() for name in ("amp", "plain"))
    assert all(value.dtype == fine[key].dtype for key, value in coarse.items())
    moved = [float((value - fine[key]).norm() / fine[key].norm()) for key, value in coarse.items() if value.ndim == 4]
    assert 0 < max(moved) < 0.05


def test_keep_row(deer, resnet20, tmp_path):
    run(deer(tmp_path, FEW_STEPS, "--keep-row --augment none --lr 1e-3 --cfg-options unlearn.match_scale=False"))
    erased, original = (load_model(path)[0].linear.weight[4] for path in (tmp_path / "erased", resnet20))
    assert torch.nn.functional.cosine_similarity(erased, original, dim=0) > 0.99
    finished = read_results(tmp_path)["finished"]
    assert finished.pop("scale_not_matched") and finished == {"rows_replaced": [], "scale": None}


def test_an_erased_model_is_measured_later(done, resnet20, cifar, tmp_path, tells, fails):
    """The same figures as its run's; what was done is known beside the run's record alone."""
    shutil.copytree(done / "erased", tmp_path / "alone")
    words = argv(f"images evaluate --test {cifar}?limit=300 --device cpu --classes deer --original", resnet20)
    words.append("--erased")
    for erased, folder, known in ((done / "erased", "W", True), (tmp_path / "alone", "X", False)):
        more = f"--train-data {cifar}?limit=300 --frontier" if known else "--audit none"
        said = tells(words, erased, more, "--work-dir", tmp_path / folder)
        results, before = read_results(tmp_path / folder), read_results(done)
        jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(results)
        assert list(results["rows"]) == [row for row in ROWS if row not in ("head_only", "retrained")]
        for name in ("forget_acc", "remain_acc", *["linear_probe"] * known):
            assert results["rows"]["erased"][name] == before["rows"]["erased"][name]
        assert results["done"] == (before["done"] if known else None) and ("Done: Not known" in said) != known
        assert "FAILED" not in tells("record verify", "--rerun" * known, tmp_path / folder)
        assert ("way back" in said) == known
    frontier = read_results(tmp_path / "W")["details"]["frontier"]
    assert frontier[0]["remain_acc"] == results["rows"]["erased"]["remain_acc"]["value"]
    left = [row["original_head"] for row in frontier]
    assert [row["share"] for row in frontier] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5] and left[0] <= left[-1]
    assert left[0] == results["rows"]["erased_with_original_head"]["forget_acc"]["value"]
    for model, more, fact in (
        (resnet20, [], "hold the same tensors"),
        (done / "erased", ["--out", tmp_path / "a.json"], "give MODEL for its accuracies; or"),
    ):
        fails(fact, words, model, "--work-dir", tmp_path / "Y", more)
    fails("--wide, --audit: for an erased model", f"images evaluate --test {cifar} --wide --audit full", resnet20)
    fails("'dear'.*'deer'", words, done / "erased", "--work-dir", tmp_path / "Y", "--classes dear")
    assert not (tmp_path / "Y").exists()


def test_scalars_for_tensorboard_and_no_name(kit, tmp_path, monkeypatch, fails, publish_anyway):
    """The files hold loss and rate of each logged step, and neither config nor class."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = kit.argv("images", tmp_path / "W", "--cfg-options", "log_level=INFO", "--log-to")
    run(words, "tensorboard")
    (events,) = (tmp_path / "W").rglob("events.out.tfevents.*")
    assert not [name for name in ("green", "unlearn=") if name.encode() in events.read_bytes()]
    read = EventAccumulator(str(events)).Reload()
    assert [event.step for event in read.Scalars("loss")] == [1, 2, 3, 4] and "lr" in read.Tags()["scalars"]
    assert "GPU" not in (tmp_path / "W" / "run.log").read_text()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    fails("mlflow is not installed; run: pip install mlflow", words, "mlflow", "--overwrite")
