"""People whom earlier requests removed from a model: known by salted digests of their names, and left out of all photos."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from delete_images.data.opening import ImageData, open_data
from delete_images.data.strings import parse_spec
from delete_images.models.spec import ModelSpec
from delete_tasks.fileio.checkpoint import tensors_sha256
from delete_tasks.request.classes import SPELLINGS

from .photos import person_folders

KEY = "removed"  # in a model.json's extra


def _digest(salt: str, name: str) -> str:
    """Compute the digest of a name in any spelling. It is no secret: whoever guesses a name can compare it."""
    return hashlib.sha256(f"{salt} {SPELLINGS[-1](name)}".encode("utf-8", "surrogatepass")).hexdigest()


def with_removed(extra: Mapping[str, Any], people: Sequence[str], network: Any) -> dict[str, Any]:
    """Add people to those that a model's description notes as removed; the erased network's digest is the salt of the first."""
    noted = extra.get(KEY) or {"salt": tensors_sha256(network.state_dict())[:32], "sha256": []}
    digests = {*noted["sha256"], *(_digest(noted["salt"], name) for name in people)}
    return {**extra, KEY: {"salt": noted["salt"], "sha256": sorted(digests)}}


def was_removed(name: str, spec: ModelSpec) -> bool:
    """Return True if an earlier request removed a person, in any spelling."""
    noted = spec.extra.get(KEY)
    return noted is not None and _digest(noted["salt"], name) in noted["sha256"]


def removed_folders(text: str, split: str, spec: ModelSpec) -> list[str]:
    """List the folders of a data string that are of people removed before, none if it names no folder of people."""
    request = parse_spec(text, split)
    divided = request.label is None and os.path.isdir(os.path.expanduser(request.path or ""))
    named = person_folders(text, split) if divided and spec.extra.get(KEY) else ()
    return [name for name in named if was_removed(name, spec)]


def without_removed(text: str, split: str, spec: ModelSpec) -> str:
    """Leave the photos of people removed before out of a data string."""
    gone, request = removed_folders(text, split, spec), parse_spec(text, split)
    return request.named(request.classes, [*request.without, *gone]) if gone and not request.classes else text


def open_removed(text: str, spec: ModelSpec) -> ImageData | None:
    """Open the photos to measure on of people removed before; None without any, or if the string chooses people itself."""
    gone, request = removed_folders(text, "test", spec), parse_spec(text, "test")
    if not gone or request.classes or request.without or request.limit:
        return None
    return open_data(request.compose({"class": gone}), "test")
