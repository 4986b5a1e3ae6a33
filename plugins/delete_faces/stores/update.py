"""The command ``faces update``: carry stores of templates over from a model to the erased one, without photos."""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from delete_images.models.model_file import load_model
from delete_tasks.display.terminal import short
from delete_tasks.errors import USER_ERRORS, RequestError, first_line, list_names, require
from delete_tasks.fileio.atomic import refuse_existing, save_json, save_text
from delete_tasks.fileio.digests import describe_model
from delete_tasks.fileio.inputs import file_sha256, read_text, refuse_inputs

from ..gallery.gallery import Gallery, check_size, find_names
from ..network import check_face_network
from ..photos import person_folders
from ..projection import matrix_between
from . import digest_of, open_store, shown

FORMAT = "delete-tasks store update 2"
RANK = 1e-4  # relative size up to which a singular value is zero
INSIDE, OUTSIDE = 1e-4, 1e-2  # part of a template of length 1 up to which it is rounding, and from which it is none
SOME = 0.1  # share of a store; a projection of one direction leaves one template in a thousand as it is
PAGE = Path(__file__).with_name("receipt.html")


def carry_over(
    options: Mapping[str, Any],
    text: str,
    gone: Sequence[str],
    known: Sequence[str],
    matrix: Tensor,
    ending: Tensor,
    console: Console,
) -> dict[str, Any]:
    """Change one store, unless it is a dry run, and return its part of the receipt. The original knows the people ``known``, the
    erased model all but ``gone``; ``matrix`` and ``ending`` are those of :func:`matrix_between`."""
    with open_store(text, options["out"], options["allow_import"]) as store:
        path, out = (getattr(store, name, None) for name in ("path", "out"))
        before = store.read()
        check_size(before, len(matrix), shown(text))
        _check_maker(before, matrix, ending, shown(text))
        named = [name for found in find_names(before.people, gone) for name in found]
        others = before.without(named)
        if not others.names:
            raise RequestError(f"'{shown(text)}' holds templates of the removed people alone; delete it")
        after, drift = others.transform(matrix)
        spelt = find_names(known, before.people)
        orphans = [name for name, found in zip(before.people, spelt, strict=True) if not found]
        leg: dict[str, Any] = {
            "store": shown(text),
            "changed": not options["dry_run"],
            "why": "a dry run changes nothing" if options["dry_run"] else None,
            "before": _described(before, digest_of(path, before)),
            "after": _described(after, None),
            "removed": {"templates": len(before.names) - len(after.names), "people": len(named)},
            "unknown": {"templates": len(before.only(orphans).names), "people": len(orphans)},
            "cosine": drift,
        }
        _say(console, leg, orphans, gone, before.people)
        if not options["dry_run"]:
            store.delete(named)
            store.replace(after.embeddings)
            after = store.read() if out is None else after  # a database may have rounded
    if not options["dry_run"]:
        leg["after"]["sha256"] = digest_of(out, after)
        console.print(f"SHA-256 after:  {leg['after']['sha256']}")
        if path is not None and out != path and (count := leg["removed"]["templates"]):
            held = f"{count} templates of removed people (biometric data)"
            console.print(f"Not deleted: {short(path)} still holds {held}")
    return leg


def check_places(args: SimpleNamespace) -> str | None:
    """Choose the path of the receipt (None for a dry run); refuse missing files, outputs that are inputs or exist, and none."""
    files = [text for text in args.stores if text.endswith((".npz", ".npy"))]
    missing = [text for text in files if not os.path.isfile(text)]
    if missing:
        raise RequestError(f"no store at '{missing[0]}'; give the path of an existing file of templates")
    if args.out is None and not args.overwrite and not args.dry_run:
        raise RequestError("nothing says where to write; give --out NEW.npz, or --overwrite to replace each STORE")
    if args.out is not None and len(args.stores) > 1:
        raise RequestError(f"--out is for one store, got {len(args.stores)}; update them one by one, or in place")
    for out in files if args.out is None else [args.out]:
        if args.out is None and os.path.islink(out):
            raise RequestError(f"'{out}' is a link; give the file itself, '{os.path.realpath(out)}'")
        refuse_inputs(out, [], [args.original, args.erased])
        others = files if args.out else []
        refuse_existing(out, others, args.overwrite or not args.out, os.path.splitext(files[0])[1] if files else "")
    if args.dry_run:
        return None
    if args.receipt is None and (len(args.stores) > 1 or ":" in args.stores[0]):
        raise RequestError("several stores, or one that is no file, need --receipt FILE.json: what was done with each")
    receipt = args.receipt or f"{args.out or args.stores[0]}.json"
    for path, suffix in ((receipt, ".json"), (os.path.splitext(receipt)[0] + ".html", ".html")):
        refuse_inputs(path, files, [args.original, args.erased])
        refuse_existing(path, files, args.overwrite, suffix=suffix)
    return receipt


def update_stores(options: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Change ``stores`` to what the erased model makes, each in one transaction, and write the receipt, as JSON and as a page;
    return it. A single store that cannot be changed is refused; of several, the receipt says why it was not. Refuse models
    without a matrix between them; stores of templates that the original did not make are not changed."""
    paths = {row: options[row] for row in ("original", "erased")}
    (original, spec), (erased, left) = (load_model(path, options["allow_import"]) for path in paths.values())
    first, last = (check_face_network(each, "the model").eval().embedder for each in (original, erased))
    people = [name for name in spec.classes if name not in left.classes]
    if not people:
        raise RequestError(
            f"'{paths['erased']}' knows all {len(spec.classes)} people of '{paths['original']}'; give the model before the "
            "removal as --original, and that of the run, W/erased, as --erased"
        )
    matrix, ending = matrix_between(first, last, (3, *spec.preprocessing.size))
    legs = []
    for text in options["stores"]:
        try:
            legs.append(carry_over(options, text, people, spec.classes, matrix, ending, console))
        except USER_ERRORS as error:
            if len(options["stores"]) == 1:
                raise
            legs.append({"store": shown(text), "changed": False, "why": first_line(error)})
            console.print(f"Not changed: {shown(text)}: {first_line(error)}")
    record = Path(paths["erased"]).parent / "record.json"
    receipt: dict[str, Any] = {
        "format": FORMAT,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "people": len(people),
        "models": {row: describe_model(path, Path())["tensors_sha256"] for row, path in paths.items()},
        "record_sha256": file_sha256(record) if record.is_file() else None,
        "stores": legs,
        "without_template": _without_template(options, console),
    }
    if options["dry_run"]:
        console.print("Dry run: nothing was written")
        return receipt
    save_json(receipt, options["receipt"])
    page, jinja2 = Path(options["receipt"]).with_suffix(".html"), cast(Any, require("jinja2", "record"))
    strict = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    save_text(jinja2.Environment(autoescape=True, **strict).from_string(read_text(PAGE)).render(r=receipt), page)
    console.print(f"Receipt: {short(options['receipt'])}, and {page.name} to read")
    return receipt


def _described(gallery: Gallery, sha256: str | None) -> dict[str, Any]:
    return {"sha256": sha256, "templates": len(gallery.names), "people": len(gallery.people)}


def _say(
    console: Console, leg: Mapping[str, Any], orphans: Sequence[str], gone: Sequence[str], named: Sequence[str]
) -> None:
    before, after, removed, drift = (leg[key] for key in ("before", "after", "removed", "cosine"))
    console.print(
        f"{leg['store']}: {removed['templates']} of {before['templates']:,} templates removed, of {list_names(gone)}\n"
        f"{after['templates']:,} templates of {after['people']:,} people multiplied by the change of the embedding: cosine mean "
        f"{drift['mean_cosine']:.3f}, least {drift['least_cosine']:.3f} with the former ones\nSHA-256 before: {before['sha256']}"
    )
    if not removed["templates"]:
        console.print(f"Warning: these names are not among those of the store, e.g. {list_names(named, 3)}")
    if orphans:
        console.print(f"{leg['unknown']['templates']} templates of people unknown to the model: {list_names(orphans)}")


def _without_template(options: Mapping[str, Any], console: Console) -> int | None:
    """Count the people with photos and without a template in any store that could be read; None without ``photos``."""
    if options["photos"] is None:
        return None
    named: set[str] = set()
    for text in options["stores"]:
        try:
            with open_store(text, allow_import=options["allow_import"]) as store:
                named |= set(store.people())
        except USER_ERRORS:
            continue  # the receipt says why
    folders = person_folders(options["photos"], "train")
    lacking = [name for name, found in zip(folders, find_names(named, folders), strict=True) if not found]
    if lacking:
        console.print(f"{len(lacking)} people have photos and no template: {list_names(lacking)}")
    return len(lacking)


def _check_maker(store: Gallery, matrix: Tensor, ending: Tensor, path: str) -> None:
    """Refuse templates that ``matrix`` has changed already, and those that are not ``ending``, the original's, times a vector."""
    unit = nn.functional.normalize(torch.from_numpy(np.asarray(store.embeddings, np.float64)))
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
