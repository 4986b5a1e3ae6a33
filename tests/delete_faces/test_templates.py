"""``faces remove --from-templates``: the directions come from stored templates of people whose photos were deleted."""

import re
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import argv, read_json, read_results, run, same_tensors

from delete_faces.gallery.enroll import embed
from delete_faces.gallery.gallery import read_gallery
from delete_images.data.opening import open_data
from delete_images.models.model_file import load_model

GONE, OTHER = "Colin_Powell", "Kofi_Annan"
ENDED = (0, 3, 4)
QUICK = "--audit none --test none"


@pytest.fixture(scope="module")
def store(models, faces, tmp_path_factory):
    """Templates that the model made of the photos that it was made from."""
    path = tmp_path_factory.mktemp("stores") / "store.npz"
    run("faces embed --model", models["cosine"], "--photos", faces, "--aligned --out", path)
    return path


@pytest.fixture
def cut(store, tmp_path):
    """``cut(count)``: the store with so many templates of the person."""

    def cut(count: int):
        gallery = read_gallery(store)
        names = np.array(gallery.names)
        chosen = np.r_[np.flatnonzero(names != GONE), np.flatnonzero(names == GONE)[:count]]
        np.savez(tmp_path / "cut.npz", embeddings=gallery.embeddings[chosen], names=names[chosen])
        return tmp_path / "cut.npz"

    return cut


@pytest.fixture
def words(models, tmp_path):
    """``words(store, *more)``: words of a run with the work dir ``w``."""

    def words(store, *more, person=GONE, work_dir="w"):
        start = argv("faces remove --model", models["cosine"], "--person", person, "--from-templates", store)
        return argv(start, "--work-dir", tmp_path / work_dir, *more)

    return words


def test_many_templates_do_what_photos_do(removal, models, faces, store, words, tmp_path, tells):
    said = tells(words(store, "--aligned --test", faces))
    run(removal(tmp_path / "photos", "--audit none --test", faces))
    stored, photos = (read_results(tmp_path / name) for name in ("w", "photos"))
    spec = load_model(models["cosine"])[1]
    held_out = open_data(str(faces), "test", spec.classes)
    erased = [load_model(tmp_path / name / "erased") for name in ("w", "photos")]
    assert erased[0][1].classes == erased[1][1].classes == tuple(name for name in spec.classes if name != GONE)
    # Directions of photos are those of mirrored photos as well; little of the removed person is left to compare.
    alike = F.cosine_similarity(*(embed(network.embedder, spec, held_out) for network, _ in erased))
    assert alike[torch.from_numpy(held_out.labels != spec.classes.index(GONE))].min() > 0.97
    for name, most in (("verified", 20), ("others_verified", 2)):
        rates = [each["rows"]["erased"][name]["value"] for each in (stored, photos)]
        assert abs(rates[0] - rates[1]) <= most, (name, rates)
    rows = stored["rows"]
    assert rows["erased"]["verified"]["value"] <= rows["original"]["verified"]["value"] / 2
    assert (stored["steps"], stored["forget_check"], stored["data"]["photos"]) == (0, None, None)
    assert stored["details"]["templates"] == {"read": 5, "people_without": 0, "embedder_changed": True}
    assert "4 directions, computed from 5 templates of 1 person, were projected out" in said
    assert "stored templates allow the projection alone" in said and "faces update STORE.npz" in said
    assert str(store) in [item["where"] for item in stored["residue"]]
    assert not any(item["what"].startswith("photos of the forget set") for item in stored["residue"])
    assert not any(GONE in (tmp_path / "w" / name).read_text() for name in ("record.json", "record.html"))
    run("record verify", tmp_path / "w", "--rerun")


def test_one_template_is_one_direction(words, cut, tmp_path, tells):
    said = tells(words(cut(1), QUICK), status=ENDED)
    assert f"single template of {GONE}, hence one direction" in said and "1 direction, computed from 1 template" in said
    gallery, erased = read_gallery(tmp_path / "cut.npz"), load_model(tmp_path / "w" / "erased")[0].embedder
    template = torch.from_numpy(gallery.embeddings[gallery.names.index(GONE)]).double()
    assert (template @ erased.conv3.weight.flatten(1).double()).norm() < 1e-5 * erased.conv3.weight.norm()


def test_without_a_template_the_record_says_that_the_embedder_was_not_changed(
    models, faces, words, cut, tmp_path, tells
):
    said = tells(words(cut(0), "--aligned --test", faces), status=ENDED)
    (network, spec), (erased, smaller) = load_model(models["cosine"]), load_model(tmp_path / "w" / "erased")
    others = [i for i, name in enumerate(spec.classes) if name != GONE]
    assert same_tensors(network.embedder.state_dict(), erased.embedder.state_dict())
    assert smaller.classes == tuple(spec.classes[i] for i in others)
    assert torch.equal(erased.head.weight, network.head.weight[others])
    results, record = read_results(tmp_path / "w"), read_json(tmp_path / "w", "record.json")
    assert results["details"]["templates"] == {"read": 0, "people_without": 1, "embedder_changed": False}
    assert results["verdict"]["word"] in ("not forgotten", "hidden") and results["recipe"]["directions"] == 0
    limit, ended = (
        "1 of 1 people to forget, so for these the embedder was not changed",
        "so the embedder was not changed",
    )
    page = re.sub("<.*?>", "", (tmp_path / "w" / "record.html").read_text())
    assert any(limit in text for text in record["limits"]) and limit in page and ended in page and ended in said
    assert f"Warning: no template of {GONE} in the store" in said
    run(words(cut(0), QUICK, work_dir="v"), status=ENDED)
    assert read_results(tmp_path / "v")["verdict"]["word"] == "cannot tell"


def test_of_two_people_one_has_templates(words, cut, tmp_path):
    run(words(cut(0), QUICK, person=[GONE, OTHER]), status=ENDED)
    results, record = read_results(tmp_path / "w"), read_json(tmp_path / "w", "record.json")
    assert results["details"]["templates"] == {"read": 5, "people_without": 1, "embedder_changed": True}
    assert [use["classes"] for use in results["done"]["data"]] == [1]
    assert any("No stored template was given of 1 of 2 people" in text for text in record["limits"])


def test_the_gallery_beside_a_model_is_offered_and_taken(models, store, weights, faces, tmp_path, fails):
    run("faces import --weights", weights, "--gallery", store, "--out", tmp_path / "m")
    base = argv("faces remove --model", tmp_path / "m", "--person", GONE, QUICK, "--work-dir", tmp_path / "w")
    fails("--photos DIR; .*deleted.*--from-templates gallery", base)
    run(base, "--from-templates gallery", status=ENDED)
    assert GONE not in read_gallery(tmp_path / "w" / "erased" / "gallery.npz").names
    # The photos that enrolment noted are gone.
    shutil.copytree(models["cosine"], tmp_path / "enrolled")
    shutil.copytree(faces / "train" / OTHER, tmp_path / "photos" / OTHER)
    note = tmp_path / "enrolled" / "enrolment.json"
    note.write_text(note.read_text().replace(str(faces), str(tmp_path / "photos")))
    base = argv("faces remove --model", tmp_path / "enrolled", "--person", GONE, "--work-dir", tmp_path / "v")
    fails(f"no folder for {GONE}.*--from-templates STORE.npz", base)


def test_refusals(words, store, faces, tmp_path, fails):
    fails("--photos and --from-templates", words(store, "--photos", faces))
    for more in ("--steps 3", "--directions 0", "--method RandomLabel"):
        fails(f"{more.removesuffix(' 3')} is about training steps", words(store, more))
    fails("nowhere.npz", words(tmp_path / "nowhere.npz"))
    np.savez(tmp_path / "g.npz", embeddings=np.ones((2, 7)), names=np.array([GONE, OTHER]))
    fails("7 numbers.* 128", words(tmp_path / "g.npz"))
    gallery = read_gallery(store)
    names = [{GONE: OTHER, OTHER: GONE}.get(name, name) for name in gallery.names]
    np.savez(tmp_path / "g.npz", embeddings=gallery.embeddings, names=np.array(names))
    fails("5 of 5 templates do not look like the person.*--force", words(tmp_path / "g.npz"))
    assert not (tmp_path / "w").exists()
