"""``faces remove --resume`` goes on with the same request alone; more that it compares is in tests/faults/test_resume.py."""

from __future__ import annotations

from helpers import argv

from delete_tasks.cli import main


def content(folder):
    """Bytes by path, but for what a refused run may touch: its log and its lock."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.suffix not in (".log", ".lock")}


def test_other_directions_are_another_request(models, faces, tmp_path, fails):
    words = argv(
        "faces remove --model", models["cosine"], "--person Colin_Powell --photos", faces, "--aligned --work-dir"
    )
    words += argv(tmp_path, "--test none --steps 2 --stop 1e-6 --keep-states --no-record")
    main([*words, "--directions", "2"])  # two such steps may forget too little to be published
    assert (tmp_path / "last_checkpoint").is_file()
    before = content(tmp_path)
    fails(r"directions \(2 then, 3 now\)", words, "--resume --directions 3")
    fails(r"directions \(2 then, 4 now\)", words, "--resume")  # the default's number
    assert content(tmp_path) == before
