"""Matplotlib figures of commands."""

import os
from pathlib import Path
from typing import Any

from ..errors import require
from ..fileio.atomic import replacing


def new_figure(size: tuple[float, float], extra: str, dpi: int = 110) -> Any:
    """Make an empty figure of ``size`` inches, without a display; ``extra`` is the extra that installs matplotlib."""
    require("matplotlib", extra)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: str | os.PathLike[str], **options: Any) -> None:
    """Write a figure whole or not at all, in the format of the suffix; ``options`` are those of ``savefig``."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.removeprefix("."), **options)
