"""The commands ``backdoor clean`` and ``audit`` on a small backdoored network: both modes, and every refusal."""

import copy

import numpy as np
import pytest
import torch
from helpers import argv, read_json, read_results, run, values
from msgspec.structs import replace
from PIL import Image
from torch import nn

from delete_backdoor.datasets import BackdoorDataset
from delete_backdoor.metrics import STILL_MISLEADS
from delete_backdoor.picture import lines_of
from delete_images.models.architectures import ARCHITECTURES
from delete_images.models.model_file import WEIGHTS_NAME, load_model, save_model
from delete_tasks.evaluation.reader import read as real

from .conftest import CLASSES, TRIGGER

EVALUATION = "delete_tasks.evaluation.opened.read"


def clean(toy, files, work_dir, *more: object) -> list[str]:
    """Words of a run; later ones override."""
    return argv("backdoor clean --device cpu --model", toy, "--poisoned", files["only"], "--work-dir", work_dir, *more)


@pytest.fixture(scope="module")
def done(toy, files, tmp_path_factory):
    """One run with everything asked for; the target is left to be guessed."""
    folder = tmp_path_factory.mktemp("clean")
    more = ["--retain", files["clean"], "--test", files["test"], "--trigger", TRIGGER]
    run(clean(toy, files, folder, "--steps 60 --lr 3e-3", more))
    return folder, read_results(folder)


def test_results(done):
    _, results = done
    rows, details = values(results["rows"]), results["details"]
    assert list(rows) == ["original", "logit_cut", "erased"]
    assert results["forgotten"] == ["red"]
    assert rows["original"]["asr"] > 95 and rows["original"]["acc"] > 90
    assert rows["logit_cut"]["asr"] == 0 and rows["logit_cut"]["target_acc"] == 0
    cleaned = rows["erased"]
    assert cleaned["asr"] < 5 and cleaned["acc"] > rows["original"]["acc"] - 5 and cleaned["ra"] > 30
    assert details["verdict"] == "cleaned" and results["published"]
    assert [results["rows"]["original"][name]["count"] for name in ("acc", "asr", "ra", "base")] == [400, 300, 300, 300]
    columns = {metric["column"]: metric["title"] for metric in results["metrics"] if metric["column"]}
    assert set(columns) == {"ACC", "ASR", "base", "RA", "target acc", "worst drop", "NLL", "ECE"}
    assert all(columns.values())
    first, *_, last = details["watch"]["readings"]
    assert first["to_target"] == 100 and last["to_target"] <= 5 and last["step"] == results["steps"] == 60
    assert [change["by"] for change in results["done"]["changes"]] == ["training"]
    assert "rising" not in results["done"]["changes"][0]["schedule"]
    uses = {(use["set"], use["use"].split(" ")[0]): use["samples"] for use in results["done"]["data"]}
    assert uses["retain set", "trained"] == 192 and uses["poisoned samples, set aside", "read"] == 36
    counts = details["samples"]
    assert counts["poisoned"] + counts["held_poisoned"] + counts["left_out"] == 180 and counts["held_retain"] == 48


def test_the_audit_reads_whether_an_image_has_the_trigger(done):
    """Attacks are trained on a third of 300 held-out images of other classes, with and without the trigger."""
    audit = done[1]["audit"]
    assert audit["trained_on"] == "a third of the held-out samples"
    probe = {name: row["linear_probe"] for name, row in audit["rows"].items()}
    assert probe["original"]["count"] == 200 and probe["original"]["value"] > 90
    assert probe["original"]["details"]["trained_on"] == 3 * 33 + 100  # three classes, and those with the trigger
    assert done[1]["verdict"]["word"] in ("weakened", "hidden") and (done[0] / "tsne.png").is_file()


def test_the_cleaned_model_is_whole_and_keeps_its_classes(done, toy):
    folder, _ = done
    network, spec = load_model(folder / "cleaned")
    original, before = load_model(toy)
    assert spec == before
    state = original.state_dict()
    assert any(not torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not (folder / "erased").exists() and not (folder / "erased.pth").exists()


def test_picture_and_words(done):
    folder, results = done
    with Image.open(folder / "backdoor.png") as picture:
        assert picture.width > 1000
    text = "\n".join(lines_of(results))
    assert "ASR: " in text and "Watch: cleaned" in text
    drop = results["rows"]["erased"]["ra_drop"]
    assert drop["count"] == 300 and drop["interval"] is not None
    assert "still misleads" not in text and drop["value"] <= 10
    misled = copy.deepcopy(results)
    misled["rows"]["erased"]["ra"]["value"] = 48.0
    misled["rows"]["erased"]["ra_drop"] |= {"value": 35.0, "note": STILL_MISLEADS}
    text = "\n".join(lines_of(misled))
    assert "The trigger no longer leads to the target, and still misleads: 48.0%" in text and "83.0% without" in text


def test_strict_mode_writes_only_what_its_watch_calls_cleaned(toy, files, tmp_path, tells):
    """Without --target, which is guessed and printed."""
    printed = tells(clean(toy, files, tmp_path, "--steps 60 --lr 3e-3"), status=(0, 4))
    results = read_results(tmp_path)
    details = results["details"]
    assert "--target" in printed and "'red'" in printed
    assert details["samples"]["strict"] and details["samples"]["retain"] > 50
    assert (tmp_path / "cleaned").exists() == results["published"] == (details["verdict"] == "cleaned")
    assert details["samples"]["estimated_trigger_reach"] > 90
    assert set(values(results["rows"])["original"].values()) == {None}
    assert "--test" in results["rows"]["original"]["asr"]["note"]
    assert "is the only check" in results["verdict"]["sentence"]


def test_a_ruined_model_is_damaged_and_not_written_unless_forced(toy, files, tmp_path, tells):
    ruin = clean(toy, files, tmp_path, "--target red --lr 1.0 --steps 6 --audit none --retain", files["clean"])
    printed = tells(ruin, status=4)
    assert "--force" in printed and "NOT written" in printed and "damaged" in printed
    advice = printed.rpartition("Next: ")[2]
    assert 0 < advice.index("--retain") < advice.index("--steps")
    assert "Give samples without a trigger (--retain)" in printed
    results = read_results(tmp_path)
    assert results["details"]["verdict"] == "damaged" and not results["published"]
    assert not (tmp_path / "cleaned").exists() and not list(tmp_path.glob("*.pth"))
    run(ruin, "--force --overwrite")
    results = read_results(tmp_path)
    assert results["details"]["verdict"] == "damaged" and results["published"]
    assert (tmp_path / "cleaned" / "model.json").is_file()


def test_a_model_with_probabilities_is_refused(toy, files, tmp_path, fails, monkeypatch):
    network, spec = load_model(toy)
    toy_net = ARCHITECTURES["toy_backdoor"]
    monkeypatch.setitem(ARCHITECTURES, "probable", lambda num_classes: nn.Sequential(toy_net(4), nn.Sigmoid()))
    model = save_model(tmp_path / "m", nn.Sequential(network, nn.Sigmoid()), replace(spec, architecture="probable"))
    fails("as after a sigmoid", clean(model, files, tmp_path / "w", "--target red --retain", files["clean"]))
    assert not (tmp_path / "w").exists()


def test_too_few_steps_is_not_cleaned(toy, files, tmp_path):
    run(clean(toy, files, tmp_path, "--target red --lr 1e-7 --steps 2 --audit none --retain", files["clean"]), status=4)
    assert read_results(tmp_path)["details"]["verdict"] == "not cleaned" and not (tmp_path / "cleaned").exists()


@pytest.fixture(scope="module")
def odd(files, tmp_path_factory):
    """Files that are not what they should be, by the word that stands for them below."""
    folder = tmp_path_factory.mktemp("odd")
    with np.load(files["only"]) as file:
        x = file["x"]
    with np.load(files["test"]) as file:
        test, labels = file["x"], file["y"]
    none = np.zeros(len(x), int)
    arrays = {
        "LARGE": {"x": x[:20].repeat(2, 1).repeat(2, 2), "y": np.arange(20) % 4},
        "UNMARKED": {"x": x, "y": none},
        "PERMUTED": {"x": test, "y": (labels + 1) % 4},
        "TRUTH": {"x": x, "y": none, "poisoned": np.ones(3, bool)},
        "NONE": {"x": x, "y": none, "poisoned": none > 0},
    }
    for word, content in arrays.items():
        np.savez(folder / f"{word}.npz", **content, classes=np.array(CLASSES))
    np.save(folder / "SMALL.npy", np.ones((4, 4, 3)))
    return {path.stem: str(path) for path in folder.iterdir()} | {name.upper(): path for name, path in files.items()}


REFUSED = [
    ("--target purple", "'purple'"), ("--target #9", r"9 is outside 0\.\.3"), ("--poisoned nowhere.npz", "nowhere.npz"),
    ("--poisoned ONLY?limit=3", r"3 poisoned.* 5 "),
    ("--poisoned CLEAN?without=red", "poisoned samples.* 'red'.*--force"), ("--poisoned TRUTH", "'poisoned' .*3,"),
    ("--poisoned NONE", "NONE.npz.* poisoned"), ("--target green", "'green'.*--target"),
    ("--retain UNMARKED", "180 of 180 samples of --retain .*the poisoned samples"),
    ("--poisoned LARGE", "poisoned .*32x32 .*3 channel.* 16x16"), ("--retain LARGE", "retain .*32x32"),
    ("--retain CLEAN?limit=1", "retain .*2 images"), ("--trigger grid", "--trigger .*test"),
    ("--test TEST --retain CLEAN --trigger nothing", "'nothing'"),
    ("--test CLEAN --retain CLEAN", "240 of 240 samples of --test"), ("--test ONLY --retain CLEAN", "'red'"),
    ("--test TEST?without=red --retain CLEAN", "'red'"), ("--test TEST?label=none --retain CLEAN", "400 of 400 images"),
    ("--test LARGE --trigger grid --retain CLEAN", "test .*32x32"), ("--test PERMUTED --retain CLEAN", "chance.*order"),
    ("--test TEST --trigger l0:image=SMALL --retain CLEAN", "4x4 .*16x16"),
    ("--test TEST --trigger badnets:pos=15,15 --retain CLEAN", "16x16"), ("--model nowhere", "'nowhere'"),
    ("--method SCRUB --retain CLEAN", "FTSAM"), ("--method IBAU", "--retain"),
    ("--paste 0", "--paste is 0 and --retain is missing: strict mode .*above 0"),
    ("--method IBAU --retain CLEAN?label=none", "labels"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "fact"), REFUSED)
def test_refused_with_the_reason_before_anything_is_written(toy, files, odd, tmp_path, fails, more, fact):
    for word, path in odd.items():
        more = more.replace(word, path)
    fails(fact, clean(toy, files, tmp_path / "w", "--target red", more))
    assert not (tmp_path / "w").exists()


def test_a_model_or_a_config_is_needed(files, tmp_path, fails):
    fails("--model .*--config", "backdoor clean --target red --poisoned", files["only"], "--work-dir", tmp_path / "w")


def test_test_images_are_compared_with_all_that_is_used(toy, files, tmp_path, fails):
    """With held-out retain samples as well, and with poisoned ones under their trigger."""
    with np.load(files["clean"]) as file, np.load(files["test"]) as test:
        clean_x, clean_y, names = file["x"], file["y"], file["classes"]
        x, y = test["x"], test["y"]
    weights = str(toy / WEIGHTS_NAME)
    held = BackdoorDataset(files["only"], str(toy), "red", weights, files["clean"], force=True).held_retain
    place = int(held.names[0].rpartition("/")[2])
    one = {"x": np.concatenate([x, clean_x[place : place + 1]]), "y": np.append(y, clean_y[place])}
    np.savez(tmp_path / "held.npz", **one, classes=names)
    run("backdoor poison --data", files["test"] + "?without=red&limit=40", "--trigger", TRIGGER, "--target red --rate 1 --out",
        tmp_path / "p.npz")  # fmt: skip
    words = clean(toy, files, tmp_path / "w", "--target red --steps 2 --audit none --retain", files["clean"])
    fact = r"40 of 300 samples of --test \(13.3%\) are exact copies: 40 of the poisoned samples"
    fails(fact, words, "--poisoned", tmp_path / "p.npz", "--test", files["test"], "--trigger", TRIGGER)
    assert not (tmp_path / "w").exists()
    with np.load(files["only"]) as poisoned:
        clean_x[7] = poisoned["x"][0]
    np.savez(tmp_path / "mixed.npz", x=clean_x, y=clean_y, classes=names)
    more = ["--retain", tmp_path / "mixed.npz", "--test", tmp_path / "held.npz", "--trigger", TRIGGER]
    run(words, more, status=(0, 1, 3, 4))
    results = read_results(tmp_path / "w")
    exact = {(each["among"], each["of"]): tuple(each["names"]) for each in results["duplicates"] if each["left_out"]}
    copy = {("--test", "--retain"): ("test/00400",)} if place != 7 else {}
    assert exact == {("--retain", "the poisoned samples"): ("train/00007",), **copy}
    assert results["details"]["samples"]["retain"] + results["details"]["samples"]["held_retain"] == 239
    assert results["rows"]["original"]["acc"]["count"] == 401 - len(copy)


def test_an_earlier_result_stays_where_a_request_is_refused(toy, files, tmp_path, fails):
    (tmp_path / "results.json").write_text("{}")
    fails("'green'", clean(toy, files, tmp_path, "--target green --overwrite"))
    assert (tmp_path / "results.json").read_text() == "{}" and len(list(tmp_path.iterdir())) == 1


def test_every_evaluation_is_tried_before_the_first_step(toy, files, tmp_path, monkeypatch):
    """Both test sets are read in whole by the original before a runner exists."""
    seen = []
    monkeypatch.setattr(EVALUATION, lambda *given: (seen.append(given[2]), real(*given))[1])
    monkeypatch.setattr("delete_backdoor.clean.UnlearnRunner.from_cfg", lambda *_: pytest.fail(f"after {seen}"))
    more = ["--retain", files["clean"], "--test", files["test"], "--trigger", TRIGGER, "--target", "red"]
    with pytest.raises(pytest.fail.Exception, match=r"after .'original: test', 'original: triggered'"):
        run(clean(toy, files, tmp_path, more))


@pytest.mark.parametrize(
    ("broken", "missing"), [(EVALUATION, {"erased"}), ("delete_backdoor.clean.draw", {"backdoor.png"})]
)
@pytest.mark.usefixtures("publish_anyway")
def test_what_fails_while_measuring_costs_nothing_else(toy, files, tmp_path, monkeypatch, tells, broken, missing):
    def fail(models, *more):
        return real(models, *more) if broken == EVALUATION and "original" in models else 1 / 0

    monkeypatch.setattr(broken, fail)
    more = ["--retain", files["clean"], "--test", files["test"]]
    printed = tells(clean(toy, files, tmp_path, "--force --target red --steps 2 --audit none", more))
    results, reason = read_results(tmp_path), "ZeroDivisionError: division by zero"
    assert results["not_measured"] == dict.fromkeys(missing, reason)
    assert all(name in printed for name in missing) and reason in printed
    assert (tmp_path / "cleaned" / "weights.safetensors").is_file() and results["published"]
    assert results["details"]["verdict"] and results["rows"]["original"]["acc"]["value"] > 90
    status = {figure["name"]: figure["status"] for figure in read_json(tmp_path, "record.json")["figures"]}
    assert (status["acc_drop"] == "NOT MEASURED") == (broken == EVALUATION)


def test_a_backdoor_is_read_from_the_features(files, toy, tmp_path, fails):
    """An 'erased' model whose target row is gone hides the backdoor; its features tell the trigger as before."""
    network, spec = load_model(toy)
    network.head.weight.data[0], network.head.bias.data[0] = 0, -20
    save_model(tmp_path / "hidden", network, spec)
    words = argv("audit --original", toy, "--erased", tmp_path / "hidden", "--classes red --trigger", TRIGGER)
    words += argv("--forget", files["only"], "--data", files["train"], "--test", files["test"])
    run(words, "--work-dir", tmp_path / "w")
    audit = read_json(tmp_path, "w/audit.json")
    assert audit["task"] == "backdoor" and audit["forgotten"] == ["red"]
    # Each of the held-out images that are not of the target, with the trigger and without it.
    assert audit["samples"] == {"forget": 180, "train": 900 + 180, "test": 2 * 300}
    assert audit["rows"]["erased"]["linear_probe"]["value"] > 80 and audit["verdict"]["word"] == "hidden"
    before, after = (audit["rows"][name]["forgotten_mass"]["value"] for name in ("original", "erased"))
    assert before > 50 > after
    fails("one target", words, "--classes green --work-dir", tmp_path / "x")
    assert not (tmp_path / "x").exists()
