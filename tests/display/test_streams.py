import io
import subprocess
import sys

import pytest
from rich.table import Table as Grid

from delete_tasks.cli import main
from delete_tasks.display.progress import Bars
from delete_tasks.display.streams import guarded
from delete_tasks.display.table import Table
from delete_tasks.display.terminal import make_console, wrapped

ESCAPES = "\x1b[31mred\x07\x1b]0;title\x07\x9b2J\rover \u202e\ud800"
ESCAPED = "\\u001b[31mred\\u0007\\u001b]0;title\\u0007\\u009b2J\\u000dover \\u202e\\ud800"


def test_names_outside_the_terminals_encoding(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    with guarded():
        print("Zoë \udcff", flush=True)
    assert written.getvalue() == b"Zo\\xeb \\udcff\n"


@pytest.mark.parametrize("way", ["print", "console", "a cell", "a grid", "an error"])
def test_no_control_character_of_data_reaches_the_terminal(capsys, way):
    table, grid = Table(["acc"]), Grid()
    table.add(ESCAPES, ["1"])
    grid.add_row(ESCAPES)
    with guarded():
        if way in ("print", "an error"):
            print(ESCAPES, file=sys.stderr if way == "an error" else sys.stdout)
        elif way == "a cell":
            table.show(make_console())
        else:
            make_console().print(ESCAPES if way == "console" else grid)
    out, err = capsys.readouterr()
    assert (way == "a grid" or ESCAPED in out + err) and not set("\x1b\x07\x9b\r\u202e") & set(out + err)


def test_a_progress_bar_keeps_its_colours(monkeypatch):
    """Also if its description holds escape sequences, and a line is printed below it."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", terminal)
    with guarded(), Bars() as progress:
        progress.add_task("of \x1b]0;x", total=2)
        print("a warning \x1b[2J", file=sys.stderr)
    text = terminal.getvalue()
    assert "\x1b[38;5;" in text and "of \\u00" in text and "\x1b]" not in text and "\x1b[2J" not in text


@pytest.mark.parametrize("words", ["methods --help", "images forget --help-all", "--help"])
def test_help_on_a_terminal_keeps_its_colours(words, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(words.split()) == 0
    assert "\x1b[33mUsage" in terminal.getvalue() and "\\u001b" not in terminal.getvalue()


ERROR = "delete-tasks: error:"
CODE = "import sys; from delete_tasks.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize(("redirection", "words", "status", "error"), [
    (">&-", "methods", 0, ""), (">&- 2>&- <&-", "methods", 0, ""), ("2>&-", "nonsense", 2, ""),
    (">&-", "nonsense", 2, f"{ERROR} No such command"), ("| true", "faces remove --help", 0, ""),
    (">/dev/full", "methods", 2, f"{ERROR} standard output cannot be written: No space left on device\n"),
])  # fmt: skip
def test_an_output_that_cannot_be_written(redirection, words, status, error):
    command = f'set -o pipefail; "$0" -c "{CODE}" {words} {redirection}'
    done = subprocess.run(["bash", "-c", command, sys.executable], capture_output=True, text=True, check=False)
    assert done.returncode == status and done.stderr.startswith(error) and bool(done.stderr) == bool(error), done


@pytest.mark.parametrize("width", [12, 20, 80])
def test_lines_break_at_spaces_only(width):
    text = "expected --checkpoint-interval and '/a/long/path/of/a/model.json', 李小龍 or\n    four words indented"
    lines = wrapped(text, width).split("\n")
    assert " ".join(lines).split() == text.split()
    assert all(len(line) <= width or len(line.split()) == 1 for line in lines)
    assert wrapped(text, None) == text
    command = "delete-tasks images forget --model M"
    assert wrapped(command, 20, " \\") == "delete-tasks \\\nimages forget \\\n--model M"
