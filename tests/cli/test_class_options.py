"""Class names on command lines stay words, whatever they look like; the resolver says what they mean."""

import pytest

from delete_tasks.cli import parse

OPTIONS = [
    ("images forget --work-dir w", "--classes", "classes"),
    ("images evaluate m --test d", "--classes", "classes"),
    ("images train --data d --work-dir w", "--without", "without"),
    ("segmentation forget c.py --checkpoint c --work-dir w", "--classes", "classes"),
    ("segmentation c.py --checkpoint c --work-dir w", "--classes", "classes"),
    ("faces remove --model m --photos p --work-dir w", "--person", "person"),
    ("attention --original o --erased e --class c", "--retain-classes", "kept"),
]


@pytest.mark.parametrize(("words", "option", "name"), OPTIONS)
def test_names_of_classes_stay_as_they_are_written(words, option, name):
    parsed = parse([*words.split(), option, "2", "#3", f"{option}=--wall", f"{option}=-1", option, "-1", "a b", "-c d"])
    assert getattr(parsed, name) == ["2", "#3", "--wall", "-1", "-1", "a b", "-c d"]


def test_configs_get_the_words(repository):
    from delete_images.forget import make_config

    options = vars(parse(["images", "forget", "--work-dir", "w", "--classes", "2", "#4"])) | {"cfg_options": {}}
    config = repository / "configs" / "images" / "resnet18_cifar10_forget-deer.py"
    assert make_config(str(config), options).unlearn.classes == ["2", "#4"]
