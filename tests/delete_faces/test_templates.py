"""``faces remove --from-templates``: the directions come from stored templates of people whose photos were deleted."""

import re
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import argv, read_json, read_results, run, same_tensors, values

from delete_faces.enrolment import open_own
from delete_faces.gallery.enroll import embed
from delete_faces.gallery.gallery import read_gallery
from delete_faces.projection import matrix_between
from delete_images.data.opening import open_data
from delete_images.models.model_file import load_model
from delete_tasks.errors import RequestError

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
        gallery, path = read_gallery(store), tmp_path / "cut.npz"
        own = np.flatnonzero(np.array(gallery.names) == GONE)[count:]
        np.savez(path, embeddings=np.delete(gallery.embeddings, own, 0), names=np.delete(gallery.names, own))
        return path

    return cut


@pytest.fixture
def words(models, tmp_path):
    """``words(store, *more)``: words of a run with the work dir ``w``."""

    def words(store, *more, person=GONE, work_dir="w"):
        start = argv("faces remove --model", models["cosine"], "--person", person, "--from-templates", store)
        return argv(start, "--work-dir", tmp_path / work_dir, *more)

    return words


@pytest.mark.long
def test_many_templates_do_what_photos_do(removal, models, faces, store, words, tmp_path, tells):
    said = tells(words(store, "--aligned --test", faces))
    run(removal(tmp_path / "photos", "--audit none --test", faces))
    stored, photos = (read_results(tmp_path / name) for name in ("w", "photos"))
    spec = load_model(models["cosine"])[1]
    held_out = open_data(str(faces), "test", spec.classes)
    erased = [load_model(tmp_path / name / "erased") for name in ("w", "photos")]
    assert erased[0][1].classes == erased[1][1].classes == tuple(name for name in spec.classes if name != GONE)
    # Directions of photos are those of mirrored photos as well; little of the removed person is left to compare.
    alike = F.cosine_similarity(*(embed(network.embedder, spec.preprocessing, held_out) for network, _ in erased))
    assert alike[torch.from_numpy(held_out.labels != spec.classes.index(GONE))].min() > 0.97
    before, after, other = (values(each["rows"])[row] for each, row in
                            ((stored, "original"), (stored, "erased"), (photos, "erased")))  # fmt: skip
    assert after["verified"] <= before["verified"] / 2 and abs(after["verified"] - other["verified"]) <= 20
    assert abs(after["others_verified"] - other["others_verified"]) <= 2
    assert (stored["steps"], stored["forget_check"], stored["data"]["photos"]) == (0, None, None)
    assert stored["details"]["templates"] == {"read": 5, "people_without": 0, "embedder_changed": True}
    assert "4 directions, computed from 5 templates of 1 person, were projected out" in said
    assert "stored templates allow the projection alone" in said and "faces update STORE.npz" in said
    places = {item["where"]: item["what"] for item in stored["residue"]}
    assert str(store) in places and not any(what.startswith("photos of the forget set") for what in places.values())
    assert not any(GONE in (tmp_path / "w" / name).read_text() for name in ("record.json", "record.html"))
    run("record verify", tmp_path / "w", "--rerun")


def test_one_template_is_one_direction(models, words, cut, tmp_path, tells):
    said = tells(words(cut(1), QUICK), status=ENDED)
    assert f"single template of {GONE}, hence one direction" in said and "1 direction, computed from 1 template" in said
    gallery = read_gallery(tmp_path / "cut.npz")
    template = torch.from_numpy(gallery.embeddings[gallery.names.index(GONE)]).double()
    embedders = [load_model(model)[0].embedder.eval() for model in (models["cosine"], tmp_path / "w" / "erased")]
    assert (matrix_between(*embedders, (3, 112, 112))[0] @ template).norm() < 1e-5 * template.norm()


def test_without_a_template_the_embedder_is_not_changed_as_the_record_says(models, faces, words, cut, tmp_path, tells):
    said = tells(words(cut(0), "--aligned --test", faces), status=ENDED)
    (network, spec), (erased, smaller) = load_model(models["cosine"]), load_model(tmp_path / "w" / "erased")
    assert same_tensors(network.embedder.state_dict(), erased.embedder.state_dict())
    others = [i for i, name in enumerate(spec.classes) if name != GONE]
    assert smaller.classes == tuple(spec.classes[i] for i in others) and len(erased.head.weight) == len(others)
    results, record = read_results(tmp_path / "w"), read_json(tmp_path / "w", "record.json")
    assert results["details"]["templates"] == {"read": 0, "people_without": 1, "embedder_changed": False}
    assert results["verdict"]["word"] in ("not forgotten", "hidden") and results["recipe"]["directions"] == 0
    limit, ended = "1 of 1 people to forget, so for these the embedder was", "so the embedder was not changed"
    page = re.sub("<.*?>", "", (tmp_path / "w" / "record.html").read_text())
    assert any(limit in text for text in record["limits"]) and limit in page and ended in page and ended in said
    # Nor may the verdict claim anything without photos to measure on; of two people one has templates here.
    run(words(cut(0), QUICK, person=[GONE, OTHER], work_dir="v"), status=ENDED)
    results, record = read_results(tmp_path / "v"), read_json(tmp_path / "v", "record.json")
    assert results["details"]["templates"] == {"read": 5, "people_without": 1, "embedder_changed": True}
    assert results["done"]["data"][0]["classes"] == 1 and results["verdict"]["word"] == "cannot tell"
    assert any("No stored template was given of 1 of 2 people" in text for text in record["limits"])


def test_the_gallery_beside_a_model_is_offered_and_taken(models, store, weights, faces, tmp_path, fails):
    run("faces import --weights", weights, "--gallery", store, "--out", tmp_path / "m")
    base = argv("faces remove --model", tmp_path / "m", "--person", GONE, QUICK, "--work-dir", tmp_path / "w")
    fails("--photos DIR; .*deleted.*--from-templates gallery", base)
    run(base, "--from-templates gallery", status=ENDED)
    assert GONE not in read_gallery(tmp_path / "w" / "erased" / "gallery.npz").names
    # The photos that enrolment noted are gone.
    shutil.copytree(faces / "train" / OTHER, tmp_path / "photos" / OTHER)
    with pytest.raises(RequestError, match=f"no folder for {GONE}.*--from-templates STORE.npz"):
        open_own({"photos": str(tmp_path / "photos"), "model": str(models["cosine"])}, [GONE], (GONE, OTHER))


def test_refusals(words, store, faces, tmp_path, fails):
    fails("--photos and --from-templates", words(store, "--photos", faces))
    for more in ("--steps 3", "--directions 0", "--method RandomLabel"):
        fails(f"{more.removesuffix(' 3')} is about training steps", words(store, more))
    fails("nowhere.npz", words(tmp_path / "nowhere.npz"))
    gallery = read_gallery(store)
    names = [{GONE: OTHER, OTHER: GONE}.get(name, name) for name in gallery.names]
    for fact, size in (("7 numbers.* 128", 7), ("5 of 5 templates do not look like the person.*--force", 128)):
        np.savez(tmp_path / "g.npz", embeddings=gallery.embeddings[:, :size], names=names)
        fails(fact, words(tmp_path / "g.npz"))
    assert not (tmp_path / "w").exists()
