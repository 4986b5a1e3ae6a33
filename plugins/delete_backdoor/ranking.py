"""Opening what ``--poisoned`` and ``--retain`` name: a data string, or a ranking that ``backdoor find`` wrote."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct, field

from delete_images.data.opening import ImageData, open_data
from delete_images.data.strings import parse_spec
from delete_tasks.errors import RequestError
from delete_tasks.fileio.sampling import evenly_spread
from delete_tasks.fileio.validate import as_type

from .poison import read_truth

RANKING_FORMAT = "delete-tasks backdoor ranking"
EXPECTED = "expected a file that 'delete-tasks backdoor find' wrote"

Score = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]


class Cluster(Struct):
    """Names of a cluster's samples."""

    names: list[str]


class Suspicious(Struct):
    """The class that stands out, and which of its clusters is the poison; None if that was not decided."""

    name: str = field(name="class")
    clusters: Annotated[dict[Literal["smaller", "larger"], Cluster], Meta(min_length=2)]
    poison: Literal["smaller", "larger"] | None


class Ranking(Struct):
    """A ranking file, see :func:`delete_backdoor.find.find.run`.

    Attributes:
        data: Data string of the ranked samples.
        samples: Name, score and whether it is flagged, the most suspicious first.
        suspicious: None if no class stands out.
    """

    data: str
    samples: Annotated[list[tuple[str, Score, bool]], Meta(min_length=1)]
    suspicious: Suspicious | None = None


def open_samples(text: str, classes: Sequence[str], what: str) -> ImageData:
    """Open the images that a string names.

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
    data = open_data(ranking.data, "train", classes)
    places = {name: place for place, name in enumerate(data.names)}
    missing = [name for name, _, _ in ranking.samples if name not in places]
    if missing:
        raise RequestError(
            f"'{path}' ranks '{missing[0]}', which '{ranking.data}' no longer has; run backdoor find again"
        )
    flagged = [places[name] for name, _, poison in ranking.samples if poison]
    undecided = ranking.suspicious if ranking.suspicious is not None and ranking.suspicious.poison is None else None
    if what == "clean":
        unclear = {name for cluster in undecided.clusters.values() for name in cluster.names} if undecided else set()
        others = [places[name] for name, _, poison in ranking.samples if not poison and name not in unclear]
        if not others:
            raise RequestError(f"'{path}' leaves no sample that is clear of suspicion; give --retain other images")
        chosen = others[len(others) // 2 :]
        if request.limit is not None and request.limit < len(chosen):
            chosen = [chosen[i] for i in evenly_spread(len(chosen), request.limit)]
        return data.subset(np.array(chosen, dtype=np.int64))
    if undecided and not flagged:
        raise RequestError(
            f"'{path}' flags no sample of {len(data)}: backdoor find could not tell which cluster of '{undecided.name}' is "
            "the poison; look at its picture of both, then run backdoor find again with --flag smaller or --flag larger"
        )
    if not flagged:
        raise RequestError(
            f"'{path}' flags no sample of {len(data)}: backdoor find saw no poison, so there is none to erase by"
        )
    return data.subset(flagged[: request.limit])


def read_ranking(path: Path) -> Ranking:
    """Read a ranking file.

    Raises:
        FileNotFoundError: No such file.
        RequestError: Another file, or a ranking of another shape; the message names the part.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no ranking at '{path}'; write one with: delete-tasks backdoor find")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # bad JSON and bad UTF-8 are ValueErrors
        raise RequestError(f"'{path}' is no ranking ({error}); {EXPECTED}") from error
    if not isinstance(content, dict) or content.get("format") != RANKING_FORMAT:
        raise RequestError(f"'{path}' is no ranking; {EXPECTED}")
    ranking: Ranking = as_type(content, Ranking, f"'{path}' is a damaged ranking ({EXPECTED})")
    if len({name for name, _, _ in ranking.samples}) < len(ranking.samples):
        raise RequestError(f"'{path}' is a damaged ranking ({EXPECTED}): samples has a name twice")
    return ranking
