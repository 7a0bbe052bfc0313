"""The NPU through XRT's Python module; call order and argument numbers: facts/platform/xrt_python.md, txn.md."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from npuc.compiler.diagnostics import BackendError
from npuc.passes.attention.sequence import length_warnings
from npuc.runtime.backends.rows import padded, take_back
from npuc.runtime.kernel_file import DescribedKernel, KernelFile
from npuc.runtime.statistics import RunReport

# Kernel arguments: 0 opcode, 1 instructions, 2 their bytes, 3.. buffers (facts/platform/xclbin.md, section 2).
OPCODE_RUN_SEQUENCE = 3
INSTRUCTION_ARGUMENT = 1
FIRST_BUFFER_ARGUMENT = 3
TIMEOUT_MILLISECONDS = 30_000
# The driver reports RyzenAI-npu1 (facts/platform/xrt_python.md).
DEVICE_NAMES = ("npu1", "Phoenix")


def _pyxrt() -> Any:
    try:
        import pyxrt
    except ImportError as error:
        raise BackendError(
            f"pyxrt cannot be imported: {str(error).splitlines()[0]}",
            remedy="install XRT with its Python bindings for this Python, see npuc doctor",
        ) from error
    return pyxrt


@contextmanager
def _failures(doing: str) -> Iterator[None]:
    """XRT raises RuntimeError with the errno's text."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackendError(f"XRT failed {doing}: {text}", remedy="see npuc doctor") from error


def unavailable_reason() -> str | None:
    """Why there is no NPU to use through XRT; None when there is one."""
    try:
        pyxrt = _pyxrt()
        with _failures("looking for devices"):
            if pyxrt.enumerate_devices() == 0:
                return "XRT finds no device"
            name = pyxrt.device(0).get_info(pyxrt.xrt_info_device.name)
    except BackendError as error:
        return error.message
    return None if any(known in name for known in DEVICE_NAMES) else f"the device is {name}, not npu1"


class XrtBackend:
    """A kernel loaded on the NPU. The instruction buffer is made for each new sequence, data buffers on each run."""

    name = "xrt"

    def __init__(self, kernel: KernelFile) -> None:
        if kernel.xclbin is None or kernel.entry is None:
            raise BackendError("XRT loads xclbin files only", remedy="give the .xclbin instead of the .npua")
        reason = unavailable_reason()
        if reason is not None:
            raise BackendError(f"no NPU: {reason}", remedy="see npuc doctor, or use --backend emulator")
        self._pyxrt = _pyxrt()
        with _failures("loading the kernel"):
            self._load(kernel.xclbin, kernel.entry)

    def _load(self, image: bytes, entry: str) -> None:
        pyxrt = self._pyxrt
        self._device = pyxrt.device(0)
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
        self._sequence, self._instructions = b"", None

    def _instruct(self, sequence: bytes) -> None:
        """Put the sequence of a call where the device reads it."""
        if sequence != self._sequence:
            pyxrt = self._pyxrt
            group = self._kernel.group_id(INSTRUCTION_ARGUMENT)
            self._instructions = pyxrt.bo(self._device, len(sequence), pyxrt.bo.cacheable, group)
            self._fill(self._instructions, sequence)
            self._sequence = sequence

    def _fill(self, buffer: Any, data: bytes | bytearray | memoryview) -> None:
        memoryview(buffer.map()).cast("B")[: len(data)] = data
        buffer.sync(self._pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)

    def run(self, buffers: Sequence[bytearray | memoryview], kernel: DescribedKernel) -> RunReport:
        """Run the call's sequence once; seconds are wall time from start to completion."""
        pyxrt = self._pyxrt
        if self._kernel is None:
            raise BackendError("the kernel was closed")
        assert isinstance(kernel, KernelFile)
        sequence, wide = kernel.sequence(), padded(kernel, buffers)
        with _failures("running the kernel"):
            self._instruct(sequence)
            held = []
            for index, data in enumerate(wide):
                group = self._kernel.group_id(FIRST_BUFFER_ARGUMENT + index)
                held.append(pyxrt.bo(self._device, len(data), pyxrt.bo.host_only, group))
                self._fill(held[-1], data)
            begin = time.perf_counter()
            run = self._kernel(OPCODE_RUN_SEQUENCE, self._instructions, len(sequence), *held)
            state = run.wait(TIMEOUT_MILLISECONDS)
            seconds = time.perf_counter() - begin
            if state != pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED:
                raise BackendError(f"the NPU ended the run with {state}")
            for data, buffer in zip(wide, held, strict=True):
                if memoryview(data).readonly:
                    continue
                buffer.sync(pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE)
                data[:] = bytes(memoryview(buffer.map()).cast("B")[: len(data)])
        take_back(kernel, wide, buffers)
        return RunReport(self.name, emulated=False, seconds=seconds, warnings=tuple(length_warnings(len(sequence))))

    def close(self) -> None:
        """Release buffers, kernel, context and device, in that order."""
        self._instructions = self._kernel = self._context = self._device = None
