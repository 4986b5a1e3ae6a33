"""``faces remove --retain``: photos of people who stay change the embedding, too; without them nobody else's photo is read."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch

from delete_faces.gallery.enroll import embed
from delete_faces.projection import Change, directions_of, fold_projection, project_each, shrink_scatter
from delete_images.data.opening import open_data
from delete_images.models.model_file import load_model
from delete_images.opened import predict_images
from delete_tasks.cli import main

GONE = "Colin_Powell"
KEPT = (
    "Alejandro_Toledo",
    "Alvaro_Uribe",
    "Andre_Agassi",
    "Arnold_Schwarzenegger",
    "Bill_Clinton",
    "David_Beckham",
    "Donald_Rumsfeld",
    "Jean_Chretien",
)
PHOTOS = 18  # of each: 136 beyond the first of each, and embeddings have 128 numbers


@pytest.fixture(scope="session")
def kept(cut_faces, tmp_path_factory) -> Path:
    """Photos of people whom the models do not know."""
    return cut_faces(tmp_path_factory.mktemp("kept"), KEPT, train=PHOTOS, test=0)


def words(models, faces, work, *more: object) -> list[str]:
    command = ["faces", "remove", "--model", models["cosine"], "--person", GONE, "--photos", faces, "--aligned"]
    return [str(word) for word in [*command, "--audit", "none", "--work-dir", work, *more]]


def strict_directions(network, spec, faces):
    """What the strict mode does, from the person's photos alone."""
    photos = open_data(f"{faces}?class={GONE}", "train", spec.classes)
    seen = predict_images(network, spec, photos)
    return directions_of(network, spec, photos, seen, [spec.classes.index(GONE)], 4)


@pytest.fixture(scope="module")
def done(models, faces, kept, tmp_path_factory):
    """(work dir, what was printed) of a removal with kept people's photos; held-out photos of the model's people are measured."""
    folder = tmp_path_factory.mktemp("retain") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "400")
        assert main(words(models, faces, folder, "--test", faces, "--retain", kept)) == 0
    return folder


def test_the_embedding_is_projected_then_shrunk(done, models, faces, kept):
    network, spec = load_model(models["cosine"])
    erased, left = load_model(done / "erased")
    photos = open_data(str(kept), "train")
    before = embed(network.embedder, spec, photos)
    changes = [Change(strict_directions(network, spec, faces)), shrink_scatter(before, torch.from_numpy(photos.labels))]
    after = embed(erased.embedder, left, photos)
    assert torch.allclose(after, project_each(before, changes), atol=1e-4 * float(before.abs().max()))
    assert after.norm(dim=1).mean() == pytest.approx(
        float(project_each(before, changes[:1]).norm(dim=1).mean()), rel=0.1
    )
    assert torch.equal(erased.head.weight, network.head.weight[[name != GONE for name in spec.classes]])


def test_what_is_said_of_it(done, models, faces, kept, tmp_path, capsys):
    results = json.loads((done / "results.json").read_text())
    assert results["retain_set"]["read"] == len(KEPT) * PHOTOS and len(results["retain_set"]["sha256"]) == 64
    assert results["details"]["retain"] == {
        "photos": 144, "people": 8, "in_eval_too": 0, "no_face": [], "several_faces": {}, "unreadable": []
    }  # fmt: skip
    assert results["data"]["retain"] == str(kept) and results["forget_set"]["read"] == 5 and results["steps"] == 0
    rows = results["rows"]
    assert rows["erased"]["identified"]["value"] == 0
    assert rows["erased"]["verified"]["value"] <= rows["original"]["verified"]["value"] / 2
    assert rows["projection_alone"]["others_verified"] != rows["erased"]["others_verified"]
    assert rows["erased"]["others_identified"]["value"] >= rows["original"]["others_identified"]["value"] - 3
    record = json.loads((done / "record.json").read_text())
    assert record["samples"]["read"]["retain set"] == 144
    assert any("the retain set" in text and "template" in text for text in record["limits"])
    lines = (done / "samples.txt").read_text().splitlines()
    assert sum(line.startswith("retain set\t") for line in lines) == 144
    assert not any(name in (done / "record.json").read_text() for name in (GONE, *KEPT))
    assert main(["record", "verify", str(done), "--rerun"]) == 0
    capsys.readouterr()
    assert main(words(models, faces, tmp_path / "w", "--test", "none", "--retain", kept, "--no-record")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"and, of people who stay, {kept}" in said.replace(" /", "/").replace("stay,/", "stay, /")
    assert "Read 144 photos of 8 people who stay (--retain). Every person's template changed" in said


def test_without_it_no_photo_of_anybody_else_is_read_and_the_model_is_as_before(models, faces, tmp_path, monkeypatch):
    read = []
    from delete_images.data import sources

    whole = sources.read_image
    monkeypatch.setattr(sources, "read_image", lambda path: (read.append(Path(path)), whole(path))[1])
    assert main(words(models, faces, tmp_path, "--test", "none")) == 0
    assert read and {path.parent.name for path in read} == {GONE}
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["retain_set"] is None and results["details"]["retain"] is None
    assert "retain set" not in (tmp_path / "samples.txt").read_text()
    network, spec = load_model(models["cosine"])
    expected = copy.deepcopy(network.embedder).eval()
    fold_projection(expected, strict_directions(network, spec, faces), (3, *spec.preprocessing.size))
    found = load_model(tmp_path / "erased")[0].embedder.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.state_dict().items())


def test_a_gallery_comes_back_as_the_erased_embedder_makes_it(models, faces, kept, weights, tmp_path, capsys):
    gallery = tmp_path / "gallery.npz"
    run = ["faces", "embed", "--model", models["cosine"], "--photos", faces, "--aligned", "--out", gallery]
    assert main([str(word) for word in run]) == 0
    run = ["faces", "import", "--weights", weights, "--gallery", gallery, "--out", tmp_path / "model"]
    assert main([str(word) for word in run]) == 0
    model = {"cosine": tmp_path / "model"}
    assert main(words(model, faces, tmp_path / "w", "--test", "none", "--retain", kept, "--no-record")) == 0
    from delete_faces.gallery.gallery import read_gallery

    left = read_gallery(tmp_path / "w" / "erased" / "gallery.npz")
    erased, spec = load_model(tmp_path / "w" / "erased")
    photos = open_data(f"{faces}?without={GONE}", "train", spec.classes)
    again = torch.nn.functional.normalize(embed(erased.embedder, spec, photos))
    assert torch.allclose(again, torch.from_numpy(left.embeddings), atol=1e-4)


def test_a_config_reads_them_too(models, faces, kept, done, repository, tmp_path, monkeypatch):
    from mmengine.config import Config

    from delete_tasks.errors import RequestError
    from delete_tasks.runner.unlearn_runner import UnlearnRunner

    monkeypatch.setenv("DELETE_TASKS_FACES", str(models["cosine"]))
    cfg = Config.fromfile(str(repository / "configs/faces/mobilefacenet_lfw_forget-person.py"))
    cfg.train_dataloader.dataset.update(data=f"{faces}?class={GONE}", retain=str(kept), aligned=True)
    cfg.work_dir, cfg.log_level = str(tmp_path / "config"), "WARNING"
    UnlearnRunner.from_cfg(copy.deepcopy(cfg)).train()
    states = [load_model(folder)[0].state_dict() for folder in (tmp_path / "config" / "erased", done / "erased")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    cfg.train_dataloader.dataset.retain = str(faces)
    with pytest.raises(RequestError, match=rf"the retain set.* has photos of {GONE}"):
        UnlearnRunner.from_cfg(cfg).train()


def test_resuming_with_others_is_another_request(models, faces, kept, tmp_path, fails):
    more = ["--test", "none", "--steps", "2", "--stop", "1e-6", "--keep-states", "--no-record"]
    base = words(models, faces, tmp_path, *more)
    main([*base, "--retain", str(kept)])
    state = {path: path.read_bytes() for path in tmp_path.glob("step_*.pth")}
    fails(r"differs in: retain set", *base, "--resume")
    fails(r"differs in: retain set", *base, "--resume", "--retain", f"{kept}?limit=140")
    assert state and state == {path: path.read_bytes() for path in tmp_path.glob("step_*.pth")}
    assert main([*base, "--resume", "--retain", str(kept)]) == 0
    fails("holds .* files|--overwrite", *base)  # another request does not take the folder


def test_refusals(models, faces, kept, tmp_path, fails):
    def refuses(message: str, retain: object, *more: str) -> None:
        fails(message, *words(models, faces, tmp_path / "work", "--test", "none", "--retain", retain, *more))
        assert not (tmp_path / "work").exists()

    refuses(rf"\(--retain\) has photos of {GONE}.*{faces.name}\?without={GONE}", faces)
    refuses("no photos at .*nothing there", tmp_path / "nowhere")
    shutil.copytree(kept / "train" / KEPT[0], tmp_path / "flat")
    refuses("holds no images|outside of class folders", tmp_path / "flat")
    refuses("label= says nothing", f"{kept}?label=Somebody")
    refuses(
        "gives 126 photos: of 7 people two or more, 119 beyond .* takes 8 people, and 128 such",
        f"{kept}?class={','.join(KEPT[:7])}",
    )
    refuses(r"gives 40 photos: of 8 people two or more, 32 beyond", f"{kept}?limit=40")
    refuses("leave out --directions 0", kept, "--directions", "0")
    refuses("leave out --directions 0", kept, "--method", "RandomLabel")
    shutil.copytree(kept / "train", tmp_path / "mixed")
    shutil.copy(next((faces / "train" / GONE).iterdir()), tmp_path / "mixed" / KEPT[3] / "someone.png")
    refuses(rf"1 of 145 photos of --retain are also photos .*: {KEPT[3]}/someone.png", tmp_path / "mixed")


def test_photos_that_are_measured_on_are_not_read(models, faces, kept, tmp_path, fails):
    """All of --retain are in --test here; and held-out photos of the removed person are the person's, too."""
    others = f"{faces}?split=test&without={GONE}"
    given = words(models, faces, tmp_path / "w", "--test", faces)
    fails(r"gives 0 photos \(without 42 that --test holds, too\)", *given, "--retain", others)
    shutil.copytree(kept / "train", tmp_path / "mixed")
    shutil.copy(next((faces / "test" / GONE).iterdir()), tmp_path / "mixed" / KEPT[0] / "someone.png")
    fails("1 of 145 photos of --retain are also photos of the people", *given, "--retain", tmp_path / "mixed")
    assert not (tmp_path / "w").exists()
