"""Class names that a config declares, read without importing the modules that it names."""

import ast
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..fileio.inputs import read_text


def declared_classes(cfg: Any, *packages: str) -> list[str]:
    """Find the class names of a config's training data, as literals: in its ``metainfo``, or as ``METAINFO`` in the source of the
    dataset's class, which is beside the config, or in the module or folder ``datasets`` of an installed package. Return an empty
    list if there are none, or the config is malformed."""
    try:
        data = cfg.train_dataloader.dataset
        while "dataset" in data:  # a wrapper, such as RepeatDataset
            data = data.dataset
        names = (data.get("metainfo") or {}).get("classes")
        if names is None:
            imports = cfg.get("custom_imports", {}).get("imports", ())
            paths = [Path(cfg.filename).with_name(f"{name}.py") for name in imports]
            for folder in (Path(spec.origin or "").parent for spec in map(find_spec, packages) if spec):
                paths += [folder / "datasets.py", *folder.glob("datasets/*.py")]
            names = _classes_of(data.type.rpartition(".")[2], [read_text(path) for path in paths if path.is_file()])
    except Exception:  # a later check says what is wrong
        return []
    return list(names) if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else []


def _classes_of(kind: str, sources: Iterable[str]) -> Any:
    """Read the class names in METAINFO of a dataset class, or of its first base."""
    nodes: list[Any] = ast.parse(next(text for text in sources if f"class {kind}(" in text)).body
    (node,) = (node for node in nodes if isinstance(node, ast.ClassDef) and node.name == kind)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__" and "metainfo" in ast.unparse(item):
            raise ValueError("its constructor may set other names")
        if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "METAINFO":
            value: Any = item.value
            if isinstance(value, ast.Call):  # dict(classes=...)
                return ast.literal_eval(next(key.value for key in value.keywords if key.arg == "classes"))
            return ast.literal_eval(value.values[[key.value for key in value.keys].index("classes")])
    return _classes_of(ast.unparse(node.bases[0]), sources)
