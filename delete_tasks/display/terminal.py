"""Output to the terminal: consoles without markup, since names of classes, files and people may look like it, filters
for messages of libraries, and escapes for lone surrogates (file names that are not UTF-8) and control characters."""

import contextlib
import io
import itertools
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from ..fileio.processes import process_rank

WIDTH = 120  # columns, if the output is no terminal and COLUMNS is not set
# Libraries with warnings that a user cannot act on: the log has them, and the terminal with --verbose.
LIBRARIES = ("albumentations", "cv2", "facenet_pytorch", "joblib", "matplotlib", "mmcv", "mmengine", "mmseg", "numpy", "PIL",
             "pytorch_grad_cam", "safetensors", "scipy", "sklearn", "threadpoolctl", "timm", "torch", "torchvision",
             "transformers")  # fmt: skip
CHATTER = ("Could not import OneDL",)  # printed by libraries while they are imported
CHATTER_WARNING = "Fail to import ``MultiScaleDeformableAttention``"  # of mmcv-lite, which has no compiled operations
# Line separators (of str.splitlines, browsers, editors) that JSON does not escape, and lone surrogates.
_LEFT = re.compile("[\u007f-\u009f\u2028\u2029\ud800-\udfff]")
# For a terminal or a page: also characters that reverse the text after them.
_UNFIT = re.compile("[\\x00-\\x08\\x0b-\\x1f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

LINE = "%(levelname)s: %(message)s"  # of the log in a terminal
STAGES = ("checks", "forget set", "unlearning", "table", "picture", "audit", "record")  # of a command that erases
PACKAGE = Path(__file__).resolve().parents[1]

_quiet = False
_stage = 0  # number of the current one of STAGES; 0: another command runs
_log: logging.Logger | None = None  # with the run's log file
_announced: list[tuple[Console, str]] = []  # not printed yet


class _Console(Console):
    """Console that prints the announced lines first, escapes control characters, and breaks lines only at spaces, for a width
    given by the terminal or ``COLUMNS``. With ``soft_wrap`` a text is a command to copy: a broken line ends in a backslash."""

    broken = False

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        begin()
        texts = [_laid_out(item, self.width if self.broken else None, " \\" if soft_wrap else "") for item in objects]
        plain = all(isinstance(item, (str, Text)) for item in texts)
        super().print(*texts, soft_wrap=True if plain else soft_wrap, **options)

    def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    @Console.file.getter  # type: ignore[attr-defined]
    def file(self) -> IO[str]:
        file = super().file  # a progress bar's, around the command's
        return getattr(file, "rich_proxied_file", file)


def _laid_out(item: Any, width: int | None, end: str) -> Any:
    """Escape and wrap a text; other renderables are returned as they are."""
    if isinstance(item, Text):
        return Text(wrapped(printable(item.plain), width, end), style=item.style)
    return wrapped(printable(item), width, end) if isinstance(item, str) else item


def wrapped(text: str, width: int | None, end: str = "") -> str:
    """Break a text's lines at spaces alone, before ``width`` columns (None: no limit) are full, and add ``end`` at each break."""
    lines = []
    for line in text.split("\n"):
        lines.append("")
        for word in re.findall(r"\s*\S+|\s+$", line):
            if width is not None and lines[-1] and cell_len(lines[-1] + word + end) > width:
                lines[-1] += end
                lines.append(word.lstrip())
            else:
                lines[-1] += word
    return "\n".join(lines)


def short(path: str | os.PathLike[str]) -> str:
    """Make a path relative if it is inside the current folder."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def make_console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Make a console without markup, with a ``width`` or that of the terminal or of ``COLUMNS``, else 120 columns."""
    stream = sys.stderr if stderr else sys.stdout
    has_width = width is not None or os.environ.get("COLUMNS", "").isdecimal() or stream.isatty()
    width = width if has_width else WIDTH
    console = _Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)
    console.broken = has_width
    return console


def say(text: str) -> None:
    """Print a text on standard output."""
    make_console().print(text)


def announce(console: Console, lines: Sequence[str]) -> None:
    """Print lines before the next output of a command, so that a refused command prints its error only."""
    _announced.extend((console, line) for line in lines)
    if not _quiet:
        begin()


def begin() -> None:
    """Print the announced lines."""
    lines = list(_announced)
    _announced.clear()
    for console, line in lines:
        console.print(line)


def begin_stage(name: str) -> None:
    """Begin a stage of a command that erases; its number is in the titles of progress bars or, without these, is printed with its
    name. A command without the first stage has none, and a run within a later stage, e.g. of a row of the table, begins none."""
    global _stage
    number = STAGES.index(name) + 1
    if number == 1 or 0 < _stage < number:
        _stage, waits = number, bool(_announced)
        if process_rank() == 0 and not make_console(stderr=True).is_terminal:
            announce(make_console(), [f"{titled(name)}."])
        if not waits and number > 1:
            begin()


def titled(title: str) -> str:
    """Put the number of the stage, if there is one, before a title."""
    return f"Stage {_stage} of {len(STAGES)}: {title}" if _stage else title


def printable(text: str) -> str:
    """Escape what cannot be encoded or controls a terminal, lone surrogates and control characters, as ``\\udcff``."""
    return _UNFIT.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def one_line(text: str) -> str:
    """Put ``text`` on one line: escape line breaks, control characters, quotes, backslashes and lone surrogates as in JSON."""
    return _LEFT.sub(lambda match: f"\\u{ord(match.group()):04x}", json.dumps(text, ensure_ascii=False)[1:-1])


def from_line(line: str) -> str:
    """Restore the text of :func:`one_line`; raise ValueError for a line that it cannot return."""
    return json.loads(f'"{line}"')


def is_quiet() -> bool:
    """Return True inside :func:`quiet`, unless it is verbose."""
    return _quiet


@contextlib.contextmanager
def quiet(verbose: bool = False) -> Iterator[None]:
    """Hide the log and libraries' warnings from the terminal while a command runs, unless ``verbose``."""
    global _quiet, _log, _stage
    if verbose:
        yield
        _stage = 0
        return
    before, _quiet = _quiet, True
    show, last_resort = warnings.showwarning, logging.lastResort
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read by torch when it is imported

    def show_others(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
        # The user may request them by python -W or PYTHONWARNINGS. matplotlib gives its callers' file.
        if sys.warnoptions or not (from_library(filename) or Path(filename).is_relative_to(PACKAGE)):
            show(message, category, filename, *rest, **more)
        elif _log is not None:
            _log.warning("%s: %s: %s", filename, category.__name__, message, extra={"printed": True})

    warnings.showwarning = show_others
    logging.lastResort = _Unhandled()
    try:
        yield
    finally:
        _quiet, _log, _stage = before, None, 0
        logging.lastResort = last_resort
        _announced.clear()
        if warnings.showwarning is show_others:
            warnings.showwarning = show


def from_library(path: str) -> bool:
    """Return True if a source file belongs to an installed library of :data:`LIBRARIES`."""
    return any(folder == "site-packages" and name in LIBRARIES for folder, name in itertools.pairwise(Path(path).parts))


def hush(logger: logging.Logger) -> None:
    """Limit a logger's terminal output, not its files, to errors and to warnings of this package and users' code; files also take
    hidden warnings and other loggers' messages. Commands log messages that they print with ``extra={"printed": True}``."""
    global _log
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            _log = logger
        elif isinstance(handler, logging.StreamHandler):
            handler.addFilter(_is_visible)
            handler.setFormatter(logging.Formatter(LINE))


def _is_visible(record: logging.LogRecord) -> bool:
    by_others = from_library(record.pathname) or getattr(record, "printed", False)
    return record.levelno >= (logging.ERROR if by_others else logging.WARNING)


class _Unhandled(logging.Handler):
    """Handler of loggers without one, like Python's last resort, but libraries' warnings go to the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter(LINE))

    def emit(self, record: logging.LogRecord) -> None:
        if _is_visible(record):
            print(self.format(record), file=sys.stderr)
        if _log is not None:
            record.printed = True
            _log.handle(record)


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Hide known messages and warnings of libraries while they are imported."""
    caught = io.StringIO()
    try:
        with contextlib.redirect_stdout(caught), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=CHATTER_WARNING)
            yield
    finally:
        lines = [line for line in caught.getvalue().splitlines() if line.strip() not in CHATTER]
        if lines:
            print("\n".join(lines))
