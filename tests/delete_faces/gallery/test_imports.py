"""faces import and faces embed: existing models, with a head or a gallery of templates."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import argv, read_results, run, same_tensors

from delete_faces.backbones import backbone_defaults, build_backbone
from delete_faces.gallery.enroll import embed
from delete_faces.gallery.gallery import Gallery, read_gallery
from delete_images.data.opening import open_data
from delete_images.models.model_file import load_model

SIZE, GONE = 16, "Colin_Powell"
BACKBONE = f"--backbone cifar_resnet20 --embedding-size {SIZE}"


@pytest.fixture(scope="module")
def embedder():
    torch.manual_seed(0)
    return build_backbone("cifar_resnet20", SIZE).eval()


@pytest.fixture(scope="module")
def weights(embedder, tmp_path_factory):
    """A small embedder's file as a training script writes it: with a prefix, beside a head of four people."""
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    state = {f"backbone.{key}": value for key, value in embedder.state_dict().items()}
    rows = torch.randn(4, SIZE, generator=torch.Generator().manual_seed(1))
    torch.save({"state_dict": {**state, "head.weight": rows}}, path)
    return path


@pytest.fixture(scope="module")
def imported(embedder, faces, tmp_path_factory):
    """A model folder made of an embedder and a gallery with several templates per person, and the gallery."""
    folder = tmp_path_factory.mktemp("imported")
    torch.save(embedder.state_dict(), folder / "plain.pth")
    data = open_data(str(faces), "train")
    templates = F.normalize(embed(embedder, backbone_defaults("cifar_resnet20").preprocessing, data)).numpy()
    names = [data.class_names[label] for label in data.labels]
    gallery = Gallery(templates, names, {"photo": np.arange(len(templates))})
    gallery.save(folder / "templates.npz")
    words = ["--gallery", folder / "templates.npz", "--photos", faces, "--aligned", "--out", folder / "model"]
    run("faces import --weights", folder / "plain.pth", BACKBONE, words)
    return folder / "model", gallery


def test_an_own_head_is_found(embedder, weights, tmp_path):
    run("faces import --weights", weights, BACKBONE, "--out", tmp_path / "m")
    network, spec = load_model(tmp_path / "m")
    rows = torch.load(weights, weights_only=True)["state_dict"]["head.weight"]
    assert torch.equal(network.head.weight, rows) and network.head.scale == 64 and spec.classes[2] == "person_2"
    assert same_tensors(embedder.state_dict(), network.embedder.state_dict())
    # A head in a file of its own, a person in each column, with names.
    torch.save({"kernel": rows[:3].T.contiguous()}, tmp_path / "head.pth")
    (tmp_path / "names.txt").write_text("Ann\nBo\nCy\n")
    words = ["--head-weights", tmp_path / "head.pth", "--names", tmp_path / "names.txt", "--scale", 30]
    run("faces import --weights", weights, BACKBONE, words, "--out", tmp_path / "n")
    network, spec = load_model(tmp_path / "n")
    assert torch.equal(network.head.weight, rows[:3]) and network.head.scale == 30
    assert spec.classes == ("Ann", "Bo", "Cy")
    # One with a bias is linear.
    torch.save({"fc.weight": rows, "fc.bias": torch.arange(4.0)}, tmp_path / "linear.pth")
    run("faces import --weights", weights, BACKBONE, "--head-weights", tmp_path / "linear.pth", "--out", tmp_path / "l")
    assert torch.equal(load_model(tmp_path / "l")[0].head.bias, torch.arange(4.0))


def test_a_gallery_comes_back_without_the_person(imported, faces, tmp_path, tells):
    """The photos are those that import noted; the others' templates are those of the erased embedder."""
    model, gallery = imported
    spec = load_model(model)[1]
    assert set(spec.classes) == set(gallery.names) and spec.extra["threshold"] is not None
    words, erased = "--force --audit none --work-dir", tmp_path / "w" / "erased"
    run("faces remove --model", model, "--person", GONE, words, tmp_path / "w")
    smaller, others = read_gallery(erased / "gallery.npz"), np.array([name != GONE for name in gallery.names])
    assert smaller.names == [name for name in gallery.names if name != GONE]
    assert GONE.encode() not in (erased / "gallery.npz").read_bytes()
    assert (smaller.more["photo"] == np.flatnonzero(others)).all()
    results = read_results(tmp_path / "w")
    note = results["details"]["gallery"]
    assert results["steps"] == 0 and note["projected"] and note["exact"] and note["templates"] == others.sum()
    network, described = load_model(erased)
    again = embed(network.embedder, described.preprocessing, open_data(str(faces), "train").subset(others))
    assert F.cosine_similarity(again, torch.from_numpy(smaller.embeddings)).min() > 1 - 1e-5
    cosines = (smaller.embeddings * gallery.embeddings[others]).sum(1)
    assert note["mean_cosine"] == pytest.approx(cosines.mean(), abs=1e-3)
    printed = tells("faces identify --model", erased, "--aligned", faces / "test" / GONE)
    assert GONE not in printed.replace(str(faces), "").replace(f"/{GONE}", "")
    # The erased model has a gallery as well. An embedder that is not changed leaves every other template as it was.
    more = "--person Kofi_Annan --aligned --method HeadOnly --steps 1"
    run("faces remove --model", erased, more, "--photos", faces, words, tmp_path / "v")
    last = read_gallery(tmp_path / "v" / "erased" / "gallery.npz")
    assert last.embeddings.tobytes() == smaller.without(["Kofi_Annan"]).embeddings.tobytes()


def test_embed(imported, faces, tmp_path):
    model, gallery = imported
    run("faces embed --model", model, "--photos", faces, "--aligned --out", tmp_path / "g.npz")
    written = read_gallery(tmp_path / "g.npz")
    assert written.names == gallery.names and np.allclose(written.embeddings, gallery.embeddings, atol=1e-5)


@pytest.mark.parametrize(("fact", "arrays"), [
    ("names", {"embeddings": np.ones((3, SIZE))}),
    ("7 numbers.* 16", {"embeddings": np.ones((2, 7)), "names": np.array(["a", "b"])}),
    ("1 of 3 templates", {"embeddings": np.eye(3, SIZE) * [[1], [0], [1]], "names": np.array(["a", "b", "c"])}),
    ("1 people", {"embeddings": np.eye(3, SIZE), "names": np.array(["a"] * 3)}),
])  # fmt: skip
def test_galleries_that_are_refused(weights, fails, tmp_path, fact, arrays):
    np.savez(tmp_path / "g.npz", **arrays)
    fails(fact, "faces import --weights", weights, BACKBONE, "--gallery", tmp_path / "g.npz", "--out", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_heads_that_are_refused(weights, fails, tmp_path):
    start = argv("faces import --weights", weights, BACKBONE, "--out", tmp_path / "m")
    (tmp_path / "names.txt").write_text("Ann\nBo\nAnn\n")
    fails("3 names, 2 .*4 rows", start, "--names", tmp_path / "names.txt")
    (tmp_path / "names.json").write_text('["Ann", 3]')
    fails("names.json.* 3", start, "--names", tmp_path / "names.json")
    torch.save({"a.weight": torch.ones(3, SIZE), "b.weight": torch.ones(5, SIZE)}, tmp_path / "two.pth")
    fails("2 tensors", start, "--head-weights", tmp_path / "two.pth")
    fails("scale", start, "--head linear --scale 20")
    fails("--head-weights|--gallery", start, "--head-weights", weights, "--gallery", tmp_path / "none.npz")
    assert not (tmp_path / "m").exists()


@pytest.mark.long
def test_a_classifier_of_8631_people(cut_faces, tmp_path, tells):
    """InceptionResnetV1 with its own classifier, random weights of the published shapes: import, remove, identify."""
    people = ("Ariel_Sharon", GONE, "Kofi_Annan")
    faces = cut_faces(tmp_path / "faces", people, train=3, test=2, side=160)
    torch.manual_seed(0)
    embedder = build_backbone("inception_resnet_v1", arguments={"normalize": False}).eval()
    rows = torch.randn(8631, 512) / 20
    # Random rows know nobody, and a run that has nothing to forget publishes no model: the first three are their people's means.
    data = open_data(str(faces), "train")
    means = embed(embedder, backbone_defaults("inception_resnet_v1").preprocessing, data).reshape(3, 3, 512).mean(1)
    rows[:3] = 40 * means / means.square().sum(1, keepdim=True)
    state = embedder.state_dict() | {"logits.weight": rows, "logits.bias": torch.zeros(8631)}
    torch.save(state, tmp_path / "20180402-114759-vggface2.pt")
    (tmp_path / "names.json").write_text(json.dumps([*people, *(f"n{i:06d}" for i in range(8628))]))
    words = ["--weights", tmp_path / "20180402-114759-vggface2.pt", "--names", tmp_path / "names.json"]
    run("faces import --backbone inception_resnet_v1", words, "--out", tmp_path / "m")
    network, spec = load_model(tmp_path / "m")
    assert torch.equal(network.head.weight, state["logits.weight"]) and len(spec.classes) == 8631
    inputs = torch.randn(1, 3, 160, 160)
    with torch.no_grad():  # the classifier reads embeddings before they are scaled to length 1
        published = build_backbone("inception_resnet_v1")
        published.load_state_dict({key: value for key, value in state.items() if not key.startswith("logits.")})
        unit = published.eval()(inputs)
        assert torch.allclose(F.normalize(network.embedder(inputs)), unit, atol=1e-5)
        assert network.embedder(inputs).norm() != pytest.approx(1.0, abs=1e-2)

    def listed(model) -> str:
        """What ``faces identify`` says of the person's two photos, everybody's scores among it."""
        photos = faces / "test" / GONE
        said = tells("faces identify --model", model, "--aligned", photos, "--top 8631 --threshold -1e6")
        said = said.replace(str(photos), "").replace(f"/{GONE}", "")
        assert said.count("n000000 ") == said.count("n008627 ") == 2
        return said

    assert listed(tmp_path / "m").count(f"{GONE} ") == 2
    run("faces remove --model", tmp_path / "m", "--person", GONE, "--photos", faces, "--aligned --force --audit none --test",
        faces, "--work-dir", tmp_path / "w")  # fmt: skip
    smaller, left = load_model(tmp_path / "w" / "erased")
    assert len(left.classes) == 8630 and GONE not in left.classes
    kept = [i for i, name in enumerate(spec.classes) if name != GONE]
    assert torch.equal(smaller.head.weight, network.head.weight[kept])
    assert GONE not in listed(tmp_path / "w" / "erased")
