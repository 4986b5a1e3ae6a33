"""Broken inputs from hypothesis, always the same; 25 times as many in the long part."""

import numpy as np
import pytest
from helpers import read_json

TARGETS = ["record.json", "record.json, bytes", "record.sha256", "signature", "samples.txt", "record.html",
           "archives", "archives' headers", "data strings", "places", "model.json", "model.json, bytes", "triggers", "rankings",
           "rankings, any JSON", "images", "options", "class names", "results.json"]  # fmt: skip


@pytest.mark.parametrize(
    "examples", [pytest.param(12, id="fast"), pytest.param(300, id="long", marks=pytest.mark.faults)]
)
@pytest.mark.parametrize("target", TARGETS)
def test_fuzz(server, here, kit, copy_of, target, examples):
    copy_of("faces")
    small = here.root / "small.npz"
    with np.load(kit.path("images/data.npz")) as file:
        np.savez(small, x=file["x_test"][:4], y=file["y_test"][:4], classes=file["classes"])
    request = {"npz": str(small), "png": kit.path("faces/photos/test/Bo/Bo_25.png"),
    "model": kit.path("images/model/model.json"), "key": kit.path("key.pub"),
               "target": target, "examples": examples, "found": str(here.root / "found.json")}  # fmt: skip
    done = server.run([], here, code="import fuzz; fuzz.run(case)", memory=6 << 30, timeout=1500, **request)
    assert done.code == 0, f"{done.err[-1500:]}"
    right, wrong, shown = read_json(here.root, "found.json")
    assert right and not wrong, f"{wrong} of {right + wrong} are wrong: {shown}"
