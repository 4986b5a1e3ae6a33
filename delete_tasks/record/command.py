"""``delete-tasks record verify|sign|keygen``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..cli import use_device
from .text import printable

DESCRIPTION = "Check, or sign, the erasure record that a command wrote."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's sub-commands and their arguments."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = commands.add_parser("verify", help="compute again what can be, and fail on any difference")
    check.add_argument("folder", metavar="DIR", help="the work dir with record.json")
    check.add_argument("--rerun", action="store_true", help="measure the figures again, if nothing failed")
    check.add_argument("--name", nargs="+", default=[], help="of people, where --rerun asks for them")
    check.add_argument("--key", help="public key (PEM) to check the signature with")
    check.add_argument("--device", help="cpu, cuda or cuda:N, for --rerun")
    signing = commands.add_parser("sign", help="sign a record that is there")
    signing.add_argument("folder", metavar="DIR")
    signing.add_argument("--key", required=True, help="private key (PEM, Ed25519)")
    keygen = commands.add_parser("keygen", help="make an Ed25519 key pair: KEY and KEY.pub")
    keygen.add_argument("key", metavar="KEY")


def run(args: argparse.Namespace) -> int:
    """Carry the command out; 1 where a check failed."""
    if args.action == "keygen":
        from .sign import make_keys

        print("Written: {}, {}".format(*make_keys(args.key)))
        return 0
    if args.action == "sign":
        from .sign import sign

        print(f"Written: {sign(Path(args.folder), args.key)}")
        return 0
    use_device(args.device)
    from .verify import FAILED, NOT_CHECKED, verify

    if args.rerun:  # there is no Runner that would
        import torch

        torch.set_flush_denormal(True)
    checks = verify(Path(args.folder), args.key, args.rerun, args.name)
    for check in checks:
        print(printable(f"{check.status:<12} {check.what}{f': {check.why}' if check.why else ''}"))
    failed = [check for check in checks if check.status == FAILED]
    left = sum(check.status == NOT_CHECKED for check in checks)
    if failed:
        print(f"FAILED: {len(failed)} of {len(checks)} checks; the record or what it describes was changed")
        return 1
    print(
        f"Passed: {len(checks) - left} checks, {left} not checked. Digests tell accidental change; deliberate change only"
    )
    print("a detached signature does, checked with --key.")
    return 0
