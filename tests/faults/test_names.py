"""Names of classes, people and files: digits, markup, line breaks, invalid UTF-8; names that records hide."""

import json
import os
import re
import shutil
import unicodedata
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from harness import is_done, is_refused, no_traceback, some
from helpers import argv, read_json

DIGITS = ("10", "0", "2", "1")  # at 2 is the class "2", at 1 the class "0": an id never is its name


def rename(kit, here, names, task="images", data=True) -> tuple[str, str]:
    """Copy a task's model and data with other class names."""
    model = here.root / "model"
    shutil.copytree(kit.original(task), model)
    content = json.loads((model / "model.json").read_text())
    content["classes"] = list(names)
    (model / "model.json").write_text(json.dumps(content))
    with np.load(kit.path("images/data.npz")) as file:
        arrays = dict(file)
    if data:
        arrays["classes"] = np.array([name.encode("utf-8", "replace").decode() for name in names])
    np.savez(here.root / "data.npz", **arrays)
    return str(model), str(here.root / "data.npz")


# Digits are names first

WANTED = {  # word -> id of the class among DIGITS; None: refused
    "2": 2, "10": 0, "0": 1, "1": 3, "#0": 0, "#1": 1, "#2": 2, "#3": 3, "#4": None, "#-1": None, "#": None, "#x": None,
    "²": None, "3": None, "4": None, "02": None, "2.0": None, "-1": None, "٢": None, "#²": None, "# 2": None, "１": None,
    "": None,
}  # fmt: skip


DIGIT_COMMANDS = {
    "images evaluate": lambda model, data, word: argv("images evaluate", model, f"--test {data}?split=test --out e.json",
                                                      [f"--classes={word}"]),
    "data string": lambda model, data, word: argv("images evaluate", model, "--out e.json --test",
                                                  f"{data}?split=test&class={quote(word, safe='')}"),
    "backdoor poison": lambda model, data, word: argv("backdoor poison --trigger badnets --out p.npz --data", data,
                                                      [f"--target={word}"]),
}  # fmt: skip


def classes_taken(folder: Path) -> list[str]:
    """Return the classes that a command used, from its output file."""
    if (folder / "p.npz").exists():
        with np.load(folder / "p.npz") as file:
            return [DIGITS[int(file["target"])]]
    figures = read_json(folder, "e.json")
    expected = figures.get("forget_acc")
    return [name for name, value in figures["per_class"].items() if value is not None and expected in (None, value)]


@pytest.mark.parametrize(("word", "command"), some([(w, c) for w in WANTED for c in DIGIT_COMMANDS], fast=3))
def test_digits(server, here, kit, word, command):
    model, data = rename(kit, here, DIGITS)
    wanted = WANTED[word]
    before = here.look()
    done = server.run(DIGIT_COMMANDS[command](model, data, word), here)
    if wanted is None:
        is_refused(done, here, before)
    else:
        is_done(done)
        assert DIGITS[wanted] in classes_taken(here.cwd)


RUNS = {
    "images forget": lambda kit, model, data, word: kit.argv("images", "W", *argv("--steps 2 --no-record --classes", [word],
        f"--forget {data}?split=train --test {data}?split=test"), original=model),
    "images train": lambda kit, model, data, word: argv("images train --like", model, f"--data {data}?split=test --epochs 1",
        "--work-dir W --device cpu", [f"--without={word}"]),
    "attention": lambda kit, model, data, word: argv("attention --original", model, "--erased", model, [f"--class={word}"],
        f"{data}?limit=16 --limit 2 --show 1 --out a.png"),
    "backdoor clean": lambda kit, model, data, word: argv("backdoor clean --model", model, [f"--target={word}"], "--poisoned",
        f"{kit.path('backdoor/only.npz')}?label=none --steps 1 --work-dir W --force --no-record --device cpu"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "word"),
    some([(n, w) for n in RUNS for w in ("2", "#2", "²", "3", "#9")], fast=3, only=lambda row: row[0] == "attention"),
)
def test_digits_in_runs(server, here, kit, name, word):
    model, data = rename(kit, here, DIGITS, task="backdoor" if name == "backdoor clean" else "images")
    before = here.look()
    done = server.run(RUNS[name](kit, model, data, word), here)
    if word not in ("2", "#2"):
        is_refused(done, here, before)
        return
    no_traceback(done)
    assert done.code in (0, 4), f"it failed: {done}"
    if (here.cwd / "W/results.json").exists():
        assert read_json(here.cwd, "W/results.json")["forgotten"] == ["2"]


SEGMENTS = {"2": "2", "#2": "two", "#3": "2", "²": None, "5": None, "TWO": "two", "#19": None}


@pytest.mark.parametrize(
    "word", [pytest.param(w, marks=[] if w in ("2", "²") else pytest.mark.faults) for w in SEGMENTS]
)
def test_digits_in_segmentation(server, here, kit, word):
    """Class 3 is named "2"; the run is only checked."""
    names = ["zero", "one", "two", "2", *[f"other{i}" for i in range(15)]]
    config = here.root / "config.py"
    config.write_text(
        f"_base_ = [{kit.path('seg/config.py')!r}]\nmeta = dict(classes={names!r}, palette=[[i, i, i] for i in range(19)])\n"
        "train_dataloader = dict(dataset=dict(metainfo=meta))\ntest_dataloader = dict(dataset=dict(metainfo=meta))\n"
    )
    words = argv("segmentation", config, "--checkpoint", kit.path("seg/original.pth"), f"--classes={word}")
    before = here.look()
    more = argv("--work-dir W --dry-run --cfg-options unlearn.select=teacher --device cpu")
    done = server.run([*words, *more], here)
    if SEGMENTS[word] is None:
        is_refused(done, here, before, "class")
    elif done.code == 2:  # no picture shows it; but the right one was looked for
        assert SEGMENTS[word] in done.err or "empty" in done.err, f"{done}"
    else:
        assert f"forget: {SEGMENTS[word]}\n" in done.out, done.out


# Names that break things

ODD = {"markup": "[/red]", "opening markup": "[bold red]x", "an emoji code": ":smile:",
       "an escape sequence": "\x1b[31mred\x1b[0m", "a line break": "red\nblue", "a carriage return": "red\rblue",
       "a form feed": "red\x0cblue", "NEL": "red\x85blue", "a line separator": "red\u2028blue", "a tab": "red\tblue",
       "right to left": "\u202ered", "a comma": "red, dark", "an ampersand": "a&b=c", "a percent": "50%25",
       "a question mark": "a?b", "a slash": "a/b", "dots": "..", "quotes": "it's \"red\"",
       "HTML": "<script>alert(1)</script>", "braces": "{x} {0}", "a dollar": "$PATH", "a hash": "#1",
       "a date": "2026-01-01", "a null character": "a\x00b", "emoji": "🦌", "long": "x" * 5000, "spaces": "  red  ",
       "none": "none", "a number": "1e5", "a backslash": "a\\nb", "a template": "{{ 71289 * 7919 }}",
       "NFD": unicodedata.normalize("NFD", "é"), "C1": "\x9b31mred", "a title": "\x1b]0;red\x07",
       "the clipboard": "\x1b]52;c;eA==\x07",
       "a link": "\x1b]8;;http://a\x1b\\red", "a status report": "\x1b[6n", "backspaces": "red\x08\x08\x08blue",
       "a formula": "=1+1",
       "isolates": "\u2066red\u2069", "CJK": "李小龍", "joined": "👩\u200d🚀", "a bell": "\x07"}  # fmt: skip


@pytest.mark.parametrize("kind", some(ODD, fast=0))
def test_odd_names_in_a_grid(server, here, kit, kind):
    """No name of a grid reaches the terminal raw, or a table as a formula."""
    grid = Path(kit.path("grid.py")).read_text().replace("'DELETE': dict", f"{ODD[kind]!r}: dict")
    (here.cwd / "grid.py").write_text(grid)
    done = server.run(["benchmark", "grid.py", "--work-dir", "W", "--device", "cpu"], here)
    no_traceback(done)
    assert done.code in (0, 2), f"{done}"
    if done.code == 0:
        assert not re.search('(^|[,"])[=@]', (here.cwd / "W/cells.csv").read_text())


@pytest.mark.parametrize("kind", some(ODD, fast=2))
def test_odd_class_names(server, here, kit, kind):
    """Such classes are measured, forgotten and recorded, or refused; the record verifies."""
    model, data = rename(kit, here, ("red", ODD[kind], "blue", "grey"))
    more = ["--classes", "#1", "--forget", f"{data}?split=train", "--test", f"{data}?split=test"]
    for words in (
        ["images", "evaluate", model, "--test", data, "--classes", "#1"],
        kit.argv("images", "W", *more, original=model),
    ):
        before = here.look()
        done = server.run(words, here)
        no_traceback(done)
        if done.code:
            assert "null" in kind, f"refused: {done}"
            is_refused(done, here, before)
        else:
            assert ODD[kind][:3] in done.out or kind not in ("markup", "opening markup", "an emoji code"), done.out
    if (here.cwd / "W/record.json").exists():
        is_done(server.run(["record", "verify", "W"], here))
        assert "<script>alert" not in (here.cwd / "W/record.html").read_text()
        assert str(71289 * 7919) not in (here.cwd / "W/record.html").read_text()


FILES = {"a line break": "a\nb.png", "a carriage return": "a\rb.png", "a form feed": "a\x0cb.png", "NEL": "a\x85b.png",
         "a line separator": "a\u2028b.png", "a tab": "a\tb.png", "no UTF-8": os.fsdecode(b"\xff\xfe.png"), "markup": "[red].png",
         "a comma": "a,b.png", "a percent": "a%2Fb.png", "spaces": "  .png", "a long name": "x" * 250 + ".png", "HTML": "<b>.png",
         "an escape sequence": "\x1b[2J.png", "C1": "\x9b2J.png", "a title": "\x1b]0;x\x07.png", "reversed": "\u202egnp.png",
         "a formula": "=1+1.png", "backspaces": "a\x08\x08b.png"}  # fmt: skip


@pytest.mark.parametrize("kind", some(FILES, fast=1))
def test_odd_file_names(server, here, kit, kind):
    photos = here.root / "photos"
    shutil.copytree(kit.path("images/photos"), photos)
    first = sorted((photos / "green").iterdir())[0]
    first.rename(photos / "green" / FILES[kind])
    is_done(server.run(kit.argv("images", "W", "--forget", photos), here))
    record = read_json(here.cwd, "W/record.json")
    lines = (here.cwd / "W/samples.txt").read_bytes().split(b"\n")[:-1]
    assert len(lines) == sum(record["samples"]["read"].values()), f"{len(lines)} lines"
    is_done(server.run(["record", "verify", "W"], here))


# Hiding

HIDDEN = ("Alice Ng", "Bo_Li", "Cyd", "Zoë Älv")
LOOKS = {"Alice Ng": ["aliceng", "ngalice"], "Zoë Älv": ["zoealv", "zoëälv"]}
FOLDERS = {"as it is": "Alice Ng", "upper case": "ALICE-NG", "run together": "AliceNgTakedown", "dots": "alice.ng.2026",
           "underscores": "removal_of_alice_ng", "percent": "Alice%20Ng", "plus": "alice+ng", "lower": "aliceng",
           "accents": "ZOË ÄLV", "no accents": "zoe-alv", "NFD": unicodedata.normalize("NFD", "Zoë Älv"),
           "two people": "alice-ng_and_zoë-älv", "camel": "takeDownAliceNg",
           "the other way": "request-AliceNg-7"}  # fmt: skip


def people(kit, here, names) -> tuple[str, Path]:
    """Copy the face model and photos with other names of people."""
    model, _ = rename(kit, here, names, task="faces")
    photos = here.cwd / "photos"
    for split_name in ("train", "test"):
        for old, new in zip(("Ada", "Bo", "Cyd", "Dee"), names, strict=True):
            shutil.copytree(kit.path(f"faces/photos/{split_name}/{old}"), photos / split_name / new)
            for file in (photos / split_name / new).iterdir():
                file.rename(file.with_name(file.name.replace(old, new)))
    return model, photos


def plain(text: str) -> str:
    text = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in text if character.isalnum())


@pytest.mark.parametrize("kind", some(FOLDERS, fast=1))
def test_hidden_names(server, here, kit, kind):
    model, photos = people(kit, here, HIDDEN)
    place = here.cwd / FOLDERS[kind]
    place.mkdir(exist_ok=True)
    moved = place / "photos"
    photos.rename(moved)
    who = "Zoë Älv" if "accent" in kind or kind == "NFD" else "Alice Ng"
    more = ["--person", who, "--photos", moved, "--test", moved, "--reference", f"request of {who.upper()}"]
    more += ["--record-log", str(place / "records.jsonl")]
    words = kit.argv("faces", f"{FOLDERS[kind]}/W", *more, original=model)
    is_done(server.run(words, here))
    for file in ("W/record.json", "W/record.html", "W/samples.txt", "W/record.sha256", "records.jsonl"):
        text = (place / file).read_text()
        if file.endswith("html"):
            text = re.sub(r"data:[^\"')]*", "", text)
        if file.endswith("json"):
            text = "".join(value for value in re.findall(r'"((?:[^"\\]|\\.)*)"', text))
        found = [name for names in LOOKS.values() for name in names if name in plain(text)]
        assert not found, f"readable: {found}"
    is_done(server.run(["record", "verify", str(place / "W"), "--rerun", "--name", who], here))


PEOPLE = [("2", "0", "7", "11"), ("points", "percent", "name", "path"), ("2026", "11", "sha256", "person"),
          ("0", "00", "faces", "erased"), ("record", "json", "class", "id"), ("a", "b", "c", "d"),
          ("model", "weights", "original", "cosine")]  # fmt: skip


@pytest.mark.parametrize("names", some([(names,) for names in PEOPLE], fast=1))
def test_people_named_like_fields(server, here, kit, names):
    model, photos = people(kit, here, names)
    more = ["--person", names[0], "--photos", photos, "--test", photos]
    is_done(server.run(kit.argv("faces", "W", *more, original=model), here))
    is_done(server.run(["record", "verify", "W"], here))
    record = read_json(here.cwd, "W/record.json")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+Z].*", record["created"]), record["created"]
    assert record["task"] == "faces" and record["format"] == "delete-tasks erasure record"
    assert re.match(r"\d+\.\d+", record["environment"]["python"]), record["environment"]["python"]
