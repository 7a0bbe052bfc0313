"""The NPU through XRT's Python module; call order and argument numbers: facts/platform/xrt_python.md, txn.md."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from npuc.compiler.diagnostics import BackendError
from npuc.passes.attention.sequence import length_warnings
from npuc.runtime.backends import BackendSettings
from npuc.runtime.backends.pending import Pending, Places
from npuc.runtime.backends.rows import padded
from npuc.runtime.backends.xrt_failures import bad_end, failures, state_name
from npuc.runtime.devices.failures import DeviceFailure, no_answer
from npuc.runtime.kernel_file import DescribedKernel, KernelFile
from npuc.runtime.statistics import RunReport

# Kernel arguments: 0 opcode, 1 instructions, 2 their bytes, 3.. buffers (facts/platform/xclbin.md, section 2).
OPCODE_RUN_SEQUENCE = 3
INSTRUCTION_ARGUMENT = 1
FIRST_BUFFER_ARGUMENT = 3
TIMEOUT_MILLISECONDS, NO_TIMEOUT = 30_000, 0
# The driver reports RyzenAI-npu1 (facts/platform/xrt_python.md).
DEVICE_NAMES = ("npu1", "Phoenix")
UNDER_WAY = ("NEW", "QUEUED", "RUNNING", "SUBMITTED")  # states of a run that has not ended


def _pyxrt() -> Any:
    try:
        import pyxrt
    except Exception as error:  # an extension for another Python may raise anything
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise BackendError(
            f"pyxrt cannot be imported: {text}",
            remedy="install XRT with its Python bindings for this Python, see npuc doctor",
        ) from error
    return pyxrt


def _npu1(pyxrt: Any) -> Any:
    """The first device that is an npu1. Raises BackendError with what the others are."""
    with failures("looking for devices"):
        count = pyxrt.enumerate_devices()
    reasons: list[BackendError] = []
    for index in range(count):
        try:
            with failures(f"opening device {index}"):
                device = pyxrt.device(index)
                name = str(device.get_info(pyxrt.xrt_info_device.name))
        except BackendError as error:
            reasons.append(error)
            continue
        if any(known in name for known in DEVICE_NAMES):
            return device
        reasons.append(BackendError(f"the device is {name}, not npu1", remedy="npuc makes code for npu1 only: emulate"))
    if not reasons:
        raise BackendError("XRT finds no device", remedy="see npuc doctor")
    if len(reasons) == 1:
        raise reasons[0]
    told = "; ".join(f"device {index}: {reason.message}" for index, reason in enumerate(reasons))
    raise BackendError(told, remedy=next((reason.remedy for reason in reasons if reason.remedy), None))


def unavailable_reason() -> str | None:
    """Why there is no NPU to use through XRT; None when there is one."""
    try:
        _npu1(_pyxrt())
    except BackendError as error:
        return error.message
    return None


def _without_npu(error: BackendError) -> BackendError:
    """The reason as the backend's error, with what the device told."""
    text, remedy = f"no NPU: {error.message}", error.remedy or "use --backend emulator"
    if isinstance(error, DeviceFailure):
        return DeviceFailure(text, remedy=remedy, call=error.call, code=error.code, state=error.state)
    return type(error)(text, remedy=remedy)


class _Buffers:
    """Instructions and data of one call at a time, made anew only where they are too small."""

    def __init__(self, pyxrt: Any, device: Any, kernel: Any) -> None:
        self._pyxrt, self._device, self._kernel = pyxrt, device, kernel
        self.sequence, self.instructions = b"", None
        self.data: list[Any] = []
        self._sizes: list[int] = []

    def instruct(self, sequence: bytes) -> None:
        """Put the sequence of a call where the device reads it."""
        if sequence != self.sequence:
            if self.instructions is None or len(sequence) > len(self.sequence):
                group = self._kernel.group_id(INSTRUCTION_ARGUMENT)
                flags = self._pyxrt.bo.cacheable
                self.instructions = self._pyxrt.bo(self._device, len(sequence), flags, group)
            self._fill(self.instructions, sequence)
            self.sequence = sequence

    def fill(self, arguments: Sequence[bytearray | memoryview]) -> None:
        """Put the arguments of a call where the device reads and writes them."""
        for index, data in enumerate(arguments):
            if index == len(self.data):
                self.data.append(None)
                self._sizes.append(-1)
            if self._sizes[index] < len(data):
                group = self._kernel.group_id(FIRST_BUFFER_ARGUMENT + index)
                flags = self._pyxrt.bo.host_only
                self.data[index] = self._pyxrt.bo(self._device, len(data), flags, group)
                self._sizes[index] = len(data)
            self._fill(self.data[index], data)

    def _fill(self, buffer: Any, data: bytes | bytearray | memoryview) -> None:
        memoryview(buffer.map()).cast("B")[: len(data)] = data
        buffer.sync(self._pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)

    def read(self, index: int, data: bytearray | memoryview) -> None:
        """An argument as the device left it."""
        buffer = self.data[index]
        buffer.sync(self._pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE)
        data[:] = bytes(memoryview(buffer.map()).cast("B")[: len(data)])

    def close(self) -> None:
        self.sequence, self.instructions, self.data, self._sizes = b"", None, [], []


class XrtBackend:
    """A kernel loaded on the NPU; buffers stay for the next calls."""

    name = "xrt"

    def __init__(self, kernel: KernelFile, settings: BackendSettings | None = None) -> None:
        if kernel.xclbin is None or kernel.entry is None:
            raise BackendError("XRT loads xclbin files only", remedy="give the .xclbin instead of the .npua")
        try:
            self._pyxrt = _pyxrt()
            self._device = _npu1(self._pyxrt)
        except BackendError as error:
            raise _without_npu(error) from error
        self.emulated = bool(getattr(self._pyxrt, "npuc_emulated", False))  # npuc.pyxrt in XRT's place
        limit = None if settings is None else settings.time_limit
        usual = NO_TIMEOUT if self.emulated else TIMEOUT_MILLISECONDS  # an emulated device takes as long as it takes
        self._milliseconds = usual if limit is None else max(1, round(limit * 1e3))
        self._context: Any = None
        self._kernel: Any = None
        try:
            with failures("loading the kernel"):
                self._load(kernel.xclbin, kernel.entry)
        except BaseException:
            self._kernel = self._context = self._device = None  # now, whoever keeps the exception and this frame
            raise
        self._places = Places(lambda: _Buffers(self._pyxrt, self._device, self._kernel))

    def _load(self, image: bytes, entry: str) -> None:
        pyxrt = self._pyxrt
        handle, path = tempfile.mkstemp(suffix=".xclbin")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(image)
            xclbin = pyxrt.xclbin(path)
        finally:
            os.unlink(path)
        self._device.register_xclbin(xclbin)
        self._context = pyxrt.hw_context(self._device, xclbin.get_uuid())
        self._kernel = pyxrt.kernel(self._context, entry)

    def submit(self, buffers: Sequence[bytearray | memoryview], kernel: DescribedKernel) -> Pending:
        """Begin a call; its inputs are written while the one before it may still run."""
        self._require_open()
        assert isinstance(kernel, KernelFile)
        sequence, wide = kernel.sequence(), padded(kernel, buffers)
        number, place = self._places.take()
        with failures("running the kernel"):
            place.instruct(sequence)
            place.fill(wide)
            begin = time.perf_counter()
            data = place.data[: len(wide)]
            run = self._kernel(OPCODE_RUN_SEQUENCE, place.instructions, len(sequence), *data)

        def complete() -> RunReport:
            self._require_open()
            with failures("running the kernel"):
                self._await(run, sequence)
                seconds = time.perf_counter() - begin
                for index, data in enumerate(wide):
                    if not memoryview(data).readonly:
                        place.read(index, data)
            warnings = tuple(length_warnings(len(sequence)))
            return RunReport(self.name, self.emulated, seconds=seconds, warnings=warnings)

        def wait() -> None:
            with failures("running the kernel"):
                run.wait(self._milliseconds)

        pending = Pending(kernel, wide, buffers, wait, complete, lambda: _ended(run))
        self._places.hold(number, pending)
        return pending

    @property
    def idle(self) -> bool:
        """Whether no call is under way."""
        return self._places.idle

    def _require_open(self) -> None:
        if self._kernel is None:
            raise BackendError("the kernel was closed")

    def run(self, buffers: Sequence[bytearray | memoryview], kernel: DescribedKernel) -> RunReport:
        """Run the call's sequence once; seconds are wall time from start to completion."""
        return self.submit(buffers, kernel).finish()

    def _await(self, run: Any, sequence: bytes) -> None:
        state = run.wait(self._milliseconds)
        if state == self._pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED:
            return
        if state_name(state) == "TIMEOUT" and not _ended(run):
            raise no_answer(self._milliseconds / 1e3)  # our time was over, the run's own state says so
        raise bad_end(run, state, sequence)

    def close(self) -> None:
        """Release buffers, kernel, context and device, in that order."""
        self._places.close()
        self._kernel = self._context = self._device = None


def _ended(run: Any) -> bool:
    """Whether a run has ended, by its own state; of a version that tells none, it has."""
    state = run.state() if hasattr(run, "state") else None
    return state_name(state) not in UNDER_WAY
