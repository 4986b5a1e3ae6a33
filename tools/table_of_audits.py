"""Print one Markdown table of several audits: attacks on the original, the erased and the most readable retrained model.

python tools/table_of_audits.py NAME=AUDIT [NAME=AUDIT ...] [--runs RUN [RUN ...]]

AUDIT is the work dir of a `delete-tasks audit` with retrained models. A figure of the erased model that is more than a point
above their highest is bold. RUN is the work dir of each run, in the same order, for the loss of the other classes on all test
data. Attacks on a model with the logit cut off read the same as on the original: its features are the same.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from delete_tasks.display.table import Table

MARGIN = 1.0  # points above the highest figure of the retrained models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audits", nargs="+", metavar="NAME=AUDIT")
    parser.add_argument("--runs", nargs="*", default=[], metavar="RUN")
    args = parser.parse_args()
    names, folders = zip(*(text.rsplit("=", 1) for text in args.audits), strict=True)
    if args.runs and len(args.runs) != len(folders):
        parser.error(f"{len(folders)} audits and {len(args.runs)} runs; give one run for each audit, or none")
    for place in (
        *(Path(folder) / "audit.json" for folder in folders),
        *(Path(run) / "results.json" for run in args.runs),
    ):
        if not place.is_file():
            parser.error(f"no file '{place}'; give the --work-dir of a delete-tasks audit, or of a run")
    audits = [json.loads((Path(folder) / "audit.json").read_text()) for folder in folders]
    for name, audit in zip(names, audits, strict=True):
        if not audit["models"]["retrained"]:
            parser.error(f"the audit of {name} has no retrained model to compare with")
    table = Table(names, "original → erased (highest of the retrained)")
    if args.runs:
        runs = [json.loads((Path(run) / "results.json").read_text())["rows"] for run in args.runs]
        for key, title in (("forget_acc", "forgotten classes"), ("remain_acc", "others")):
            table.add(title, [change(rows, key) for rows in runs])
        table.add("others, logit cut off", [shown(rows["logit_cut"], "remain_acc") for rows in runs])
        worst = [f"{rows['erased']['worst_drop']['of_class']} {shown(rows['erased'], 'worst_drop')}" for rows in runs]
        table.add("most lost", worst)
    for attack in audits[0]["attacks"]:
        if attack["reads"] and attack["name"] != "information":
            table.add(attack["column"], [cell(audit["rows"], attack["name"]) for audit in audits])
    table.add("IDI (0 = retrained, 1 = original)", [difference(audit) for audit in audits])
    print(table.to_markdown())


def value(row: dict[str, Any], key: str) -> float | None:
    figure = row.get(key)
    return None if figure is None else figure["value"]


def shown(row: dict[str, Any], key: str) -> str:
    figure = value(row, key)
    return "-" if figure is None else f"{figure:.2f}"


def change(rows: dict[str, Any], key: str) -> str:
    return f"{value(rows['original'], key):.2f} → {value(rows['erased'], key):.2f}"


def of_retrained(rows: dict[str, Any], key: str) -> list[float]:
    figures = [value(row, key) for name, row in rows.items() if name.startswith("retrained")]
    return [figure for figure in figures if figure is not None]


def cell(rows: dict[str, Any], key: str) -> str:
    original, erased = value(rows["original"], key), value(rows["erased"], key)
    if original is None or erased is None:
        return "-"
    retrained = of_retrained(rows, key)
    if not retrained:
        return f"{original:.1f} → {erased:.1f}"
    text = f"**{erased:.1f}**" if erased > max(retrained) + MARGIN else f"{erased:.1f}"
    return f"{original:.1f} → {text} ({max(retrained):.1f})"


def difference(audit: dict[str, Any]) -> str:
    """Format 1 less the depth of the information, which the audit measures against the mean of the retrained models."""
    depth = value(audit["depth"], "information")
    if depth is None:
        return "-"
    text = f"{1 - depth:.2f}"
    return text if abs(float(text)) <= 0.1 else f"**{text}**"


if __name__ == "__main__":
    main()
