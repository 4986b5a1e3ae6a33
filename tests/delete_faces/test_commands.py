"""The commands on eight people of LFW: enroll, remove, align; their files; the config; the audit."""

import shutil

import pytest
import torch
from helpers import argv, read_json, read_results, run, same_tensors
from PIL import Image

from delete_faces.metrics import NO_PHOTOS
from delete_faces.network import remove_people
from delete_faces.task import FacesTask
from delete_images.models.model_file import load_model, save_model
from delete_tasks.runner.unlearn_runner import UnlearnRunner
from delete_tasks.task import task_for

GONE = "Colin_Powell"


@pytest.fixture(scope="session")
def done(models, faces, head, tmp_path_factory):
    """Work dir of a removal with each head. With one head the photos are those of enrolment, which are the same."""
    folder = tmp_path_factory.mktemp("remove") / "run"
    more = ["--photos", faces, "--test", faces, "--aligned"] if head == "linear" else ["--threshold", "far=1e-2"]
    run("faces remove --model", models[head], "--person", ["colin powell"], more, "--device cpu --work-dir", folder)
    return folder


def test_enroll(models):
    for kind, folder in models.items():
        summary = read_json(folder, "enrolment.json")
        assert summary["people"] == 8 and summary["training_photos"] == 40 and summary["held_out_photos"] == 48
        assert summary["held_out_rate"] >= 95 and len(summary["held_out"]) == 48
        _, spec = load_model(folder)
        assert spec.arguments == {"backbone": "mobilefacenet", "embedding_size": 128, "head": kind}
        assert spec.extra == {"framing": "points", "threshold": summary["threshold"]} and GONE in spec.classes
        # Each of 88 photos is compared by heads that lack its person and, with eight people in five folds, perhaps another.
        assert 88 * 6 <= summary["impostor_pairs"] <= 88 * 7 and summary["threshold"] > 0.2


def test_results(done):
    results = read_results(done)
    rows = results["rows"]
    assert list(rows) == ["original", "logit_cut", "head_only", "projection_alone", "erased", "row_removed"]
    assert rows["original"]["identified"]["value"] >= 80
    for name in ("logit_cut", "erased", "row_removed"):
        assert rows[name]["identified"]["value"] == 0
        assert rows[name]["others_identified"]["value"] >= rows["original"]["others_identified"]["value"] - 3
    details = results["details"]
    before, after = details["verification"]["original"], details["verification"]["erased"]
    for name in ("verified", "others_verified", "verified_as_others"):
        assert rows["logit_cut"][name] == rows["head_only"][name] == rows["original"][name]
        assert rows["row_removed"][name] == rows["erased"][name]
    assert rows["erased"]["verified"]["value"] == after["at"]["1e-02"]["removed"]
    assert before["removed_pairs"] == 15 and before["impostor_pairs"] == 21 * 36
    # Five photos to forget, and 15 pairs of six to measure on: most no longer match.
    assert after["at"]["1e-02"]["removed"] <= 40 < before["at"]["1e-02"]["removed"]
    # The projection leaves the head nothing to unlearn, so that it is all that was done.
    assert results["steps"] == 0 and results["finished"]["directions"] == 4
    for name, figure in rows["projection_alone"].items():
        assert figure["value"] == pytest.approx(rows["erased"][name]["value"], abs=0.02), name
    assert after["at"]["1e-02"]["kept"] > before["at"]["1e-02"]["kept"] - 3
    assert before["at"]["1e-03"]["removed"] is None
    assert details["matches"]["far"] == "1e-02"
    assert details["matches"]["people"][0]["after"] == after["at"]["1e-02"]["removed"]
    assert details["matches"]["others"]["after"] == after["at"]["1e-02"]["kept"]
    assert 0.8 < details["drift"]["least_cosine"] < details["drift"]["mean_cosine"] < 1
    assert results["verdict"]["words"]["verified"] != "not forgotten" and "verdict" not in details
    assert details["taken_for"]["row_removed"] and GONE not in str(details["taken_for"])
    for row in rows.values():
        assert (row["identified"]["count"], row["others_identified"]["count"]) == (6, 42)
        assert (row["verified"]["count"], row["others_verified"]["count"]) == (6, 42) and row["verified"]["interval"]
    assert results["forget_set"]["read"] == 5 and details["row_removed"] is True
    # Of six held-out photos two train the attacks.
    assert "and there are 4" in results["audit"]["not_measured"]["audit"]
    with Image.open(done / "before_after.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24)) > 1000


def test_residue(done, models, head, faces):
    """The erased folder holds no class weights, name or optimizer state of the person, and of the embedder the embedding layer
    alone moved; files that hold any are listed."""
    erased = done / "erased"
    assert sorted(path.name for path in erased.iterdir()) == ["enrolment.json", "model.json", "weights.safetensors"]
    for path in erased.iterdir():
        assert not any(name in path.read_bytes() for name in (b"Colin_Powell", b"Colin Powell", b"colin"))
    original, spec = load_model(models[head])
    network, smaller = load_model(erased)
    lost = original.head.weight[spec.classes.index(GONE)].detach()
    assert smaller.classes == tuple(name for name in spec.classes if name != GONE)
    content = (erased / "weights.safetensors").read_bytes()
    assert lost.numpy().tobytes() not in content and lost.numpy()[:8].tobytes() not in content
    for tensor in network.state_dict().values():
        if tensor.ndim >= 2 and tensor[0].numel() == lost.numel():
            assert (tensor.reshape(-1, lost.numel()) - lost).abs().amax(1).min() > 1e-3
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    assert len(content) < size + 50_000
    assert not list(done.glob("step_*.pth")) and not (done / "last_checkpoint").exists()
    kept = [i for i, name in enumerate(spec.classes) if name != GONE]
    assert torch.equal(network.head.weight, original.head.weight[kept])
    after = network.embedder.state_dict()
    moved = {name for name, value in original.embedder.state_dict().items() if not torch.equal(value, after[name])}
    assert moved == {"conv3.weight", "conv3.bias", "bn.weight", "bn.bias"}
    holding = {item["where"] for item in read_results(done)["residue"]}
    assert {str(models[head] / name) for name in ("weights.safetensors", "model.json", "enrolment.json")} <= holding
    assert {str(faces), str(done / "results.json"), str(done / "before_after.png")} <= holding
    for path in done.rglob("*"):
        if path.is_file() and erased not in path.parents and GONE.encode() in path.read_bytes():
            assert str(path) in holding, path


def test_threshold(done, models, head):
    """With the option it is that of two photos at FAR 1e-2; without, the original's."""
    at = read_results(done)["details"]["verification"]["erased"]["at"]["1e-02"]["threshold"]
    before, after = (load_model(folder)[1].extra["threshold"] for folder in (models[head], done / "erased"))
    assert before != pytest.approx(at, abs=1e-3)
    assert after == pytest.approx(at if head == "cosine" else before, abs=1e-4)


def test_keep_row(models, removal, tmp_path, tells, publish_anyway):
    said = tells(removal(tmp_path, "--keep-row --test none --steps 1"))
    assert said.count(NO_PHOTOS) == 2 and "--data" not in said  # once for all limits, and in the verdict
    network, spec = load_model(tmp_path / "erased")
    assert spec.classes[1] == "class_1" and len(network.head.weight) == 8
    assert torch.equal(network.head.weight, load_model(models["cosine"])[0].head.weight)
    erased = read_results(tmp_path)["rows"]["erased"]
    assert all(figure["value"] is None and "--test" in figure["note"] for figure in erased.values())
    assert not (tmp_path / "before_after.png").exists()


def test_config(config, removal, tmp_path, publish_anyway):
    """The same run as a config: its erased model is the command's."""
    cfg = config()
    assert cfg.unlearn.classes == [GONE] and cfg.unlearn.type == "DELETE"
    cfg.unlearn.steps = 2
    runner = UnlearnRunner.from_cfg(cfg)
    assert isinstance(task_for(runner.unwrapped_model), FacesTask)
    runner.train()
    run(removal(tmp_path / "command", "--steps 2 --audit none --test none --no-record"))
    assert same_tensors(*(load_model(tmp_path / name / "erased")[0].state_dict() for name in ("config", "command")))


def test_align(lfw, bad_photos, tmp_path, tells, fails):
    """Two people's photos, one of them without a face and one with two: named, and left out."""
    shutil.copytree(bad_photos, tmp_path / "photos" / GONE)
    for person in (GONE, "Kofi_Annan"):
        (tmp_path / "photos" / person).mkdir(exist_ok=True)
        for number in range(1, 4):
            shutil.copy(lfw / person / f"{person}_{number:04d}.jpg", tmp_path / "photos" / person)
    words = argv("faces align --photos", tmp_path / "photos", "--held-out 0.4 --out")
    printed = tells(words, tmp_path / "out")
    assert all(f"Colin_Powell/{name}" in printed for name in ("wall.jpg", "pair.jpg (2 faces)", "half.jpg"))
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert len(written) == 6 and not any("wall" in name or "pair" in name or "half" in name for name in written)
    assert len([name for name in written if name.startswith("test/")]) == 2
    with Image.open(tmp_path / "out" / written[0]) as face:
        assert face.size == (112, 112)
    assert "Colin_Powell/pair.jpg" in tells(words, tmp_path / "again", "--largest-face")
    fails("out' .*empty", words, tmp_path / "out")


def test_a_person_without_class_weights_is_hidden(faces, models, tmp_path, fails):
    """To delete-tasks audit."""
    network, spec = load_model(models["cosine"])
    save_model(tmp_path / "without", *remove_people(network, spec, [2]))
    person = spec.classes[2]
    words = argv("audit --original", models["cosine"], "--aligned --data", faces, "--test", faces)
    words += ["--forget", f"{faces}?class={person}"]
    run(words, "--erased", tmp_path / "without", "--work-dir", tmp_path / "w")
    audit = read_json(tmp_path, "w", "audit.json")
    assert audit["task"] == "faces" and audit["forgotten"] == [person]
    assert audit["samples"] == {"forget": 5, "train": 40, "test": 48}
    original, erased = audit["rows"]["original"], audit["rows"]["erased"]
    assert audit["verdict"]["word"] == "hidden" and erased["linear_probe"]["value"] > 60
    assert erased["linear_probe"] == original["linear_probe"]
    assert erased["forgotten_mass"]["value"] == 0 and erased["logit_level"]["value"] is None
    assert original["original_head"]["value"] == erased["original_head"]["value"]
    torch.save(torch.nn.Linear(3, 4).state_dict(), tmp_path / "o.pth")
    fails(r"o\.pth", words, "--erased", tmp_path / "o.pth", "--work-dir", tmp_path / "x")
    assert not (tmp_path / "x").exists()
