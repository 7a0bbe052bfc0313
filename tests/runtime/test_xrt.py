"""The XRT backend against a stand-in for XRT's module: npuc.pyxrt over the driver in software, each call noted."""

from __future__ import annotations

import errno
import gc
import importlib.util
import sys
from collections.abc import Iterator
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import device_calls
import numpy as np
import pytest
from small_kernels import compiled

import npuc
import npuc.pyxrt
from npuc.compiler.diagnostics import BackendError
from npuc.compiler.emit.txn import Sync, read_txn
from npuc.runtime.arguments import draw
from npuc.runtime.backends.xrt import XrtBackend, unavailable_reason
from npuc.runtime.backends.xrt_failures import state_name
from npuc.runtime.devices import commands, system_calls
from npuc.runtime.devices.failures import DeviceFailure, cause_of
from npuc.runtime.devices.software import SoftwareDevice, Taken
from npuc.runtime.kernel_file import read_kernel


class StandIn(ModuleType):
    """XRT's module as it is used: what is made, in order, with its arguments."""

    def __init__(self) -> None:
        super().__init__("pyxrt")
        for name in npuc.pyxrt.__all__:
            setattr(self, name, getattr(npuc.pyxrt, name))
        self.made: list[tuple[Any, ...]] = []
        for name in ("device", "xclbin", "hw_context", "kernel", "bo"):
            setattr(self, name, self.noting(name, getattr(npuc.pyxrt, name)))

    def noting(self, name: str, kind: type) -> type:
        made = self.made

        class Noting(kind):  # type: ignore[misc, valid-type]
            def __init__(self, *arguments: Any) -> None:
                kept = (int, str, npuc.pyxrt.bo.flags)  # of objects only their kind: noting must not keep them
                made.append((name, *(a if isinstance(a, kept) else type(a).__name__ for a in arguments)))
                super().__init__(*arguments)

        Noting.__name__ = name
        return Noting


@pytest.fixture
def device() -> Iterator[SoftwareDevice]:
    made = SoftwareDevice()
    with system_calls.replaced(made):
        yield made
        gc.collect()  # exceptions that tests looked at keep the frames of npuc.pyxrt
    assert made.taken == Taken() and made.complaints == []


@pytest.fixture
def xrt(device: SoftwareDevice, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setitem(sys.modules, "pyxrt", made)
    return made


@pytest.fixture(scope="module")
def kernel() -> bytes:
    return compiled(1).xclbin


@pytest.fixture(scope="module")
def arrays(kernel: bytes) -> dict[str, np.ndarray]:
    return draw(read_kernel(kernel).arguments, 0)


def output(kernel: bytes, arrays: dict[str, np.ndarray], backend: str) -> tuple[bytes, npuc.RunReport]:
    with npuc.load(kernel, backend=backend, fallback=()) as exe:  # type: ignore[arg-type]
        call = exe.serve(arrays)
    (out,) = call.outputs.values()
    return out.tobytes(), call.report


run_once = partial(device_calls.run_once, XrtBackend)


def test_outputs_and_cycles_are_the_emulator_s_and_auto_takes_it(kernel, arrays, xrt, device):
    wanted, report = output(kernel, arrays, "emulator")
    assert output(kernel, arrays, "xrt")[0] == wanted
    got, told = output(kernel, arrays, "auto")
    assert got == wanted and {run.cycles for run in device.runs} == {report.cycles}
    assert told.backend == "xrt" and told.emulated, "npuc's own module in XRT's place is an emulator, and says so"


def test_xrt_is_called_as_its_runtime_expects(kernel, arrays, xrt, device):
    with npuc.load(kernel, backend="xrt", fallback=()) as exe:
        exe.serve(arrays)
        size = len(exe.kernel.sequence())
        first = list(xrt.made)
        exe.serve(arrays)
    names = [made[0] for made in first]
    assert names[:5] == ["device", "xclbin", "hw_context", "kernel", "bo"] and set(names[4:]) == {"bo"}
    buffers = [(made[2], made[3].name, made[4] & 0xFFFF) for made in first if made[0] == "bo"]
    sizes = [np.prod(a.shape) * 2 for a in read_kernel(kernel).arguments]
    assert buffers == [(size, "cacheable", 1), *((bytes_, "host_only", 0) for bytes_ in sizes)]
    assert xrt.made == first, "the second call makes nothing anew"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("open", errno.ENODEV), ("open", errno.EINVAL), ("mmap", errno.EAGAIN), ("CREATE_BO", errno.ENOSPC),
        ("CREATE_HWCTX", errno.ENOENT), ("CREATE_HWCTX", errno.EINVAL), ("CREATE_HWCTX", errno.EIO),
        ("CONFIG_HWCTX", errno.ETIME), ("CONFIG_HWCTX", errno.EINVAL), ("EXEC_CMD", errno.EIO),
        ("EXEC_CMD", errno.EINVAL), ("GET_INFO", errno.EOPNOTSUPP), ("SYNC_BO", errno.EINVAL),
        ("SYNCOBJ_TIMELINE_WAIT", errno.EINVAL),
    ],
)  # fmt: skip
def test_every_errno_is_told_with_cause_and_remedy(kernel, arrays, xrt, device, call, code):
    device.faults.fail(call, code)
    with pytest.raises(BackendError) as caught:
        run_once(kernel, arrays)
    found = cause_of(call, code)
    assert found.cause in caught.value.message and caught.value.remedy == found.remedy
    assert isinstance(caught.value, DeviceFailure) and (caught.value.call, caught.value.code) in (
        (call, code),
        ("", code),
    )
    assert device.faults.left == 0


@pytest.mark.parametrize("state", [commands.ERROR, commands.ABORT, commands.NORESPONSE, commands.SKERROR])
def test_every_state_is_told_by_name_with_its_remedy(kernel, arrays, xrt, device, state):
    device.faults.end(state)
    with pytest.raises(DeviceFailure, match=f"ended the run with {commands.STATE_NAMES[state]}: ") as caught:
        run_once(kernel, arrays)
    assert caught.value.state == state and caught.value.remedy


def test_the_health_of_wait2_becomes_our_operation(kernel, arrays, xrt, device):
    operations = read_txn(read_kernel(kernel).sequence()).operations
    index = next(at for at, operation in enumerate(operations) if isinstance(operation, Sync))
    device.faults.end(commands.TIMEOUT, operation=index)
    with pytest.raises(
        DeviceFailure, match=f"operation {index} of .* waits for the output token of column 0"
    ) as caught:
        run_once(kernel, arrays)
    assert caught.value.health == commands.Health(index, 0x28B060AD)
    device.faults.end(commands.TIMEOUT)
    with pytest.raises(DeviceFailure, match="the firmware did not tell where"):
        run_once(kernel, arrays)


def test_states_are_known_by_any_name_and_by_number():
    states = npuc.pyxrt.ert_cmd_state
    named = SimpleNamespace(name="ERT_CMD_STATE_ABORT")
    assert [state_name(s) for s in (states(3), states(4), 8, named)] == ["RUNNING", "COMPLETED", "TIMEOUT", "ABORT"]
    assert state_name(None) == "None" and state_name(99) == "99"


def test_a_run_that_does_not_end_is_told_from_one_that_the_watchdog_ended(kernel, arrays, xrt, device):
    device.faults.hang()
    with pytest.raises(DeviceFailure, match="has not ended the run within 0.005 s"):
        run_once(kernel, arrays, time_limit=0.005)


def test_versions_without_wait2_and_state_are_served(kernel, arrays, xrt, device, monkeypatch):
    class Plain(npuc.pyxrt.kernel):
        def __call__(self, *arguments):
            run = super().__call__(*arguments)
            return SimpleNamespace(wait=run.wait)

    xrt.kernel = Plain
    assert run_once(kernel, arrays) == output(kernel, arrays, "emulator")[0]
    device.faults.end(commands.TIMEOUT, operation=1)
    with pytest.raises(DeviceFailure, match="ended the run with TIMEOUT"):
        run_once(kernel, arrays)


def test_all_devices_are_tried(kernel, arrays, xrt, device):
    real, asked = xrt.device, []

    def several(index):
        asked.append(index)
        if index == 0:
            raise IndexError("invalid device index")  # another version's exception
        return real(0) if index == 2 else SimpleNamespace(get_info=lambda key: "RyzenAI-npu4")

    xrt.enumerate_devices, xrt.device = lambda: 3, several
    assert unavailable_reason() is None and asked == [0, 1, 2]
    assert run_once(kernel, arrays)
    xrt.enumerate_devices = lambda: 2
    reason = unavailable_reason()
    assert reason is not None and "device 0: XRT failed opening device 0: IndexError: invalid" in reason
    assert "device 1: the device is RyzenAI-npu4, not npu1" in reason
    xrt.enumerate_devices = lambda: 0
    with pytest.raises(BackendError, match="no NPU: XRT finds no device"):
        npuc.load(kernel, backend="xrt", fallback=())


@pytest.mark.parametrize(
    "error", [ImportError("libxrt_coreutil.so.2: cannot open"), SystemError("module initialised twice")]
)
def test_a_module_that_cannot_be_imported_is_a_reason(monkeypatch, error):
    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "pyxrt":
                raise error

    monkeypatch.delitem(sys.modules, "pyxrt", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    assert unavailable_reason() == f"pyxrt cannot be imported: {error}"


def test_xrt_takes_xclbin_files_only(xrt, device):
    with pytest.raises(BackendError, match="loads xclbin files only"):
        npuc.load(compiled(1).stage("npua"), backend="xrt", fallback=())


# what is said of situations that people report (../shared/cases/doctor)
REPORTED = {
    "memlock": "limit of locked memory is below",
    "memlock2": "limit of locked memory is below",
    "enodev": "the IOMMU is off",
    "einval": "the IOMMU is off",
    "none": "XRT finds no device",
    "strix": "the device is NPU Strix, not npu1",
    "index": "IndexError: invalid device index",
    "import": "pyxrt cannot be imported: libxrt_coreutil",
    "symbol": "pyxrt cannot be imported: .*undefined symbol",
    "notsup": "does not answer that query",
    "hwctx": "there is no device heap",
    "hwctxeio": "the firmware refuses the context",
    "config": "the firmware does not answer",
    "exec": "the context is dead",
    "timeout": "ended the run with TIMEOUT",
    "abort": "ended the run with ABORT: the firmware gave up",
    "error": "ended the run with ERROR",
}


@pytest.mark.parametrize("situation", REPORTED)
def test_reported_situations_are_told_with_what_helps(situation, kernel, arrays, facts_dir, monkeypatch):
    path = facts_dir.parent / "cases" / "doctor" / "pyxrt.py"
    if not path.is_file():
        pytest.skip("the stand-ins of reported situations are not present")
    monkeypatch.setenv("FAKE", situation)
    spec = importlib.util.spec_from_file_location("pyxrt", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(made)
    except ImportError as error:
        monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=_raising(error)), *sys.meta_path])
        monkeypatch.delitem(sys.modules, "pyxrt", raising=False)
    else:
        monkeypatch.setitem(sys.modules, "pyxrt", made)
    with pytest.raises(BackendError, match=REPORTED[situation]) as caught:
        run_once(kernel, arrays)
    assert caught.value.remedy


def _raising(error):
    def find_spec(name, path=None, target=None):
        if name == "pyxrt":
            raise error

    return find_spec
