"""``faces remove --retain``: photos of people who stay change the embedding as well; without it no other photo is read."""

import contextlib
import copy
import html
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from helpers import not_finished, read_json, read_results, run, same_tensors

from delete_faces.gallery.enroll import embed
from delete_faces.projection import changes_of, fold_changes, project_each
from delete_images.data import sources
from delete_images.data.opening import open_data
from delete_images.models.model_file import load_model
from delete_images.opened import predict_images
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.verification import verification
from delete_tasks.runner.done import sentences
from delete_tasks.runner.unlearn_runner import UnlearnRunner

GONE = "Colin_Powell"
KEPT = ("Alejandro_Toledo", "Alvaro_Uribe", "Andre_Agassi", "Arnold_Schwarzenegger", "Bill_Clinton", "David_Beckham",
        "Donald_Rumsfeld", "Jean_Chretien")  # fmt: skip
PHOTOS = 18  # of each


@pytest.fixture(scope="session")
def kept(cut_faces, tmp_path_factory) -> Path:
    """Photos of people whom the models do not know."""
    return cut_faces(tmp_path_factory.mktemp("kept"), KEPT, train=PHOTOS, test=0)


def changes_without(network, spec, faces, kept=None):
    photos = open_data(f"{faces}?class={GONE}", "train", spec.classes)
    return changes_of(network, spec, photos, predict_images(network, spec, photos), [spec.classes.index(GONE)], 4, kept)


@pytest.fixture(scope="module")
def told(removal, faces, kept, tmp_path_factory):
    """Work dir and output of a removal with kept people's photos, measured on held-out photos of the model's people."""
    folder, output = tmp_path_factory.mktemp("retain") / "run", io.StringIO()
    with contextlib.redirect_stdout(output):
        run(removal(folder, "--audit none --test", faces, "--retain", kept))
    return folder, " ".join(output.getvalue().split())


@pytest.fixture(scope="module")
def done(told):
    return told[0]


def test_the_embedding_is_projected_and_others_come_back(done, models, faces, kept):
    network, spec = load_model(models["cosine"])
    erased, _ = load_model(done / "erased")
    photos = open_data(str(kept), "train")
    before, after = (embed(each, spec.preprocessing, photos) for each in (network.embedder, erased.embedder))
    changes = changes_without(network, spec, faces, photos)
    assert torch.allclose(after, project_each(before, changes), atol=1e-4 * float(before.abs().max()))
    cosines = [torch.cosine_similarity(before, project_each(before, changes[:count])).mean() for count in (1, 2)]
    assert cosines[0] < cosines[1] < 1
    assert torch.equal(erased.head.weight, network.head.weight[[name != GONE for name in spec.classes]])


def test_results_record_and_summary_name_the_photos(told, kept):
    done, said = told
    results = read_results(done)
    assert results["retain_set"]["read"] == len(KEPT) * PHOTOS and len(results["retain_set"]["sha256"]) == 64
    skipped = {"noun": "photos", "in_eval_too": 0, "no_face": [], "several_faces": {}, "unreadable": []}
    assert results["details"]["retain"] == {"read": 144, "people": 8, **skipped}
    assert results["data"]["retain"] == str(kept) and results["forget_set"]["read"] == 5 and results["steps"] == 0
    rows = results["rows"]
    assert rows["erased"]["identified"]["value"] == 0
    assert rows["erased"]["verified"]["value"] <= rows["original"]["verified"]["value"] / 2
    assert rows["erased"]["others_identified"]["value"] >= rows["original"]["others_identified"]["value"] - 3
    record = read_json(done, "record.json")
    assert record["samples"]["read"]["retain set"] == 144
    assert any("retain set" in text and "template" in text for text in record["limits"])
    lines = (done / "samples.txt").read_text().splitlines()
    assert sum(line.startswith("retain set\t") for line in lines) == 144
    assert not any(name in (done / "record.json").read_text() for name in (GONE, *KEPT))
    run("record verify", done, "--rerun")
    assert str(kept) in said.replace(" /", "/") and "144 photos of 8 people" in said and "Templates stored" in said


def test_what_was_done_is_on_record_and_nothing_else(done):
    """No step was taken, so no optimizer, rate or stop rule is named; and the photos of others are."""
    stated = read_results(done)["done"]
    made_by, *norms = stated["changes"][0]["layers"]
    assert [change["by"] for change in stated["changes"]] == ["projection", "others restored", "class weights removed"]
    assert stated["changes"][1]["layers"] == [made_by, *norms] and stated["changes"][2]["layers"] == ["head"]
    assert (stated["steps"], stated["most_steps"]) == (0, 200)
    assert stated["why_it_ended"] == "the projection alone met the stop rule"
    used = [(use["set"], use["samples"], use["classes"]) for use in stated["data"]]
    assert used == [("forget set", 5, 1), ("retain set", 144, 8)]
    lines = sentences(stated)
    assert lines[0].startswith(f"4 directions, computed from 5 photos of 1 person, were projected out of `{made_by}`")
    assert "144 photos of 8 people (retain set)" in lines[1] and "No training step was taken" in " ".join(lines)
    record, page, log = (done / name for name in ("record.json", "record.html", "run.log"))
    assert read_json(record)["done"] == stated
    shown = re.sub("<.*?>", "", html.unescape(page.read_text()))
    assert all(line.replace("`", "") in shown and line in log.read_text() for line in lines)
    for word in ("SGD", "earning rate", "tops early"):
        assert word not in shown and word not in json.dumps(read_json(record)["method"]), word


def test_without_it_only_photos_of_the_person_are_read(removal, models, faces, tmp_path, monkeypatch):
    read, whole = [], sources.read_image
    monkeypatch.setattr(sources, "read_image", lambda path: (read.append(Path(path)), whole(path))[1])
    run(removal(tmp_path, "--audit none --test none"))
    assert read and {path.parent.name for path in read} == {GONE}
    results = read_results(tmp_path)
    assert {use["set"] for use in results["done"]["data"]} == {"forget set"}
    assert results["retain_set"] is None and results["details"]["retain"] is None
    assert "retain set" not in (tmp_path / "samples.txt").read_text()
    network, spec = load_model(models["cosine"])
    expected = copy.deepcopy(network.embedder).eval()
    fold_changes(expected, changes_without(network, spec, faces), (3, *spec.preprocessing.size))
    assert same_tensors(expected.state_dict(), load_model(tmp_path / "erased")[0].embedder.state_dict())


def test_restoring_lets_no_more_pairs_of_a_removed_person_match(models, faces):
    """Each of the eight people in turn: as many as after the projection alone, at FAR 1e-2, in the mean."""
    network, spec = load_model(models["cosine"])
    test, matched = open_data(str(faces), "test", spec.classes), []
    rows = embed(network.embedder, spec.preprocessing, test)
    for i, name in enumerate(spec.classes):
        photos = open_data(f"{faces}?class={name}", "train", spec.classes)
        changes = changes_of(network, spec, photos, predict_images(network, spec, photos), [i], 4)
        moved = [project_each(rows, changes[:count]).numpy() for count in range(3)]
        matched.append([verification(each, test.labels, [i])["at"]["1e-02"]["removed"] for each in moved])
    original, projected, restored = torch.tensor(matched).mean(0).tolist()
    assert restored <= projected <= original / 2


def test_a_config_reads_them_too(config, faces, kept, done):
    cfg = config(retain=str(kept))
    UnlearnRunner.from_cfg(copy.deepcopy(cfg)).train()
    assert same_tensors(*(load_model(path / "erased")[0].state_dict() for path in (Path(cfg.work_dir), done)))
    cfg.train_dataloader.dataset.retain = str(faces)
    cfg.unlearn.overwrite = True
    with pytest.raises(RequestError, match=rf"retain set.* {GONE}"):
        UnlearnRunner.from_cfg(cfg).train()


@pytest.mark.parametrize("hooks", [None, [{"type": "PersonProjection", "directions": 0}]])
def test_a_config_without_the_projection_is_refused_before_the_first_step(config, kept, hooks):
    cfg = config(retain=str(kept))
    cfg.custom_hooks, cfg.unlearn.steps = hooks, 2
    runner = UnlearnRunner.from_cfg(cfg)
    with pytest.raises(RequestError, match=r"--retain.*PersonProjection"):
        runner.train()
    assert not Path(cfg.work_dir).exists()


@pytest.mark.long
def test_resuming_with_other_options_is_another_request(removal, kept, tmp_path, fails):
    """More that a resumed run compares is in tests/faults/test_resume.py."""
    base = removal(tmp_path, "--audit none --test none --steps 2 --stop 1e-6 --keep-states --no-record")
    two, retain = ["--directions", 2], ["--retain", kept]
    run(base, two, retain, status=(0, 4))  # two such steps may forget too little to be published

    def content() -> dict[Path, bytes]:
        """Bytes by path, but for what a refused run may touch: its log and its lock."""
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if path.suffix not in (".log", ".lock")}

    not_finished(tmp_path)
    before = content()
    assert tmp_path / "last_checkpoint" in before
    fails("retain set|another run's files", base, two, "--resume")
    fails("retain set|another run's files", base, two, "--resume --retain", f"{kept}?limit=140")
    fails("directions .*2 .*4", base, retain, "--resume")  # the default's number
    assert content() == before
    run(base, two, retain, "--resume", status=(0, 4))
    fails("--overwrite|--work-dir", base)  # another request does not take the folder


def test_refusals(removal, faces, kept, tmp_path, fails):
    def refuses(fact: str, retain: object, *more: str) -> None:
        fails(fact, removal(tmp_path / "work", "--test none --retain", retain, *more))
        assert not (tmp_path / "work").exists()

    refuses(rf"--retain.* {GONE}.*{faces.name}\?without={GONE}", faces)
    refuses("nowhere", tmp_path / "nowhere")
    shutil.copytree(kept / "train" / KEPT[0], tmp_path / "flat")
    refuses("flat", tmp_path / "flat")
    refuses("label=", f"{kept}?label=Somebody")
    refuses("--directions 0", kept, "--directions 0")
    refuses("--directions 0", kept, "--method RandomLabel")
    shutil.copytree(kept / "train", tmp_path / "mixed")
    for number, path in enumerate(sorted((faces / "train" / GONE).iterdir())[:2]):
        shutil.copy(path, tmp_path / "mixed" / KEPT[3] / f"a{number}.png")
    refuses(rf"2 of 146 samples of --retain .*2 of --photos \({KEPT[3]}/a0.png, ", tmp_path / "mixed")


@pytest.mark.long
def test_photos_that_are_measured_on_are_not_read(removal, faces, kept, tmp_path, fails, tells):
    """All of --retain are in --test here; and held-out photos of the removed person are the person's, too."""
    others = f"{faces}?split=test&without={GONE}"
    given = removal(tmp_path / "w", "--test", faces)
    fails("all 42 photos of --retain are in --test", given, "--retain", others)
    shutil.copytree(kept / "train", tmp_path / "mixed")
    assert not (tmp_path / "w").exists()
    shutil.copy(next((faces / "test" / GONE).iterdir()), tmp_path / "mixed" / KEPT[0] / "someone.png")
    said = tells(given, "--audit none --retain", tmp_path / "mixed", status=(0, 3, 4))
    assert "Left out: 1 of 145 samples of --retain" in said and f"({KEPT[0]}/someone.png)" in said
    assert read_results(tmp_path / "w")["retain_set"]["read"] == 144
    assert KEPT[0] not in (tmp_path / "w" / "record.json").read_text()
