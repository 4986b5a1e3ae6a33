"""``delete-tasks images architectures``."""

import re

import pytest

from delete_images.models.architectures import architecture_names, build
from delete_tasks.cli import main


def test_every_architecture_has_a_line_of_80_characters(capsys):
    assert main(["images", "architectures"]) == 0
    listing, _, footer = capsys.readouterr().out.partition("\n\n")
    lines = [line for line in listing.splitlines() if not line.startswith(" ")]
    assert sorted(line.split()[0] for line in lines) == architecture_names()
    for line in lines:
        assert re.fullmatch(r"\S+ +\d+\.\d M  \S.{3,}", line), line
    assert max(map(len, [*listing.splitlines(), *footer.splitlines()])) <= 80
    assert "timm:NAME" in footer and "package.module:Class" in footer


@pytest.mark.parametrize(
    "name", ["cifar_resnet20", "ibau_vgg", "vit_s_16", "resnet18", "mobilenet_v3_small", "googlenet"]
)
def test_the_line_is_right(name, capsys):
    """Parameters as the built network has them; the arguments that are named are taken."""
    assert main(["images", "architectures", name.upper()]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.split()[0] == name)
    classes = 10 if name in ("cifar_resnet20", "ibau_vgg", "vit_s_16") else 1000
    parameters = sum(p.numel() for p in build(name, num_classes=classes).parameters())
    assert lines[at].split()[1] == f"{parameters / 1e6:.1f}"
    if name == "vit_s_16":
        assert lines[at + 1].strip() == "--arguments: image_size, patch_size, dropout, attention_dropout"


def test_no_such_name(capsys):
    assert main(["images", "architectures", "resnet19"]) == 2
    error = capsys.readouterr().err
    assert "unknown architecture 'resnet19'; closest: resnet1" in error and "images architectures" in error
