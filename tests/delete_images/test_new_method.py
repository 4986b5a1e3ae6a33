"""New methods: a registered class is a value of --method, has its defaults, and is listed."""

import re
from typing import ClassVar

import pytest
from helpers import python, read_results, run
from mmengine.registry import HOOKS

from delete_images.forget import make_config
from delete_images.memory.erase import erase
from delete_images.models.model_file import load_model
from delete_tasks import plugins
from delete_tasks.cli import parse
from delete_tasks.errors import MissingExtraError, RequestError
from delete_tasks.methods.base import UnlearnHook
from delete_tasks.methods.registry import METHODS, RETAIN, method_groups, method_names
from delete_tasks.runner.recipe import split_options


class Uniform(UnlearnHook):
    """Flat probabilities where something is forgotten."""

    rate = 3e-5
    recipe: ClassVar = {"steps": 2, "batch_size": 8}

    def __init__(self, share=1.0, **options):
        super().__init__(**options)
        self.share = share

    def location_loss(self, student, teacher, inputs, weight):
        losses = -self.share * student.log_softmax(1).mean(1)
        return losses.sum(), {}, losses.new_tensor(float(losses.numel()))


@pytest.fixture
def uniform():
    yield HOOKS.register_module()(Uniform)
    del HOOKS.module_dict["Uniform"]


def test_the_command_runs_it(uniform, deer, tmp_path, fails):
    words = deer(tmp_path, "--no-record --audit none", query="class=deer&limit=16")
    cfg = make_config(None, vars(parse([*words, "--method", "Uniform"])))
    assert cfg.unlearn.optimizer == {"type": "AdamW", "lr": 3e-5} and cfg.train_dataloader.dataset.augment == "plain"
    run(words, "--method Uniform", status=(0, 4))
    results = read_results(tmp_path)
    assert results["recipe"]["type"] == "Uniform" and results["steps"] == 2
    fails("'Uniform'", words, "--method Unifrom --overwrite")


def test_erase_runs_it(uniform, resnet20, read):
    images, labels = read("class=deer&limit=8")
    model, _ = load_model(resnet20)
    with pytest.raises(RequestError, match="nothing"):  # two steps forget nothing
        erase(model, list(zip(images, labels, strict=True)), [4], method="Uniform", share=1e-6)


def test_methods_of_other_packages_are_imported_by_name(monkeypatch, tmp_path):
    (tmp_path / "a_method.py").write_text(
        "from mmengine.registry import HOOKS\nfrom delete_tasks.methods.random_label import RandomLabel\n"
        "@HOOKS.register_module()\nclass Far(RandomLabel):\n    'Far away.'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    offered = {"Far": "a_method", "Lost": "no_such_module"}
    monkeypatch.setattr(plugins, "offered", lambda group: offered if group == "methods" else {})
    monkeypatch.setattr("delete_tasks.methods.registry.offered", plugins.offered)
    others = {"Far": "registered by a_method", "Lost": "registered by no_such_module"}
    assert method_groups()["From other packages"] == others
    assert {"Far", "Lost"} < set(method_names(retain=False))
    try:
        assert split_options({"type": "Far", "classes": [1]})[1] == {"type": "Far", "classes": [1]}
        with pytest.raises(MissingExtraError, match=r"'Lost' .*no_such_module"):
            split_options({"type": "Lost"})
    finally:
        HOOKS.module_dict.pop("Far", None)


def test_the_list_of_methods_agrees_with_the_classes():
    classes = [(name, cls) for name, cls in HOOKS.module_dict.items() if isinstance(cls, type)]
    hooks = {name: cls for name, cls in classes if issubclass(cls, UnlearnHook)}
    own = ("delete_backdoor", "delete_detection")  # of one task
    kinds = {name: cls for name, cls in hooks.items() if not cls.__module__.startswith(own)}
    texts = {name: text for group in METHODS.values() for name, text in group.items()}
    assert set(texts) == set(kinds) and method_names()[0] == "DELETE"
    assert set(METHODS[RETAIN]) == {name for name, cls in kinds.items() if cls.needs_retain_set}
    for name, text in texts.items():
        for source in re.findall(r"\((arXiv [\d.]+|[A-Za-z]+ \d{4})\)", text):
            assert source.removeprefix("arXiv ") in kinds[name].__doc__, (name, source)


def test_the_command_lists_every_method_in_a_line_without_torch():
    code = (
        "import sys; from delete_tasks.cli import main; main(['methods']); "
        "sys.stderr.write(str({'torch', 'mmengine', 'numpy'} & {*sys.modules}))"
    )
    done = python(code)
    assert done.returncode == 0 and done.stderr == "set()", done.stderr
    lines = done.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [line.split()[0] for line in lines if line.startswith("  ")] == method_names()
