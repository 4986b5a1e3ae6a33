"""Evenly spaced indices."""

import pytest

from delete_tasks.fileio.sampling import evenly_spread


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(10, 5, [0, 2, 4, 6, 8]), (3, 5, [0, 1, 2]), (7, 3, [0, 2, 4]), (0, 4, []), (4, 0, [])],
)
def test_evenly_spread(count, most, expected):
    assert evenly_spread(count, most).tolist() == expected
