"""Calls ahead: `exe.submit` on both ways to the NPU gives what calls give, whatever happens between."""

from __future__ import annotations

import errno
import gc
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import numpy as np
import pytest
from small_kernels import compiled

import npuc
import npuc.pyxrt
from npuc.runtime.arguments import draw
from npuc.runtime.devices import commands, system_calls
from npuc.runtime.devices.software import SoftwareDevice, Taken
from npuc.runtime.kernel_file import read_kernel

CALLS = 5


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftwareDevice]:
    made = SoftwareDevice()
    monkeypatch.setitem(sys.modules, "pyxrt", npuc.pyxrt)
    with system_calls.replaced(made):
        yield made
        gc.collect()  # exceptions that tests looked at keep the frames of npuc.pyxrt
    assert made.taken == Taken() and made.complaints == [] and made.faults.left == 0


@pytest.fixture(scope="module")
def kernel() -> bytes:
    return compiled(1).xclbin


@pytest.fixture(scope="module")
def inputs(kernel: bytes) -> list[dict[str, np.ndarray]]:
    return [draw(read_kernel(kernel).arguments, seed) for seed in range(CALLS)]


@pytest.fixture(scope="module")
def wanted(kernel: bytes, inputs: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    with npuc.load(kernel, backend="emulator", fallback=()) as exe:
        return [exe(**given) for given in inputs]


@pytest.fixture(params=["amdxdna", "xrt"])
def exe(request, kernel, device) -> Iterator[npuc.Executable]:
    with npuc.load(kernel, backend=request.param, fallback=()) as made:
        yield made


def test_results_are_those_of_calls_and_inputs_go_in_while_the_last_runs(exe, device, inputs, wanted):
    first, second = exe.submit(**inputs[0]), exe.submit(**inputs[1])
    calls = [call for call in device.calls if call in ("EXEC_CMD", "SYNCOBJ_TIMELINE_WAIT")]
    assert calls == ["EXEC_CMD"] * 2, "both are under way before anything waited"
    assert np.array_equal(second.result(), wanted[1]) and np.array_equal(first.result(), wanted[0])
    assert first.done() and first.exception() is None and not first.cancelled() and not first.cancel()
    assert exe.stats.backend == exe.names[0]


def test_any_number_may_be_submitted_and_asked_for_in_any_order(exe, inputs, wanted):
    submitted = [exe.submit(**given) for given in inputs]
    assert np.array_equal(exe(**inputs[2]), wanted[2])
    for index in (3, 0, 4, 2, 1):
        assert np.array_equal(submitted[index].result(), wanted[index])


def test_callers_may_write_over_their_arrays_at_once(exe, device, inputs, wanted):
    given = {name: array.copy() for name, array in inputs[0].items()}
    device.faults.end(commands.ABORT)
    submitted = exe.submit(**given)
    for array in given.values():
        array[:] = 7
    assert np.array_equal(submitted.result(), wanted[0]), "also where the device fails and the call is made again"


def test_a_call_that_fails_is_made_again_and_so_are_those_behind_it(exe, device, inputs, wanted):
    device.faults.end(commands.TIMEOUT, operation=1)
    submitted = [exe.submit(**given) for given in inputs[:2]]
    for got, right in zip(submitted, wanted, strict=False):
        assert np.array_equal(got.result(), right)
    assert np.array_equal(exe(**inputs[0]), wanted[0])


def test_a_failure_that_stays_is_the_result_s_and_falls_back_where_there_is_something(kernel, device, inputs, wanted):
    with npuc.load(kernel, backend="amdxdna", fallback=()) as exe:
        for _ in range(3):
            device.faults.fail("EXEC_CMD", errno.EIO)
        submitted = exe.submit(**inputs[0])
        assert submitted.done() and isinstance(submitted.exception(), npuc.BackendError)
        with pytest.raises(npuc.BackendError, match="EIO"):
            submitted.result()
    with npuc.load(kernel, backend="amdxdna", fallback=("reference",)) as exe:
        for _ in range(3):
            device.faults.fail("EXEC_CMD", errno.EIO)
        assert np.abs(exe.submit(**inputs[0]).result() - wanted[0]).max() < 0.05 and exe.stats.backend == "reference"


def test_a_call_that_hangs_can_be_cancelled(exe, device, inputs, wanted):
    device.faults.hang()
    submitted = exe.submit(**inputs[0])
    assert not submitted.done() and submitted.cancel() and submitted.cancelled() and submitted.done()
    with pytest.raises(CancelledError):
        submitted.result()
    assert np.array_equal(exe.submit(**inputs[1]).result(), wanted[1])


def test_wrong_arguments_raise_at_once(exe, inputs):
    with pytest.raises(npuc.InputError, match="is missing"):
        exe.submit(q=inputs[0]["q"])
    exe.close()
    with pytest.raises(npuc.BackendError, match="closed"):
        exe.submit(**inputs[0])


def test_a_kernel_that_is_closed_meanwhile_is_an_error(kernel, device, inputs):
    with npuc.load(kernel, backend="amdxdna", fallback=()) as exe:
        submitted = exe.submit(**inputs[0])
    with pytest.raises(npuc.BackendError, match="the kernel was closed"):
        submitted.result()


@pytest.mark.parametrize("backend", ["emulator", "reference"])
def test_other_backends_run_at_once(kernel, inputs, wanted, backend):
    with npuc.load(kernel, backend=backend, fallback=()) as exe:
        submitted = exe.submit(**inputs[0])
        assert submitted.done() and np.abs(submitted.result() - wanted[0]).max() < 0.05


def test_threads_share_one_kernel(exe, inputs, wanted):
    wrong: list[int] = []

    def work(offset: int) -> None:
        for turn in range(4):
            index = (offset + turn) % CALLS
            if not np.array_equal(exe.submit(**inputs[index]).result(), wanted[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
