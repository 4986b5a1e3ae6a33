"""Commands ``delete-tasks record verify|sign|keygen``."""

from pathlib import Path
from types import SimpleNamespace

from ...cli.command import DIR, FILE, Group, Output, argument, command, data, evaluation
from ...cli.options import DEVICE
from ...fileio.compute import flush_subnormals

NAMES = "Names of people, to see whether the record is about them; --rerun may need them."


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
    from ...display.terminal import say
    from .verify import FAILED, NOT_CHECKED, verify

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
    from .sign import sign

    print(f"Written: {sign(Path(args.folder), args.key)}")


@command(
    "keygen",
    "Make an Ed25519 key pair: KEY and KEY.pub.",
    argument("key", type=Output("KEY"), metavar="KEY", help="File of the private key."),
)
def keygen(args: SimpleNamespace) -> None:
    from .sign import make_keys

    print("Written: {}, {}".format(*make_keys(args.key)))


COMMAND = Group("record", "Check or sign the erasure record of a run.", [verify, sign, keygen])
