"""Reading weights without running code from the file, and writing files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import CheckpointMismatchError, OutputError, RequestError, UnsafeCheckpointError, first_line
from .interrupts import raise_lost
from .workdir import TEMPORARY, claimed, holds_files

PICKLE_OPT_IN = "DELETE_TASKS_ALLOW_PICKLE"


def load_file(path: str | os.PathLike[str], *, allow_pickle: bool | None = None) -> Any:
    """Read a checkpoint file onto the CPU; the one place in the package that does.

    Args:
        path: A ``.safetensors`` file or anything ``torch.save`` wrote.
        allow_pickle: Run the code that a pickled checkpoint may hold. ``None`` asks the environment variable
            ``DELETE_TASKS_ALLOW_PICKLE`` (set to ``1``). Only for files whose author you trust.

    Returns:
        What the file holds: for safetensors a flat dict of tensors.

    Raises:
        FileNotFoundError: There is no such file.
        UnsafeCheckpointError: The file holds objects that only unpickling, i.e. running code, can restore.
    """
    return _content(Path(path), None, allow_pickle)


def load_once(path: str | os.PathLike[str]) -> Any:
    """Read a checkpoint file as :func:`load_file`, from the disk the first time alone, and take its digest from the same bytes.

    A run asks for its original's weights to check them, to start, as the teacher and for the record. The last two files are kept;
    one that has changed on the disk is read anew. Nothing may change the tensors.
    """
    path = Path(path)
    state = _state(path)
    if state not in _KEPT:
        data = path.read_bytes() if path.is_file() else b""
        content = _content(path, data, None)
        _DIGESTS[state] = hashlib.sha256(data).hexdigest()
        for old in list(_KEPT)[: len(_KEPT) - 1]:
            del _KEPT[old]
        _KEPT[state] = content
    return _KEPT[state]


# By what a file is on the disk: what it holds, and its digest.
_KEPT: dict[Any, Any] = {}
_DIGESTS: dict[Any, str] = {}


def _state(path: Path) -> Any:
    """Which file a path is, and since when; another object each time if there is none."""
    try:
        found = path.stat()
    except OSError:
        return object()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _content(path: Path, data: bytes | None, allow_pickle: bool | None) -> Any:
    """What a checkpoint file holds; ``data`` are its bytes, if they are read already."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at '{path}'; give the path of an existing .pth, .pt or .safetensors file"
        )
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load, load_file

        try:
            return load_file(path, device="cpu") if data is None else load(data)
        except SafetensorError as error:
            raise UnsafeCheckpointError(
                f"'{path}' cannot be read as safetensors ({error}). It is damaged, or another kind of file under that name; get "
                "it again"
            ) from error
    if allow_pickle is None:
        allow_pickle = os.environ.get(PICKLE_OPT_IN) == "1"
    source: Any = path if data is None else io.BytesIO(data)
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        raise_lost(error)
        if allow_pickle:
            return torch.load(path if data is None else io.BytesIO(data), map_location="cpu", weights_only=False)
        raise UnsafeCheckpointError(
            f"'{path}' cannot be read as plain weights ({first_line(error)}). It is damaged, or it needs pickle, which can run "
            f"any code. Ask for a state dict or a .safetensors file, or, if you trust its author, set {PICKLE_OPT_IN}=1."
        ) from error


def state_dict_of(checkpoint: Any, source: str = "the checkpoint") -> dict[str, Tensor]:
    """Find the weights in a loaded checkpoint: the dict itself or under a usual key, 'module.' prefixes taken off.

    Raises:
        CheckpointMismatchError: There is no dict of tensors in it.
    """
    for key in ("state_dict", "model", "net", "model_state_dict"):
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    if not isinstance(checkpoint, Mapping) or not any(isinstance(value, Tensor) for value in checkpoint.values()):
        raise CheckpointMismatchError(
            f"{source} holds no weights: expected a dict of tensors, or one under 'state_dict', 'model' or 'net'"
        )
    tensors = {name: value for name, value in checkpoint.items() if isinstance(value, Tensor)}
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> Any:
    """Load a file's weights into ``model``, every name and shape matching.

    Returns:
        The loaded file, for its meta data.

    Raises:
        CheckpointMismatchError: Names or shapes differ; the message lists the first of them.
    """
    checkpoint = load_once(path)
    load_state(model, state_dict_of(checkpoint, f"'{path}'"), f"'{path}'")
    return checkpoint


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy ``state`` into ``model`` strictly.

    Raises:
        CheckpointMismatchError: As :func:`load_weights`.
    """
    own = model.state_dict()
    problems = [f"missing: {name}" for name in own if name not in state]
    problems += [f"unexpected: {name}" for name in state if name not in own]
    problems += [
        f"shape of {name}: file {tuple(state[name].shape)}, model {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise CheckpointMismatchError(
            f"{source} does not fit {type(model).__name__}: {shown}. Use the config or architecture the file was made with."
        )
    model.load_state_dict(dict(state), strict=True)


def refuse_non_finite(state: Mapping[str, Tensor], instead: str) -> None:
    """Refuse weights with nan or infinity in them: nobody is to find such a model. The message says what to use ``instead``.

    Raises:
        RequestError: There is one.
    """
    wrong = [name for name, value in state.items() if not bool(value.isfinite().all())]
    if wrong:
        raise RequestError(
            f"the run ended with nan or infinity in {', '.join(wrong[:3])}; nothing is published. Use {instead}"
        )


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, as hex; of a file that has not changed since it was asked for, read once."""
    state = _state(Path(path))
    if state not in _DIGESTS:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        _DIGESTS[state] = digest.hexdigest()
    return _DIGESTS[state]


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and values, in order of name: the same weights give the same digest in any file."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], size: int = 0) -> Iterator[Path]:
    """A temporary path in the same folder, which takes the place of ``path`` once the block is left without an error. ``size``
    is what it will take, about, in bytes, for the message where the disk is full.

    The file follows the umask. A claimed work dir notes it as this run's.

    Raises:
        OutputError: It cannot be written; nothing is left of it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        owner = claimed(path)
        if owner is not None:
            owner.own(path)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(why_not_written(path, error, size)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to write into that is called ``path`` once the block is left without an error, so that no half one is ever there.

    A folder that holds something already is written into as it is.

    Raises:
        OutputError: It cannot be made or renamed; nothing is left of it.
    """
    path = Path(path)
    if holds_files(path):
        yield path
        return
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(why_not_written(path, error, 0)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def why_not_written(path: Path, error: OSError, size: int) -> str:
    text = f"cannot write '{path}': {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        there = next(part for part in path.resolve().parents if part.exists())
        needed = f"about {max(size / 2**20, 0.1):.1f} MiB are needed, " if size else ""
        text += (
            f" ({needed}{shutil.disk_usage(there).free / 2**20:.1f} MiB are free); make room, or give another folder"
        )
    return text


class _Checked:
    """A file that remembers why a write failed: torch.save reports a full disk as an error of its own format."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _write(path: str | os.PathLike[str], write: Callable[[Any], Any], size: int) -> None:
    with replacing(path, size) as temporary, open(temporary, "xb") as file:
        checked = _Checked(file)
        try:
            write(checked)
        except RuntimeError:
            if checked.error is not None:
                raise checked.error from None
            raise
        file.flush()
        os.fsync(file.fileno())


def save_file(content: Any, path: str | os.PathLike[str]) -> None:
    """``torch.save`` (or safetensors, by suffix) to a temporary file in the same folder, then rename over ``path``."""
    if Path(path).suffix == ".safetensors":
        from safetensors.torch import save

        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in content.items()})
        _write(path, lambda file: file.write(data), len(data))
    else:
        _write(path, lambda file: torch.save(content, file), _size_of(content))


def _size_of(content: Any) -> int:
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, Mapping):
        return sum(map(_size_of, content.values()))
    return sum(map(_size_of, content)) if isinstance(content, (list, tuple)) else 0


def save_bytes(data: bytes, path: str | os.PathLike[str]) -> None:
    """Write bytes whole or not at all."""
    _write(path, lambda file: file.write(data), len(data))


def save_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write UTF-8 text whole or not at all; bytes of file names that are no UTF-8 (lone surrogates) are written escaped."""
    save_bytes(text.encode(errors="backslashreplace"), path)


def save_json(content: Any, path: str | os.PathLike[str]) -> None:
    """Write JSON whole or not at all; a NaN is an error, since "not measured" is ``null``."""
    save_text(json.dumps(content, indent=2, allow_nan=False) + "\n", path)
