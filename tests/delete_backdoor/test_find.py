"""Finding the poison: ART's two methods on features one can picture, and the command on a poisoned network."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from delete_backdoor.find import order, rates, suspect
from delete_backdoor.samples import open_samples
from delete_tasks.cli import main
from delete_tasks.errors import RequestError


def features(poison: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three classes of 100; of the second, ``poison`` samples lie apart."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 100)
    x = rng.normal(size=(300, 24)).astype(np.float32) + 4 * np.eye(24, dtype=np.float32)[labels]
    truth = np.zeros(300, dtype=bool)
    truth[100 : 100 + poison] = True
    x[truth, 10] += 12
    return x, labels, truth


def test_suspect():
    x, labels, truth = features()
    found = suspect(x, labels, ("ant", "bee", "cat"))
    assert (found.flagged == truth).all()
    assert [name for name, said in found.classes.items() if said["suspicious"]] == ["bee"]
    assert found.classes["bee"]["odd_cluster"] == 20.0 and found.classes["bee"]["silhouette"] > 0.1
    assert truth[order(found)[:20]].all()
    assert found.score[truth].min() > found.score[(labels == 1) & ~truth].max()
    again = suspect(x, labels, ("ant", "bee", "cat"))
    assert (again.flagged == found.flagged).all() and np.allclose(again.score, found.score)


def test_art_leaves_open_log_files_open(tmp_path):
    """On import it configures logging for the whole process, which would close a runner's log."""
    code = "import logging, sys; logging.basicConfig(filename=sys.argv[1], filemode='w'); import delete_backdoor.find as f; "
    code += (
        "f.suspect(f.np.eye(40, 9, dtype='float32'), f.np.arange(40) % 2, ('a', 'b')); logging.warning('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "log")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "still here" in (tmp_path / "log").read_text()


def test_where_half_of_a_class_is_poison_it_is_what_varies_more():
    """A tenth of ten classes, sent to one of them."""
    x, labels, truth = features(poison=52)
    x[truth] += 2 * np.random.default_rng(1).normal(size=(52, 24)).astype(np.float32)  # images of all other classes
    found = suspect(x, labels, ("ant", "bee", "cat"))
    assert (found.flagged == truth).all() and found.classes["bee"]["odd_cluster"] == 52.0


def test_nothing_to_find():
    x, labels, _ = features(poison=0)
    assert not suspect(x, labels, ("ant", "bee", "cat")).flagged.any()


def test_small_classes_are_not_judged():
    x, labels, _ = features()
    keep = np.concatenate([np.arange(19), np.arange(100, 300)])
    found = suspect(x[keep], labels[keep], ("ant", "bee", "cat"))
    assert set(found.classes) == {"bee", "cat"} and (found.score[:19] == 0).all()
    with pytest.raises(RequestError, match="no class has 20 samples"):
        suspect(x[:9], labels[:9], ("ant", "bee", "cat"))


def test_rates():
    flagged, truth = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 1], bool)
    assert rates(flagged, truth) == {"precision": 50.0, "recall": 33.33}
    assert rates(~flagged & flagged, truth) == {"precision": None, "recall": 0.0}


@pytest.fixture(scope="module")
def ranking(toy, files, tmp_path_factory):
    out = tmp_path_factory.mktemp("find") / "ranking.json"
    assert main(["backdoor", "find", "--model", str(toy), "--data", files["poisoned"], "--out", str(out)]) == 0
    return out


def test_command(ranking, classes):
    content = json.loads(ranking.read_text())
    assert content["rates"]["precision"] > 90 and content["rates"]["recall"] > 90
    assert content["classes"]["red"]["suspicious"] and len(content["samples"]) == 1200
    poisoned = open_samples(f"{ranking}?limit=30", classes, "poisoned")
    assert len(poisoned) == 30 and (poisoned.labels == 0).all()
    assert poisoned.names == [name for name, _, _ in content["samples"][:30]]
    clean = open_samples(f"{ranking}?limit=100", classes, "clean")
    assert len(clean) == 100 and set(clean.labels.tolist()) == {0, 1, 2, 3}
    assert not set(clean.names) & {name for name, _, flagged in content["samples"] if flagged}


def test_rankings_refused_with_the_reason(ranking, classes, tmp_path):
    with pytest.raises(FileNotFoundError, match="no ranking at"):
        open_samples(str(tmp_path / "none.json"), classes, "poisoned")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(RequestError, match="is no ranking"):
        open_samples(str(tmp_path / "other.json"), classes, "poisoned")
    content = json.loads(ranking.read_text())
    for sample in content["samples"]:
        sample[2] = False
    (tmp_path / "clean.json").write_text(json.dumps(content))
    with pytest.raises(RequestError, match="flags no sample of 1200"):
        open_samples(str(tmp_path / "clean.json"), classes, "poisoned")
    content["samples"][0][0] = "train/99999"
    (tmp_path / "gone.json").write_text(json.dumps(content))
    with pytest.raises(RequestError, match="no longer has; run backdoor find again"):
        open_samples(str(tmp_path / "gone.json"), classes, "poisoned")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--data": "CLEAN?label=none"}, "have no label; poison is looked for"),
        ({"--out": "ranking.csv"}, "written as .json"),
    ],
)
def test_mistakes_are_one_message(toy, files, tmp_path, capsys, change, message):
    words = {"--model": str(toy), "--data": files["clean"], "--out": str(tmp_path / "x.json"), **change}
    words = {key: value.replace("CLEAN", files["clean"]) for key, value in words.items()}
    assert main(["backdoor", "find", *[part for pair in words.items() for part in pair]]) == 2
    assert message in capsys.readouterr().err
