"""Kernels of every feature on all three ways: XRT's stand-in, the driver in software, the plain emulator.

Outputs and cycles are the same to the bit. Two kernels always, thirty with `pytest -m slow`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import npuc
import npuc.pyxrt
from npuc.compiler import driver
from npuc.compiler.frontend.attention import Attention
from npuc.runtime.arguments import draw
from npuc.runtime.devices import abi, system_calls
from npuc.runtime.devices.software import SoftwareDevice, Taken

BASE: dict[str, Any] = {"heads": 1, "query_length": 64, "head_dim": 64}
KERNELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"causal": True},
    "window": {"causal": True, "window": 24},
    "window without causal": {"window": 40},
    "softcap": {"softcap": 30.0},
    "softcap, causal": {"softcap": 5.0, "causal": True},
    "mask that keeps": {"mask": "keep"},
    "mask that is added": {"mask": "add"},
    "mask, causal": {"mask": "keep", "causal": True},
    "grouped heads": {"heads": 4, "kv_heads": 2},
    "one head of K and V": {"heads": 4, "kv_heads": 1},
    "several heads": {"heads": 3},
    "batch": {"batch": 2, "heads": 2},
    "few queries": {"query_length": 5, "key_length": 130},
    "one query": {"query_length": 1, "key_length": 96},
    "aligned to the end": {"query_length": 20, "key_length": 80, "causal": True, "align": "bottom-right"},
    "more queries than keys": {"query_length": 90, "key_length": 33},
    "long": {"query_length": 256, "key_length": 256},
    "head size 8": {"head_dim": 8},
    "head size 20": {"head_dim": 20},
    "head size 32": {"head_dim": 32},
    "head size 72": {"head_dim": 72},
    "head size 96": {"head_dim": 96},
    "head size 128": {"head_dim": 128},
    "head size 256": {"head_dim": 256},
    "recipe fast": {"recipe": "fast"},
    "recipe accurate": {"recipe": "accurate"},
    "float arguments": {"dtype": "f32"},
    "half arguments": {"dtype": "f16", "causal": True},
    "another scale": {"scale": 0.3, "heads": 2},
}
ALWAYS = ("causal", "one query")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftwareDevice]:
    made = SoftwareDevice(abi.MAINLINE)
    monkeypatch.setitem(sys.modules, "pyxrt", npuc.pyxrt)
    with system_calls.replaced(made):
        yield made
        gc.collect()
    assert made.taken == Taken() and made.complaints == []


def same_on_all(name: str, device: SoftwareDevice) -> None:
    attention = Attention.make(**{**BASE, **KERNELS[name]})
    image = driver.compile_description(attention).xclbin
    with npuc.load(image, backend="emulator", fallback=()) as exe:
        arrays = draw(exe.kernel.arguments, 3)
        wanted = exe.serve(arrays)
    for backend in ("amdxdna", "xrt"):
        device.runs.clear()
        with npuc.load(image, backend=backend, fallback=()) as exe:  # type: ignore[arg-type]
            call = exe.serve(arrays)
        assert call.report.backend == backend and call.report.emulated
        assert [run.cycles for run in device.runs] == [wanted.report.cycles], f"{name} on {backend}"
        for output, array in call.outputs.items():
            assert np.array_equal(array.view(np.uint8), wanted.outputs[output].view(np.uint8)), f"{name} on {backend}"


@pytest.mark.parametrize("name", ALWAYS)
def test_two_kernels_are_the_same_on_all_three_ways(name, device):
    same_on_all(name, device)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in KERNELS if name not in ALWAYS])
def test_thirty_kernels_are_the_same_on_all_three_ways(name, device):
    same_on_all(name, device)


def test_there_are_thirty() -> None:
    assert len(KERNELS) == 30 and set(ALWAYS) <= set(KERNELS)
