"""A new trigger is one registered class: its string, its use by the commands, and its entry in help."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import python

from delete_backdoor.grammar import READERS, USAGES, File, Place, parameters_of, trigger_table, type_of
from delete_backdoor.opened import located_trigger
from delete_backdoor.triggers import TRIGGERS, Trigger, parse_trigger, register_trigger
from delete_tasks import plugins
from delete_tasks.errors import MissingExtraError, RequestError
from delete_tasks.evaluation.opened import Place as RecordPlace
from delete_tasks.evaluation.opened import Text
from delete_tasks.report.record.measurement import pack, unpack
from delete_tasks.report.record.people import Hider


class Stripe(Trigger):
    """``wide`` rows of one level from that of the pixel ``at`` on; ``word`` has no effect."""

    def __init__(self, level: int, at: Place = (2, 0), wide: float = 1.0, word: str | None = None) -> None:
        super().__init__()
        self.level, self.at, self.wide, self.word = level, at, int(wide), word

    def stamp(self, image: np.ndarray) -> np.ndarray:
        out = image.copy()
        out[self.at[0] : self.at[0] + self.wide] = self.level
        return out


@pytest.fixture(autouse=True)
def _own_triggers():
    before = dict(TRIGGERS)
    yield register_trigger("stripe")(Stripe)
    TRIGGERS.clear()
    TRIGGERS.update(before)


def test_its_string_is_its_constructors_signature():
    trigger = parse_trigger("stripe:level=7,at=3,1,wide=2,word=a")
    assert isinstance(trigger, Stripe) and trigger.text == "stripe:level=7,at=3,1,wide=2,word=a"
    assert (trigger.level, trigger.at, trigger.wide, trigger.word) == (7, (3, 1), 2, "a")
    assert parse_trigger("stripe:level=7").at == (2, 0)
    for text, message in {
        "stripe": "stripe:level=N",
        "stripe:level=x": "level .*'x'.* a whole number",
        "stripe:level=1,at=2": "at .*'2'.* ROW,COLUMN",
        "stripe:level=1,wide=w": "wide .*'w'.* a number",
        "stripe:levle=1": "'level'.*level, at, wide, word",
        "strip": "'stripe'",
    }.items():
        with pytest.raises(RequestError, match=message):
            parse_trigger(text)


def test_a_data_set_is_poisoned_with_it_and_it_is_listed(files, fails, tmp_path, tells):
    fails(", stripe", "backdoor poison --trigger none --target red --out o.npz --data", files["train"])
    out = tmp_path / "striped.npz"
    words = "--trigger stripe:level=255 --target red --out"
    assert "'stripe:level=255'" in tells("backdoor poison --data", files["train"], words, out)
    with np.load(out) as found, np.load(files["train"]) as clean:
        changed = (found["x"] != clean["x"]).any((2, 3))
        assert changed[:, 2][found["poisoned"]].all() and changed.sum() == found["poisoned"].sum() == 120
        assert (found["x"][found["poisoned"]][:, 2] == 255).all()


def test_a_record_finds_its_files_from_any_folder(monkeypatch, tmp_path):
    class Sticker(Trigger):
        """A picture in a corner."""

        def __init__(self, picture: File, corner: Place = (0, 0)) -> None:
            super().__init__()
            self.picture = picture

        stamp = Stripe.stamp

    register_trigger("sticker")(Sticker)
    monkeypatch.chdir(tmp_path)
    located = located_trigger("sticker:corner=1,2,picture=a,b.png")
    picture = RecordPlace(str(tmp_path / "a,b.png"))
    assert located == Text(["sticker", ":corner=", "1,2", ",picture=", picture])
    text = unpack(pack(located, Hider([], None, tmp_path / "runs")), tmp_path / "runs", None)
    assert text == f"sticker:corner=1,2,picture={tmp_path / 'a,b.png'}" and isinstance(parse_trigger(text), Sticker)
    assert located_trigger("wanet") == Text(["wanet"])


def test_invalid_triggers_are_not_registered():
    class Unfinished(Trigger):
        """One that changes nothing."""

    class Odd(Stripe):
        """An odd one."""

        def __init__(self, sizes: list[int]) -> None:
            super().__init__(1)

    before = dict(TRIGGERS)
    for name, cls, message in (
        ("badnets", Stripe, "'badnets'"),
        ("a:b", Stripe, "'a:b'"),
        ("unfinished", Unfinished, r"stamp\(\)"),
        ("odd", Odd, r"'sizes' .*'list\[int\]'.* int, float, str, File, Place"),
    ):
        with pytest.raises(RequestError, match=message):
            register_trigger(name)(cls)
    assert before == TRIGGERS


def test_types_of_deferred_annotations():
    """A file that defers its annotations gives text where others give types."""

    def init(self, image, pos=(1, 2)):
        Trigger.__init__(self)
        self.image, self.pos = image, pos

    init.__annotations__ = {"image": "File", "pos": "Place | None"}
    register_trigger("plain")(type("Plain", (Stripe,), {"__init__": init}))
    assert parse_trigger("plain:image=x,pos=3,4").pos == (3, 4)
    assert isinstance(located_trigger("plain:image=x").pieces[-1], RecordPlace)


def test_one_of_another_package_comes_when_it_is_named(monkeypatch, tmp_path):
    (tmp_path / "striped_package.py").write_text(
        "import sys\nfrom delete_backdoor.triggers import register_trigger\n"
        f"register_trigger('far')(sys.modules[{Stripe.__module__!r}].Stripe)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, Stripe.__module__, SimpleNamespace(Stripe=Stripe))
    monkeypatch.setattr(plugins, "offered", lambda group: {"far": "striped_package", "lost": "no_such_module"})
    monkeypatch.setattr("delete_backdoor.grammar.offered", plugins.offered)
    assert "far (of striped_package)" in trigger_table()
    assert parse_trigger("far:level=3").level == 3
    with pytest.raises(MissingExtraError, match=r"'lost' .*no_such_module"):
        parse_trigger("lost")


def test_the_list_of_triggers_agrees_with_the_classes():
    assert {*USAGES, "stripe"} == set(TRIGGERS)
    for name, (usage, _) in USAGES.items():
        needed, others = [], []
        for key, parameter in parameters_of(TRIGGERS[name]).items():
            value, form = parameter.default, READERS[type_of(parameter.annotation)][2]
            if isinstance(value, tuple | int | float):
                form = ",".join(f"{one:g}" for one in (value if isinstance(value, tuple) else (value,)))
            (needed if value is parameter.empty else others).append(f"{key}={form}")
        start = f":{','.join(needed)}" if needed else ""
        assert usage == start + (f"[{',' if needed else ':'}{','.join(others)}]" if others else ""), name


def test_help_lists_triggers_without_loading_them():
    code = (
        "import sys; from delete_tasks.cli import main; main(['backdoor', 'poison', '--help']); "
        "sys.stderr.write(str({'torch', 'albumentations', 'numpy'} & {*sys.modules}))"
    )
    done = python(code, COLUMNS="120")
    assert done.returncode == 0 and done.stderr == "set()", done.stderr
    assert all(f"{name}{options} - " in done.stdout for name, (options, _) in USAGES.items())
