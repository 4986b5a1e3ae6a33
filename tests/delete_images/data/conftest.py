"""Folders of class folders with small images."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from images import noise
from PIL import Image


@pytest.fixture
def folders(tmp_path) -> Callable[[Mapping[str, int]], Path]:
    """``folders({"ant": 2})``: a folder with ``ant/0.png`` and ``ant/1.png``, of 8x10 pixels; the number is the seed."""

    def make(counts: Mapping[str, int]) -> Path:
        for name, count in counts.items():
            (tmp_path / "photos" / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(noise(8, 10, 3, seed=number)).save(tmp_path / "photos" / name / f"{number}.png")
        return tmp_path / "photos"

    return make
