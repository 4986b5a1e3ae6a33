"""``faces remove --resume`` goes on with the same request alone; more that it compares is in tests/faults/test_resume.py."""

from helpers import run


def content(folder):
    """Bytes by path, but for what a refused run may touch: its log and its lock."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.suffix not in (".log", ".lock")}


def test_other_directions_are_another_request(removal, tmp_path, fails):
    words = removal(tmp_path, "--test none --steps 2 --stop 1e-6 --keep-states --no-record")
    run(words, "--directions 2", status=(0, 4))  # two such steps may forget too little to be published
    assert (tmp_path / "last_checkpoint").is_file()
    before = content(tmp_path)
    fails("directions .*2 .*3", words, "--resume --directions 3")
    fails("directions .*2 .*4", words, "--resume")  # the default's number
    assert content(tmp_path) == before
