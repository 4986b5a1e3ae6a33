"""Class names on command lines stay words, whatever they look like; the resolver says what they mean."""

from __future__ import annotations

import argparse
import importlib

import pytest

OPTIONS = [
    ("delete_images.commands", ["forget", "--work-dir", "w"], "classes"),
    ("delete_images.commands", ["evaluate", "m", "--eval", "d"], "classes"),
    ("delete_images.commands", ["train", "--data", "d", "--work-dir", "w"], "without"),
    ("delete_mmseg.commands", ["c.py", "--checkpoint", "c", "--work-dir", "w"], "classes"),
    ("delete_faces.commands", ["remove", "--model", "m", "--photos", "p", "--work-dir", "w"], "person"),
    ("delete_tasks.attention.command", ["--original", "o", "--erased", "e", "--class", "c"], "kept"),
]


@pytest.mark.parametrize(("module", "words", "option"), OPTIONS)
def test_names_of_classes_stay_as_they_are_written(module, words, option):
    parser = argparse.ArgumentParser()
    importlib.import_module(module).add_arguments(parser)
    parsed = parser.parse_args([*words, f"--{option}", "2", "#3", f"--{option}=--wall", f"--{option}=-1"])
    assert getattr(parsed, option) == ["2", "#3", "--wall", "-1"]


def test_configs_get_the_words(repository):
    from delete_images.commands import add_arguments
    from delete_images.forget import make_config

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = vars(parser.parse_args(["forget", "--work-dir", "w", "--classes", "2", "#4"])) | {"cfg_options": {}}
    config = repository / "configs" / "images" / "resnet18_cifar10_forget-deer.py"
    assert make_config(str(config), options).unlearn.classes == ["2", "#4"]
