"""``faces remove --from-templates``: the directions come from stored templates of people whose photos were deleted."""

import contextlib
import io
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


@pytest.fixture(scope="module")
def store(models, faces, tmp_path_factory):
    """Templates that the model made of the photos that it was made from."""
    path = tmp_path_factory.mktemp("stores") / "store.npz"
    run("faces embed --model", models["cosine"], "--photos", faces, "--aligned --out", path)
    return path


@pytest.fixture
def with_templates(store, tmp_path):
    """``with_templates(name=number, ...)``: the store with so many templates of these people."""

    def cut(**numbers: int):
        gallery, chosen = read_gallery(store), []
        for i, name in enumerate(gallery.names):
            numbers[name] = numbers.get(name, 5) - 1
            chosen += [i] * (numbers[name] >= 0)
        np.savez(tmp_path / "cut.npz", embeddings=gallery.embeddings[chosen], names=np.array(gallery.names)[chosen])
        return tmp_path / "cut.npz"

    return cut


def words(model, store, work_dir, *more, person=GONE):
    return argv(
        "faces remove --model", model, "--person", person, "--from-templates", store, "--work-dir", work_dir, *more
    )


def told(*parts: object, status=(0, 3, 4)) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        run(*parts, status=status)
    return " ".join(output.getvalue().split())


def left(work_dir, network, spec):
    """Embeddings of held-out photos by an erased model, of length 1."""
    return F.normalize(embed(load_model(work_dir / "erased")[0].embedder, spec, network))


def test_many_templates_do_what_photos_do(removal, models, faces, store, tmp_path):
    tested = argv("--aligned --test", faces)
    said = told(words(models["cosine"], store, tmp_path / "stored", tested), status=0)
    run(removal(tmp_path / "photos", "--audit none --test", faces))
    stored, photos = (read_results(tmp_path / name) for name in ("stored", "photos"))
    spec = load_model(models["cosine"])[1]
    assert load_model(tmp_path / "stored" / "erased")[1].classes == tuple(n for n in spec.classes if n != GONE)
    held_out = open_data(str(faces), "test", spec.classes)
    both = [left(tmp_path / name, held_out, spec) for name in ("stored", "photos")]
    others = torch.from_numpy(held_out.labels != spec.classes.index(GONE))
    # Directions of photos are of mirrored photos as well; little of the removed person is left to compare.
    assert (both[0] * both[1]).sum(1)[others].min() > 0.97 < (both[0] * both[1]).sum(1)[others].mean()
    rates = {name: [each["rows"][row][name]["value"] for each in (stored, photos) for row in ("original", "erased")]
             for name in ("verified", "others_verified")}  # fmt: skip
    assert rates["verified"][1] <= rates["verified"][0] / 2 and abs(rates["verified"][1] - rates["verified"][3]) <= 20
    assert abs(rates["others_verified"][1] - rates["others_verified"][3]) <= 2
    assert (stored["steps"], stored["forget_check"], stored["data"]["photos"]) == (0, None, None)
    assert stored["details"]["templates"] == {"read": 5, "people_without": 0, "embedder_changed": True}
    assert "4 directions, computed from 5 templates of 1 person, were projected out" in said
    assert "stored templates allow the projection alone" in said and "faces update STORE.npz" in said
    assert str(store) in [item["where"] for item in stored["residue"]]
    assert not any(item["what"].startswith("photos of the forget set") for item in stored["residue"])
    assert not any(GONE in (tmp_path / "stored" / name).read_text() for name in ("record.json", "record.html"))
    run("record verify", tmp_path / "stored", "--rerun")


def test_one_template_is_one_direction(models, with_templates, tmp_path):
    said = told(words(models["cosine"], with_templates(**{GONE: 1}), tmp_path / "w", "--audit none --test none"))
    assert f"single template of {GONE}, hence one direction" in said and "1 direction, computed from 1 template" in said
    gone = read_gallery(tmp_path / "cut.npz").without([OTHER])
    template = torch.from_numpy(gone.embeddings[gone.names.index(GONE)]).double()
    erased = load_model(tmp_path / "w" / "erased")[0].embedder
    assert (template @ erased.conv3.weight.flatten(1).double()).norm() < 1e-5 * erased.conv3.weight.norm()


def test_without_a_template_the_record_says_that_the_embedder_was_not_changed(models, faces, with_templates, tmp_path):
    command = words(models["cosine"], with_templates(**{GONE: 0}), tmp_path / "w", "--aligned --test", faces)
    said = told(command)
    network, spec = load_model(models["cosine"])
    erased, smaller = load_model(tmp_path / "w" / "erased")
    assert same_tensors(network.embedder.state_dict(), erased.embedder.state_dict())
    others = [i for i, name in enumerate(spec.classes) if name != GONE]
    assert smaller.classes == tuple(spec.classes[i] for i in others)
    assert torch.equal(erased.head.weight, network.head.weight[others])
    results, record = read_results(tmp_path / "w"), read_json(tmp_path / "w", "record.json")
    assert results["details"]["templates"] == {"read": 0, "people_without": 1, "embedder_changed": False}
    assert results["verdict"]["word"] in ("not forgotten", "hidden") and results["recipe"]["directions"] == 0
    assert any(text.startswith("The embedder was not changed") for text in record["limits"])
    page = re.sub("<.*?>", "", (tmp_path / "w" / "record.html").read_text())
    assert "The embedder was not changed" in page and "so the embedder was not changed" in page
    assert f"Warning: no template of {GONE} in the store" in said and "so the embedder was not changed" in said
    untested = [*command[: command.index("--test")], "--test", "none"]
    run([word if word != str(tmp_path / "w") else str(tmp_path / "v") for word in untested], status=(0, 3, 4))
    assert read_results(tmp_path / "v")["verdict"]["word"] == "cannot tell"


def test_of_two_people_one_has_templates(models, with_templates, tmp_path):
    store = with_templates(**{GONE: 0})
    run(words(models["cosine"], store, tmp_path / "w", "--audit none --test none", person=[GONE, OTHER]), status=(0, 3))
    results, record = read_results(tmp_path / "w"), read_json(tmp_path / "w", "record.json")
    assert results["details"]["templates"] == {"read": 5, "people_without": 1, "embedder_changed": True}
    assert [use["classes"] for use in results["done"]["data"]] == [1]
    assert any("No stored template of 1 of the people" in text for text in record["limits"])


def test_the_gallery_beside_a_model_is_offered_and_taken(models, store, weights, faces, tmp_path, fails):
    run("faces import --weights", weights, "--gallery", store, "--out", tmp_path / "m")
    base = argv("faces remove --model", tmp_path / "m", "--person", GONE, "--audit none --work-dir", tmp_path / "w")
    fails("--photos DIR; .*deleted.*--from-templates gallery", base)
    fails("--from-templates gallery", base, "--photos", faces / "train" / OTHER / "..", "--person Someone")
    run(base, "--from-templates gallery --test none", status=(0, 3))
    assert GONE not in read_gallery(tmp_path / "w" / "erased" / "gallery.npz").names
    # Enrolment knows of photos that are gone.
    shutil.copytree(models["cosine"], tmp_path / "enrolled")
    shutil.copytree(faces, tmp_path / "photos")
    note = tmp_path / "enrolled" / "enrolment.json"
    note.write_text(note.read_text().replace(str(faces), str(tmp_path / "photos")))
    shutil.rmtree(tmp_path / "photos" / "train" / GONE)
    base = argv("faces remove --model", tmp_path / "enrolled", "--person", GONE, "--work-dir", tmp_path / "v")
    fails(f"no folder for {GONE}.*--from-templates STORE.npz", base)


def test_refusals(models, store, faces, tmp_path, fails):
    base = words(models["cosine"], store, tmp_path / "w", "--test none")
    fails("--photos and --from-templates", base, "--photos", faces)
    fails("--steps is about training steps", base, "--steps 3")
    for more in ("--directions 0", "--method RandomLabel"):
        fails("--directions 0, or another method", base, more)
    fails("nowhere.npz", words(models["cosine"], tmp_path / "nowhere.npz", tmp_path / "w"))
    np.savez(tmp_path / "g.npz", embeddings=np.ones((2, 7)), names=np.array([GONE, OTHER]))
    fails("7 numbers.* 128", words(models["cosine"], tmp_path / "g.npz", tmp_path / "w"))
    swapped = read_gallery(store)
    names = [{GONE: OTHER, OTHER: GONE}.get(name, name) for name in swapped.names]
    np.savez(tmp_path / "g.npz", embeddings=swapped.embeddings, names=np.array(names))
    fails(
        "5 of 5 templates do not look like the person.*--force",
        words(models["cosine"], tmp_path / "g.npz", tmp_path / "w"),
    )
    assert not (tmp_path / "w").exists()
