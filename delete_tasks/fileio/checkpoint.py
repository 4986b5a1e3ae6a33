"""Checkpoint files: weights are read without running code from the file."""

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointMismatchError, RequestError, UnsafeCheckpointError, first_line, list_names
from .atomic import save_bytes, write_whole
from .processes import raise_lost

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
    """Identify the file at a path and its time of change; a new object each time if there is none."""
    try:
        found = path.stat()
    except OSError:
        return object()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _content(path: Path, data: bytes | None, allow_pickle: bool | None) -> Any:
    """Load the content of a checkpoint file; ``data`` are its bytes, if they are read already."""
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
        raise CheckpointMismatchError(
            f"{source} does not fit {type(model).__name__}: {list_names(problems, 5, '; ', longest=None)}. Use the "
            "config or architecture the file was made with."
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


def save_file(content: Any, path: str | os.PathLike[str]) -> None:
    """Write with ``torch.save``, or as safetensors by the suffix, whole or not at all."""
    if Path(path).suffix == ".safetensors":
        from safetensors.torch import save

        save_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in content.items()}), path)
    else:
        write_whole(path, lambda file: torch.save(content, file), _size_of(content))


def _size_of(content: Any) -> int:
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, Mapping):
        return sum(map(_size_of, content.values()))
    return sum(map(_size_of, content)) if isinstance(content, (list, tuple)) else 0
