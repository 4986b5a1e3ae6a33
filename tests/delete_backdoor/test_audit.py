"""delete-tasks audit of a backdoored network: samples with the trigger are what was to be forgotten."""

from helpers import argv, read_json, run

from delete_images.models.model_file import load_model, save_model

TRIGGER = "badnets:size=4,pos=11,11"


def test_a_backdoor_is_read_from_the_features(files, toy, tmp_path, fails):
    """An 'erased' model whose target row is gone hides the backdoor; its features tell the trigger as before."""
    network, spec = load_model(toy)
    network.head.weight.data[0], network.head.bias.data[0] = 0, -20
    save_model(tmp_path / "hidden", network, spec)
    words = argv("audit --original", toy, "--erased", tmp_path / "hidden", "--classes red --trigger", TRIGGER)
    words += argv("--forget", files["only"], "--data", files["train"], "--test", files["test"])
    run(words, "--work-dir", tmp_path / "w")
    said = read_json(tmp_path, "w/audit.json")
    assert said["task"] == "backdoor" and said["forgotten"] == ["red"]
    # Each of the held-out images that are not of the target, with the trigger and without it.
    assert said["samples"] == {"forget": 180, "train": 900 + 180, "test": 2 * 300}
    assert said["rows"]["erased"]["linear_probe"]["value"] > 80 and said["verdict"]["word"] == "hidden"
    assert said["rows"]["original"]["forgotten_mass"]["value"] > 50 > said["rows"]["erased"]["forgotten_mass"]["value"]
    fails("one target", words, "--classes green --work-dir", tmp_path / "x")
    assert not (tmp_path / "x").exists()
