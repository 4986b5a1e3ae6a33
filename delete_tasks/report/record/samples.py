"""samples.txt: one line, ``KIND<tab>NAME``, for each sample that a run read or was measured on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...display.terminal import from_line, one_line
from ...errors import RequestError
from ...fileio.atomic import save_text
from ...fileio.inputs import read_bytes
from .people import hashed

SAMPLES = "samples.txt"
FORGET_SET = "forget set"


def write_samples(path: Path, names: Mapping[str, Sequence[str]], salt: bytes | None) -> None:
    """Write the list, with a ``salt`` as salted hashes of the names, sorted, since the names' order tells whose they are."""
    lines = [
        f"{one_line(kind)}\t{name}\n"
        for kind, listed in names.items()
        for name in (map(one_line, listed) if salt is None else sorted(hashed(name, salt) for name in listed))
    ]
    save_text("".join(lines), path)


class SampleList:
    """List of samples from samples.txt (``salt``: of hashed names); a malformed line raises :class:`RequestError`."""

    def __init__(self, path: Path, salt: bytes | None) -> None:
        self.path, self.salt = path, salt
        self._lines: dict[str, list[str]] = {}
        for line in read_bytes(path).decode("utf-8", "backslashreplace").split("\n")[:-1]:
            kind, _, name = line.partition("\t")
            try:
                self._lines.setdefault(from_line(kind), []).append(name if salt is not None else from_line(name))
            except ValueError as error:
                raise RequestError(f"'{path}': cannot read the line {line!r}") from error

    def places(self, kind: str, names: Sequence[str]) -> list[int]:
        """Return the indices in ``names`` of the samples of a kind, in the list's order, or ascending if it is of hashed names;
        raise :class:`RequestError` if one is missing or a name occurs twice."""
        indices: dict[str, int] = {}
        for index, name in enumerate(names):
            key = name if self.salt is None else hashed(name, self.salt)
            if indices.setdefault(key, index) != index:
                raise RequestError(f"the data hold two samples with the name '{name}', so the listed one is ambiguous")
        listed = self._lines.get(kind, [])
        missing = sum(name not in indices for name in listed)
        if missing:
            raise RequestError(f"{missing} of {len(listed)} samples ({kind}) are not in the data any more")
        places = [indices[name] for name in listed]
        return places if self.salt is None else sorted(places)
