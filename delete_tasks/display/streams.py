"""Standard streams of a command: no control character of a name or a file reaches the terminal, and an output that cannot be
written (``| head``, ``>&-``) ends neither the work nor the record."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

from .terminal import printable


class Lasting:
    """Stream that drops all text after the first that cannot be written; ``error`` is the reason, unless the reader ended."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        with self._dropping():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self.stream.flush()

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: the terminal is closed
                self.error = error
            with contextlib.suppress(OSError, ValueError):  # not a file of the operating system
                # Also for libraries and child processes, and for what the stream still holds.
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.stream.fileno())
                os.close(null)
                self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Escaped(Lasting):
    """Stream for ``print``, warnings and tracebacks; consoles escape texts themselves and write to ``rich_proxied_file``."""

    def __init__(self, stream: Any) -> None:
        self.rich_proxied_file = Lasting(stream)
        super().__init__(self.rich_proxied_file)

    def write(self, text: str) -> int:
        self.stream.write(printable(text))
        return len(text)


@contextlib.contextmanager
def guarded() -> Iterator[Lasting]:
    """Guard the standard streams inside the block, and after it if it fails, for the traceback; yield standard output. A
    descriptor that is closed is opened on the null device, since the next file of the command would take its number. Characters
    that the terminal's encoding lacks are escaped."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    before = sys.stdout, sys.stderr
    for stream in before:
        with contextlib.suppress(AttributeError, OSError):  # None, not a text file, or already without a reader
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    guards = [Escaped(stream or open(os.devnull, "w")) for stream in before]  # noqa: SIM115
    sys.stdout, sys.stderr = guards  # type: ignore[assignment]
    yield guards[0].rich_proxied_file
    for guard in guards:
        guard.flush()
    sys.stdout, sys.stderr = before
