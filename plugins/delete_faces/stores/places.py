"""Outputs of ``faces update``, checked before anything is read."""

import os
from types import SimpleNamespace

from delete_tasks.errors import RequestError
from delete_tasks.fileio.atomic import refuse_existing
from delete_tasks.fileio.inputs import refuse_inputs


def check_places(args: SimpleNamespace) -> str | None:
    """Choose the path of the receipt (None for a dry run); refuse missing files, outputs that are inputs or exist, and none."""
    files = [text for text in args.stores if text.endswith((".npz", ".npy"))]
    missing = [text for text in files if not os.path.isfile(text)]
    if missing:
        raise RequestError(f"no store at '{missing[0]}'; give the path of an existing file of templates")
    if args.out is None and not args.overwrite and not args.dry_run:
        raise RequestError(
            "nothing says where to write; give --out NEW.npz, or --overwrite to replace each STORE itself"
        )
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
