"""Reading a config. A config is Python code: whoever runs a command with it runs that code."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import RequestError

KINDS = (".py", ".json", ".yaml", ".yml")


def load_config(path: str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> Any:
    """An mmengine config from a file, and the command line's changes to it.

    Args:
        path: Python, JSON or YAML. Python is run.
        changes: Dotted keys and values, as :func:`parse_options` gives them.

    Raises:
        FileNotFoundError: There is no such file.
        RequestError: It cannot be read, or a change does not fit it.
    """
    from mmengine.config import Config

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no config at '{path}'{' (it is a folder)' if path.is_dir() else ''}; give a .py file")
    if path.suffix not in KINDS:
        raise RequestError(f"'{path}' is no config: expected a file that ends in {', '.join(KINDS)}")
    try:
        cfg = Config.fromfile(path)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # a config is code and may raise anything, SystemExit included
        raise RequestError(f"the config '{path}' cannot be read: {_short(error)}. Mend it, or give another") from error
    if not len(cfg):
        raise RequestError(f"the config '{path}' is empty")
    if changes:
        try:
            cfg.merge_from_dict(dict(changes))
        except Exception as error:
            raise RequestError(f"--cfg-options do not fit '{path}': {_short(error)}") from error
    return cfg


def parse_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """``key=value`` words to a dict, values read as mmengine's DictAction reads them.

    Raises:
        RequestError: A word without '=', or a value that cannot be read.
    """
    from mmengine.config import DictAction

    reader = argparse.ArgumentParser(exit_on_error=False)
    reader.add_argument("--cfg-options", nargs="+", action=DictAction)
    found: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, _ = pair.partition("=")
        if not key or not equals:
            raise RequestError(f"--cfg-options takes KEY=VALUE, e.g. train_dataloader.batch_size=4; got '{pair}'")
        try:
            found |= reader.parse_args([f"--cfg-options={pair}"]).cfg_options
        except (Exception, SystemExit) as error:
            raise RequestError(f"--cfg-options: cannot read the value of '{pair}': {_short(error)}") from error
    return found


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
