"""Stores of templates: files, PostgreSQL with pgvector, one's own. A change is there as a whole, or not at all."""

import csv
import hashlib
import json
import signal
from contextlib import suppress
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
import torch
from helpers import python

from delete_faces.gallery.gallery import Gallery
from delete_faces.network import build_head
from delete_faces.stores import open_others, open_store, open_templates, shown
from delete_tasks.errors import RequestError

KINDS = ("npz", "npy", "vector(16)", "real[]", "own", "guide")
PEOPLE = ["Ann Lee", "Bo", "Zoë"]
NAMES = [PEOPLE[i % 3] for i in range(12)]
OWN = """
from pathlib import Path
from delete_faces.stores.files import NpzStore
def make(path): return NpzStore(Path(path))
"""


@pytest.fixture
def make(tmp_path, request, monkeypatch, repository):
    """``make(kind)``: the string of a store of 12 templates, and its templates."""

    def make(kind: str) -> tuple[str, np.ndarray]:
        made = np.random.default_rng(0).normal(size=(12, 16)).astype(np.float32)
        path = tmp_path / f"store.{'npz' if kind == 'own' else kind}"
        if kind in ("npz", "own"):
            Gallery(made, NAMES, {}).save(path)
        monkeypatch.syspath_prepend(tmp_path)
        if kind == "own":
            (tmp_path / "ownstore.py").write_text(OWN)
            return f"ownstore:make?path={path}", made
        if kind == "guide":
            guide = (repository / "docs/guides/faces.md").read_text()
            (tmp_path / "mystore.py").write_text(guide.split("# mystore.py\n")[1].split("```")[0])
            index = faiss.IndexFlatIP(16)
            index.add(made)
            (tmp_path / "first").mkdir()
            faiss.write_index(index, str(tmp_path / "first" / "index.faiss"))
            (tmp_path / "first" / "names.json").write_text(json.dumps(NAMES))
            (tmp_path / "people").symlink_to("first")
            return f"mystore:FaissStore?path={tmp_path / 'people'}", made
        if kind == "npy":
            np.save(path, made)
            listed = [["photo", "name"], *([f"{i}.jpg", name] for i, name in enumerate(NAMES))]
            with open(path.with_suffix(".csv"), "w", newline="") as file:
                csv.writer(file).writerows(listed)
        database = request.getfixturevalue("database") if kind in KINDS[2:4] else None
        return str(path) if database is None else database(kind, NAMES, made), made

    return make


def rows(names, embeddings) -> set[tuple[str, bytes]]:
    return {(name, row.tobytes()) for name, row in zip(names, embeddings, strict=True)}


def content(text: str) -> set[tuple[str, bytes]]:
    with open_store(text, allow_import=True) as store:
        return rows(store.read().names, store.read().embeddings)


@pytest.mark.parametrize("kind", KINDS)
def test_the_four_verbs(make, kind, tmp_path):
    text, made = make(kind)
    before = rows(NAMES, made)
    assert content(text) == before
    with suppress(KeyboardInterrupt), open_store(text, allow_import=True) as store:
        assert dict(store.people()) == dict.fromkeys(PEOPLE, 4)
        assert store.read(["Bo"]).names == ["Bo"] * 4
        store.delete(["Bo"])
        raise KeyboardInterrupt
    assert content(text) == before
    out = str(tmp_path / "new.npy") if kind == "npy" else None
    with open_store(text, out, allow_import=True) as store:
        others = store.read().without(["Bo"])
        store.delete(["Bo"])
        store.replace(2 * others.embeddings)
    assert content(out or text) == rows(others.names, 2 * others.embeddings)
    if kind == "npy":
        assert content(text) == before
        assert (tmp_path / "new.csv").read_text().splitlines()[:3] == ["photo,name", "0.jpg,Ann Lee", "2.jpg,Zoë"]


KILLED = """
import os, signal, sys
from delete_faces.stores import open_store
with open_store(sys.argv[1]) as store:
    others = store.read().without(["Bo"])
    store.delete(["Bo"])
    store.replace(2 * others.embeddings)
    if hasattr(store, "connection"):
        store.connection.commit = lambda: os.kill(os.getpid(), signal.SIGKILL)
    else:
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["npz", "vector(16)"])
def test_a_kill_before_the_end_changes_nothing(make, kind):
    text, made = make(kind)
    assert python(KILLED, text).returncode == -signal.SIGKILL
    assert content(text) == rows(NAMES, made)


def test_templates_of_people(make):
    text, made = make("vector(16)")
    nowhere = text.replace("postgres:@/postgres?", "/postgres?user=postgres&")
    found = open_templates(nowhere, ["bo", "Nobody"], [4, 7], 16)
    assert sorted(found.embeddings.numpy().tolist()) == sorted(made[1::3].tolist())
    assert found.labels.tolist() == [4] * 4 and list(found.lacking) == [7]
    noted = {"salt": "s", "sha256": [hashlib.sha256("s zoë".encode()).hexdigest()]}  # Zoë was removed before
    spec, head = SimpleNamespace(extra={"removed": noted}, classes=["ANN_lee", "Cy"]), build_head("cosine", 16, 2)
    own = torch.from_numpy(made[::3]).mean(0)
    head.weight.data = torch.stack([own, -own])
    others = open_others(text, ["bo"], spec, head)
    assert sorted(others.embeddings.tolist()) == sorted(made[::3].tolist()) and others.labels.tolist() == [0] * 4
    with pytest.raises(RequestError, match="no template of people who stay"):
        open_others(text, ["bo", "ann_lee"], spec, head)
    head.weight.data = torch.stack([-own, own])
    with pytest.raises(RequestError, match=r"4 templates .* 0% .*another model made them"):
        open_others(text, ["bo"], spec, head)


def test_refusals(make, tmp_path):
    database, npy = make("vector(16)")[0], make("npy")[0]
    joined = "&" if "?" in database else "?"
    for text, out, words in (
        ("faces.csv", None, "no store of templates; expected .npz or .npy"),
        ("os:system", None, "an import path, which runs code.*--allow-import"),
        (database, "new.npz", "in place, in one transaction"),
        (database.replace("table=", "table=no"), None, "does not exist.*table="),
        (f"{database}{joined}embedding=vec", None, "no column 'vec'"),
        (f"{database}{joined}person=nm", None, "nm"),
        (npy, None, "cannot be replaced at once.*--out NEW.npy"),
        ("postgresql://me:secret@127.0.0.1:1/x", None, "^'postgresql://me@127.0.0.1:1/x' cannot be opened"),
    ):
        with pytest.raises(RequestError, match=words), open_store(text, out) as store:
            store.read()
            store.delete(["Bo"])
    assert shown("postgres://me:secret@/x?password=y&table=t") == "postgres://me@/x?table=t"
    (tmp_path / "store.csv").write_text("Bo\n")
    with pytest.raises(RequestError, match="names 1; expected floats"):
        open_store(npy).load()
