"""Checkpoint files: weights are loaded without running code from the file."""

import hashlib
import io
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointMismatchError, RequestError, UnsafeCheckpointError, first_line, list_names
from .atomic import save_bytes
from .inputs import file_sha256 as file_sha256  # of weights, beside their loading
from .inputs import note_digest, read_bytes, refuse_special, version_of
from .processes import raise_lost

PICKLE_OPT_IN = "DELETE_TASKS_ALLOW_PICKLE"


def load_file(path: str | os.PathLike[str], *, allow_pickle: bool | None = None, data: bytes | None = None) -> Any:
    """Load a checkpoint, a ``.safetensors`` file or one written by ``torch.save``, onto the CPU, and return its content: for
    safetensors a flat dict of tensors. No other function of the package does. ``data`` are its bytes if they were read before.
    ``allow_pickle``, only for files whose author you trust, runs the code that a pickled checkpoint may hold; None reads the
    environment variable ``DELETE_TASKS_ALLOW_PICKLE`` (set to ``1``). Raise :class:`FileNotFoundError` without such a file,
    :class:`UnsafeCheckpointError` if it holds objects that only unpickling, i.e. running code, can restore."""
    path = Path(path)
    refuse_special(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at '{path}'; give an existing .pth, .pt or .safetensors file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors import torch as library

        try:
            return library.load_file(path, device="cpu") if data is None else library.load(data)
        except SafetensorError as error:
            raise UnsafeCheckpointError(
                f"'{path}' cannot be read as safetensors ({error}). It is damaged, or not a safetensors file; get it again"
            ) from error
    if allow_pickle is None:
        allow_pickle = os.environ.get(PICKLE_OPT_IN) == "1"
    try:
        return torch.load(path if data is None else io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise_lost(error)
        if allow_pickle:
            return torch.load(path if data is None else io.BytesIO(data), map_location="cpu", weights_only=False)
        raise UnsafeCheckpointError(
            f"'{path}' cannot be read as plain weights ({first_line(error)}). It is damaged, or it needs pickle, which can run "
            f"any code. Ask for a state dict or a .safetensors file, or, if you trust its author, set {PICKLE_OPT_IN}=1."
        ) from error


def load_once(path: str | os.PathLike[str]) -> Any:
    """Load a checkpoint file as :func:`load_file`, with its digest from the same bytes, and keep the last two files in memory: a
    run reads the original's weights several times. A file that has changed is read again. Do not change the tensors."""
    return _load_version(Path(path), version_of(path))


@lru_cache(maxsize=2)
def _load_version(path: Path, version: Any) -> Any:
    data = read_bytes(path) if path.is_file() else b""
    content = load_file(path, data=data)
    note_digest(version, data)
    return content


def state_dict_of(checkpoint: Any, source: str = "the checkpoint") -> dict[str, Tensor]:
    """Find the weights in a checkpoint, without 'module.' prefixes; raise :class:`CheckpointMismatchError` without tensors."""
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


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a file's weights into ``model``; raise :class:`CheckpointMismatchError` with the first names or shapes that differ."""
    load_state(model, state_dict_of(load_once(path), f"'{path}'"), f"'{path}'")


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy ``state`` into ``model`` strictly; raises as :func:`load_weights`."""
    target = model.state_dict()
    problems = [f"missing: {name}" for name in target if name not in state]
    problems += [f"unexpected: {name}" for name in state if name not in target]
    problems += [
        f"shape of {name}: file {tuple(state[name].shape)}, model {tuple(target[name].shape)}"
        for name in target
        if name in state and state[name].shape != target[name].shape
    ]
    if problems:
        raise CheckpointMismatchError(
            f"{source} does not fit {type(model).__name__}: {list_names(problems, 5, '; ', longest=None)}. Use the "
            "config or architecture the file was made with."
        )
    on_paper = any(tensor.is_meta for tensor in state.values())  # a network may hold tensors of its own beside those
    model.load_state_dict(dict(state), strict=True, assign=on_paper)


def refuse_non_finite(state: Mapping[str, Tensor], instead: str) -> None:
    """Raise RequestError for weights with nan or infinity; the message recommends what to use ``instead``."""
    if wrong := [name for name, value in state.items() if not value.isfinite().all()]:
        raise RequestError(
            f"the run ended with nan or infinity in {', '.join(wrong[:3])}; nothing is published. Use {instead}"
        )


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of names, dtypes, shapes and values, in order of name: it depends on the weights, not on the file."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_file(content: Any, path: str | os.PathLike[str]) -> None:
    """Write with ``torch.save``, or as safetensors if the suffix says so, whole or not at all."""
    if Path(path).suffix == ".safetensors":
        from safetensors.torch import save

        save_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in content.items()}), path)
    else:
        # In memory first: into a file, torch reports a full disk as an error of its own format.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        save_bytes(buffer.getbuffer(), path)
