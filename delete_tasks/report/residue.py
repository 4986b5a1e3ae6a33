"""Residue of a run: places that still hold the forgotten classes, for the terminal, results.json and the record."""

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..audit.pictures import BARS, CURVES
from ..errors import RequestError
from ..fileio.digests import SUMS, WEIGHTS, is_temporary
from ..fileio.inputs import read_bytes
from ..fileio.workdir import MANIFEST, passing
from ..runner.unlearn_runner import UnlearnRunner
from .record.files import ATTENTION, PAGE, RECORD, SAMPLES, UNKNOWN
from .record.people import SALT, fold, whole_word
from .record.sign import SIGNATURE

# Files of the record, and figures without a name.
NO_RESIDUE = (RECORD, PAGE, SUMS, SIGNATURE, SALT, SAMPLES, ATTENTION, BARS, CURVES, MANIFEST)
PICTURES = (".png", ".jpg")
OPAQUE = (*WEIGHTS, *PICTURES, ".npz", ".npy")  # listed whatever names they hold
MOST_BYTES = 2**28  # of a file that is searched; a larger one is listed
_ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U(00[01][0-9a-fA-F]{5}))")
FORGET_DATA, TESTED = ("forget", "photos", "poisoned"), ("test", "eval", "train")  # keys of ``data`` in results.json


def find_residue(
    runner: UnlearnRunner, results: Mapping[str, Any], pictures: Mapping[str, str], salted: bool = False
) -> list[dict[str, str]]:
    """List the places that hold the forgotten classes after a run: ``residue`` of results.json. These are the original model's
    files, the data, and files in the work dir with weights, samples or names of the classes, in any spelling, but for the
    record's and, of the erased model, all that name no class. ``pictures`` are captions by path; ``salted`` is True for a record
    with hidden names. Return ``what`` each place holds, and ``where``: an absolute path, data string, or ``UNKNOWN``."""
    task, folder = runner.task, Path(runner.work_dir)
    names = results["forgotten"] if task.names_are_forgotten else []
    published = None if runner.outcome.published is None else Path(runner.outcome.published).resolve()
    items = [(what, str(path.absolute())) for what, path in task.residue(Path(runner.teacher_path), names)]
    data = {key: _located(str(text)) for key, text in results["data"].items() if text is not None}
    forget_set = [data[key] for key in FORGET_DATA if key in data]
    if "templates" in data:  # in place of samples
        store = f"store of templates in which the {task.forgets} was looked up (biometric data)"
        items.append((store, data["templates"]))
    elif not forget_set:
        forget_set = ["the folder of the data"]
    items += [(f"{task.samples} of the forget set, and copies of them in caches", where) for where in forget_set]
    if task.classes_are_people:
        tested = f"{task.samples} to measure on, some of them of the {task.forgets}"
        items += [(tested, data[key]) for key in TESTED if key in data]
    transient = passing(folder)
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        full = path.resolve()
        if full in transient or (path.parent == folder and path.name in NO_RESIDUE):
            continue
        of_model = published is not None and full.is_relative_to(published)
        listed = is_temporary(path) or (path.suffix in OPAQUE and not of_model)
        if listed or (path.suffix not in OPAQUE and (names_any(path.name, names) or named_in(path, names))):
            caption = pictures.get(str(path))
            items.append((f"picture: {caption.rstrip('.')}" if caption else _kind(path), str(path.absolute())))
    if salted:
        items.append(("salt, with which a name can be compared with the record", str(folder.absolute() / SALT)))
    galleries = ", templates in other galleries" if task.classes_are_people else ""
    items.append((f"copies elsewhere: backups, other machines, models made from the original{galleries}", UNKNOWN))
    return [{"what": what, "where": where} for what, where in items]


def _located(text: str) -> str:
    path, mark, query = text.partition("?")
    return f"{Path(path).absolute()}{mark}{query}" if Path(path).exists() else text


def named_in(path: Path, names: Sequence[str]) -> bool:
    """Return True if a file of text holds one of ``names`` in any spelling, or cannot be searched."""
    try:
        return path.stat().st_size > MOST_BYTES or names_any(decoded(read_bytes(path)), names)
    except (OSError, RequestError):
        return True


def decoded(content: bytes) -> str:
    """Decode UTF-8 and the escapes of JSON, HTML and addresses."""
    text = _ESCAPE.sub(lambda code: chr(int(code[1] or code[2] or code[3], 16)), content.decode("utf-8", "ignore"))
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")  # pairs of \u
    return unquote(html.unescape(joined))


def names_any(text: str, names: Sequence[str]) -> bool:
    """Return True if a text holds one of ``names``, in any case, with or without accents and separators. Short names
    match whole words only, names without letters and digits only as they are."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    joined = re.sub(r"[\W_]+", "", plain)  # as fold, which takes long for a whole file
    for name in names:
        key = fold(name)[0]
        if key and not whole_word(key):
            if key in joined:
                return True
        elif name in text if not key else re.search(rf"(?<![^\W_]){re.escape(key)}(?![^\W_])", plain):
            return True
    return False


def _kind(path: Path) -> str:
    is_log = path.suffix in (".log", ".jsonl") or "vis_data" in path.parts
    kinds = {
        "temporary file of a stopped run, possibly with weights": is_temporary(path),
        "state of the run: intermediate weights, and the optimizer's state": path.suffix in WEIGHTS,
        "log of the run, which names the forgotten classes": is_log,
        "config of the run, which names the forgotten classes": path.suffix == ".py",
        "picture made from test data": path.suffix in PICTURES,
    }
    return next((kind for kind, fits in kinds.items() if fits), "file of the run, which names the forgotten classes")
