"""Outputs of ``faces update``, checked before anything is read."""

import os
from types import SimpleNamespace

from delete_tasks.errors import RequestError
from delete_tasks.fileio.atomic import refuse_existing
from delete_tasks.fileio.inputs import refuse_inputs


def check_places(args: SimpleNamespace) -> str | None:
    """Choose the path of the receipt (None for a dry run); refuse outputs that are inputs or exist, and none at all."""
    stores = list(args.stores)
    files = [text for text in stores if os.path.exists(text)]
    if args.out is not None and len(stores) > 1:
        raise RequestError(f"--out is for one store, and {len(stores)} are given; update them one by one, or in place")
    if args.out is None and not args.overwrite and not args.dry_run:
        raise RequestError(
            "nothing says where to write; give --out NEW.npz, or --overwrite to replace each STORE itself"
        )
    for text in files if args.out is None else []:
        if os.path.islink(text):
            raise RequestError(f"'{text}' is a link; give the file itself, '{os.path.realpath(text)}'")
        refuse_inputs(text, [], [args.original, args.erased])
        refuse_existing(text, [], True)  # deletes what a killed command left
    if args.out is not None:
        refuse_inputs(args.out, [], [args.original, args.erased])
        refuse_existing(args.out, files, args.overwrite, suffix=os.path.splitext(stores[0])[1])
    if args.dry_run:
        return None
    receipt = args.receipt
    if receipt is None:
        if len(stores) > 1 or not files:
            raise RequestError("give --receipt FILE.json: what was done with each store")
        receipt = f"{args.out or stores[0]}.json"
    refuse_inputs(receipt, files, [args.original, args.erased])
    refuse_existing(receipt, files, args.overwrite or args.receipt is None, suffix=".json")
    return receipt
