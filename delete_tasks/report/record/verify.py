"""``record verify``: recomputation of a record's digests, and the differences; with ``--rerun`` new measurement of its figures
from the models and data that it names, if all digests (and, with a key, the signature) match. Since anyone can compute digests, a
record is still untrusted input: nothing that it names is imported or run."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import RequestError, first_line, require
from ...evaluation.metric import Measured
from ...evaluation.opened import Opened
from ...fileio.digests import SUMS, describe_model, read_sums, section_digests
from ...fileio.inputs import file_sha256, read_bytes
from ...fileio.processes import raise_lost
from ...fileio.validate import read_json
from ...task import Task, load_task
from .files import CARD_WEIGHTS, FORMAT, PAGE, RECORD, SAMPLES, SCHEMA_VERSION, SampleList
from .measurement import unpack
from .people import find_forgotten, find_place, hashed, read_salt
from .sign import SIGNATURE, signature_holds

SCHEMA = Path(__file__).with_name("schema.json")
LISTED = (RECORD, PAGE, SAMPLES)  # in record.sha256
OK, FAILED, NOT_CHECKED = "OK", "FAILED", "NOT CHECKED"
TOLERANCE = 0.05  # percent or points: other processors and versions round differently


@dataclass(frozen=True)
class Check:
    """Result of a check: OK, FAILED or NOT CHECKED, and the reason."""

    what: str
    status: str
    why: str = ""


def verify(folder: Path, key: str | None = None, rerun: bool = False, names: Sequence[str] = ()) -> list[Check]:
    """Check the record in ``folder`` and its files. ``key`` is the signer's public key (PEM); None leaves a signature unchecked.
    With ``rerun`` the figures are measured again, only if no check failed, since a changed record is not trusted. ``names`` are
    of people to compare with those that the record hides. Raise :class:`FileNotFoundError` if the record or the key is missing,
    :class:`RequestError` if the record is of a later version, or the key is invalid."""
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"no {RECORD} in '{folder}'; pass the work dir of an erasing command")
    try:
        record = read_json(path)
    except ValueError as error:
        checks = [Check("record.json: schema", FAILED, f"it is not JSON ({error}): it was changed, or is incomplete")]
        return [*checks, *_sums(folder), _signature(folder, key)]
    checks = _schema(record, path)
    checks += _guarded("record.json: sections", _sections, record)
    checks += [*_sums(folder), _signature(folder, key)]
    if checks[0].status == FAILED:
        return [*checks, Check("files and models of record.json", NOT_CHECKED, "it does not follow the schema")]
    checks += _guarded("sample list", _samples, record, folder)
    for role in ("original", "erased"):
        checks += _guarded(f"{role} model", _model, role, record["models"][role], folder)
    checks += _guarded(CARD_WEIGHTS, _card, record["models"]["erased"], folder)
    checks += _guarded("pictures", _pictures, record, folder)
    checks += _guarded("names", _people, record, folder, names)
    if not rerun:
        return [*checks, Check("figures", NOT_CHECKED, "measure them again with --rerun")]
    failed = sum(check.status == FAILED for check in checks)
    if failed:
        reason = f"{failed} checks failed, and the figures of a changed record are not measured"
        return [*checks, Check("figures", NOT_CHECKED, reason)]
    return [*checks, *measure_again(record, folder, names)]


def _guarded(what: str, check: Callable[..., list[Check]], *args: Any) -> list[Check]:
    """Run a check; an error (an impossible file name, an unreadable folder) is a failed check."""
    try:
        return check(*args)
    except (OSError, ValueError, RuntimeError) as error:
        return [Check(what, FAILED, str(error))]


def _schema(record: Any, path: Path) -> list[Check]:
    what, jsonschema = "record.json: schema", require("jsonschema", "record")
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return [Check(what, FAILED, f"format: this is no '{FORMAT}'")]
    version = record.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION and all(check.status == OK for check in _sums(path.parent)):
        versions = f"schema version {version}, and this delete-tasks reads {SCHEMA_VERSION}"
        raise RequestError(f"'{path}' has {versions}; install the version that wrote it")
    if type(version) is not int or version != SCHEMA_VERSION:
        return [Check(what, FAILED, f"schema_version: {version!r} is not {SCHEMA_VERSION}")]
    validator: Any = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))  # type: ignore[attr-defined]
    best = jsonschema.exceptions.best_match  # type: ignore[attr-defined] # the relevant branch of an anyOf
    problems = [best([error]) for error in validator.iter_errors(record)]
    problems.sort(key=lambda error: list(map(str, error.absolute_path)))
    return [
        Check(what, FAILED, f"{'/'.join(map(str, error.absolute_path)) or 'top'}: {error.message[:200]}")
        for error in problems[:5]
    ] or [Check(what, OK, f"version {version}")]


def _sections(record: Any) -> list[Check]:
    what, recorded = "record.json: sections", record.get("section_sha256") if isinstance(record, dict) else None
    if not isinstance(recorded, dict):
        return [Check(what, FAILED, "section_sha256: there are no digests of the sections")]
    digests = section_digests(record)
    checks = [
        Check(f"record.json: section '{name}'", FAILED, "it was changed after the record was written")
        for name in sorted(recorded)
        if recorded[name] != digests.get(name)
    ]
    missing = ", ".join(name for name in digests if name not in recorded)
    if missing:
        checks.append(Check(what, FAILED, f"section_sha256: there are no digests of {missing}"))
    return checks or [Check(what, OK, f"{len(digests)} digests agree")]


def _file(what: str, path: Path, digest: str, missing: str = "it is missing", status: str = FAILED) -> Check:
    """Compare a file with its recorded digest; ``missing`` and ``status`` describe the result if there is no such file."""
    if not path.is_file():
        return Check(what, status, missing)
    return _same(what, digest, file_sha256(path))


def _same(what: str, recorded: str, now: str, why: str = "") -> Check:
    """Compare a digest with the recorded one; ``why`` is the reason if they agree."""
    if now == recorded:
        return Check(what, OK, why)
    return Check(what, FAILED, f"SHA-256 was {recorded[:16]}..., is {now[:16]}...")


def _sums(folder: Path) -> list[Check]:
    try:
        sums = read_sums(folder)
    except (OSError, RequestError) as error:
        return [Check(SUMS, FAILED, str(error))]
    checks = [Check(SUMS, FAILED, f"it does not list {name}") for name in LISTED if name not in sums]
    missing = f"it is missing, but {SUMS} lists it"
    return [*checks, *(_file(name, folder / name, digest, missing) for name, digest in sums.items())]


def _samples(record: Mapping[str, Any], folder: Path) -> list[Check]:
    samples = record["samples"]
    what, path = f"sample list ({samples['list']})", folder / samples["list"]
    check = _file(what, path, samples["list_sha256"])
    if check.status != OK:
        return [check]
    lines, count = read_bytes(path).count(b"\n"), sum(samples["read"].values())
    if lines != count:
        return [Check(what, FAILED, f"it has {lines} lines, the record counts {count}")]
    return [Check(what, OK, f"{lines} samples")]


def _model(role: str, recorded: Mapping[str, Any] | None, folder: Path) -> list[Check]:
    what = f"{role} model"
    if recorded is None:
        return [Check(what, NOT_CHECKED, "it was not written")]
    try:
        path = find_place(recorded["path"], folder)
    except FileNotFoundError as error:
        return [Check(what, NOT_CHECKED, str(error))]
    if not path.exists():
        if role == "original":
            return [Check(what, NOT_CHECKED, f"'{path}' is missing (expected if you deleted the original)")]
        return [Check(what, NOT_CHECKED if (folder / CARD_WEIGHTS).is_file() else FAILED, f"'{path}' is missing")]
    files = {file["path"]: find_place(file["path"], folder) for file in recorded["files"]}
    checks = [_file(f"{what}: file {file['path']}", files[file["path"]], file["sha256"]) for file in recorded["files"]]
    try:
        now = describe_model(path, folder)
    except (RuntimeError, ValueError, OSError) as error:  # e.g. a file that can no longer be read safely
        checks.append(Check(f"{what}: tensors", FAILED, str(error)))
    else:
        listed = {place.resolve() for place in files.values()}
        checks += [
            Check(f"{what}: file {file['path']}", FAILED, "it was added after the record was written")
            for file in now["files"]
            if (folder / file["path"]).resolve() not in listed
        ]
        checks.append(_same(f"{what}: tensors", recorded["tensors_sha256"], now["tensors_sha256"]))
    wrong = [check for check in checks if check.status != OK]
    return wrong or [Check(what, OK, f"{len(files)} file(s) and the tensors agree")]


def read_verified(folder: Path) -> tuple[dict[str, Any], Path | None]:
    """Read a record, and find the model that its run wrote, None without one; raise RequestError if a check fails."""
    failed = [f"{check.what}: {check.why}" for check in verify(folder) if check.status == FAILED]
    if failed:
        raise RequestError(f"the record in '{folder}' does not hold ({failed[0]}); put the files back")
    record = read_json(folder / RECORD)
    erased = record["models"]["erased"]
    return record, None if erased is None else find_place(erased["path"], folder)


def _card(recorded: Mapping[str, Any] | None, folder: Path) -> list[Check]:
    """Compare the weights in the folder of a card, which has them in a file of its own, with the erased model's."""
    if recorded is None or not (folder / CARD_WEIGHTS).is_file():
        return []
    now = describe_model(folder / CARD_WEIGHTS, folder)["tensors_sha256"]
    return [_same(CARD_WEIGHTS, recorded["tensors_sha256"], now, "the erased model's tensors")]


def _pictures(record: Mapping[str, Any], folder: Path) -> list[Check]:
    missing = "the file is missing; record.html holds a copy"
    return [
        _file(f"picture {picture['path']}", folder / picture["path"], picture["sha256"], missing, NOT_CHECKED)
        for picture in record["pictures"]
    ]


def _people(record: Mapping[str, Any], folder: Path, names: Sequence[str]) -> list[Check]:
    """Say of each name whether it is a forgotten person's, whose name the record hides."""
    if not names or not record["forgotten"]["names_hidden"]:
        return []
    salt, hidden = read_salt(folder), [one["salted_sha256"] for one in record["forgotten"]["classes"]]
    checks = []
    for name in names:
        same = {hashed(text, salt) for text in (name, name.replace(" ", "_"), name.replace("_", " "))} & {*hidden}
        why = "the record is about this person" if same else "not a person that was forgotten here"
        checks.append(Check(f"name {name}", OK if same else NOT_CHECKED, why))
    return checks


def _signature(folder: Path, key: str | None) -> Check:
    signed = (folder / SIGNATURE).is_file()
    if key is None:
        reason = f"there is no {SIGNATURE}, so only accidental change is detected"
        reason = f"{SIGNATURE} is there; pass the signer's public key to --key" if signed else reason
        return Check("signature", NOT_CHECKED, reason)
    if not signed or not (folder / SUMS).is_file():
        return Check("signature", FAILED, f"there is no {SIGNATURE if not signed else SUMS}")
    if not signature_holds(folder, key):
        return Check("signature", FAILED, f"{SIGNATURE} is there, and is not of the key '{key}' over {SUMS}")
    return Check("signature", OK, f"{SIGNATURE} is of the key '{key}' (SHA-256 {file_sha256(key)[:16]}...)")


def measure_again(record: Mapping[str, Any], folder: Path, names: Sequence[str]) -> list[Check]:
    """Measure each figure again: OK, FAILED, or NOT CHECKED with the reason."""
    figures = record["figures"]
    try:
        task, opened = reopen(record, folder, names)
        again = opened.evaluate(task.metrics).rows["erased"]
    except Exception as error:  # a changed model, data set or package can fail in any way
        raise_lost(error)
        return [Check(f"figure {figure['name']}", NOT_CHECKED, first_line(error)) for figure in figures]
    unknown = Measured(note="the task does not measure it again")
    return [_figure(figure, again.get(figure["name"], unknown)) for figure in figures]


def _figure(figure: Mapping[str, Any], again: Measured) -> Check:
    what, then, now = f"figure {figure['name']}", figure["value"], again.value
    if then is None:
        return Check(what, NOT_CHECKED, "the run did not measure it")
    if now is None:
        return Check(what, NOT_CHECKED, again.note or "it can no longer be measured on the data")
    if not abs(now - then) <= TOLERANCE * max(1.0, abs(then) / 100):  # some figures are thousands of percent
        return Check(what, FAILED, f"was {then:.2f}, is {now:.2f}")
    return Check(what, OK, f"{now:.2f}")


def reopen(record: Mapping[str, Any], folder: Path, names: Sequence[str] = ()) -> tuple[Task, Opened]:
    """Open the models and samples of a verified record; raise whatever changed models, data or packages raise."""
    if record["models"]["erased"] is None:
        raise RequestError("no erased model was written")
    if record["measurement"] is None:
        raise RequestError(record["measurement_note"] or "the record does not say how the figures were measured")
    salt = read_salt(folder) if record["forgotten"]["names_hidden"] or record["samples"]["names_hashed"] else None
    task = load_task(record["task"])
    measurement = unpack(record["measurement"], folder, salt, names)
    samples = SampleList(folder / record["samples"]["list"], salt)
    paths = {}
    for role, model in record["models"].items():
        with suppress(FileNotFoundError):
            path = find_place(model["path"], folder)
            if path.exists():
                paths[role] = str(path)
    # Never run a model's code or fetch anything, whatever the record says.
    options = {**measurement["options"], "recorded": True, "allow_import": False, "samples": samples}
    options["forgotten"] = partial(find_forgotten, record["forgotten"]["classes"], salt)
    opened = None if task.open is None else task.open(paths, measurement["data"], options)
    if opened is None:
        raise RequestError(f"{task.name} cannot open these models to measure them again")
    return task, opened
