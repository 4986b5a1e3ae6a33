"""Freed memory is kept: the system provides its pages once. Instructions for bfloat16 are found."""

import platform

import pytest
import torch
from helpers import python

from delete_tasks.fileio.compute import multiplies_bfloat16

SCRIPT = """\
import resource, sys
from delete_tasks.fileio.compute import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def fill():
    bytearray(b"1") * (1 << 26)
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone")
def test_pages_are_requested_once():
    faults = {mode: int(python(SCRIPT, mode).stdout) for mode in ("kept", "given back")}
    assert faults["kept"] < 100 and faults["given back"] > 10 * max(faults["kept"], 1)


@pytest.mark.parametrize("found", [None, "_is_amx_tile_supported", "_is_avx512_bf16_supported"])
def test_either_instruction_multiplies_bfloat16(found, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == found, raising=False)
    assert multiplies_bfloat16(avx512=True) == (found is not None)
    assert multiplies_bfloat16() == (found == "_is_amx_tile_supported")
