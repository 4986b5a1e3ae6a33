"""Opening what ``--poisoned`` and ``--retain`` name: a data string, or a ranking that ``backdoor find`` wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delete_images.data import ImageData, open_data
from delete_images.selection import parse_spec
from delete_tasks.errors import RequestError
from delete_tasks.spread import evenly_spread

from .evidence import CLUSTERS
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
    if request.classes or request.without or request.label or request.split_given or request.seed is not None:
        raise RequestError(f"'{text}': of a ranking only ?limit= can be asked; leave the rest out")
    ranking = read_ranking(path)
    data = open_data(ranking["data"], "train", classes)
    places = {name: place for place, name in enumerate(data.names)}
    missing = [name for name, _, _ in ranking["samples"] if name not in places]
    if missing:
        raise RequestError(
            f"'{path}' ranks '{missing[0]}', which '{ranking['data']}' no longer has; run backdoor find again"
        )
    flagged = [places[name] for name, _, poison in ranking["samples"] if poison]
    suspicious: dict[str, Any] = ranking.get("suspicious") or {"poison": "none"}
    undecided = suspicious["poison"] is None
    if what == "clean":
        unclear = (
            {name for cluster in suspicious["clusters"].values() for name in cluster["names"]} if undecided else set()
        )
        others = [places[name] for name, _, poison in ranking["samples"] if not poison and name not in unclear]
        if not others:
            raise RequestError(f"'{path}' leaves no sample that is clear of suspicion; give --retain other images")
        chosen = others[len(others) // 2 :]
        if request.limit is not None and request.limit < len(chosen):
            chosen = [chosen[i] for i in evenly_spread(len(chosen), request.limit)]
        return data.subset(np.array(chosen, dtype=np.int64))
    if undecided and not flagged:
        raise RequestError(
            f"'{path}' flags no sample of {len(data)}: backdoor find could not tell which cluster of '{suspicious['class']}' is "
            "the poison; look at its picture of both, then run backdoor find again with --flag smaller or --flag larger"
        )
    if not flagged:
        raise RequestError(
            f"'{path}' flags no sample of {len(data)}: backdoor find saw no poison, so there is none to erase by"
        )
    return data.subset(flagged[: request.limit])


def read_ranking(path: Path) -> dict[str, Any]:
    """The content of a ranking file: ``data``, ``samples``, a list of [name, score, flagged], most suspicious first, and
    ``suspicious``, see :func:`delete_backdoor.find.run`.

    Raises:
        FileNotFoundError: No such file.
        RequestError: Another file, or a ranking of another shape; the message names the part.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no ranking at '{path}'; write one with: delete-tasks backdoor find")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # bad JSON and bad UTF-8 are ValueErrors
        raise RequestError(f"'{path}' is no ranking ({error}); {_WRITE}") from error
    if not isinstance(content, dict) or content.get("format") != RANKING_FORMAT:
        raise RequestError(f"'{path}' is no ranking; {_WRITE}")
    problem = _problem(content)
    if problem:
        raise RequestError(f"'{path}' is a damaged ranking: {problem}; {_WRITE}")
    return content


_WRITE = "expected a file that 'delete-tasks backdoor find' wrote"


def _problem(content: dict[str, Any]) -> str | None:
    """What is wrong with the content of a ranking, None if it is right."""
    if not isinstance(content.get("data"), str):
        return "data is no string"
    samples = content.get("samples")
    if not isinstance(samples, list) or not samples:
        return "samples is no list of samples"
    for place, sample in enumerate(samples):
        if not isinstance(sample, list) or len(sample) != 3:
            return f"samples[{place}] is no list of a name, a score and whether it is flagged"
        name, score, flagged = sample
        if not isinstance(name, str) or not isinstance(flagged, bool) or not _is_number(score):
            return f"samples[{place}] holds {sample!r:.80}, not a name, a number and true or false"
    if len({name for name, _, _ in samples}) < len(samples):
        return "samples has a name twice"
    suspicious = content.get("suspicious")
    if suspicious is None:  # no class stood out
        return None
    try:
        named = [name for cluster in CLUSTERS for name in suspicious["clusters"][cluster]["names"]]
        right = suspicious["poison"] in (*CLUSTERS, None) and isinstance(suspicious["class"], str)
    except (TypeError, KeyError):
        right, named = False, []
    return (
        None if right and all(isinstance(name, str) for name in named) else "suspicious does not describe two clusters"
    )


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and (
        isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    )
