"""Targets of fuzzing: strategies of broken inputs, and their readers. Runs in a child with limited memory, see test_fuzz.py."""

import json
import string
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
WORDS = st.text(alphabet=string.printable + "äß²\u2028\ud800🦌", max_size=24)


@st.composite
def edits(draw: Any, raw: bytes) -> bytes:
    """Draw bytes with some changed, inserted, removed or doubled, or with the end cut off."""
    data = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["set", "put", "take", "double", "cut", "zero"]))
        if kind == "set" and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == "put":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "take":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "double":
            data[at:at] = data[at : at + 60]
        elif kind == "cut":
            del data[at:]
        else:
            data[at : at + 16] = bytes(len(data[at : at + 16]))
    return bytes(data)


@st.composite
def fields(draw: Any, value: Any) -> Any:
    """Draw a JSON value with some fields changed or removed."""
    from mutate import GONE, changed, paths

    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(list(paths(value)) or [()]))
        if at:
            value = changed(value, at, draw(st.just(GONE) | JSON))
    return value


def dump(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


KEYS = ["split", "class", "without", "limit", "seed", "label", "x", "", "Limit"]
VALUES = st.sampled_from(["train", "test", "red", "green,blue", "0", "1", "5", "-1", "1e9", "nan", "", "%", "%2C", "%zz", "#1",
                          "²", "none", "999999999999"])  # fmt: skip
QUERY = st.lists(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(["=", "", "=="]), VALUES | WORDS).map("".join), max_size=4
).map("&".join)
TRIGGER = st.tuples(
    st.sampled_from(["badnets", "grid", "blended", "sig", "trojan", "l0", "l2", "wanet", "", "BADNETS"]),
    st.sampled_from([":", "", "::", "?"]),
    st.lists(
        st.tuples(
            st.sampled_from(["size", "pos", "value", "image", "alpha", "delta", "f", "strength", "mask", "k", "s", "seed", "",
            "x"]),
            st.sampled_from(["=", "", "=="]),
            st.sampled_from(["3", "0", "-1", "nan", "inf", "-inf", "1e30", "1e-30", "28,28", "-4,-4", "1", "0.5", "", ",",
            "999", "²", "x", "1,2,3", "1_0"]) | WORDS,
        ).map("".join),
        max_size=3,
    ).map(",".join),
).map("".join)  # fmt: skip


def targets(folder: Path, case: dict[str, Any]) -> dict[str, tuple[Any, Callable[[Any], object]]]:
    """Return strategy and reader by name; readers raise only errors with a message for the user."""
    from delete_backdoor.ranking import open_samples
    from delete_backdoor.triggers import parse_trigger
    from delete_images.data.opening import open_data
    from delete_images.models.model_file import build_model, load_spec
    from delete_tasks.cli import main
    from delete_tasks.errors import RequestError
    from delete_tasks.request.classes import resolve_classes
    from delete_tasks.request.config import parse_options

    colours = ("red", "green", "blue", "grey")
    record = folder / "W"
    original = {path.name: path.read_bytes() for path in record.iterdir() if path.is_file()}

    def file(name: str, then: Callable[[str], object]) -> Callable[[bytes], object]:
        def read(content: bytes) -> object:
            (folder / name).write_bytes(content)
            return then(str(folder / name))

        return read

    def verified(name: str, words: tuple[str, ...] = ()) -> Callable[[bytes], object]:
        def read(content: bytes) -> object:
            same = content == original[name]
            (record / name).write_bytes(content)
            try:
                status = main(["record", "verify", str(record), *words])
            finally:
                (record / name).write_bytes(original[name])
            harmless = content.strip() == original[name].strip()
            assert status in (1, 2) or same or harmless, f"it verifies (status {status})"
            return None

        return read

    def apply(text: str) -> None:
        image = parse_trigger(text).apply(np.zeros((16, 16, 3), np.uint8))
        assert image.shape == (16, 16, 3) and image.dtype == np.uint8

    def model(content: bytes) -> None:
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / "model.json").write_bytes(content)
        build_model(load_spec(folder / "model"))

    def resolve(wanted: tuple[list[str], list[str]]) -> None:
        names, words = wanted
        ids = resolve_classes(words, names)
        for word in words:
            assert names.count(word) != 1 or names.index(word) in ids, f"{word!r} is another class"
        assert ids == sorted(set(ids))

    def compare(content: bytes) -> None:
        (folder / "results.json").write_bytes(content)
        status = main(["compare", str(folder)])
        if status:
            raise RequestError("refused, with a message of its own")

    def data(text: str) -> object:
        return open_data(text, "train", colours)

    def poisoned(path: str) -> object:
        return open_samples(path, colours, "poisoned")

    npz = Path(case["npz"]).read_bytes()
    png = Path(case["png"]).read_bytes()
    ranking = {
        "format": "delete-tasks backdoor ranking",
        "data": case["npz"],
        "samples": [["train/00000", 1.0, True], ["train/00001", 0.5, False]],
    }
    spec = json.loads(Path(case["model"]).read_text())
    photos = folder / "photos" / "red"
    photos.mkdir(parents=True)

    def photo(content: bytes) -> None:
        (photos / "1.png").write_bytes(content)
        image, _ = open_data(str(photos.parent), "train", colours)[0]
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3

    names = st.lists(
        st.sampled_from(["0", "1", "2", "10", "a", "A", "a b", "a_b", "#1", "²", "-1", "", "é", "é"]) | WORDS,
        min_size=2,
        max_size=6,
    )
    return {
        "record.json": (fields(json.loads(original["record.json"])).map(dump), verified("record.json")),
        "record.json, bytes": (edits(original["record.json"]), verified("record.json")),
        "record.sha256": (edits(original["record.sha256"]), verified("record.sha256")),
        "signature": (edits(original["record.sha256.sig"]), verified("record.sha256.sig", ("--key", case["key"]))),
        "samples.txt": (edits(original["samples.txt"]), verified("samples.txt")),
        "record.html": (edits(original["record.html"]), verified("record.html")),
        "archives": (edits(npz), file("x.npz", data)),
        "archives' headers": (edits(npz[:400]).map(lambda head: head + npz[400:]), file("x.npz", data)),
        "data strings": (QUERY.map(lambda query: f"{case['npz']}?{query}"), data),
        "places": (WORDS, data),
        "model.json": (fields(spec).map(dump), model),
        "model.json, bytes": (edits(dump(spec)), model),
        "triggers": (TRIGGER | WORDS, apply),
        "rankings": (fields(ranking).map(dump), file("r.json", poisoned)),
        "rankings, any JSON": (JSON.map(dump), file("r.json", poisoned)),
        "images": (edits(png), photo),
        "options": (st.lists(WORDS | st.tuples(WORDS, st.just("="), WORDS).map("".join), max_size=3), parse_options),
        "class names": (st.tuples(names, names), resolve),
        "results.json": (fields(json.loads(original["results.json"])).map(dump), compare),
    }


def run(case: dict[str, Any]) -> None:
    """Fuzz one target; write the numbers of right and wrong examples, and the first wrong ones, to ``case['found']``."""
    from delete_tasks.cli import USER_ERRORS

    strategy, read = targets(Path(case["cwd"]), case)[case["target"]]
    right, wrong = [0], []

    @settings(
        max_examples=case["examples"],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(value: Any) -> None:
        try:
            read(value)
        except USER_ERRORS as error:
            if len(str(error)) < 10:
                wrong.append(f"{value!r:.300}: no message: {error!r}")
                return
        except Exception as error:
            wrong.append(
                f"{value!r:.300}: {type(error).__name__}: {error!s:.200}; {traceback.format_exc().splitlines()[-3].strip()}"
            )
            return
        right[0] += 1

    each()
    Path(case["found"]).write_text(json.dumps([right[0], len(wrong), wrong[:4]]))
