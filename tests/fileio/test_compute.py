"""Freed memory that is kept: the system is asked for its pages once."""

import platform
import subprocess
import sys

import pytest

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
def test_pages_are_asked_for_once():
    faults = {
        mode: int(subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, check=True).stdout)
        for mode in ("kept", "given back")
    }
    assert faults["kept"] < 100 and faults["given back"] > 10 * max(faults["kept"], 1)
