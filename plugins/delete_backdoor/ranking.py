"""Samples that ``--poisoned`` and ``--retain`` name: a data string, or a ranking that ``backdoor find`` wrote."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from delete_images.data.opening import ImageData, open_data
from delete_images.data.strings import parse_spec
from delete_tasks.errors import RequestError
from delete_tasks.fileio.sampling import evenly_spread
from delete_tasks.fileio.validate import as_type, read_json

from .poison import read_truth

RANKING_FORMAT = "delete-tasks backdoor ranking"
EXPECTED = "expected a file that 'delete-tasks backdoor find' wrote"

Score = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]


class Cluster(Struct):
    """Names of a cluster's samples."""

    names: list[str]


class Suspicious(Struct):
    """Suspicious class, its clusters, and the one that is the poison; None if that was not decided."""

    name: str = field(name="class")
    clusters: Annotated[dict[Literal["smaller", "larger"], Cluster], Meta(min_length=2)]
    poison: Literal["smaller", "larger"] | None


class Ranking(Struct):
    """Content of a ranking file, see :func:`delete_backdoor.find.find.run`."""

    data: str  # data string of the ranked samples
    # Name, score and flag of each sample, the most suspicious first.
    samples: Annotated[list[tuple[str, Score, bool]], Meta(min_length=1)]
    suspicious: Suspicious | None = None  # the class whose clusters stand out


def open_samples(text: str, classes: Sequence[str], kind: str) -> ImageData:
    """Open the images that a string names, of the ``kind`` 'poisoned' or 'clean'; refuse to leave none, and no valid ranking. It
    is a data string, of whose images, if ``backdoor poison`` wrote them, the poisoned or the others are taken; or a
    ``RANKING.json[?limit=N]``: 'poisoned' takes the most suspicious, 'clean' the less suspicious half of the decided others."""
    request = parse_spec(text)
    path = Path(request.path or "")
    if request.kind != "path" or path.suffix != ".json":
        data = open_data(text, "train", classes)
        truth = read_truth(text, data)
        if truth is not None:
            data = data.subset(truth == (kind == "poisoned"))
            if not len(data):
                raise RequestError(f"'{text}' marks none of its samples as {kind}; give a file that has some")
        return data
    if request.classes or request.without or request.label or request.split_given or request.seed is not None:
        raise RequestError(f"'{text}': a ranking takes only ?limit=; leave the rest out")
    ranking = read_ranking(path)
    data = open_data(ranking.data, "train", classes)
    indices = {name: index for index, name in enumerate(data.names)}
    missing = [name for name, _, _ in ranking.samples if name not in indices]
    if missing:
        raise RequestError(f"'{path}' ranks '{missing[0]}', which '{ranking.data}' lacks; run backdoor find again")
    undecided = ranking.suspicious if ranking.suspicious and ranking.suspicious.poison is None else None
    if kind == "clean":
        unclear = {name for cluster in undecided.clusters.values() for name in cluster.names} if undecided else set()
        others = [indices[name] for name, _, flagged in ranking.samples if not flagged and name not in unclear]
        if not others:
            raise RequestError(f"'{path}' leaves no sample that is clear of suspicion; give --retain other images")
        half = others[len(others) // 2 :]
        limit = len(half) if request.limit is None else request.limit
        return data.subset([half[i] for i in evenly_spread(len(half), limit)])
    poisoned = [indices[name] for name, _, flagged in ranking.samples if flagged]
    if not poisoned:
        reason = "saw no suspicious class, so there is nothing to erase by"
        if undecided:
            reason = (
                f"did not decide which cluster of '{undecided.name}' is the poison; look at its picture of both, then run it "
                "again with --flag smaller or --flag larger"
            )
        raise RequestError(f"'{path}' flags no sample of {len(data)}: backdoor find {reason}")
    return data.subset(poisoned[: request.limit])


def read_ranking(path: Path) -> Ranking:
    """Read a ranking file; refuse another file, and a damaged one, whose part the message names."""
    if not path.is_file():
        raise FileNotFoundError(f"no ranking at '{path}'; write one with: delete-tasks backdoor find")
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:  # bad JSON and bad UTF-8 are ValueErrors
        raise RequestError(f"'{path}' is not a ranking ({error}); {EXPECTED}") from error
    if not isinstance(content, dict) or content.get("format") != RANKING_FORMAT:
        raise RequestError(f"'{path}' is not a ranking; {EXPECTED}")
    ranking: Ranking = as_type(content, Ranking, f"'{path}' is a damaged ranking ({EXPECTED})")
    if len({name for name, _, _ in ranking.samples}) < len(ranking.samples):
        raise RequestError(f"'{path}' is a damaged ranking ({EXPECTED}): samples has a name twice")
    return ranking
