"""Masks of classes, and their probability."""

import torch

from delete_tasks.losses.masks import class_mask, forgotten_mass, is_forgotten, own_label_mask


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


def test_forgotten_mass_is_the_classes_probability_at_each_location():
    logits = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(forgotten_mass(logits, [0, 3]), logits.softmax(1)[:, [0, 3]].sum(1), atol=1e-6)
