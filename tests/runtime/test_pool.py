"""A pool gives what one device gives, to the bit, whatever it deals out."""

from __future__ import annotations

import errno
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import npuc
from npuc.compiler.frontend.attention import Attention
from npuc.runtime.arguments import draw
from npuc.runtime.devices import system_calls
from npuc.runtime.devices.software import SoftwareDevice, Taken
from npuc.runtime.kernel_file import described
from npuc.runtime.pool import BATCH, HEADS, Pool

BASE: dict[str, Any] = {"heads": 2, "query_length": 32, "head_dim": 32}


def given(attention: Attention) -> dict[str, np.ndarray]:
    return draw(described(attention).arguments, 11)


@pytest.mark.parametrize(
    ("shape", "split", "axis", "sizes"),
    [
        ({"batch": 3}, None, BATCH, [2, 1]),
        pytest.param({"batch": 2, "mask": "keep", "causal": True}, "batch", BATCH, [1, 1], marks=pytest.mark.slow),
        pytest.param({"heads": 3}, None, HEADS, [2, 1], marks=pytest.mark.slow),
        ({"heads": 4, "kv_heads": 2, "causal": True}, "heads", HEADS, [2, 2]),
    ],
)
def test_results_are_those_of_one_device(shape, split, axis, sizes):
    attention = Attention.make(**{**BASE, **shape})
    arrays = given(attention)
    with npuc.load(attention, backend="emulator", fallback=()) as exe:
        wanted = exe(**arrays)
    with Pool(attention, ["emulator", "emulator"], split=split, fallback=()) as pool:
        assert pool.axis == axis
        assert [part.batch if axis == BATCH else part.heads for part in pool.parts] == sizes
        got = pool(**arrays)
        assert got.dtype == wanted.dtype and np.array_equal(got, wanted)
        assert len(pool.reports) == 2 and all(report.cycles for report in pool.reports)
        positional = pool(*(arrays[a.name] for a in attention.inputs))
        assert np.array_equal(positional, wanted)


def test_devices_of_both_kinds_work_together(seed):
    attention = Attention.make(**{**BASE, "batch": 2})
    arrays = {name: array.astype(ml_dtypes.bfloat16) for name, array in given(attention).items()}
    device = SoftwareDevice()
    with system_calls.replaced(device):
        with Pool(attention, ["amdxdna", "emulator"], fallback=()) as pool:
            got = pool(**arrays)
            assert [report.backend for report in pool.reports] == ["amdxdna", "emulator"]
    with npuc.load(attention, backend="emulator", fallback=()) as exe:
        assert np.array_equal(got, exe(**arrays)) and got.dtype == ml_dtypes.bfloat16
    assert device.taken == Taken() and device.complaints == []


class TwoNodes:
    """Two devices of one machine: calls go where their descriptor or mapping is from."""

    emulated = True

    def __init__(self) -> None:
        self.devices = [SoftwareDevice(node=f"/dev/accel/accel{number}") for number in range(2)]
        self._of: dict[Any, SoftwareDevice] = {}

    def nodes(self) -> list[str]:
        return [device.node for device in self.devices]

    def open(self, path: str) -> int:
        device = next(device for device in self.devices if device.node == path)
        inner = device.open(path)
        self._of[descriptor := inner + 100_000 * self.devices.index(device)] = device
        return descriptor

    def _inner(self, descriptor: int) -> tuple[SoftwareDevice, int]:
        device = self._of[descriptor]
        return device, descriptor - 100_000 * self.devices.index(device)

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        device, inner = self._inner(descriptor)
        device.ioctl(inner, request, argument)

    def map(self, descriptor: int, length: int, offset: int, alignment: int = 4096) -> Any:
        device, inner = self._inner(descriptor)
        mapping = device.map(inner, length, offset, alignment)
        self._of[id(mapping)] = device
        return mapping

    def unmap(self, mapping: Any) -> None:
        self._of.pop(id(mapping)).unmap(mapping)

    def close(self, descriptor: int) -> None:
        device, inner = self._inner(descriptor)
        del self._of[descriptor]
        device.close(inner)


def test_of_several_npus_each_gets_its_share_and_one_that_goes_leaves_the_other():
    attention = Attention.make(**{**BASE, "batch": 2})
    arrays, machine = given(attention), TwoNodes()
    first, second = machine.devices
    with npuc.load(attention, backend="emulator", fallback=()) as exe:
        wanted = exe(**arrays)
    with system_calls.replaced(machine):
        with Pool(attention, ["amdxdna", "amdxdna"], fallback=()) as pool:
            assert np.array_equal(pool(**arrays), wanted)
            assert first.taken.contexts == second.taken.contexts == 1 and len(first.runs) == len(second.runs) == 1
            first.faults.lose(errno.ENODEV)
            assert np.array_equal(pool(**arrays), wanted), "both parts on the one that is left"
            assert second.taken.contexts == 2
            first.faults.find()
    assert first.taken == second.taken == Taken() and second.complaints == []


@pytest.mark.parametrize(
    ("attention", "backends", "split", "says"),
    [
        (Attention.make(**BASE), [], None, "no devices"),
        (Attention.make(**BASE), ["emulator"] * 3, None, "1 batch entries and 2 heads"),
        (Attention.make(**{**BASE, "kv_heads": 1}), ["emulator"] * 2, "heads", "stay together"),
        (Attention.make(**BASE), ["emulator"], "rows", "one of batch, heads"),
        (Attention.make(**{**BASE, "query_length": None, "key_length": None}), ["emulator"], None, "all lengths"),
    ],
)
def test_what_cannot_be_dealt_out_is_refused(attention, backends, split, says):
    with pytest.raises(npuc.UsageError, match=says):
        Pool(attention, backends, split=split)


def test_wrong_arrays_are_refused_and_a_closed_pool_too():
    attention = Attention.make(**{**BASE, "batch": 2})
    pool = Pool(attention, ["emulator"], fallback=())
    with pytest.raises(npuc.InputError, match="argument q expects shape"):
        pool(**{**given(attention), "q": np.zeros((1, 2, 32, 32))})
    pool.close()
    with pytest.raises(npuc.BackendError, match="closed"):
        pool(**given(attention))
