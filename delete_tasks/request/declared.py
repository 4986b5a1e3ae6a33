"""Class names that a config declares, read without importing the modules that it names."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..fileio.inputs import read_text


def declared_classes(cfg: Any, *packages: str) -> Sequence[str]:
    """Find the class names of a config's training data: in its ``metainfo``, or as ``METAINFO`` in the source of the dataset's
    class, which is beside the config or in the folder or module ``datasets`` of one of the ``packages``. Return an empty sequence
    if they are written in neither, or not literally."""
    data = _mapping(_mapping(cfg.get("train_dataloader")).get("dataset"))
    while isinstance(data.get("dataset"), Mapping):  # of a wrapper, such as RepeatDataset
        data = data["dataset"]
    names = _mapping(data.get("metainfo")).get("classes")
    kind = data.get("type")
    if names is None and isinstance(kind, str):
        names = _in_source(kind.rpartition(".")[2], [*_beside(cfg), *_installed(packages)])
    valid = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return list(names) if valid and names is not None else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _beside(cfg: Any) -> Iterator[Path]:
    imports = _mapping(cfg.get("custom_imports")).get("imports") or ()
    for name in [imports] if isinstance(imports, str) else imports:
        yield Path(cfg.filename).parent / f"{str(name).replace('.', '/')}.py"


def _installed(packages: Iterable[str]) -> Iterator[Path]:
    for spec in filter(None, map(find_spec, packages)):
        for folder in map(Path, spec.submodule_search_locations or ()):
            yield from (folder / "datasets.py", *sorted(folder.glob("datasets/*.py")))


def _in_source(kind: str, paths: Sequence[Path]) -> Any:
    """Read ``classes`` of METAINFO from the source of a class, or of its first base."""
    for path in filter(Path.is_file, paths):
        text = read_text(path, "replace")
        if f"class {kind}(" not in text:
            continue
        try:
            node = next(item for item in ast.parse(text).body if isinstance(item, ast.ClassDef) and item.name == kind)
        except (SyntaxError, StopIteration):
            return None
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__" and "metainfo" in ast.unparse(item):
                return None  # it may set other names
            if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "METAINFO":
                return _literal(item.value)
        return _in_source(node.bases[0].id, paths) if isinstance(node.bases[0], ast.Name) else None
    return None


def _literal(value: ast.expr) -> Any:
    pairs = (
        {key.value: item for key, item in zip(value.keys, value.values, strict=True) if isinstance(key, ast.Constant)}
        if isinstance(value, ast.Dict)
        else {key.arg: key.value for key in getattr(value, "keywords", ())}
    )
    try:
        return ast.literal_eval(pairs["classes"])
    except (KeyError, ValueError):
        return None
