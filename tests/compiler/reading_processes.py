"""What tests of reading in other processes share."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from damaged_mlir import nested

from npuc.compiler.frontend.guarded.limits import limits_for

SOUND = b"func.func private @f(tensor<4xf32>)"
CRASH = nested("attributes", 20000).encode()
SLOW = b"module attributes {a.b = " + b"9" * 40_000 + b" : i200000} {}"
LIMITS = limits_for(100)

linux = pytest.mark.skipif(sys.platform != "linux", reason="children are forked on Linux only")


def in_new_process(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments], capture_output=True, text=True, timeout=600
    )


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def children() -> set[int]:
    """Processes of this one that live or were not waited for."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            found |= {int(child) for child in file.read().split()}
    return found
