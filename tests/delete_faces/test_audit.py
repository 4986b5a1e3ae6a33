"""delete-tasks audit of a face network: embeddings of a person whose row was taken out."""

import json

import torch

from delete_faces.network import remove_people
from delete_images.models.model_file import load_model, save_model
from delete_tasks.cli import main


def test_a_row_taken_out_is_hidden(faces, models, tmp_path, capsys):
    network, spec = load_model(models["cosine"])
    without, fewer = remove_people(network, spec, [2])
    save_model(tmp_path / "without", without, fewer)
    person = spec.classes[2]
    words = ["audit", "--original", str(models["cosine"]), "--erased", str(tmp_path / "without"), "--aligned"]
    words += ["--forget", f"{faces}?class={person}", "--data", str(faces), "--test", str(faces)]
    assert main([*words, "--work-dir", str(tmp_path / "w")]) == 0
    said = json.loads((tmp_path / "w" / "audit.json").read_text())
    assert said["task"] == "faces" and said["forgotten"] == [person]
    assert said["samples"] == {"forget": 5, "train": 40, "test": 48}
    rows = said["rows"]
    assert said["verdict"]["word"] == "hidden" and rows["erased"]["linear_probe"]["value"] > 60
    assert rows["erased"]["linear_probe"] == rows["original"]["linear_probe"]
    assert rows["erased"]["forgotten_mass"]["value"] == 0 and rows["erased"]["logit_level"]["value"] is None
    assert rows["original"]["original_head"]["value"] == rows["erased"]["original_head"]["value"]
    capsys.readouterr()
    other = torch.nn.Linear(3, 4)
    torch.save(other.state_dict(), tmp_path / "o.pth")
    assert main([*words[:4], str(tmp_path / "o.pth"), *words[5:], "--work-dir", str(tmp_path / "x")]) == 2
    assert "o.pth" in capsys.readouterr().err and not (tmp_path / "x").exists()
