"""Claims of work dirs: which files a run may replace and delete, and what it leaves."""

import os
from unittest.mock import MagicMock

import pytest
import torch
from helpers import edit_json, files_in, read_json

from delete_tasks.errors import CheckpointMismatchError, FinishedError, OutputError, RequestError
from delete_tasks.fileio import workdir
from delete_tasks.fileio.atomic import discard, refuse_existing, save_text
from delete_tasks.fileio.checkpoint import load_file, load_once, save_file
from delete_tasks.fileio.images import read_image
from delete_tasks.fileio.inputs import file_sha256, open_regular
from delete_tasks.fileio.workdir import LOCK, MANIFEST, claim

REQUEST = {"classes": ["car"], "original": "model.pth"}


def test_a_finished_run_leaves_its_results_and_the_manifest(tmp_path):
    with claim(tmp_path / "w", REQUEST) as work:
        save_text("a", work.path / "results.json")
        work.own(work.path / "step_2.pth", state=True)
        save_text("b", work.path / "step_2.pth")
        work.started = True
        assert files_in(work.path) == [MANIFEST, LOCK, "results.json", "step_2.pth"]
    assert files_in(tmp_path / "w") == [MANIFEST, "results.json"]
    assert read_json(tmp_path, "w", MANIFEST)["files"] == ["results.json"]


def test_the_same_request_may_run_again_and_another_may_not(tmp_path):
    folder = tmp_path / "w"
    with claim(folder, REQUEST) as work:
        save_text("first", folder / "results.json")
        save_text("first", folder / "only_then.json")
    with claim(folder, REQUEST) as work:
        save_text("second", folder / "results.json")
        work.retire()
    assert files_in(folder) == [MANIFEST, "results.json"] and (folder / "results.json").read_text() == "second"
    with pytest.raises(RequestError, match="--overwrite"):
        claim(folder, {**REQUEST, "classes": ["bus"]})
    with claim(folder, {**REQUEST, "classes": ["bus"]}, overwrite=True) as work:
        work.started = True
        work.retire()
    assert files_in(folder) == []


def finish(folder, request=REQUEST, **options):
    with claim(folder, request, **options) as work:
        work.retire()
        save_text("result", folder / "results.json")


def test_a_finished_run_is_not_done_again(tmp_path):
    folder = tmp_path / "w"
    finish(folder)
    finished = read_json(folder, MANIFEST)["finished"]
    for request in (REQUEST, dict(reversed(REQUEST.items()))):
        with pytest.raises(RequestError, match=r"finished on 20..-..-.. at ..:.. UTC.*--overwrite"):
            claim(folder, request)
        with pytest.raises(FinishedError, match="nothing is changed"):
            claim(folder, request, resume=True)
    with pytest.raises(RequestError, match="another run's files"):  # not finished: another request
        claim(folder, {**REQUEST, "classes": ["bus"]}, resume=True)
    with pytest.raises(RuntimeError), claim(folder, REQUEST, overwrite=True):
        raise RuntimeError  # before the first step: the results are still there
    assert read_json(folder, MANIFEST)["finished"] == finished
    with pytest.raises(RuntimeError), claim(folder, REQUEST, overwrite=True) as work:
        work.started = True
        work.reopen()
        raise RuntimeError
    finish(folder, resume=True)
    finish(folder, overwrite=True)


@pytest.mark.parametrize("place", ["w", "w/erased"])
def test_an_output_follows_no_link_that_appears(tmp_path, place):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("mine")
    with claim(tmp_path / "w", REQUEST) as work:
        save_text("first", tmp_path / "w" / "erased" / "model.json")
        os.rename(tmp_path / place, tmp_path / "moved")
        (tmp_path / place).symlink_to(tmp_path / "model")
        for write in (lambda path: save_text("second", path), work.remove, discard):
            with pytest.raises(OutputError, match=r"replaced|link"):
                write(tmp_path / "w" / "erased" / "model.json")
    assert (tmp_path / "model" / "model.json").read_text() == "mine"
    assert os.listdir(tmp_path / "model") == ["model.json"]


def test_an_original_that_changes_during_the_run_is_refused(tmp_path):
    model = tmp_path / "model"
    save_text("weights", model / "weights.pth")
    with claim(tmp_path / "w", REQUEST, originals=[model]) as work:
        save_text("weights", model / "weights.pth")  # a new file of the same content
        work.check_inputs()
        for change in (lambda: save_text("weightz", model / "weights.pth"), (model / "weights.pth").unlink):
            change()
            with pytest.raises(CheckpointMismatchError, match=r"weights\.pth' was changed during the run"):
                work.retire()


@pytest.mark.parametrize("read", [open_regular, file_sha256, load_file, load_once, read_image])
@pytest.mark.parametrize("path", ["pipe", "/dev/zero", "/proc/self/mem", "/sys/kernel/notes"])
def test_only_regular_files_are_read(tmp_path, read, path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RequestError, match="only regular files are read"):
        read(tmp_path / path)


def test_files_of_others_stay_and_stop_a_run(tmp_path):
    (tmp_path / "deep").mkdir()
    foreign = ("step_3.pth", "deep/samples.txt", "results.json")
    for name in foreign:
        (tmp_path / name).write_text("mine")
    with pytest.raises(RequestError, match="--overwrite"):
        claim(tmp_path, REQUEST)
    with claim(tmp_path, REQUEST, overwrite=True) as work:
        work.remove(tmp_path / "step_3.pth")
        save_text("ours", tmp_path / "erased.pth")
        work.retire()
    assert all((tmp_path / name).read_text() == "mine" for name in foreign)
    assert sorted(os.listdir(tmp_path)) == [MANIFEST, "deep", "erased.pth", "results.json", "step_3.pth"]


@pytest.mark.parametrize("original", ["w/erased.pth", "w/erased/weights.safetensors", "w"])
def test_an_original_in_the_work_dir_is_refused(tmp_path, original):
    path = tmp_path / original
    path.parent.mkdir(parents=True, exist_ok=True)
    if original != "w":
        path.write_bytes(b"weights")
    link = tmp_path / "link"
    link.symlink_to(path)
    for place, overwrite in ((path, False), (path, True), (link, False)):
        with pytest.raises(RequestError, match="--work-dir"):
            claim(tmp_path / "w", REQUEST, originals=[place], overwrite=overwrite)
    assert MANIFEST not in files_in(tmp_path)


def test_a_work_dir_inside_the_original_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(RequestError, match="outside"):
        claim(tmp_path / "model" / "forget", REQUEST, originals=[tmp_path / "model"])
    assert files_in(tmp_path) == [] and not (tmp_path / "model" / "forget").exists()


def test_what_fails_before_the_first_step_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), claim(tmp_path / "a" / "b", REQUEST) as work:
        save_text("log", work.path / "run.log")
        raise RuntimeError
    assert not (tmp_path / "a").exists()
    with claim(tmp_path / "w", REQUEST) as work:
        save_text("good", work.path / "results.json")
    with pytest.raises(RuntimeError), claim(tmp_path / "w", REQUEST) as work:
        save_text("new", work.path / "new.json")
        raise RuntimeError
    assert files_in(tmp_path / "w") == [MANIFEST, "results.json"]
    with pytest.raises(RuntimeError), claim(tmp_path / "v", REQUEST) as work:
        work.own(work.path / "step_1.pth", state=True)
        save_text("state", work.path / "step_1.pth")
        work.started = True
        raise RuntimeError
    assert files_in(tmp_path / "v") == [MANIFEST, "step_1.pth"]


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in ("file", "file/w"):
        with pytest.raises(RequestError, match="file"):
            claim(tmp_path / path, REQUEST)


OWN = '{"format": "delete-tasks work dir", "version": 1, "files": 3}'


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "x"}', OWN])
def test_an_invalid_manifest_lists_no_file(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content)
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(RequestError, match="--overwrite"):
        claim(tmp_path, REQUEST)


def test_a_manifest_cannot_point_elsewhere(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    with claim(tmp_path / "w", REQUEST) as work:
        save_text("x", work.path / "results.json")
    manifest = tmp_path / "w" / MANIFEST
    edit_json(manifest, lambda content: content.update(files=["../outside", str(outside), "results.json"]))
    with claim(tmp_path / "w", REQUEST) as work:
        work.retire()
    assert outside.read_text() == "mine" and not (tmp_path / "w" / "results.json").exists()


def test_other_processes_of_a_launcher_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with claim(tmp_path / "w", REQUEST) as work:
        work.own(work.path / "results.json")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with claim(tmp_path / "w", REQUEST) as work:
            save_file({}, work.path / "a.safetensors")
            save_text("", work.path / "b.json")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "w").iterdir()}
    assert modes == {"a.safetensors": mode, "b.json": mode, MANIFEST: mode}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".json"])
def test_a_full_disk_is_one_message_and_leaves_no_file(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", MagicMock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match=rf"model{suffix}': No space left on device .*MiB"):
        save_text("x" * 100, path) if suffix == ".json" else save_file({"w": torch.ones(1000)}, path)
    assert os.listdir(tmp_path) == [path.name] and path.read_bytes() == b"old"


def test_refuse_existing(tmp_path):
    source, out = tmp_path / "a.npz", tmp_path / "b.npz"
    source.write_text("x")
    refuse_existing(out, [source], overwrite=False)
    os.link(source, out)
    for overwrite in (False, True):
        with pytest.raises(RequestError, match="read"):
            refuse_existing(out, [source], overwrite)
    out.unlink()
    out.write_text("y")
    with pytest.raises(RequestError, match=r"b\.npz"):
        refuse_existing(out, [source], overwrite=False)
    assert refuse_existing(out, [source], overwrite=True) == out


def test_refuse_names_that_no_file_can_have(tmp_path, monkeypatch):
    (tmp_path / "a.npz").write_text("x")
    (tmp_path / "folder.npz").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, message in {
        "b.json": r"\.npz.*'b.json'",
        "folder.npz": "'folder.npz' .*folder",
        "a.npz/b.npz": "'a.npz/b.npz' .*'.*a.npz', .*file",
        "folder.npz/../a.npz": "read",
        "new.npz": "read",  # though it is not there yet
    }.items():
        with pytest.raises(RequestError, match=message):
            refuse_existing(name, ["a.npz", tmp_path / "new.npz"], overwrite=True, suffix=".npz")


def test_saved_files_are_noted_wherever_they_are_saved_from(tmp_path):
    with claim(tmp_path / "w", REQUEST) as work:
        save_file({"a": [1]}, tmp_path / "w" / "deep" / "x.pth")
        save_file({}, tmp_path / "elsewhere.pth")
        assert work.files == {"deep/x.pth"} and workdir.claimed(tmp_path / "elsewhere.pth") is None
    assert load_file(tmp_path / "w" / "deep" / "x.pth") == {"a": [1]}


def test_a_folder_in_the_way_of_a_file_stays(tmp_path):
    (tmp_path / "run.log").mkdir()
    (tmp_path / "run.log" / "mine.txt").write_text("mine")
    with claim(tmp_path, {}, overwrite=True) as work:
        work.own(tmp_path / "run.log")
        work.remove(tmp_path / "run.log")
    assert (tmp_path / "run.log" / "mine.txt").read_text() == "mine"
