"""``faces update``: stored templates are carried over to the erased model by the matrix between the two models."""

import copy
import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import argv, read_json, run

from delete_faces.gallery.enroll import embed
from delete_faces.gallery.gallery import Gallery, read_gallery
from delete_faces.network import remove_people
from delete_faces.projection import fold_changes, person_directions, project_people, restore
from delete_faces.stores import open_store
from delete_images.data.opening import open_data
from delete_images.models.model_file import load_model, save_model

GONE, NEXT = "Colin_Powell", "Kofi_Annan"


@pytest.fixture(scope="module")
def world(models, faces, tmp_path_factory):
    """A model, its store of the training photos, the models of two removals in a row, and one that was restored."""
    folder = tmp_path_factory.mktemp("update")
    network, spec = load_model(models["cosine"])
    photos = open_data(str(faces), "train", spec.classes)
    made = embed(network.embedder, spec.preprocessing, photos)
    names, labels = [spec.classes[label] for label in photos.labels], torch.from_numpy(photos.labels)
    Gallery(F.normalize(made).numpy(), names, {"photo": np.arange(len(names))}).save(folder / "store.npz")

    def remove(name, before, described, person, retain=False):
        after = copy.deepcopy(before).eval()
        directions = person_directions(
            embed(after.embedder, spec.preprocessing, photos), labels, [spec.classes.index(person)], 4
        )
        change = project_people(directions)
        more = [restore(made, labels, change)] if retain else []
        fold_changes(after.embedder, [change, *more], (3, *spec.preprocessing.size))
        smaller = remove_people(after, described, [described.classes.index(person)])
        save_model(folder / name, *smaller)
        return smaller

    remove("retain", network, spec, GONE, retain=True)
    remove("second", *remove("first", network, spec, GONE), NEXT)
    return folder, models["cosine"], photos


def cosines(world, erased, store, *gone):
    """Cosines of a store's templates with photos of the people who stay, embedded by an erased model."""
    (network, spec), photos = load_model(world[0] / erased), world[2]
    kept = [i for i, label in enumerate(photos.labels) if photos.class_names[label] not in gone]
    again = embed(network.embedder, spec.preprocessing, photos)[kept]
    return F.cosine_similarity(again, torch.from_numpy(read_gallery(store).embeddings))


def words(world, erased="first", original=None, store=None):
    start = argv("faces update", store or world[0] / "store.npz", "--original", original or world[1])
    return argv(start, "--erased", world[0] / erased)


@pytest.mark.parametrize("erased", ["first", "retain"])
def test_a_store_becomes_what_the_erased_model_makes_of_the_photos(world, tmp_path, erased, tells):
    folder, _, photos = world
    bytes_before, out = (folder / "store.npz").read_bytes(), tmp_path / "new.npz"
    said = tells(words(world, erased), "--out", out)
    assert f"5 of 40 templates removed, of {GONE} 35 templates of 7 people" in said and "still holds 5" in said
    after = read_gallery(out)
    others = [i for i, label in enumerate(photos.labels) if photos.class_names[label] != GONE]
    assert after.more["photo"].tolist() == others and GONE not in after.names and GONE.encode() not in out.read_bytes()
    assert cosines(world, erased, out, GONE).min() > 0.9999
    receipt = read_json(tmp_path, "new.npz.json")
    digests = [hashlib.sha256(content).hexdigest() for content in (bytes_before, out.read_bytes())]
    (leg,) = receipt["stores"]
    assert [leg[when]["sha256"] for when in ("before", "after")] == digests
    assert leg["removed"] == {"templates": 5, "people": 1} and GONE not in str(receipt)
    page = (tmp_path / "new.npz.html").read_text()
    assert "5 of 40 templates deleted" in page and digests[1] in page and GONE not in page
    assert (folder / "store.npz").read_bytes() == bytes_before


def test_in_place(world, tmp_path, fails, tells):
    store = tmp_path / "mine.npz"
    store.write_bytes((world[0] / "store.npz").read_bytes())
    store.chmod(0o600)
    command, content = words(world, store=store), store.read_bytes()
    fails("--out NEW.npz, or --overwrite", command)
    assert "nothing was written" in tells(command, "--dry-run")
    assert store.read_bytes() == content and [path.name for path in tmp_path.iterdir()] == ["mine.npz"]
    run(command, "--overwrite")
    assert len(read_gallery(store).names) == 35 and store.stat().st_mode & 0o777 == 0o600
    fails("35 of 35 templates .* are the erased model's already", command, "--overwrite")
    # The second request begins with the store of the first; a store that has missed the first is refused.
    run(words(world, "second", world[0] / "first", store), "--out", tmp_path / "next.npz")
    assert cosines(world, "second", tmp_path / "next.npz", GONE, NEXT).min() > 0.9999
    late = [*words(world, "second", world[0] / "first"), "--out", tmp_path / "late.npz"]
    fails("templates .* cannot be the original's.*Carry the store over", late)


def test_several_stores_are_legs_of_one_receipt(world, database, faces, tmp_path, tells):
    made = read_gallery(world[0] / "store.npz")
    text = database("vector(128)", ["Somebody", *made.names], np.r_[np.ones((1, 128), np.float32), made.embeddings])
    run(words(world), "--out", tmp_path / "done.npz")
    command = [*words(world, store=text), tmp_path / "done.npz", "--receipt", tmp_path / "r.json", "--photos", faces]
    assert "nothing was written" in tells([*command, "--dry-run"])
    said = tells([*command, "--overwrite"], status=1)
    assert "1 templates of people unknown to the model: Somebody" in said and "Not changed" in said
    assert f"1 people have photos and no template: {GONE}" in said
    first, second = read_json(tmp_path, "r.json")["stores"]
    assert first["changed"] and first["unknown"] == {"templates": 1, "people": 1} and first["after"]["templates"] == 36
    assert not second["changed"] and "are the erased model's already" in second["why"]
    with open_store(text) as store:
        assert len(store.people()) == 8 and GONE not in store.people()
    page = (tmp_path / "r.html").read_text()
    assert "1 of 2 stores were" in page and "Not changed." in page and not {GONE, "Somebody"} & set(page.split())


def test_refusals(world, tmp_path, fails):
    folder, model, out = *world[:2], ["--out", tmp_path / "o.npz"]
    fails("knows all 8 people", words(world)[:3], "--original", model, "--erased", model, out)
    made = read_gallery(folder / "store.npz").embeddings[:2]
    for fact, templates in (("7 numbers.* 128", np.ones((2, 7))), ("removed people alone; delete it", made)):
        np.savez(tmp_path / "g.npz", embeddings=templates, names=[GONE, "colin powell"])
        fails(fact, words(world, store=tmp_path / "g.npz"), out)
    fails("already exists.*--overwrite", words(world), "--out", tmp_path / "g.npz")
    (tmp_path / "r.html").touch()
    fails("r.html' already exists", words(world), out, "--receipt", tmp_path / "r.json")
    fails("is in .*first", words(world), "--out", folder / "first" / "gallery.npz")
    assert not (tmp_path / "o.npz").exists()
