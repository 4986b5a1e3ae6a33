"""Class names to ids to masks."""

from __future__ import annotations

import pytest
import torch

from delete_tasks import ForgetRequest, RequestError
from delete_tasks.masking import class_mask, is_forgotten, own_label_mask, resolve_classes

NAMES = ["road", "car", "person"]


def test_names_and_ids_resolve_in_order():
    assert resolve_classes(["person", 0], NAMES) == [0, 2]
    assert resolve_classes("car", NAMES) == [1]
    assert ForgetRequest(["car"]).resolve(NAMES) == [1]


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        (["cars"], NAMES, "no class 'cars'. Did you mean 'car'"),
        (["zebra"], NAMES, "Valid names: road, car, person"),
        ([], NAMES, "no class to forget"),
        (["car", "car"], NAMES, "more than once to forget car"),
        (NAMES, NAMES, "all 3 classes"),
        ([3], NAMES, r"outside 0\.\.2"),
        ([True], NAMES, "by its name or its id"),
        (["car"], ["car"], "single-output"),
    ],
)
def test_refusals(classes, names, message):
    with pytest.raises(RequestError, match=message):
        resolve_classes(classes, names)


def test_class_mask_broadcasts():
    mask = class_mask([0, 2], 3, 4)
    assert mask.shape == (1, 3, 1, 1) and mask.flatten().tolist() == [True, False, True]


def test_own_label_mask_masks_only_the_location_s_own_forgotten_label():
    labels = torch.tensor([[0, 1], [2, 255]])
    mask = own_label_mask(labels, [0, 1], 3)
    assert mask.shape == (2, 3, 2)
    assert mask[0, :, 0].tolist() == [True, False, False] and mask[0, :, 1].tolist() == [False, True, False]
    assert not mask[1].any()
    assert is_forgotten(labels, [0, 1]).tolist() == [[True, True], [False, False]]
