"""The command ``backdoor find`` on a poisoned network."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import argv, read_json, run
from PIL import Image
from rich.console import Console

from delete_backdoor.find import find
from delete_backdoor.find.clusters import ClassClusters
from delete_backdoor.find.evidence import Evidence, decide, gather, signs
from delete_backdoor.poison import PoisonedDataset
from delete_backdoor.ranking import open_samples
from delete_backdoor.triggers import parse_trigger
from delete_images.data.opening import ImageData
from delete_images.models.model_file import as_spec, load_model
from delete_tasks.errors import RequestError

from ..conftest import CLASSES, TRIGGER, make_data, make_images


def words(toy, data, out) -> list[str]:
    return argv("backdoor find --model", toy, "--data", data, "--out", out, "--no-inversion")


@pytest.fixture(scope="module")
def ranking(toy, files, tmp_path_factory):
    out = tmp_path_factory.mktemp("find") / "ranking.json"
    run(words(toy, files["poisoned"], out))
    return out


def test_command(ranking, classes):
    content = read_json(ranking)
    assert content["rates"]["precision"] > 90 and content["rates"]["recall"] > 90
    assert content["classes"]["red"]["suspicious"] and len(content["samples"]) == 1200
    poisoned = open_samples(f"{ranking}?limit=30", classes, "poisoned")
    assert len(poisoned) == 30 and (poisoned.labels == 0).all()
    assert poisoned.names == [name for name, _, _ in content["samples"][:30]]
    clean = open_samples(f"{ranking}?limit=100", classes, "clean")
    assert len(clean) == 100 and set(clean.labels.tolist()) == {0, 1, 2, 3}
    assert not set(clean.names) & {name for name, _, flagged in content["samples"] if flagged}
    trigger = parse_trigger(f"estimated:file={ranking.with_name('ranking_trigger.npy')}")
    assert (trigger.stamp(np.zeros((16, 16, 3), np.uint8))[11:15, 11:15] > 250).all()


@pytest.mark.parametrize("rate", ["0.02", pytest.param("0.3", marks=pytest.mark.long), "0.6"])
def test_the_poison_is_found_at_any_rate(toy, files, tmp_path, tells, rate, monkeypatch):
    """At 0.6 the clean images of the target are the smaller cluster: by size alone they were flagged."""
    monkeypatch.setenv("COLUMNS", "400")  # so that no line is broken
    data, out = tmp_path / "p.npz", tmp_path / "r.json"
    run("backdoor poison --data", files["train"], "--trigger", TRIGGER, "--target red --rate", rate, "--out", data)
    printed = tells(words(toy, data, out))
    content = read_json(out)
    assert content["suspicious"]["poison"] == ("larger" if rate != "0.02" else "smaller")
    assert content["rates"]["precision"] > 90 and content["rates"]["recall"] > 85
    for part in (f"--poisoned {out} --retain '{out}?limit=500'", "shared pattern, %", "poison by this"):
        assert part in printed


@pytest.fixture(scope="module")
def unclear(toy, files, tmp_path_factory):
    """A ranking of data in which two thirds of the images labelled 'red' are grey, without any trigger."""
    folder = tmp_path_factory.mktemp("unclear")
    images, labels = make_images(800, 12)
    labels = np.where((labels == 3) & (np.arange(800) % 3 > 0), 0, labels)
    np.savez(folder / "mixed.npz", x=images, y=labels, classes=np.array(CLASSES))
    out = folder / "r.json"
    console = Console(width=200, record=True, file=io.StringIO())
    content = find.run(str(toy), str(folder / "mixed.npz"), out, console)
    return out, content, " ".join(console.export_text().split())


def test_where_it_cannot_tell_it_says_so_and_shows_both(unclear, classes):
    out, content, printed = unclear
    assert content["suspicious"]["class"] == "red" and content["suspicious"]["poison"] is None
    assert content["flagged"] == 0 and not any(flagged for _, _, flagged in content["samples"])
    assert "Cannot tell" in printed and "no all-clear" in printed and "WaNet" in printed
    assert "nothing is flagged" in printed and "'red'" in printed and "delete-tasks backdoor clean" not in printed
    assert all(f"{cluster['kept_cropped']:.1f}" in printed for cluster in content["suspicious"]["clusters"].values())
    assert "--flag smaller or --flag larger" in printed and out.with_name("r_clusters.png").is_file()
    with pytest.raises(RequestError, match="red"):
        open_samples(str(out), classes, "poisoned")
    clean = open_samples(str(out), classes, "clean")
    assert len(clean) > 100 and 0 not in clean.labels  # neither cluster is taken for clean


def test_the_user_can_tell(unclear, toy, tmp_path, classes):
    _, content, _ = unclear
    again = find.run(str(toy), content["data"], tmp_path / "r.json", Console(quiet=True), flag="smaller")
    names = content["suspicious"]["clusters"]["smaller"]["names"]
    assert again["flagged"] == len(names) > 50 and again["suspicious"]["decided_by"] == "user"
    assert set(open_samples(str(tmp_path / "r.json"), classes, "poisoned").names) == set(names)


def test_the_picture_shows_both_clusters(unclear):
    with Image.open(unclear[0].with_name("r_clusters.png")) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] > 1000
    upper, lower = pixels[: len(pixels) // 2], pixels[len(pixels) // 2 :]
    assert all((half.max(2) - half.min(2) > 60).sum() > 500 or (half < 100).sum() > 20000 for half in (upper, lower))


def test_nothing_is_found_in_clean_data(toy, files, tmp_path, tells):
    printed = tells(words(toy, files["train"], tmp_path / "r.json"))
    assert read_json(tmp_path, "r.json")["flagged"] == 0 and "delete-tasks backdoor clean" not in printed
    assert "no all-clear" in printed


def test_evidence_of_few_images_is_no_evidence(toy):
    data = make_data(60, 3)
    members = np.flatnonzero(data.labels == 0)
    split = ClassClusters(members[:2], members[2:], 0.9)
    evidence = gather(None, as_spec(str(toy)), data, np.zeros((60, 4), np.float32), split, 0)  # type: ignore[arg-type]
    assert evidence["smaller"] == Evidence(2, 0, None, None, None, None, 0.0) and decide(evidence) is None
    assert set(signs(evidence).values()) == {None}


def test_evidence_brings_large_images_to_the_models_size(toy):
    """A photo of another size than the network's input, as folders hold them."""
    network, spec = load_model(toy)
    poisoned = PoisonedDataset(make_data(200, 3), parse_trigger(TRIGGER), 0, 0.2)
    pixels = np.stack([poisoned[i][0] for i in range(200)]).repeat(3, 1).repeat(3, 2)
    large = ImageData.from_arrays(pixels, poisoned.labels, CLASSES)
    at_target, features = poisoned.labels == 0, find.features_of(network, spec, poisoned, "x")
    parts = (np.flatnonzero(at_target & marked) for marked in (poisoned.poisoned, ~poisoned.poisoned))
    split = ClassClusters(*parts, 0.5)
    small, resized = (gather(network, spec, data, features, split, 0) for data in (poisoned, large))
    assert small == resized and small["smaller"].moved_by_pattern > 80
    assert small["smaller"].kept_cropped < 50 < small["smaller"].kept_coloured


SUSPICIOUS = {"class": "red", "poison": None, "clusters": {"smaller": {"names": []}, "larger": {"names": []}}}
RANKINGS = {  # the file's text, or what is changed in a good one, None: taken out -> what is said of it
    "empty": ("", ""), "null": ("null", ""), "another format": ({"format": "other"}, ""),
    "data null": ({"data": None}, "data"), "data itself": ({"data": "odd.json"}, "odd.json"),
    "data elsewhere": ({"data": "elsewhere.npz"}, "'elsewhere.npz'"), "data gone": ({"data": ...}, "`data`"),
    "samples gone": ({"samples": ...}, "`samples`"), "samples null": ({"samples": None}, "samples "),
    "samples empty": ({"samples": []}, "samples "), "samples of two": ({"samples": [["a", 1.0]]}, r"samples\[0\]"),
    "flags that are numbers": ({"samples": [["a", 1.0, 1]]}, r"samples\[0\]"),
    "names that are numbers": ({"samples": [[3, 1.0, True]]}, r"samples\[0\]"),
    "scores that are nan": ({"samples": [["a", float("nan"), True]]}, "finite"),
    "a sample twice": ({"samples": [["a", 1, True], ["a", 1, False]]}, "twice"),
    "unknown samples": ({"samples": [["nobody", 1.0, True]]}, "nobody|backdoor find"),
    "suspicious a number": ({"suspicious": 3}, "suspicious"),
    "poison unknown": ({"suspicious": {**SUSPICIOUS, "poison": "x"}}, "suspicious"),
    "no clusters": ({"suspicious": {**SUSPICIOUS, "clusters": {}}}, "suspicious"),
}  # fmt: skip


@pytest.mark.parametrize("name", RANKINGS)
def test_rankings_of_other_shapes(ranking, toy, files, tmp_path, monkeypatch, fails, name):
    """By the command, which writes nothing then."""
    change, fact = RANKINGS[name]
    monkeypatch.chdir(tmp_path)
    if not isinstance(change, str):
        content = {**read_json(ranking), **change}
        change = json.dumps({key: value for key, value in content.items() if value is not ...})
    Path("odd.json").write_text(change)
    fails(fact or "odd.json", "backdoor clean --poisoned odd.json --target red --work-dir w --model", toy,
          "--retain", files["clean"])  # fmt: skip
    assert not Path("w").exists()


def test_rankings_refused_with_the_reason(ranking, classes, tmp_path):
    with pytest.raises(FileNotFoundError, match="no ranking at"):
        open_samples(str(tmp_path / "none.json"), classes, "poisoned")
    with pytest.raises(RequestError, match=r"\?limit="):
        open_samples(f"{ranking}?class=red", classes, "poisoned")
    samples = [[name, score, False] for name, score, _ in read_json(ranking)["samples"]]
    for first, fact in ((samples[0], "1200"), (["train/99999", 1.0, False], "backdoor find")):
        (tmp_path / "r.json").write_text(json.dumps({**read_json(ranking), "samples": [first, *samples[1:]]}))
        with pytest.raises(RequestError, match=fact):
            open_samples(str(tmp_path / "r.json"), classes, "poisoned")


@pytest.mark.parametrize(("query", "out", "fact"), [
    ("?label=none", "x.json", "label"), ("", "ranking.csv", r"\.json"), ("", "FOLDER.json", "folder"),
    ("", "FILE/x.json", "file"), ("", "MODEL/model.json", "read"), ("", "LINK.json", "read"),
])  # fmt: skip
def test_mistakes_are_one_message(toy, files, tmp_path, fails, query, out, fact):
    (tmp_path / "FOLDER.json").mkdir()
    (tmp_path / "LINK.json").hardlink_to(toy / "model.json")
    before, there = (toy / "model.json").read_bytes(), sorted(tmp_path.iterdir())
    out = tmp_path / out.replace("FILE", files["clean"]).replace("MODEL", str(toy))
    fails(fact, words(toy, files["clean"] + query, out))
    assert sorted(tmp_path.iterdir()) == there and (toy / "model.json").read_bytes() == before


@pytest.mark.parametrize("module", ["sklearn", "matplotlib"])
def test_a_missing_extra_is_named_before_the_work_begins(toy, files, tmp_path, fails, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("delete_backdoor.find.find.load_model", lambda *_: pytest.fail("the model was opened"))
    fails(r"delete-tasks\[backdoor\]", words(toy, files["poisoned"], tmp_path / "r.json"))


@pytest.mark.slow
def test_400_images_of_cifar(shared, tmp_path):
    """Once a crash: few images of each class, one with a small cluster at a low silhouette."""
    out, model = tmp_path / "r.json", tmp_path / "model"
    weights = shared / "weights" / "ibau_cifar10_badnets_8_02.pth"
    run("images import", weights, model, "--architecture ibau_vgg --classes cifar10 --normalization none")
    data = tmp_path / "p.npz"
    poison = "--trigger badnets:size=4,pos=27,27 --target ship --rate 0.2 --out"
    run(f"backdoor poison --data cifar10:{shared}/data/cifar10?limit=400", poison, data)
    run(words(model, data, out))
    rates = read_json(out)["rates"]
    assert rates["precision"] > 95 and rates["recall"] > 80
