"""Work of ``delete-tasks audit``: from models and data to audit.json and the pictures."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from ..display.terminal import make_console, short
from ..fileio.atomic import save_json, save_text
from ..fileio.environment import code_version, environment, plain
from ..fileio.workdir import WorkDir
from ..task import open_models
from .pictures import draw_pictures
from .report import markdown, show
from .results import FORMAT, VERSION, measure, with_cut_logit
from .samples import read_all
from .verdict import headline

RESULTS, TABLE = "audit.json", "audit.md"


def run(options: Mapping[str, Any], data: Mapping[str, str | None], work: WorkDir) -> None:
    """Attack the models with the data ('forget', 'train', 'test'), and write audit.json, audit.md, audit.png and tsne.png into
    the work dir; raise :class:`RequestError` if no task takes the models, data cannot be read or a class is unknown."""
    retrained = list(options["retrained"])
    paths = {name: options[name] for name in ("original", "head_only", "erased") if options.get(name) is not None}
    paths |= {"retrained" if len(retrained) == 1 else f"retrained_{i}": path for i, path in enumerate(retrained, 1)}
    splits = {name: text for name, text in data.items() if text is not None}
    task, opened = open_models(paths, splits, options, "an audit")
    work.retire()  # so that the same audit is not done again without --overwrite
    console, folder, begin = make_console(), Path(options["work_dir"]), time.monotonic()
    full = options["level"] == "full"
    predictions, stages = read_all(opened, networks=full, regions=full)
    read = time.monotonic() - begin
    rows = with_cut_logit(predictions, opened.ids)
    audit = measure(rows, opened.ids, opened.names, options["level"])
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "task": task.name,
        "level": options["level"],
        "models": {
            **{name: options.get(name) for name in ("original", "head_only", "erased")},
            "retrained": retrained,
        },
        "data": dict(data),
        "samples": {split: len(each.labels) for split, each in predictions["original"].items() if split != "context"},
        "samples_are": opened.of,
        "duplicates": list(map(asdict, opened.copies)),
        "stages": stages,
        **audit.json(),
        "verdict": dict(audit.verdict),
        "code": code_version(),
        "environment": environment(opened.models["original"].device),
    }
    begin = time.monotonic()
    content["pictures"], reasons = draw_pictures(audit, rows, folder)
    content["not_measured"] |= reasons
    drawn = time.monotonic() - begin
    content["seconds"] = {"reading": round(read, 1), "attacks": round(audit.seconds, 1), "pictures": round(drawn, 1)}
    save_text(markdown(audit), folder / TABLE)
    save_json(plain(content), folder / RESULTS)
    show(audit, console, bool(options["wide"]))
    for name, reason in content["not_measured"].items():
        console.print(Text(f"NOT MEASURED: {name}, because {reason.rstrip('.')}."))
    written = ", ".join(short(folder / name) for name in (RESULTS, TABLE, *content["pictures"]))
    console.print(Text(f"Written: {written}"))
    console.print(Text(f"Verdict: {headline(audit.verdict)}"))
