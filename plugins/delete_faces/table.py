"""What ``faces remove`` says beside its table: who the people are taken for, the verdict, and what still holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lines_of(results: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal, of what results.json holds."""
    details, lines = results["details"], []
    check = (details.get("verification") or {}).get("original")
    if check is not None and any(at["threshold"] is not None for at in check["at"].values()):
        pairs = {name: f"{check[f'{name}_pairs']:,}" for name in ("impostor", "removed", "kept")}
        lines.append(
            f"TAR@FAR: share of pairs of photos of one person that match at the threshold that a share FAR of {pairs['impostor']}"
            f" pairs of different people reach. Pairs of a removed person: {pairs['removed']}, of another: {pairs['kept']}"
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
