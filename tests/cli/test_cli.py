import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from types import SimpleNamespace
from unittest.mock import Mock

import click
import pytest
from helpers import python

from delete_tasks import cli
from delete_tasks.cli.options import number, use_device, whole
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Evaluation
from delete_tasks.fileio.processes import Interrupted, interrupt_in, signal_of
from delete_tasks.request.config import load_config, parse_options


@pytest.mark.parametrize(("reader", "good", "bad"), [
    (whole(1), ["1", "300", "1000000000"], ["0", "-1", "1.5", "nan", "inf", "1e30", "", "many", "1000000001"]),
    (whole(0, 10), ["0", "10"], ["11", "-1", "²"]),
    (number(0, 1), ["0", "1", "0.5"], ["-0.1", "1.01", "nan", "inf", "-inf", "", "half"]),
    (number(0, 10, above=True), ["1e-30", "10"], ["0", "-1", "nan", "11", "1e30"]),
    (number(0, 1, below=True), ["0", "0.999"], ["1", "nan"]),
])  # fmt: skip
def test_numbers_have_ranges(reader, good, bad):
    assert [float(reader.convert(text, None, None)) for text in good] == [float(text) for text in good]
    for text in bad:
        with pytest.raises(click.BadParameter, match=r"expected a (whole )?number"):
            reader.convert(text, None, None)


@pytest.mark.parametrize(("error", "status", "expected"), [
    (RequestError("no class 'cra'"), 2, "error: no class 'cra'"),
    (OSError(28, "No space left", "/w/results.json"), 2, "error: No space left: '/w/results.json'"),
    (OSError(30, "Read-only file system", "a", None, "b"), 2, "error: Read-only file system: 'a' and 'b'"),
    (PermissionError(13, "Permission denied", b"/w/\xff"), 2, "error: Permission denied: '/w/\\udcff'"),
    (KeyboardInterrupt("Step 3 is saved"), 130, "interrupted. Step 3 is saved"),
    (Interrupted("Step 3 is saved", signal.SIGTERM), 143, "ended by SIGTERM. Step 3 is saved"),
    (Interrupted("Step 3 is saved", signal.SIGHUP), 129, "ended by SIGHUP. Step 3 is saved"),
])  # fmt: skip
def test_only_the_first_process_says_how_a_command_ended(monkeypatch, capsys, error, status, expected):
    monkeypatch.setattr(cli, "_parse", Mock(side_effect=error))
    monkeypatch.setattr(cli, "GRACE", 0)
    assert cli.main(["images"]) == status
    printed = capsys.readouterr().err
    assert printed.encode(errors="backslashreplace").decode() == f"delete-tasks: {expected}\n"
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["images"]) == status and capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [False, True])
def test_sigterm_and_sighup_end_a_command_like_ctrl_c(number, ignored):
    """Unless they are ignored, as with nohup; the handler is that of before afterwards."""
    before = signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        expected = contextlib.nullcontext() if ignored else pytest.raises(Interrupted, match="--resume")
        with expected as caught:
            cli._run(lambda args: signal.raise_signal(number), SimpleNamespace(resume=False))
        assert ignored or signal_of(caught.value) == number
        assert signal.getsignal(number) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(number, before)


@pytest.fixture
def python_handler():
    """Python's own handler of Ctrl-C, which pytest-xdist's workers ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_a_callback_is_not_lost(python_handler):
    """Python prints an exception of a callback, and goes on."""

    def run(args):
        thing = type("Thing", (), {})()
        kept = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
        del thing
        time.sleep(5)
        return kept

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        cli._run(run, SimpleNamespace())
    assert time.monotonic() - begin < 4


def test_ctrl_c_that_a_library_raises_again_as_another_error_is_ctrl_c(monkeypatch):
    """mmengine's Config formats itself in a ``try`` with a bare ``except``."""
    from mmengine.config import Config
    from yapf.yapflib import yapf_api

    def run(args):
        return Config({"a": 1}).pretty_text

    monkeypatch.setattr(yapf_api, "FormatCode", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(SyntaxError):
        run(None)
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        cli._run(run, SimpleNamespace(resume=False))


def test_ctrl_c_that_a_library_replaces_is_ctrl_c(python_handler):
    """safetensors clears a Ctrl-C in C code and raises its own error."""

    def run(args):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise ValueError("could not determine the shape of object type 'torch.storage.UntypedStorage'")

    with pytest.raises(KeyboardInterrupt, match="--resume"):
        cli._run(run, SimpleNamespace(resume=False))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert interrupt_in(ValueError("of a later call")) is None


def test_ctrl_c_while_the_interpreter_ends_prints_nothing():
    code = "import atexit, signal, sys; from delete_tasks import cli; atexit.register(signal.raise_signal, signal.SIGINT); "
    done = python(code + "sys.argv[1:] = ['methods']; sys.exit(cli.main())")
    assert done.returncode == 0 and not done.stderr


def test_ctrl_c_ends_an_evaluation():
    """An evaluation notes an error and goes on, but not Ctrl-C, even if mmengine's Config raises it as another error."""

    def work():
        try:
            raise KeyboardInterrupt
        except BaseException:
            raise SyntaxError("Failed to format the config file") from None

    evaluation = Evaluation((), [0], ["car"])
    with pytest.raises(KeyboardInterrupt):
        evaluation.attempt("rows", work)
    assert not evaluation.not_measured


def test_an_error_after_ctrl_c_is_raised(monkeypatch):
    def run(args):
        try:
            raise KeyboardInterrupt
        finally:
            raise RequestError("the disk is full")

    with pytest.raises(RequestError, match="the disk is full"):
        cli._run(run, SimpleNamespace(resume=False))


@pytest.mark.parametrize("mask", [0o777, 0o700, 0o277, 0o400])
def test_a_umask_under_which_files_cannot_be_read_is_refused(fails, tmp_path, mask):
    before = os.umask(mask)
    try:
        fails("umask", "record keygen", tmp_path / "key")
    finally:
        os.umask(before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:²", "cuda:99", "cuda:-1", "CPU", "", "mps:0"])
def test_a_missing_device_is_refused(monkeypatch, device):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RequestError, match="--device"):
        use_device(device)


def test_the_nth_of_the_visible_devices(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cases = [("4,7", "cuda:1", "7"), ("4,7", "cuda", "4,7"), (None, "cuda:1", "1"), ("4,7", "cpu", "")]
    for visible, device, expected in cases:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        use_device(device)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.py", "x = (", "cannot be read: SyntaxError"), ("a.py", "x = nothing", "cannot be read: NameError"),
    ("a.py", "import sys; sys.exit(3)", "cannot be read: SystemExit"),
    ("a.py", "_base_ = ['none.py']", "cannot be read: "), ("a.py", "", "is empty"), ("a.json", "{", "cannot be read"),
    ("a.txt", "x = 1", "is no config"), ("a", "x = 1", "is no config"), ("a.py", b"\xff\xfe\x00", "cannot be read"),
    ("a.py", bytes(range(256)), "cannot be read"), ("a.py", "x = 'é'".encode("latin-1"), "cannot be read"),
    ("a.json", "[1]", "cannot be read"), ("a.yaml", "a: [", "cannot be read"), ("a.yml", "hello", "cannot be read"),
])  # fmt: skip
def test_configs_that_cannot_be_read(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RequestError, match=message):
        load_config(path)


def test_modules_beside_a_config_are_imported_and_hide_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_config.py").touch()
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('the module of Python is hidden')")
    path = tmp_path / "a.py"
    path.write_text("custom_imports = dict(imports=['beside_config', 'colorsys'], allow_failed_imports=False)")
    load_config(path)
    assert sys.modules.pop("beside_config").__file__ == str(tmp_path / "beside_config.py")
    path.write_text("custom_imports = dict(imports=['beside_confg'], allow_failed_imports=False)")
    fact = r"custom_imports .*ModuleNotFoundError.*'beside_confg'.*beside.* PYTHONPATH"
    with pytest.raises(RequestError, match=fact):
        load_config(path)


def test_a_missing_config_and_a_folder(tmp_path):
    for path, message in ((tmp_path / "none.py", "no config at"), (tmp_path, "folder")):
        with pytest.raises(FileNotFoundError, match=message):
            load_config(path)


def test_changes_to_a_config(tmp_path):
    (tmp_path / "a.py").write_text("model = dict(type='A', size=3)")
    cfg = load_config(tmp_path / "a.py", parse_options(["model.size=4", "new=[1,2]"]))
    assert cfg.model.size == 4 and cfg.new == [1, 2]
    for pair in ("model.size", "=3", "a=[1,"):
        with pytest.raises(RequestError, match="--cfg-options"):
            parse_options([pair])
    with pytest.raises(RequestError, match="do not fit"):
        load_config(tmp_path / "a.py", {"model.size.deeper": 3})


def test_a_killed_commands_copy_of_a_config_is_deleted(tmp_path, monkeypatch):
    """Copies of a running process and other folders are kept."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f"delete_tasks_config_a_{ended.pid}", f"delete_tasks_config_b_{os.getpid()}", "delete_tasks_config_mine"]
    for name in names:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "a.py").write_text("model = dict(size=3)")
    load_config(tmp_path / "a.py")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.py", *names[1:]])
    assert tempfile.gettempdir() == str(tmp_path)
