"""Names of a record's files, and statuses of its checks."""

from dataclasses import dataclass

FORMAT, SCHEMA_VERSION = "delete-tasks erasure record", 3
RECORD, PAGE, ATTENTION = "record.json", "record.html", "attention.jpg"
CARD_WEIGHTS = "model.safetensors"  # of the erased model, in the folder of a card
UNKNOWN = "not known to this program"  # where residue is
OK, FAILED, NOT_CHECKED = "OK", "FAILED", "NOT CHECKED"


@dataclass(frozen=True)
class Check:
    """Result of a check: OK, FAILED or NOT CHECKED, and the reason."""

    what: str
    status: str
    why: str = ""
