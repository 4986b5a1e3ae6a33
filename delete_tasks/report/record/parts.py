"""Names of a record's files, statuses of its figures and of its checks."""

from __future__ import annotations

from dataclasses import dataclass

PASS, FAIL, NOT_MEASURED = "PASS", "FAIL", "NOT MEASURED"
FORMAT, SCHEMA_VERSION = "delete-tasks erasure record", 2
RECORD, PAGE, ATTENTION = "record.json", "record.html", "attention.jpg"
OK, FAILED, NOT_CHECKED = "OK", "FAILED", "NOT CHECKED"


@dataclass(frozen=True)
class Check:
    """Result of one comparison: OK, FAILED or NOT CHECKED, and why."""

    what: str
    status: str
    why: str = ""
