"""The words on pictures: a reader is told what is shown, in whose prediction, and in which unit."""

import pytest
from helpers import read_results, run
from matplotlib.figure import Figure
from matplotlib.text import Text

from delete_backdoor.opened import open_backdoored
from delete_tasks.attention.measure import compare_samples
from delete_tasks.attention.panels import draw

from .conftest import TRIGGER


@pytest.fixture
def texts(monkeypatch):
    """All words of each figure that is written."""
    found: list[str] = []
    write = Figure.savefig

    def savefig(figure, *args, **options):
        write(figure, *args, **options)
        found.append(" | ".join(" ".join(text.get_text().split()) for text in figure.findobj(Text)))

    monkeypatch.setattr(Figure, "savefig", savefig)
    return found


def test_backdoor_png(toy, files, tmp_path, texts):
    run("backdoor clean --model", toy, "--poisoned", files["only"], "--retain", files["clean"], "--test", files["test"],
        "--trigger", TRIGGER, "--steps 1 --no-record --audit none --work-dir", tmp_path, status=4)  # fmt: skip
    (shown,) = texts
    assert read_results(tmp_path)["rows"]["original"]["asr"]["value"] > 95
    for part in ("attacker's class 'red'", "not cleaned; not written", "original: red after: red", "predicted as 'red'",
                 "retain samples", "percent of the original's", "optimizer step", "percent", "(ACC)", "(ASR)", "(RA)",
                 "target's logit cut off", "cleaned"):  # fmt: skip
        assert part in shown, part


def test_attention_to_a_trigger(toy, files, tmp_path, texts):
    """Not 'class red (forgotten)' under something green."""
    options = {"trigger": TRIGGER}
    opened = open_backdoored({"original": str(toy), "erased": str(toy)}, {}, options)
    captions = {sample.removed: sample.caption for sample in opened.look([files["test"]], 0, [1])}
    assert captions == {
        True: "'green' with the trigger,\nmaps of the target 'red'",
        False: "'green' without the trigger,\nmaps of its own class",
    }
    _, comparisons = compare_samples(opened, [files["test"]], 0, (1,), 1)
    draw(tmp_path / "x.png", comparisons, opened.names)
    assert "'green' with the trigger, maps of the target 'red'" in texts[0] and "(forgotten)" not in texts[0]
