"""Matplotlib figures of commands, with names in any script for which the system has a font."""

import contextlib
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import require
from ..fileio.atomic import replacing
from .terminal import printable

FONT = "DejaVu Sans"  # in matplotlib's package


def new_figure(size: tuple[float, float], extra: str, dpi: int = 110, layout: Any = "constrained") -> Any:
    """Make an empty figure of ``size`` inches, without a display; ``extra`` is the extra that installs matplotlib."""
    require("matplotlib", extra)
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout=layout, dpi=dpi)


def save_figure(figure: Any, path: str | os.PathLike[str], **options: Any) -> None:
    """Write a figure whole or not at all, in the format of the suffix; ``options`` are those of ``savefig``. Texts pass through
    :func:`drawn`, but for labels of ticks, which matplotlib makes anew."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text(drawn(text.get_text()))
        text.set_parse_math(False)  # a '$' in a name is a '$'
        font = _font_with(text.get_text())
        if font not in (None, FONT):
            text.set_fontfamily([*text.get_fontfamily(), font])
    with replacing(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.removeprefix("."), **options)


def drawn(text: str) -> str:
    """Replace characters that no font of the system has by '?', and escape control characters."""
    text = printable(text).replace("\t", " ")
    return text if _font_with(text) else "".join(letter if _font_with(letter) else "?" for letter in text)


def drawable(names: Sequence[str], kind: str = "class") -> list[str]:
    """Replace the names with characters that no font of the system has by ids, e.g. 'class 27'."""
    return [name if _font_with(printable(name)) else f"{kind} {number}" for number, name in enumerate(names)]


@functools.lru_cache(maxsize=4096)
def _font_with(text: str) -> str | None:
    """Find the family of a font with all that matplotlib's own lacks in ``text`` (nothing: its own); None if there is none."""
    from matplotlib import font_manager

    lacking = {ord(character) for character in text if not character.isspace()}
    lacking -= _characters_of(font_manager.findfont(FONT))
    if not lacking:
        return FONT
    for path in sorted(font_manager.findSystemFonts()):
        if lacking <= _characters_of(path):
            font_manager.fontManager.addfont(path)
            return str(font_manager.FontProperties(fname=path).get_name())
    return None


@functools.cache
def _characters_of(path: str) -> frozenset[int]:
    from matplotlib import font_manager

    with contextlib.suppress(Exception):  # a font that matplotlib cannot read
        font: Any = font_manager.get_font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    return frozenset()
