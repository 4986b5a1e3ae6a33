"""Detached Ed25519 signatures (RFC 8032, by the cryptography package) over record.sha256 and hence all files that it lists."""

import base64
import os
import shlex
from pathlib import Path
from typing import Any

from ...errors import RequestError, require
from ...fileio.atomic import save_text
from ...fileio.digests import SUMS, read_sums
from ...fileio.inputs import file_sha256, read_bytes, refuse_inputs
from .files import RECORD

SIGNATURE = f"{SUMS}.sig"


def _library() -> tuple[Any, Any]:
    require("cryptography", "record")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return serialization, ed25519


def make_keys(path: str) -> tuple[Path, Path]:
    """Write a private key to ``path`` (PEM, unencrypted, readable only by its owner) and its public key to ``path.pub``; raise
    :class:`RequestError` if a file exists, since a key that signed records must not be lost."""
    serialization, ed25519 = _library()
    private_path, public_path = Path(path), Path(f"{path}.pub")
    for existing in (private_path, public_path):
        if os.path.lexists(existing):
            raise RequestError(f"'{existing}' exists and is not overwritten; choose another name")
    key = ed25519.Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    private_path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(private_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    save_text(public.decode(), public_path)
    return private_path, public_path


def read_key(path: str, private: bool) -> Any:
    """Read a key; raise FileNotFoundError if it is missing, RequestError if it is of another kind or encrypted."""
    serialization, ed25519 = _library()
    from cryptography.exceptions import UnsupportedAlgorithm as unsupported

    if not Path(path).is_file():
        raise FileNotFoundError(f"no key at '{path}'; make a pair with: delete-tasks record keygen")
    try:
        state, data = os.stat(path), read_bytes(path)
    except OSError as error:
        raise RequestError(f"the key '{path}' cannot be read ({error.strerror})") from error
    if private and os.name == "posix" and state.st_uid == os.getuid() and state.st_mode & 0o077:  # as ssh
        mode = f"{state.st_mode & 0o777:04o}"
        raise RequestError(
            f"other users can read or change the private key '{path}' (mode {mode}); run: chmod 600 {shlex.quote(str(path))}, "
            "and sign with a new key if they may have read it"
        )
    kind = "private" if private else "public"
    expected = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    try:
        key = serialization.load_pem_private_key(data, None) if private else serialization.load_pem_public_key(data)
    except (ValueError, TypeError, unsupported) as error:
        wrong = f"is no readable {kind} key ({error})"
        raise RequestError(f"'{path}' {wrong}; expected unencrypted Ed25519 in PEM") from error
    if not isinstance(key, expected):
        raise RequestError(f"'{path}' holds a {type(key).__name__}; expected an Ed25519 {kind} key")
    return key


def sign(folder: Path, key: str) -> Path:
    """Sign ``folder/record.sha256`` with a private key; raise the errors of :func:`read_key`, :class:`FileNotFoundError` without
    a record, and :class:`RequestError` if a file has another digest than the one to sign."""
    private = read_key(key, private=True)
    if not (folder / SUMS).is_file():
        raise FileNotFoundError(f"no {SUMS} in '{folder}', so there is nothing to sign")
    refuse_inputs(folder / SIGNATURE, [key], [])
    try:
        sums = read_sums(folder)
        wrong = [name for name, digest in sums.items() if file_sha256(folder / name) != digest]
        wrong += [] if RECORD in sums else [f"no {RECORD}"]
    except (OSError, RequestError) as error:
        wrong = [str(error)]
    if wrong:
        raise RequestError(
            f"the record in '{folder}' is not signed, since its files do not fit {SUMS}: {', '.join(wrong)}. Put the files back "
            f"(this shows all differences): delete-tasks record verify {shlex.quote(str(folder))}"
        )
    save_text(_as_text(private.sign(read_bytes(folder / SUMS))), folder / SIGNATURE)
    return folder / SIGNATURE


def _as_text(signature: bytes) -> str:
    return base64.b64encode(signature).decode() + "\n"


def signature_holds(folder: Path, key: str) -> bool:
    """Return True if ``folder/record.sha256.sig`` is the signature of ``folder/record.sha256`` by this public key."""
    public = read_key(key, private=False)
    from cryptography.exceptions import InvalidSignature

    written = read_bytes(folder / SIGNATURE)
    try:
        signature = base64.b64decode(written.removesuffix(b"\n"), validate=True)
        public.verify(signature, read_bytes(folder / SUMS))
    except (InvalidSignature, ValueError):
        return False
    return written == _as_text(signature).encode()  # base64 has several ways to write some bytes
