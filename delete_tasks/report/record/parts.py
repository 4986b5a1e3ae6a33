"""What the files of a record are called, and its figures' words."""

from __future__ import annotations

PASS, FAIL, NOT_MEASURED = "PASS", "FAIL", "NOT MEASURED"
FORMAT, SCHEMA_VERSION = "delete-tasks erasure record", 2
RECORD, PAGE, ATTENTION = "record.json", "record.html", "attention.jpg"
