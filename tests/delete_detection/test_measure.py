"""Average precision and what became of boxes, on boxes that one can count."""

import torch

from delete_detection.measure import average_precision, fate


def found(*boxes):
    return {
        "boxes": torch.tensor([[x, y, x + 10.0, y + 10.0] for x, y, _, _ in boxes]).reshape(-1, 4),
        "labels": torch.tensor([label for _, _, label, _ in boxes], dtype=torch.long),
        "scores": torch.tensor([score for *_, score in boxes]),
    }


def test_boxes_are_kept_vanish_or_return_under_another_name():
    before = [
        found((0, 0, 0, 0.9), (50, 0, 0, 0.9), (100, 0, 0, 0.9), (150, 0, 0, 0.2), (0, 50, 1, 0.9), (50, 50, 1, 0.9))
    ]
    after = [found((1, 0, 0, 0.4), (50, 1, 1, 0.8), (100, 0, 1, 0.1), (0, 50, 1, 0.5), (200, 0, 2, 0.9))]
    assert fate(before, after, [0]) == {"all": 3, "kept": 1, "renamed": 1, "others": 2, "others_kept": 1}
    assert fate(before, before, [0])["kept"] == 3
    assert fate(before, [found()], [0]) == {"all": 3, "kept": 0, "renamed": 0, "others": 2, "others_kept": 0}
    there = [found((0, 0, 0, 0.9), (0, 1, 1, 0.8))]  # the other name was there before
    assert fate(there, [found((0, 1, 1, 0.9))], [0])["renamed"] == 0


def test_average_precision_is_cocos():
    truth = {
        "images": [{"id": 7}, {"id": 9}],
        "categories": [{"id": 3, "name": "car"}, {"id": 4, "name": "cat"}, {"id": 5, "name": "cow"}],
        "annotations": [
            {"image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 10]},
            {"image_id": 9, "category_id": 3, "bbox": [20, 0, 10, 10]},
            {"image_id": 9, "category_id": 4, "bbox": [0, 20, 10, 10]},
        ],
    }
    names = ["cat", "car", "dog"]
    right = [found((0, 0, 1, 0.9)), found((20, 0, 1, 0.8), (0, 20, 0, 0.7))]
    measured = average_precision(truth, right, names)
    assert {name: [*map(round, values)] for name, values in measured.items()} == {
        "car": [100, 100, 2],
        "cat": [100, 100, 1],
    }
    half = average_precision(truth, [found((0, 0, 1, 0.9)), found((0, 20, 2, 0.9))], names)
    assert 45 < half["car"][0] < 55 and half["cat"] == (0, 0, 1)
    assert average_precision(truth, [found(), found()], names)["car"] == (0, 0, 2)
