"""What ``faces remove`` says beside its table: who the people are taken for, the verdict, and what still holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lines_of(results: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal, of what results.json holds."""
    details, lines = results["details"], []
    check = (details.get("verification") or {}).get("original")
    far = next((far for far, at in reversed((check or {"at": {}})["at"].items()) if at["threshold"] is not None), None)
    if far is not None:
        lines.append(
            f"TAR@FAR: share of pairs of photos of one person that match at the threshold that a share FAR of "
            f"{check['impostor_pairs']:,} pairs of different people reach. Pairs of a removed person: {check['removed_pairs']:,}, "
            f"of another: {check['kept_pairs']:,}"
        )
    if details.get("taken_for"):
        went = details["taken_for"]["row_removed"] or details["taken_for"]["with_row"]
        told = ", ".join(f"{e['name']} {e['percent']:.0f}% (probability {e['probability']:.2f})" for e in went[:5])
        lines.append(f"Their photos are now taken for: {told or '-'}")
    return [
        *lines,
        details["verdict"],
        "Still holding these people, to be destroyed by you:",
        *map("  {}".format, details["still_holding"]),
    ]
