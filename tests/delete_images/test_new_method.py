"""A method is one class: registered, it is in the help, --method takes it, its own defaults hold, and it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import ClassVar

import pytest
from mmengine.registry import HOOKS

from delete_images.erase import erase
from delete_images.forget import make_config
from delete_tasks import plugins
from delete_tasks.cli import main, parse
from delete_tasks.cli.completion import VARIABLE
from delete_tasks.errors import MissingExtraError, RequestError
from delete_tasks.hooks.unlearn import UnlearnHook
from delete_tasks.methods import known_methods, method_help
from delete_tasks.recipe import split_options


class Uniform(UnlearnHook):
    """Flat probabilities where something is forgotten.

    Args:
        share: Of the loss.
        options: See :class:`UnlearnHook`.
    """

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


def test_help_and_completion_list_it(uniform, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    for task, action in (("images", "forget"), ("faces", "remove")):
        assert main([task, action, "--help"]) == 0
        assert "Uniform: Flat probabilities where something is forgotten." in " ".join(
            capsys.readouterr().out.replace("│", " ").split()
        )
    line = "delete-tasks images forget --method U"
    for name, value in ((VARIABLE, "bash_complete"), ("COMP_WORDS", line), ("COMP_CWORD", "4")):
        monkeypatch.setenv(name, value)
    assert main(line.split()[1:]) == 0
    assert {row.split(",")[1] for row in capsys.readouterr().out.splitlines()} == {"Uniform"}


def test_it_is_chosen_and_runs(uniform, resnet20, cifar, tmp_path, capsys):
    words = ["--model", str(resnet20), "--forget", f"{cifar}?class=deer&limit=16", "--classes", "deer"]
    words += ["--work-dir", str(tmp_path / "w"), "--no-record"]
    cfg = make_config(None, vars(parse(["images", "forget", *words, "--method", "Uniform"])))
    assert cfg.unlearn.optimizer == {"type": "AdamW", "lr": 3e-5} and cfg.train_dataloader.dataset.augment == "plain"
    assert main(["images", "forget", *words, "--method", "Uniform"]) in (0, 4)
    results = json.loads((tmp_path / "w" / "results.json").read_text())
    assert results["recipe"]["type"] == "Uniform" and results["steps"] == 2
    assert main(["images", "forget", *words, "--method", "Unifrom", "--overwrite"]) == 2
    assert "did you mean 'Uniform'?" in capsys.readouterr().err


def test_erase_takes_it(uniform, resnet20, read):
    from delete_images.model_file import load_model

    images, labels = read("class=deer&limit=8")
    model, _ = load_model(resnet20)
    with pytest.raises(RequestError, match="nothing is returned"):  # two steps forget nothing
        erase(model, list(zip(images, labels, strict=True)), [4], method="Uniform", share=1e-6)


def test_one_of_another_package_comes_when_it_is_named(monkeypatch, tmp_path):
    (tmp_path / "a_method.py").write_text(
        "from mmengine.registry import HOOKS\nfrom delete_tasks.hooks import RandomLabel\n"
        "@HOOKS.register_module()\nclass Far(RandomLabel):\n    'Far away.'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    offered = {"Far": "a_method", "Lost": "no_such_module"}
    monkeypatch.setattr(plugins, "offered", lambda group: offered if group == "methods" else {})
    monkeypatch.setattr("delete_tasks.methods.offered", plugins.offered)
    assert "Far (of a_method)." in method_help()
    try:
        assert split_options({"type": "Far", "classes": [1]})[1] == {"type": "Far", "classes": [1]}
        assert "Far: Far away." in method_help()
        with pytest.raises(MissingExtraError, match="method 'Lost' comes from no_such_module"):
            split_options({"type": "Lost"})
    finally:
        HOOKS.module_dict.pop("Far", None)


def test_methods_of_a_retain_set_alone(resnet20, cifar, tmp_path, capsys):
    """They are offered where one can be given, and refused where none is."""
    assert "FineTune" in known_methods() and "FineTune" not in known_methods(retain=False)
    words = ["--model", str(resnet20), "--forget", f"{cifar}?class=deer&limit=16", "--classes", "deer"]
    assert main(["images", "forget", *words, "--work-dir", str(tmp_path / "w"), "--method", "FineTune"]) == 2
    assert "FineTune learns from a retain set with labels alone; give one (--retain)" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_help_reads_the_files_as_python_does():
    """Without torch or mmengine, and with the same result as the classes themselves give."""
    code = (
        "import sys; from delete_tasks.methods import method_help; print(method_help()); "
        "sys.stderr.write(str({'torch', 'mmengine', 'numpy'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "set()", done.stderr
    assert done.stdout.rstrip("\n") == method_help() and len(known_methods()) == 16
