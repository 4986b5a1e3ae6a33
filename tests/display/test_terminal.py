"""Output to the terminal, without messages of libraries."""

import io
import logging
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from harness import World

from delete_tasks.display import progress, terminal
from delete_tasks.display.terminal import announce, begin_stage, hush, make_console, quiet


def test_no_bar_and_no_empty_line_where_there_is_no_terminal_but_a_line_now_and_then(capsys, monkeypatch):
    assert list(progress.track(range(3), 3, "Counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    assert list(progress.track(range(3), 3, "Counting")) == [0, 1, 2] and capsys.readouterr() == ("", "")
    with quiet():  # of a command
        assert len(list(progress.track((time.sleep(0.01) for _ in range(2)), 3, "Counting"))) == 2
    out, err = capsys.readouterr()
    lines = r"Counting: 1 of 3\nCounting: 2 of 3, 0:00:\d\d left\nCounting: 2 of 2, 0:00:00 left\n"
    assert re.fullmatch(lines, out) and not err, out


def test_stages_of_a_command_are_printed_and_are_in_the_titles_of_bars(capsys):
    with quiet():
        begin_stage("audit")  # of a command without stages
        begin_stage("checks")
        begin_stage("forget set")
        assert capsys.readouterr().out == ""  # a refused command prints its error only
        terminal.begin()
        begin_stage("table")
        begin_stage("unlearning")  # a run within the table
        bars = progress.Bars()
        bars.add_task("erased: test", total=1)
        assert bars.tasks[0].description == "Stage 4 of 7: erased: test"
    told = "Stage 1 of 7: checks.\nStage 2 of 7: forget set.\nStage 4 of 7: table.\n"
    assert capsys.readouterr() == (told, "")
    bars.add_task("later", total=1)
    assert bars.tasks[1].description == "later"


LIBRARY = "/x/site-packages/mmseg/models/loss.py"


def test_warnings_of_libraries_stay_off_the_terminal(monkeypatch):
    shown: list[str] = []
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings():
        monkeypatch.setattr(warnings, "showwarning", lambda message, *rest, **more: shown.append(str(message)))
        warnings.simplefilter("always")
        for verbose in (False, True):
            with quiet(verbose):
                assert terminal.is_quiet() is not verbose
                warnings.warn_explicit(f"theirs {verbose}", UserWarning, LIBRARY, 1)
                warnings.warn_explicit(f"ours {verbose}", UserWarning, __file__, 1)
        assert not terminal.is_quiet()
        warnings.warn_explicit("after", UserWarning, LIBRARY, 1)
    assert shown == ["ours False", "theirs True", "ours True", "after"]


def test_hidden_messages_are_in_the_log(tmp_path, capsys, monkeypatch):
    """Also those that matplotlib raises as its caller's, and those of loggers without a handler."""
    monkeypatch.setattr(sys, "warnoptions", [])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logger, ours = logging.Logger("a run"), str(Path(terminal.__file__).with_name("figure.py"))
    logger.addHandler(logging.FileHandler(tmp_path / "run.log"))
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("always")
        hush(logger)
        warnings.warn_explicit("no glyph", UserWarning, ours, 1)
        warnings.warn_explicit("lbfgs failed", UserWarning, "/x/site-packages/sklearn/linear_model/_logistic.py", 1)
        for path, text in ((LIBRARY, "a font"), (__file__, "skipped a photo")):
            logging.getLogger("others").handle(logging.LogRecord("others", logging.WARNING, path, 1, text, None, None))
    assert capsys.readouterr().err == "WARNING: skipped a photo\n"
    log = (tmp_path / "run.log").read_text()
    assert all(text in log for text in ("no glyph", "lbfgs failed", "a font", "skipped a photo"))


@pytest.mark.parametrize(("path", "level", "reaches"), [
    (__file__, logging.WARNING, True), (__file__, logging.INFO, False), (LIBRARY, logging.WARNING, False),
    (LIBRARY, logging.ERROR, True), ("/x/site-packages/somebodys/hook.py", logging.WARNING, True),
])  # fmt: skip
def test_the_log_has_more_than_the_terminal(tmp_path, path, level, reaches):
    logger, screen, log = logging.Logger("a run"), io.StringIO(), tmp_path / "run.log"
    logger.addHandler(logging.StreamHandler(screen))
    logger.addHandler(logging.FileHandler(log))
    hush(logger)
    record = logging.LogRecord("a run", level, path, 1, "told", None, None)
    logger.handle(record)
    assert (screen.getvalue() == f"{record.levelname}: told\n") is reaches and "told" in log.read_text()
    record.printed = True
    logger.handle(record)
    assert screen.getvalue().count("told") - reaches == (level >= logging.ERROR)


def test_libraries_are_recognised_by_their_folder():
    assert terminal.from_library(LIBRARY) and terminal.from_library("/v/lib/python3.11/site-packages/torch/nn/x.py")
    assert not any(map(terminal.from_library, ("/home/torch/train.py", "/v/site-packages/torchmine/x.py")))


def test_known_messages_on_import_are_hidden(capsys):
    with warnings.catch_warnings(record=True) as caught, terminal.without_chatter():
        warnings.warn("Fail to import ``MultiScaleDeformableAttention`` from ...", stacklevel=1)
        print("Could not import OneDL\nsomething else")
    assert capsys.readouterr().out == "something else\n" and not caught


def test_the_demonstration_without_its_extra_is_one_message(tmp_path):
    (tmp_path / "mmseg.py").write_text("raise ImportError('not installed')\n")
    words = [sys.executable, "-m", "delete_tasks", "segmentation", "demo"]
    done = subprocess.run(words, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("delete-tasks: error: cannot import mmseg") and done.stderr.count("\n") == 1
    assert "pip install 'delete-tasks[segmentation]'" in done.stderr


def test_announced_lines_come_first_or_not_at_all(monkeypatch):
    console = make_console()
    monkeypatch.setattr(console, "file", io.StringIO())
    with quiet():
        announce(console, ["what will be done"])
        assert console.file.getvalue() == ""
        console.print("a note")
        console.print("another")
    assert console.file.getvalue() == "what will be done\na note\nanother\n"
    with quiet():
        announce(console, ["what is refused"])
    console.print("the next command")
    assert console.file.getvalue().endswith("another\nthe next command\n")


@pytest.mark.parametrize("verbose", [False, True])
def test_environment_variables_of_a_config_are_logged_if_verbose(server, tmp_path, verbose):
    config = tmp_path / "c.py"
    config.write_text('model = "{{$WHERE:here}}/model"\n')
    code = (
        "from delete_tasks.display.terminal import quiet; from delete_tasks.request.config import load_config\n"
        f"with quiet({verbose}): print(load_config({str(config)!r}).model)"
    )
    done = server.run([], World(tmp_path / "world"), code=code, env={"WHERE": "there"})
    assert done.code == 0 and done.out.endswith("there/model\n"), done
    assert ("WHERE" in done.output) is verbose
