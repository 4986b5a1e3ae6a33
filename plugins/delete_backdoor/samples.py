"""Opening what ``--poisoned`` and ``--clean`` name: a data string, or a ranking that ``backdoor find`` wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delete_images.data import ImageData, open_data
from delete_images.selection import parse_spec
from delete_tasks.errors import RequestError

from .poison import read_truth

RANKING_FORMAT = "delete-tasks backdoor ranking"


def open_samples(text: str, classes: Sequence[str], what: str) -> ImageData:
    """The images that a string names.

    Args:
        text: A data string; of a file that ``backdoor poison`` wrote, the poisoned or the other images are taken. Or
            ``RANKING.json[?limit=N]``: of a ranking, ``what='poisoned'`` are the flagged samples, the most suspicious first;
            ``what='clean'`` are the others, the least suspicious half of them.
        classes: The model's class names.
        what: 'poisoned' or 'clean'.

    Raises:
        RequestError: No image is left, or the ranking is none.
    """
    request = parse_spec(text)
    path = Path(request.path or "")
    if request.kind != "path" or path.suffix != ".json":
        data = open_data(text, "train", classes)
        truth = read_truth(text, data)
        if truth is not None:
            data = data.subset(truth == (what == "poisoned"))
            if not len(data):
                raise RequestError(f"'{text}' marks none of its samples as {what}; give a file that has some")
        return data
    ranking = read_ranking(path)
    data = open_data(ranking["data"], "train", classes)
    places = {name: place for place, name in enumerate(data.names)}
    missing = [name for name, _, _ in ranking["samples"] if name not in places]
    if missing:
        raise RequestError(
            f"'{path}' ranks '{missing[0]}', which '{ranking['data']}' no longer has; run backdoor find again"
        )
    flagged = [places[name] for name, _, poison in ranking["samples"] if poison]
    if what == "clean":
        others = [places[name] for name, _, poison in ranking["samples"] if not poison]
        chosen = others[len(others) // 2 :]
        if request.limit is not None and request.limit < len(chosen):
            chosen = [chosen[i] for i in np.linspace(0, len(chosen), request.limit, endpoint=False).astype(int)]
        return data.subset(np.array(chosen, dtype=np.int64))
    if not flagged:
        raise RequestError(
            f"'{path}' flags no sample of {len(data)}: backdoor find saw no poison, so there is none to erase by"
        )
    return data.subset(flagged[: request.limit])


def read_ranking(path: Path) -> dict[str, Any]:
    """The content of a ranking file: ``data`` and ``samples``, a list of [name, score, flagged], most suspicious first.

    Raises:
        FileNotFoundError: No such file.
        RequestError: Another file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no ranking at '{path}'; write one with: delete-tasks backdoor find")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") == RANKING_FORMAT:
            return content
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        pass
    raise RequestError(f"'{path}' is no ranking; expected a file that 'delete-tasks backdoor find' wrote")
