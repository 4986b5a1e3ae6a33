"""``record verify``: everything of a record that can be computed again is, and what differs is named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import RequestError, require
from ...fileio.checkpoint import file_sha256
from ...fileio.digests import SUMS, describe_model, read_sums, section_digests
from .parts import FAILED, FORMAT, NOT_CHECKED, OK, PAGE, RECORD, SCHEMA_VERSION, Check
from .people import find_place
from .samples import SAMPLES
from .sign import SIGNATURE, signature_holds

SCHEMA = Path(__file__).with_name("schema.json")
LISTED = (RECORD, PAGE, SAMPLES)  # in record.sha256


def verify(folder: Path, key: str | None = None, rerun: bool = False, names: Sequence[str] = ()) -> list[Check]:
    """Check a record's folder.

    Args:
        folder: With record.json.
        key: Public key (PEM) of whoever signed it; None leaves a signature unchecked.
        rerun: Measure the figures again, if nothing else failed: what a changed record says is not acted upon.
        names: Of people, for names that the record hides and that folders do not tell.

    Raises:
        FileNotFoundError: There is no record, or no such key.
        RequestError: A record of a later version, or a key that is none.
    """
    path = folder / "record.json"
    if not path.is_file():
        raise FileNotFoundError(f"no record.json in '{folder}'; give the folder that an erasing command wrote")
    try:
        record = _parse(path)
    except (ValueError, RecursionError) as error:
        checks = [Check("record.json: schema", FAILED, f"it is not JSON ({error}): it was changed, or is not whole")]
        return [*checks, *_sums(folder), _signature(folder, key)]
    checks = _schema(record, path)
    checks += _guarded("record.json: sections", _sections, record)
    checks += [*_sums(folder), _signature(folder, key)]
    if checks[0].status == FAILED:
        return [*checks, Check("all that record.json describes", NOT_CHECKED, "it does not follow the schema")]
    checks += _guarded("sample list", _samples, record, folder)
    for role in ("original", "erased"):
        checks += _guarded(f"{role} model", _model, role, record["models"][role], folder)
    checks += _guarded("pictures", _pictures, record, folder)
    if not rerun:
        return [*checks, Check("figures", NOT_CHECKED, "give --rerun")]
    failed = sum(check.status == FAILED for check in checks)
    if failed:
        why = f"{failed} check{'s' if failed > 1 else ''} failed, and a record that was changed is not measured by"
        return [*checks, Check("figures", NOT_CHECKED, why)]
    from .rerun import measure_again

    return [*checks, *measure_again(record, folder, names)]


def _parse(path: Path) -> Any:
    """JSON in which every number is finite and no key is there twice."""

    def no_constant(text: str) -> float:
        raise ValueError(f"{text} is no number of JSON")

    def finite(text: str) -> float:
        return float(text) if math.isfinite(float(text)) else no_constant(text)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"a key is there twice among {', '.join(found)[:80]}")
        return found

    text = path.read_text(encoding="utf-8")
    return json.loads(text, parse_constant=no_constant, parse_float=finite, object_pairs_hook=unique)


def _guarded(what: str, check: Callable[..., list[Check]], *args: Any) -> list[Check]:
    """A check that cannot be made (a name that no file can have, a folder that cannot be read) failed."""
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
        raise RequestError(
            f"'{path}' has schema version {version}, and this delete-tasks reads {SCHEMA_VERSION}; install the version "
            "that wrote it"
        )
    if type(version) is not int or version != SCHEMA_VERSION:
        return [Check(what, FAILED, f"schema_version: {version!r} is not {SCHEMA_VERSION}")]
    validator: Any = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))  # type: ignore[attr-defined]
    best = jsonschema.exceptions.best_match  # type: ignore[attr-defined] # of an anyOf, what was meant
    problems = [best([error]) for error in validator.iter_errors(record)]
    problems.sort(key=lambda error: list(map(str, error.absolute_path)))
    if not problems:
        return [Check(what, OK, f"version {version}")]
    return [
        Check(what, FAILED, f"{'/'.join(map(str, error.absolute_path)) or 'top'}: {error.message[:200]}")
        for error in problems[:5]
    ]


def _sections(record: Any) -> list[Check]:
    noted = record.get("section_sha256") if isinstance(record, dict) else None
    if not isinstance(noted, dict):
        return [Check("record.json: sections", FAILED, "section_sha256: there are no digests of the sections")]
    found = section_digests(record)
    missing = [name for name in found if name not in noted]
    checks = [
        Check(f"record.json: section '{name}'", FAILED, "it was changed after the record was written")
        for name in sorted(noted)
        if noted[name] != found.get(name)
    ]
    if missing:
        told = f"section_sha256: there are no digests of {', '.join(missing)}"
        checks.append(Check("record.json: sections", FAILED, told))
    return checks or [Check("record.json: sections", OK, f"{len(found)} digests agree")]


def _sums(folder: Path) -> list[Check]:
    try:
        sums = read_sums(folder)
    except (OSError, RequestError) as error:
        return [Check(SUMS, FAILED, str(error))]
    checks = [Check(SUMS, FAILED, f"it does not list {name}") for name in LISTED if name not in sums]
    for name, digest in sums.items():
        if not (folder / name).is_file():
            checks.append(Check(name, FAILED, f"it is not there, but {SUMS} lists it"))
            continue
        found = file_sha256(folder / name)
        checks.append(Check(name, OK) if found == digest else Check(name, FAILED, _differs(digest, found)))
    return checks


def _differs(noted: str, found: str) -> str:
    return f"SHA-256 was {noted[:16]}..., is {found[:16]}..."


def _samples(record: Mapping[str, Any], folder: Path) -> list[Check]:
    samples = record["samples"]
    what, path = f"sample list ({samples['list']})", folder / samples["list"]
    if not path.is_file():
        return [Check(what, FAILED, "it is not there")]
    found = file_sha256(path)
    if found != samples["list_sha256"]:
        why = f"a line was changed, added or taken out: {_differs(samples['list_sha256'], found)}"
        return [Check(what, FAILED, why)]
    lines = path.read_bytes().count(b"\n")
    if lines != sum(samples["read"].values()):
        return [Check(what, FAILED, f"it has {lines} lines, the record counts {sum(samples['read'].values())}")]
    return [Check(what, OK, f"{lines} samples")]


def _model(role: str, noted: Mapping[str, Any] | None, folder: Path) -> list[Check]:
    what = f"{role} model"
    if noted is None:
        return [Check(what, NOT_CHECKED, "none was written")]
    try:
        path = find_place(noted["path"], folder)
    except FileNotFoundError as error:
        return [Check(what, NOT_CHECKED, str(error))]
    if not path.exists():
        if role == "original":
            return [Check(what, NOT_CHECKED, f"'{path}' is not there any more, which may be as it should")]
        return [Check(what, FAILED, f"'{path}' is not there")]
    checks, listed = [], set()
    for file in noted["files"]:
        place = find_place(file["path"], folder)
        listed.add(place.resolve())
        found = file_sha256(place) if place.is_file() else None
        if found != file["sha256"]:
            why = "it is not there" if found is None else _differs(file["sha256"], found)
            checks.append(Check(f"{what}: file {file['path']}", FAILED, why))
    try:
        now = describe_model(path, folder)
    except (RuntimeError, ValueError, OSError) as error:
        # A file that cannot be read safely any more is a difference, too.
        return [*checks, Check(f"{what}: tensors", FAILED, str(error))]
    checks += [
        Check(f"{what}: file {file['path']}", FAILED, "it was not there when the record was written")
        for file in now["files"]
        if (folder / file["path"]).resolve() not in listed
    ]
    if now["tensors_sha256"] != noted["tensors_sha256"]:
        checks.append(Check(f"{what}: tensors", FAILED, _differs(noted["tensors_sha256"], now["tensors_sha256"])))
    return checks or [Check(what, OK, f"{len(noted['files'])} file(s) and the tensors agree")]


def _pictures(record: Mapping[str, Any], folder: Path) -> list[Check]:
    checks = []
    for picture in record["pictures"]:
        what, path = f"picture {picture['path']}", folder / picture["path"]
        if not path.is_file():
            checks.append(Check(what, NOT_CHECKED, "the file is not there; record.html holds a copy"))
        else:
            same = file_sha256(path) == picture["sha256"]
            checks.append(Check(what, OK) if same else Check(what, FAILED, "it was changed"))
    return checks


def _signature(folder: Path, key: str | None) -> Check:
    signed = (folder / SIGNATURE).is_file()
    if key is None:
        why = "it is signed: give the signer's public key with --key"
        unsigned = "it is not signed, so only accidental change can be told"
        return Check("signature", NOT_CHECKED, why if signed else unsigned)
    if not signed or not (folder / SUMS).is_file():
        return Check("signature", FAILED, f"there is no {SIGNATURE if not signed else SUMS}")
    holds = signature_holds(folder, key)
    return Check("signature", OK if holds else FAILED, "" if holds else f"it is not this key's over {SUMS}")
