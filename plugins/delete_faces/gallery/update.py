"""The command ``faces update``: carry a store of templates over from a model to the erased one, without photos."""

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from delete_images.models.model_file import load_model
from delete_tasks.display.terminal import short
from delete_tasks.errors import RequestError, list_names
from delete_tasks.fileio.atomic import save_json
from delete_tasks.fileio.digests import describe_model
from delete_tasks.fileio.inputs import file_sha256

from ..network import check_face_network
from ..projection import matrix_between
from .gallery import Gallery, check_size, find_names, read_gallery

FORMAT = "delete-tasks store update 1"
RANK = 1e-4  # relative size up to which a singular value is zero
INSIDE, OUTSIDE = 1e-4, 1e-2  # part of a template of length 1 up to which it is rounding, and from which it is none
SOME = 0.1  # share of a store; a projection of one direction leaves one template in a thousand as it is


def update_store(options: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Write a store as the erased model makes it, and a receipt beside it, and return the receipt; without ``out`` in the options
    the store itself is replaced. Refuse models without a matrix between them, and templates that the original did not make."""
    paths, store = {row: options[row] for row in ("original", "erased")}, Path(options["store"])
    (original, spec), (erased, left) = (load_model(path, options["allow_import"]) for path in paths.values())
    first, last = (check_face_network(each, "the model").eval().embedder for each in (original, erased))
    people = [name for name in spec.classes if name not in left.classes]
    if not people:
        raise RequestError(
            f"'{paths['erased']}' knows all {len(spec.classes)} people of '{paths['original']}'; give the model before the "
            "removal as --original, and that of the run, W/erased, as --erased"
        )
    matrix, ending = matrix_between(first, last, (3, *spec.preprocessing.size))
    before, digest = read_gallery(store, least=1), file_sha256(store)
    check_size(before, len(matrix), store)
    _check_maker(before, matrix, ending, store)
    named = [name for found in find_names(before, people) for name in found]
    others = before.without(named)
    if not others.names:
        raise RequestError(f"'{store}' holds templates of the removed people alone; delete it: nothing would be left")
    after, drift = others.transform(matrix)
    removed = len(before.names) - len(after.names)
    console.print(
        f"{removed} of {len(before.names):,} templates removed, of {list_names(people)}\n{len(after.names):,} templates of "
        f"{len(after.people):,} people multiplied by the change of the embedding: cosine mean {drift['mean_cosine']:.3f}, least "
        f"{drift['least_cosine']:.3f} with the former ones\nSHA-256 before: {digest}"
    )
    if not removed:
        console.print(f"Warning: these names are not among those of the store, e.g. {list_names(before.people, 3)}")
    receipt: dict[str, Any] = {
        "format": FORMAT,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "before": {"sha256": digest, "templates": len(before.names), "people": len(before.people)},
        "after": {"sha256": None, "templates": len(after.names), "people": len(after.people)},
        "removed": {"templates": removed, "people": len(named)},
        "cosine": drift,
        "models": {row: describe_model(path, Path())["tensors_sha256"] for row, path in paths.items()},
    }
    if options["dry_run"]:
        console.print("Dry run: nothing was written")
        return receipt
    out = Path(options["out"] or store)
    after.save(out)
    receipt["after"]["sha256"] = file_sha256(out)
    save_json(receipt, out.with_name(f"{out.name}.json"))
    console.print(
        f"SHA-256 after:  {receipt['after']['sha256']}\nWritten: {short(out)}, and the receipt {out.name}.json"
    )
    if out != store and removed:
        console.print(f"Not deleted: {short(store)} still holds {removed} templates of removed people (biometric data)")
    return receipt


def _check_maker(store: Gallery, matrix: Tensor, ending: Tensor, path: Path) -> None:
    """Refuse templates that ``matrix`` has changed already, and those that are not ``ending``, the original's, times a vector."""
    unit = F.normalize(torch.from_numpy(np.asarray(store.embeddings, np.float64)))
    outside = int((_outside(unit, ending) > OUTSIDE).sum())
    if outside > SOME * len(unit):
        raise RequestError(
            f"{outside} of {len(unit)} templates in '{path}' cannot be the original's: they have parts in "
            "directions that an earlier removal projected out. Carry the store over to that model first"
        )
    inside = int((_outside(unit, matrix) < max(INSIDE, np.finfo(store.embeddings.dtype).eps)).sum())
    if inside > SOME * len(unit) and torch.linalg.matrix_rank(matrix, rtol=RANK) < len(matrix):
        raise RequestError(
            f"{inside} of {len(unit)} templates in '{path}' are the erased model's already: nothing of them lies "
            "along the directions that were projected out. A store is carried over once; give one that the original made"
        )


def _outside(templates: Tensor, matrix: Tensor) -> Tensor:
    """Compute the length of the part of each template ``(n, D)`` that lies outside of the range of a matrix ``(D, K)``."""
    svd = torch.linalg.svd(matrix, full_matrices=False)
    basis = svd.U[:, svd.S / svd.S[0] > RANK]
    return (templates - templates @ basis @ basis.T).norm(dim=1)
