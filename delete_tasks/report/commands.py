"""Commands ``delete-tasks card``, ``compare``, ``export`` and ``record verify|sign|keygen``."""

import os
from pathlib import Path
from types import SimpleNamespace

from ..cli.command import DATA_SET, DIR, FILE, MODEL_FOLDER, OUT, Group, Output, argument, command, data, evaluation
from ..cli.options import ALLOW_IMPORT, BY_NAME, DEVICE, overwrite, plugin_options
from ..errors import require
from ..fileio.atomic import refuse_existing
from ..fileio.compute import flush_subnormals

NAMES = "Names of people, to see whether the record is about them; --rerun may need them."


@command(
    "card",
    "Write a run's model with its card and record as a folder for the Hugging Face Hub.",
    argument("model", type=MODEL_FOLDER, metavar="MODEL", help="Work dir of a finished run, or the model in it."),
    data("--out", type=Output("DIR"), required=True, help="Folder to write."),
    data("--base-model", metavar="ID", help="The original's name on the Hub."),
    data("--dataset", metavar="ID", help="The test data's name on the Hub."),
    data("--license", metavar="ID", help="License of the erased model, e.g. apache-2.0."),
    overwrite("an earlier card"),
)
def card(args: SimpleNamespace) -> None:
    require("huggingface_hub", "hub")
    out = refuse_existing(args.out, args.reads, args.overwrite)
    from .card import write_card

    write_card(vars(args), out)


@command(
    "compare",
    "Print runs side by side.",
    argument(
        "runs",
        nargs=-1,
        required=True,
        type=DIR,
        metavar="DIR...",
        help="Work dirs of runs (results.json in each), of any tasks.",
    ),
    evaluation("--wide", is_flag=True, help="Print all columns of the table."),
)
def compare(args: SimpleNamespace) -> int:
    from ..display.terminal import make_console
    from .compare import notes, read_runs, tabulate

    runs = read_runs(args.runs)
    console = make_console(width=200 if args.wide else None if os.isatty(1) else 80)
    for number, task in enumerate(dict.fromkeys(run.task for run in runs)):
        group = [run for run in runs if run.task == task]
        if number:
            console.print()
        tabulate(group, args.wide).show(console, args.wide, wrap=True, hint="--wide shows them")
        for line in notes(group):
            console.print(line)
    return 0


@command(
    "export",
    "Write a model as an ONNX file that gives the same outputs.",
    argument("model", type=MODEL_FOLDER, metavar="MODEL", help="Work dir of a run, model folder, or checkpoint."),
    data("--onnx", type=OUT, required=True, help="File to write (.onnx), with a receipt beside it (.onnx.json)."),
    data("--data", type=DATA_SET, help="Samples to compare on, for the task's commands. [default: the record's]"),
    data("--classes", many=True, metavar="NAME...", help=f"Forgotten classes, {BY_NAME}. [default: the record's]"),
    data("--drop-output", is_flag=True, help="Leave out the outputs of the forgotten classes."),
    data("--task", metavar="TASK", help="Task of the model. [default: detected]"),
    *plugin_options(),
    overwrite("an existing file and its receipt"),
    ALLOW_IMPORT,
)
def export(args: SimpleNamespace) -> None:
    out = refuse_existing(args.onnx, args.reads, args.overwrite, ".onnx")
    receipt = refuse_existing(f"{out}.json", args.reads, args.overwrite)
    require("onnxscript", "export")
    from .export import export

    export(vars(args), out, receipt)


@command(
    "verify",
    "Check a record and its files; fail on any difference.",
    argument("folder", type=DIR, metavar="DIR", help="Work dir with record.json."),
    data("--key", type=FILE, help="Public key (PEM) to check the signature with."),
    evaluation("--rerun", is_flag=True, help="Measure the figures again if all other checks pass."),
    evaluation("--name", many=True, metavar="NAME...", help=NAMES),
    DEVICE,
)
def verify(args: SimpleNamespace) -> int:
    from ..display.terminal import say
    from .record.verify import FAILED, NOT_CHECKED, verify

    if args.rerun:  # like a Runner
        flush_subnormals()
    checks = verify(Path(args.folder), args.key, args.rerun, args.name)
    for check in checks:
        say(f"{check.status:<12} {check.what}{f': {check.why}' if check.why else ''}")
    failed = [check for check in checks if check.status == FAILED]
    unchecked = sum(check.status == NOT_CHECKED for check in checks)
    if failed:
        say(f"FAILED: {len(failed)} of {len(checks)} checks; the record or its files were changed")
        return 1
    say(f"Passed: {len(checks) - unchecked} checks, {unchecked} not checked.")
    by_signature = "deliberate change is detected only by a detached signature, checked with --key."
    say(f"Digests detect accidental change; {by_signature}")
    return 0


@command(
    "sign",
    "Sign a record.",
    argument("folder", type=DIR, metavar="DIR", help="Work dir with record.json."),
    data("--key", type=FILE, required=True, help="Private key (PEM, Ed25519)."),
)
def sign(args: SimpleNamespace) -> None:
    from .record.sign import sign

    print(f"Written: {sign(Path(args.folder), args.key)}")


@command(
    "keygen",
    "Make an Ed25519 key pair: KEY and KEY.pub.",
    argument("key", type=Output("KEY"), metavar="KEY", help="File of the private key."),
)
def keygen(args: SimpleNamespace) -> None:
    from .record.sign import make_keys

    print("Written: {}, {}".format(*make_keys(args.key)))


record = Group("record", "Check or sign the erasure record of a run.", [verify, sign, keygen])
