"""delete-tasks audit of a face network: embeddings of a person whose class weights were removed."""

import torch
from helpers import argv, read_json, run

from delete_faces.network import remove_people
from delete_images.models.model_file import load_model, save_model


def test_a_person_without_class_weights_is_hidden(faces, models, tmp_path, fails):
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
