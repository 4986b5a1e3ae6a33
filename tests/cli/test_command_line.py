"""Command lines: options with several values, class names, closest matches, help, completion."""

import re
import subprocess
import sys

import click
import pytest
from commands import parsers

from delete_tasks.cli import main, parse
from delete_tasks.cli.command import PANELS
from delete_tasks.cli.tree import VARIABLE
from delete_tasks.errors import RequestError

FORGET = ["images", "forget", "--work-dir", "W"]
ATTENTION = ["attention", "--original", "o", "--erased", "e", "--class", "c"]


COMMANDS = dict(parsers())


@pytest.mark.parametrize(("words", "expected"), [
    ([*FORGET, "--classes", "a", "b", "--lr", "1e-3"], {"classes": ["a", "b"], "lr": 1e-3}),
    ([*FORGET, "--classes", "a", "--lr=1e-3", "--classes", "b", "c"], {"classes": ["a", "b", "c"]}),
    ([*FORGET, "--classes=a", "--steps", "3"], {"classes": ["a"], "steps": 3}),
    ([*FORGET, "--accept", "a=1", "b=-2", "--no-record"], {"accept": ["a=1", "b=-2"], "no_record": True}),
    ([*FORGET, "--norm-train", "--keep-row"], {"norm_eval": False, "keep_row": True}),
    (FORGET, {"norm_eval": None, "keep_row": None, "classes": [], "lr": None, "command": "images", "action": "forget"}),
    ([*ATTENTION, "--retain-classes", "a", "b", "--limit", "3", "x", "y"], {"kept": ["a", "b"], "inputs": ["x", "y"]}),
    ([*ATTENTION, "--retain-classes", "a", "b", "--", "x", "-y"], {"kept": ["a", "b"], "inputs": ["x", "-y"]}),
    (["attention", "x", *ATTENTION[1:]], {"inputs": ["x"], "kept": []}),
    (["images", "import", "w", "f", "--architecture", "a", "--classes", "b", "--size", "3", "4"], {"size": [3, 4]}),
    (["images", "import", "--architecture", "a", "--classes", "b", "--size", "3", "--channels", "BGR", "w", "f"],
     {"size": [3], "weights": "w", "folder": "f"}),
    (["faces", "identify", "--model", "m", "a.png", "b.png", "--threshold", "-0.5"], {"photos": ["a.png", "b.png"]}),
    (["segmentation", "c.py", "--checkpoint", "c", "--work-dir", "w"], {"action": "forget", "config": "c.py"}),
    (["segmentation", "--checkpoint", "c", "c.py", "--work-dir", "w"], {"action": "forget", "config": "c.py"}),
    (["segmentation", "forget", "c.py", "--checkpoint", "c", "--work-dir", "w"], {"action": "forget", "config": "c.py"}),
    (["record", "verify", "W", "--name", "Ann Lee", "Bo"], {"name": ["Ann Lee", "Bo"], "action": "verify"}),
    (["compare", "a", "b", "--wide"], {"runs": ["a", "b"], "wide": True, "action": None}),
])  # fmt: skip
def test_words(words, expected):
    assert {name: value for name, value in vars(parse(words)).items() if name in expected} == expected


CLASS_OPTIONS = [
    ("images forget --work-dir w", "--classes", "classes"),
    ("images evaluate m --test d", "--classes", "classes"),
    ("images train --data d --work-dir w", "--without", "without"),
    ("segmentation forget c.py --checkpoint c --work-dir w", "--classes", "classes"),
    ("segmentation c.py --checkpoint c --work-dir w", "--classes", "classes"),
    ("faces remove --model m --photos p --work-dir w", "--person", "person"),
    ("detection forget --model m --images i --work-dir w", "--classes", "classes"),
    ("attention --original o --erased e --class c", "--retain-classes", "kept"),
]


@pytest.mark.parametrize(("words", "option", "name"), CLASS_OPTIONS)
def test_class_names_are_not_converted(words, option, name):
    parsed = parse([*words.split(), option, "2", "#3", f"{option}=--wall", f"{option}=-1", option, "-1", "a b", "-c d"])
    assert getattr(parsed, name) == ["2", "#3", "--wall", "-1", "-1", "a b", "-c d"]


def test_class_names_in_configs_are_not_converted(repository):
    from delete_images.forget import make_config

    options = vars(parse(["images", "forget", "--work-dir", "w", "--classes", "2", "#4"])) | {"cfg_options": {}}
    config = repository / "configs" / "images" / "resnet18_cifar10_forget-deer.py"
    assert make_config(str(config), options).unlearn.classes == ["2", "#4"]


@pytest.mark.parametrize(("words", "message"), [
    ([*FORGET, "--metod", "HeadOnly"], "No such option '--metod'; did you mean '--method'\\?"),
    ([*FORGET, "--class", "a"], "did you mean '--classes'"),
    (["images", "forgt"], "No such command 'forgt'; did you mean 'forget'"),
    (["segmentation", "forgt"], "No such command 'forgt'; did you mean 'forget'"),
    (["imges"], "No such command 'imges'; did you mean 'images'"),
    (["x"], "No such command 'x'; there are: backdoor, detection, faces, images"),
    ([], "No command is given; there are: backdoor"),
    (["record"], "No command is given; there are: verify, sign, keygen"),
    (["images", "forget"], "--work-dir is missing. Try 'delete-tasks images forget --help'"),
    (["images", "import", "w"], "FOLDER is missing"),
    ([*FORGET, "--lr", "nan"], "--lr: expected a number above 0 to 10, got 'nan'"),
    ([*FORGET, "--lr", "-inf"], "--lr: expected a number"), ([*FORGET, "--lr"], "Option --lr expects a value."),
    ([*FORGET, "--classes", "--wall"], "Option --classes expects a value; .* is written --classes=VALUE"),
    (["images", "forget", "--work-dir", "--overwrite"], "Option --work-dir expects a value"),
    ([*FORGET, "--augment", "strnog"], "--augment: 'strnog' is not one of 'strong', 'plain', 'none'. Try "),
    ([*FORGET, "--wide=3"], "'--wide' does not take a value"), ([*FORGET, "word"], "unexpected extra argument"),
])  # fmt: skip
def test_a_wrong_command_line_is_one_message(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and re.search(message, printed.err), printed.err
    assert printed.err.count("\n") == 1 and printed.err.startswith("delete-tasks: error: ")
    with pytest.raises(RequestError):
        parse(words)


def test_every_option_has_a_panel_and_help():
    by_name: dict[str, set[str]] = {}
    for name, command in COMMANDS.items():
        for param in command.params:
            assert param.help and param.help.endswith((".", "]")), (name, param.name)
            if isinstance(param, click.Option):
                assert param.panel in PANELS, (name, param.name)
                by_name.setdefault(param.name, set()).add(param.opts[0])
    assert not {name: opts for name, opts in by_name.items() if len(opts) > 1}, "a value has one option everywhere"


def test_help_lists_every_command_without_torch(repository):
    code = "import sys; from delete_tasks.cli import main; main(sys.argv[1:]); sys.stderr.write(str('torch' in sys.modules))"
    for words in ([], ["images", "forget"], ["segmentation"], ["attention"]):
        done = subprocess.run([sys.executable, "-c", code, *words, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr == "False", done.stderr
        for name, command in COMMANDS.items() if not words else ():
            *group, word = name.split()
            assert all(f"─ {title} ─" in done.stdout for title in group)
            assert re.search(rf"^│ {word} .*{re.escape(command.help[:50])}", done.stdout, re.M), f"no line of {name}"


def test_help_shows_panels_and_defaults(capsys):
    assert main(["images", "train", "--help-all"]) == 0
    page = capsys.readouterr().out
    places = [page.index(f"─ {panel} ─") for panel in ("Data", "Recipe", "Evaluation", "Machine")]
    assert places == sorted(places) and "[default: 128]" in page and "cifar10[:ROOT]" in page


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_fits_a_terminal_and_help_all_shows_every_option(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command, pages = COMMANDS[name], {}
    for option in ("--help", "--help-all"):
        assert main([*name.split(), option]) == 0
        pages[option] = capsys.readouterr().out
        assert all(len(line) <= 80 for line in pages[option].splitlines())
    assert pages["--help"].count("\n") <= 60
    options = {param.opts[0]: param for param in command.params if isinstance(param, click.Option)}
    assert set(command.short) <= set(options)
    for option, param in options.items():
        row = re.compile(rf"^│[ *]+{option}[\s/]", re.M)
        assert row.search(pages["--help-all"]), option
        shown = not command.short or option in command.short or param.required
        assert bool(row.search(pages["--help"])) == shown, option
    assert ("--help-all" in pages["--help"]) == bool(command.short)


def test_version(capsys):
    from importlib.metadata import version

    assert main(["--version"]) == 0 and capsys.readouterr().out == f"delete-tasks {version('delete-tasks')}\n"


@pytest.mark.parametrize(("line", "expected"), [
    ("delete-tasks im", {"images"}),
    ("delete-tasks segmentation ", {"forget", "demo", "evaluate"}),
    ("delete-tasks images forget --tea", {"--teacher-temperature"}),
    ("delete-tasks images forget --hel", {"--help", "--help-all"}),
    ("delete-tasks images forget --classes a b --augment p", {"plain"}),
    ("delete-tasks images forget --method B", {"BadTeacher", "BoundaryShrink"}),
    ("delete-tasks faces remove --method B", {"BoundaryShrink"}),  # without a retain set
])  # fmt: skip
def test_completion(line, expected, monkeypatch, capsys):
    words = line.split() + [""] * line.endswith(" ")
    for name, value in ((VARIABLE, "bash_complete"), ("COMP_WORDS", line), ("COMP_CWORD", str(len(words) - 1))):
        monkeypatch.setenv(name, value)
    assert main(words[1:]) == 0
    assert {row.split(",")[1] for row in capsys.readouterr().out.splitlines()} == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_reads_for_completion(shell, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, f"{shell}_source")
    assert main([]) == 0 and VARIABLE in capsys.readouterr().out


def test_a_folder_that_shadows_a_plugin_is_named(tmp_path):
    (tmp_path / "delete_images").mkdir()
    for words, status in (("images forget --work-dir W", 2), ("--help", 0), ("attention --help", 0)):
        command = [sys.executable, "-m", "delete_tasks", *words.split()]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == status and "Traceback" not in done.stderr, done.stderr
        assert not status or f"'{tmp_path / 'delete_images'}' shadows" in " ".join(done.stderr.split())
