"""Grids with values of another kind: each is refused with the place, before anything is written."""

from pathlib import Path

import pytest
from harness import is_refused, some

VALUES = ("None", "3", "-1", "10**400", "float('nan')", "''", "'x'", "'\\x1b[2J'", "'\\0'", "['\\ud800']", "[]", "[[]]", "{}",
          "{'a': {'b': [None]}}", "{3: 4}", "True", "object()")  # fmt: skip
TRAIN = "architecture='cifar_resnet20', classes='data', normalization='none', size=16"
# Place -> its text in a grid, and the values that it may have.
PLACES = {
    "task": ("task = {}", ()), "networks": ("networks = {}", ()), "data": ("data = {}", ()),
    "classes": ("classes = {}", ()), "methods": ("methods = {}", ()), "seeds": ("seeds = {}", ()),
    "a seed": ("seeds = [{}]", ("3",)), "retrained_seeds": ("retrained_seeds = {}", ()),
    "a method": ("methods = {{'D': {}}}", ()), "a group": ("classes = {{'one': {}}}", ()),
    "a class": ("classes = {{'one': [{}]}}", ()), "a network": ("networks = {{'mine': {}}}", ()),
    "original": ("networks = {{'mine': dict(original={})}}", ()),
    "architecture": ("networks = {{'mine': dict(original=WEIGHTS, classes='data', architecture={})}}", ()),
    "class names": ("networks = {{'mine': dict(original=WEIGHTS, architecture='cifar_resnet20', classes={})}}", ()),
    "forget": ("data = dict(forget={}, train=DATA, test=DATA)", ()),
    "train": ("data = dict(forget=DATA, train={}, test=DATA)", ()),
    "test": ("data = dict(forget=DATA, train=DATA, test={})", ()),
    "epochs": (f"networks = {{{{'mine': dict({TRAIN}, train=dict(epochs={{}}))}}}}", ("None", "3")),
    "weight_decay": (f"networks = {{{{'mine': dict({TRAIN}, train=dict(weight_decay={{}}))}}}}", ("None",)),
    "train.data": (f"networks = {{{{'mine': dict({TRAIN}, train=dict(data={{}}))}}}}", ("None",)),
    "type": ("methods = {{'D': dict(type={})}}", ()),
    "lr": ("methods = {{'D': dict(type='DELETE', lr={})}}", ("None", "3")),
    "augment": ("methods = {{'D': dict(type='DELETE', augment={})}}", ("None",)),
    "temperature": ("methods = {{'D': dict(type='DELETE', temperature={})}}", ("None", "3")),
    "optimizer": ("methods = {{'D': dict(type='DELETE', optimizer={})}}", ()),
}  # fmt: skip
CASES = [(place, value) for place, (_, valid) in PLACES.items() for value in VALUES if value not in valid]


@pytest.mark.parametrize(("place", "value"), some(CASES, 2))
def test_values_of_another_kind_are_refused(kit, server, here, place, value):
    text = PLACES[place][0].format(value)
    given = {"WEIGHTS": kit.path("images/model/weights.safetensors"), "DATA": kit.path("images/data.npz")}
    settings = "".join(f"{name} = {path!r}\n" for name, path in given.items())
    grid = here.cwd / "grid.py"
    # Names that begin with an underscore are no keys of the grid.
    for name in given:
        settings, text = settings.replace(name, f"_{name}"), text.replace(name, f"_{name}")
    grid.write_text(f"{settings}{Path(kit.path('grid.py')).read_text()}{text}\n", errors="surrogatepass")
    before = here.look()
    done = server.run(["benchmark", grid, "--work-dir", "W", "--device", "cpu"], here)
    is_refused(done, here, before)
    assert not {"\x1b", "\0"} & set(done.output), done
