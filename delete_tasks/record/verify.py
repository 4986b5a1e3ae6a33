"""``record verify``: everything of a record that can be computed again is, and what differs is named."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint import file_sha256
from ..errors import RequestError, require
from ..task import load_task
from .digests import SUMS, describe_model, read_sums, section_digests
from .log import check_chain, read_log
from .people import replace_all, revealing_table
from .sign import SIGNATURE, signature_holds

OK, FAILED, NOT_CHECKED = "OK", "FAILED", "NOT CHECKED"
TOLERANCE = 0.05  # percent or points: other processors and versions round differently
SCHEMA = Path(__file__).with_name("schema.json")


@dataclass(frozen=True)
class Check:
    """One thing that was compared: OK, FAILED or NOT CHECKED, and why."""

    what: str
    status: str
    why: str = ""


def verify(folder: Path, key: str | None = None, rerun: bool = False, names: Sequence[str] = ()) -> list[Check]:
    """Check a record's folder.

    Args:
        folder: With record.json.
        key: Public key (PEM) of whoever signed it; None leaves a signature unchecked.
        rerun: Measure the utility figures again.
        names: Of the people the record is about, where it hides them and a new measurement needs them.

    Raises:
        FileNotFoundError: There is no record.
        RequestError: record.json is none; or ``names`` that the record is not about.
    """
    record = read_record(folder)
    checks = [*_schema(record), *_sections(record), *_sums(folder)]
    checks += _samples(record, folder)
    for role in ("original", "erased"):
        checks += _model(role, record["models"].get(role), folder)
    checks += _pictures(record, folder)
    checks += [_log(record, folder), _signature(folder, key)]
    checks += _measured(record, folder, names) if rerun else [Check("utility figures", NOT_CHECKED, "give --rerun")]
    return checks


def read_record(folder: Path) -> dict[str, Any]:
    """The content of a folder's record.json.

    Raises:
        FileNotFoundError: There is none.
        RequestError: It is no JSON, or another version's.
    """
    path = folder / "record.json"
    if not path.is_file():
        raise FileNotFoundError(f"no record.json in '{folder}'; give the folder that an erasing command wrote")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RequestError(f"'{path}' is not JSON ({error}): it was changed or is not whole") from error
    if not isinstance(record, dict) or record.get("format") != "delete-tasks erasure record":
        raise RequestError(f"'{path}' is no erasure record of delete-tasks")
    if record.get("schema_version") != 1:
        raise RequestError(
            f"'{path}' has schema version {record.get('schema_version')!r}, and this delete-tasks reads 1; install the version "
            "that wrote it"
        )
    return record


def _schema(record: Mapping[str, Any]) -> list[Check]:
    jsonschema: Any = require("jsonschema", "audit")
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    problems = sorted(validator.iter_errors(record), key=lambda error: list(map(str, error.absolute_path)))
    if not problems:
        return [Check("record.json: schema", OK)]
    return [
        Check(
            "record.json: schema", FAILED, f"{'/'.join(map(str, error.absolute_path)) or 'top'}: {error.message[:200]}"
        )
        for error in problems[:5]
    ]


def _sections(record: Mapping[str, Any]) -> list[Check]:
    noted, found = record.get("section_sha256") or {}, section_digests(record)
    differing = [name for name in sorted({*noted, *found}) if noted.get(name) != found.get(name)]
    if not differing:
        return [Check("record.json: sections", OK, f"{len(found)} digests agree")]
    return [
        Check(f"record.json: section '{name}'", FAILED, "it was changed after the record was written")
        for name in differing
    ]


def _sums(folder: Path) -> list[Check]:
    checks = []
    for name, digest in read_sums(folder).items():
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
        return [
            Check(what, FAILED, f"a line was changed, added or taken out: {_differs(samples['list_sha256'], found)}")
        ]
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) != sum(samples["read"].values()):
        return [Check(what, FAILED, f"it has {len(lines)} lines, the record counts {sum(samples['read'].values())}")]
    return [Check(what, OK, f"{len(lines)} samples")]


def _model(role: str, noted: Mapping[str, Any] | None, folder: Path) -> list[Check]:
    what = f"{role} model"
    if noted is None:
        return [Check(what, NOT_CHECKED, "none was written")]
    path = folder / noted["path"]  # an absolute path stays one
    if not path.exists():
        if role == "original":
            return [Check(what, NOT_CHECKED, f"'{path}' is not there any more, which may be as it should")]
        return [Check(what, FAILED, f"'{path}' is not there")]
    checks = []
    for file in noted["files"]:
        place = folder / file["path"]
        found = file_sha256(place) if place.is_file() else None
        if found != file["sha256"]:
            why = "it is not there" if found is None else _differs(file["sha256"], found)
            checks.append(Check(f"{what}: file {file['path']}", FAILED, why))
    try:
        now = describe_model(path, folder)
    except (RuntimeError, ValueError, OSError) as error:
        # A file that cannot be read safely any more is a difference, too.
        return [*checks, Check(f"{what}: tensors", FAILED, str(error))]
    added = {file["path"] for file in now["files"]} - {file["path"] for file in noted["files"]}
    checks += [
        Check(f"{what}: file {name}", FAILED, "it was not there when the record was written") for name in sorted(added)
    ]
    if now["tensors_sha256"] != noted["tensors_sha256"]:
        checks.append(Check(f"{what}: tensors", FAILED, _differs(noted["tensors_sha256"], now["tensors_sha256"])))
    return checks or [Check(what, OK, f"{len(noted['files'])} file(s) and the tensors agree")]


def _pictures(record: Mapping[str, Any], folder: Path) -> list[Check]:
    checks = []
    for picture in record["pictures"]:
        path = folder / picture["path"]
        if not path.is_file():
            checks.append(
                Check(f"picture {picture['path']}", NOT_CHECKED, "the file is not there; record.html holds a copy")
            )
        elif file_sha256(path) != picture["sha256"]:
            checks.append(Check(f"picture {picture['path']}", FAILED, "it was changed"))
        else:
            checks.append(Check(f"picture {picture['path']}", OK))
    return checks


def _log(record: Mapping[str, Any], folder: Path) -> Check:
    path = folder / record["log"]["path"]
    if not path.is_file():
        return Check("log of records", NOT_CHECKED, f"'{path}' is not there")
    try:
        wrong = check_chain(path)
        entries = [entry for entry, _ in read_log(path)]
    except RequestError as error:
        return Check("log of records", FAILED, str(error))
    if wrong:
        return Check("log of records", FAILED, wrong)
    mine = [entry for entry in entries if entry["id"] == record["id"]]
    if not mine:
        return Check("log of records", FAILED, f"'{path}' has no line for this record")
    if mine[-1]["record_sha256"] != file_sha256(folder / "record.json"):
        return Check("log of records", FAILED, "record.json is not the one that the log notes")
    before = record["previous"]
    if before is not None and before["record_sha256"] not in {
        e["record_sha256"] for e in entries if e["id"] == before["id"]
    }:
        return Check("log of records", FAILED, f"the record before, {before['id']}, is not in the log as noted")
    return Check("log of records", OK, "it follows " + (before["id"] if before else "no other record on this model"))


def _signature(folder: Path, key: str | None) -> Check:
    signed = (folder / SIGNATURE).is_file()
    if key is None:
        why = (
            "it is signed: give the signer's public key with --key"
            if signed
            else "it is not signed, so only accidental "
        )
        return Check("signature", NOT_CHECKED, why if signed else f"{why}change can be told")
    if not signed:
        return Check("signature", FAILED, f"there is no {SIGNATURE}")
    holds = signature_holds(folder, key)
    return Check("signature", OK if holds else FAILED, "" if holds else f"it is not this key's over {SUMS}")


def _measured(record: Mapping[str, Any], folder: Path, names: Sequence[str]) -> list[Check]:
    what = "utility figures"
    if record["models"]["erased"] is None:
        return [Check(what, NOT_CHECKED, "no erased model was written that could be measured")]
    if record["measurement"] is None:
        return [Check(what, NOT_CHECKED, "the record does not say how they were measured")]
    expected = [c["salted_sha256"] for c in record["forgotten"]["classes"] if c["salted_sha256"]]
    if expected and not names:
        return [Check(what, NOT_CHECKED, "the record hides names that the measurement needs: give them with --name")]
    table = revealing_table(names, record, folder) if expected else {}
    shown = replace_all({"models": record["models"], "measurement": record["measurement"]}, table)
    task = load_task(record["task"])
    paths = {role: str(folder / model["path"]) for role, model in shown["models"].items() if model is not None}
    if not Path(paths["original"]).exists():
        paths.pop("original")
    again = task.measure_again(paths, shown["measurement"])  # type: ignore[attr-defined]
    checks = []
    for figure in record["figures"]:
        name, noted = figure["name"], figure["value"]
        if noted is None or again.get(name) is None:
            checks.append(
                Check(
                    f"figure {name}", NOT_CHECKED, "not measured then" if noted is None else "cannot be measured again"
                )
            )
        elif abs(again[name] - noted) > TOLERANCE:
            checks.append(Check(f"figure {name}", FAILED, f"was {noted:.2f}, is {again[name]:.2f}"))
        else:
            checks.append(Check(f"figure {name}", OK, f"{again[name]:.2f}"))
    return checks
