"""Only regular files are read, from the command line, in folders and in records; empty paths are refused."""

import itertools
import os
import shutil
from pathlib import Path

import pytest
from commands import parsers, valid
from harness import is_refused, make_socket, no_traceback, some
from helpers import read_json
from kit import TASKS
from mutate import verify, write

# Pipes, devices and sockets in the place of an input

SPECIAL = (
    "pipe", "socket", "/dev/zero", "/dev/null", "/dev/stdin", "/proc/kmsg", "/proc/self/environ", "/sys/kernel/notes",
    "/proc",
)  # fmt: skip


def input_rows():
    """List (command, index of a word that names an input) of all commands; the words themselves need the kit."""
    from kit import Kit

    for name, words in valid(Kit(Path("/kit"))).items():
        for number, word in enumerate(words):
            if word.startswith("/kit") and not word.endswith("config.py"):
                yield name, number


@pytest.mark.parametrize(("name", "number"), some(input_rows(), fast=4))
def test_only_regular_files_are_read(server, here, kit, name, number):
    os.mkfifo(here.cwd / "pipe")
    make_socket(here.cwd / "socket")
    words, before = valid(kit)[name], here.look()
    query = "".join(words[number].partition("?")[1:])
    for special in SPECIAL:
        argv = [*words[:number], special + query, *words[number + 1 :]]
        is_refused(server.run(argv, here, timeout=20), here, before, "regular|pipe|device|socket|kernel")


INNER = [("W/record.json", "record verify W"), ("W/record.sha256", "record verify W"), ("W/samples.txt", "record verify W"),
         ("W/record.html", "record verify W"), ("W/results.json", "compare W"), ("M/model.json", "images evaluate M --test P"),
         ("M/weights.safetensors", "images evaluate M --test D.npz"), ("P/red/1.png", "images evaluate M --test P"),
         ("W/.delete-tasks.json", "images train --like M --data D.npz --work-dir W")]  # fmt: skip


@pytest.mark.parametrize(("place", "words"), some(INNER, fast=2))
@pytest.mark.parametrize("special", [None, "/dev/zero", "/proc/kmsg", "/proc/kcore", "/dev/stdin"])
def test_special_files_inside_of_folders(server, here, kit, copy_of, place, words, special):
    copy_of("faces")
    shutil.copytree(kit.path("images/model"), here.cwd / "M")
    shutil.copytree(kit.path("images/photos"), here.cwd / "P")
    shutil.copy(kit.path("images/data.npz"), here.cwd / "D.npz")
    (here.cwd / place).unlink(missing_ok=True)
    if special is None:
        os.mkfifo(here.cwd / place)
    else:
        (here.cwd / place).symlink_to(special)
    done = server.run(words.split(), here, timeout=30)
    no_traceback(done)
    assert done.code in (1, 2) or (place.startswith("P/") and "cannot be read" in done.output), f"{done}"


KERNEL = (
    "/dev/zero", "/dev/stdin", "/proc/kmsg", "/proc/kcore", "/proc/self/mem", "/sys/kernel/notes", "/proc", "/dev",
)  # fmt: skip


@pytest.mark.parametrize(
    ("task", "path"),
    some(itertools.product(TASKS, [("models", "original", "path"), ("models", "erased", "path"),
                                   ("models", "original", "files", 0, "path"),
                                   ("models", "erased", "files", 0, "path"), ("samples", "list"), ("pictures", 0, "path")]),
         fast=2, only=lambda row: row[0] == "images"),
)  # fmt: skip
@pytest.mark.parametrize("consistent", [True, False])
def test_a_record_that_names_a_device(server, here, copy_of, task, path, consistent):
    folder = copy_of(task)
    record = read_json(folder, "record.json")
    if path[0] == "pictures" and not record["pictures"]:
        record["pictures"] = [{"path": "x", "caption": "", "sha256": "0" * 64}]
    there = [value for value in KERNEL if Path(value).exists()]
    write(folder, record, consistent)
    answers = verify(server, here, folder, [[path, value, consistent] for value in there], timeout=60)
    for value, (code, said) in zip(there, answers, strict=True):
        picture = path[0] == "pictures" and "NOT CHECKED" in said  # a missing picture is no failure
        assert code in (1, 2) or (consistent and picture), f"{value}: {code}, {said[-300:]}"
        assert "Traceback" not in said, said[-500:]


# Empty paths


@pytest.mark.parametrize("name", [name for name, _ in parsers()])
@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_empty_paths_are_refused(kit, name, text):
    import click

    from delete_tasks.cli import parse
    from delete_tasks.cli.command import File
    from delete_tasks.errors import RequestError

    words, command = valid(kit)[name], dict(parsers())[name]
    for param in command.params:
        if not isinstance(param.type, File):
            continue
        at = len(set(name.split()) & set(words[:2]))  # 'forget' may be left out
        option = isinstance(param, click.Option)
        argv = [*words, f"{param.opts[0]}={text}"] if option else [*words[:at], text, *words[at + 1 :]]
        with pytest.raises(RequestError, match="expected a path") as caught:
            parse(argv)
        assert not option or param.opts[0] in str(caught.value)
