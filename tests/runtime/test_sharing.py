"""Kernels share the NPU's six contexts, and the time that calls may take."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from small_kernels import compiled

import npuc
import npuc.pyxrt
from npuc.runtime.arguments import draw
from npuc.runtime.devices import abi, system_calls
from npuc.runtime.devices.failures import DeviceFailure
from npuc.runtime.devices.software import SoftwareDevice, Taken


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftwareDevice]:
    made = SoftwareDevice()
    monkeypatch.setitem(sys.modules, "pyxrt", npuc.pyxrt)
    with system_calls.replaced(made):
        yield made
        gc.collect()
    assert made.taken == Taken() and made.complaints == []


@pytest.fixture(params=["amdxdna", "xrt"])
def backend(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def kernel() -> bytes:
    return compiled(1).xclbin


def test_more_kernels_than_contexts_are_served_by_taking_turns(kernel, device, backend):
    loaded = [npuc.load(kernel, backend=backend, fallback=()) for _ in range(abi.CONTEXTS + 2)]
    assert device.taken.contexts == abi.CONTEXTS
    arrays = draw(loaded[0].kernel.arguments, 0)
    results = [exe(**arrays) for exe in (*loaded, loaded[0], loaded[-1])]
    assert all(np.array_equal(result, results[0]) for result in results)
    assert device.taken.contexts == abi.CONTEXTS
    for exe in loaded:
        exe.close()


def test_prefill_and_decode_keep_a_context_each(device, backend):
    prefill, decode = (
        npuc.load(compiled(1, **shape).xclbin, backend=backend, fallback=())
        for shape in ({"query_length": 32, "key_length": 32}, {"query_length": 1, "key_length": 32})
    )
    given = [draw(exe.kernel.arguments, 0) for exe in (prefill, decode)]
    first = [exe(**arrays) for exe, arrays in zip((prefill, decode), given, strict=True)]
    device.calls.clear()
    for _ in range(3):
        for exe, arrays, wanted in zip((prefill, decode), given, first, strict=True):
            assert np.array_equal(exe(**arrays), wanted)
    assert not {"CREATE_HWCTX", "CONFIG_HWCTX", "DESTROY_HWCTX"} & set(device.calls)
    assert device.taken.contexts == 2
    prefill.close()
    decode.close()


@pytest.mark.usefixtures("no_search")
def test_kernels_come_back_after_their_device_did_though_others_still_hold_what_is_gone(device, backend, kernel):
    called, resting = (npuc.load(kernel, backend=backend, fallback=()) for _ in range(2))
    arrays = draw(called.kernel.arguments, 0)
    wanted = called(**arrays)
    resting(**arrays)
    device.unplug()
    assert np.array_equal(called(**arrays), wanted) and called.stats.backend == backend
    assert np.array_equal(resting.submit(**arrays).result(), wanted)
    called.close()
    resting.close()
    device.complaints.clear()  # what could not be given back went with its descriptors
    assert device.taken == Taken(), "what has gone waits for a search for garbage"


def test_a_kernel_with_a_call_under_way_keeps_its_context(kernel, device, backend):
    loaded = [npuc.load(kernel, backend=backend, fallback=()) for _ in range(abi.CONTEXTS)]
    arrays = draw(loaded[0].kernel.arguments, 0)
    device.faults.hang()
    hanging = loaded[0].submit(**arrays)
    with npuc.load(kernel, backend=backend, fallback=()) as another:
        assert not loaded[0].rest() and not hanging.done()
        another(**arrays)
    assert hanging.cancel()
    for exe in loaded:
        exe.close()


def test_the_contexts_of_other_programs_cannot_be_taken(kernel, device):
    from npuc.runtime.backends.amdxdna import clients, open_any
    from npuc.runtime.devices.client import ArrayImage, Context
    from npuc.runtime.kernel_file import read_kernel

    client = open_any(device)
    others = [Context(client, 1, [ArrayImage(read_kernel(kernel).pdi)]) for _ in range(abi.CONTEXTS)]
    with pytest.raises(DeviceFailure, match="all 6 contexts are taken"):
        npuc.load(kernel, backend="amdxdna", fallback=())
    for other in others:
        other.close()
    clients.give_back(client)


def test_a_call_beyond_its_time_is_a_failure_and_is_not_tried_again(kernel, device, backend):
    with npuc.load(kernel, backend=backend, fallback=(), time_limit=0.02) as exe:
        device.faults.hang()
        device.faults.hang()
        with pytest.raises(npuc.BackendError, match="has not ended the run within 0.02 s"):
            exe(**draw(exe.kernel.arguments, 0))
        assert device.faults.left == 1
    with pytest.raises(npuc.UsageError, match="time limit of 0 seconds"):
        npuc.load(kernel, backend=backend, time_limit=0)


def test_a_kernel_that_nobody_has_any_more_gives_its_context_back(kernel, device, backend):
    exe = npuc.load(kernel, backend=backend, fallback=())
    assert device.taken.contexts == 1
    del exe
    gc.collect()
    assert device.taken == Taken()
