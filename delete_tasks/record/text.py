"""Text that can be written anywhere: lone surrogates (file names that are not UTF-8), control characters, line breaks."""

from __future__ import annotations

import json
import re

# What splits lines somewhere (str.splitlines, browsers, editors) and JSON leaves as it is; and halves of characters.
_LEFT = re.compile("[\u007f-\u009f\u2028\u2029\ud800-\udfff]")
_UNFIT = re.compile("[\\x00-\\x08\\x0b-\\x1f\u007f-\u009f\ud800-\udfff]")  # for a terminal or a page


def printable(text: str) -> str:
    """``text`` with lone surrogates and control characters written as ``\\udcff``, so that it can be printed and encoded; and so
    that what a stranger's record holds does not steer the terminal."""
    return _UNFIT.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def one_line(text: str) -> str:
    """``text`` on one line: line breaks, control characters, quotes, backslashes and lone surrogates as JSON escapes them."""
    return _LEFT.sub(lambda match: f"\\u{ord(match.group()):04x}", json.dumps(text, ensure_ascii=False)[1:-1])


def from_line(line: str) -> str:
    """What :func:`one_line` was given.

    Raises:
        ValueError: It never gave this.
    """
    return json.loads(f'"{line}"')
