"""Writing pictures: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .checkpoint import replacing


def save_figure(figure: Any, path: str | os.PathLike[str], **options: Any) -> None:
    """``figure.savefig(path, **options)`` of a matplotlib figure, by way of a temporary file; the format is the suffix."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.removeprefix("."), **options)
