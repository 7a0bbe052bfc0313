"""The ladder's way through XRT's Python module, in the order of facts/platform/xrt_python.md, section 1."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from npuc.compiler.diagnostics import BackendError
from npuc.compiler.emit import txn
from npuc.compiler.emit.xclbin import KernelEntry, Xclbin, write_xclbin
from npuc.runtime.doctor.xrt import DEVICE_NAMES
from npuc.runtime.proof.machines import DEVICE_ARGUMENTS, TIMEOUT_SECONDS, Loaded, Outcome

ENTRY, INSTANCE, KERNEL_ID = "PROOF", "PROOF", 0x901
OPCODE_RUN_SEQUENCE = 3
INSTRUCTION_ARGUMENT = 1
FIRST_BUFFER_ARGUMENT = 3


@contextmanager
def _failures(doing: str) -> Iterator[None]:
    """XRT raises what it likes: RuntimeError with an errno's text, and others."""
    try:
        yield
    except BackendError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise BackendError(f"XRT failed {doing}: {text}", remedy="see npuc doctor") from error


class XrtMachine:
    """An npu1 that pyxrt opens."""

    name = "xrt"

    def __init__(self) -> None:
        with _failures("being imported"):
            import pyxrt

        self._pyxrt: Any = pyxrt
        self._device: Any = None
        self.emulated = bool(getattr(pyxrt, "npuc_emulated", False))  # npuc.pyxrt in XRT's place

    def open(self) -> dict[str, Any]:
        seen = []
        with _failures("looking for devices"):
            for index in range(self._pyxrt.enumerate_devices()):
                device = self._pyxrt.device(index)
                name = str(device.get_info(self._pyxrt.xrt_info_device.name))
                if any(known in name.lower() for known in DEVICE_NAMES):
                    self._device = device
                    return {"device": name, "module": getattr(self._pyxrt, "__file__", None)}
                seen.append(name)
        raise BackendError(f"XRT has {', '.join(seen) or 'no device'}, not npu1", remedy="see npuc doctor")

    def load(self, columns: int, pdi: bytes) -> Loaded:
        if self._device is None:
            raise BackendError("the device is not open")
        return _InContext(self._pyxrt, self._device, columns, pdi)

    def close(self) -> None:
        self._device = None


class _InContext:
    def __init__(self, pyxrt: Any, device: Any, columns: int, pdi: bytes) -> None:
        self._pyxrt, self._device, self._columns = pyxrt, device, columns
        self._held: list[Any] = []
        names = tuple(f"bo{number}" for number in range(DEVICE_ARGUMENTS))
        image = write_xclbin(Xclbin((KernelEntry(ENTRY, INSTANCE, KERNEL_ID, names),), columns, pdi))
        with _failures("making a context"):
            handle, path = tempfile.mkstemp(suffix=".xclbin")
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(image)
                xclbin = pyxrt.xclbin(path)
            finally:
                os.unlink(path)
            device.register_xclbin(xclbin)
            self._context = pyxrt.hw_context(device, xclbin.get_uuid())
            self._kernel = pyxrt.kernel(self._context, ENTRY)

    def run(self, operations: Sequence[txn.Operation], buffers: Sequence[bytearray]) -> Outcome:
        pyxrt, sequence = self._pyxrt, txn.write_txn(operations, self._columns)
        directions = pyxrt.xclBOSyncDirection
        with _failures("running a sequence"):
            instructions = self._buffer(sequence, pyxrt.bo.cacheable, INSTRUCTION_ARGUMENT)
            held = [
                self._buffer(data, pyxrt.bo.host_only, FIRST_BUFFER_ARGUMENT + index)
                for index, data in enumerate(buffers)
            ]
            begin = time.perf_counter()
            run = self._kernel(OPCODE_RUN_SEQUENCE, instructions, len(sequence), *held)
            state = run.wait(round(TIMEOUT_SECONDS * 1000))
            seconds = time.perf_counter() - begin
            if state != pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED:
                name = getattr(state, "name", str(state)).rpartition(".")[2]
                raise BackendError(f"the NPU ended the run with {name}", remedy="see the kernel log")
            for data, buffer in zip(buffers, held, strict=True):
                buffer.sync(directions.XCL_BO_SYNC_BO_FROM_DEVICE)
                data[:] = bytes(memoryview(buffer.map()).cast("B")[: len(data)])
        return Outcome(seconds)

    def _buffer(self, data: bytes | bytearray, flags: Any, argument: int) -> Any:
        buffer = self._pyxrt.bo(self._device, max(1, len(data)), flags, self._kernel.group_id(argument))
        memoryview(buffer.map()).cast("B")[: len(data)] = data
        buffer.sync(self._pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)
        return buffer

    def close(self) -> None:
        """Kernel, then context."""
        self._kernel = None
        self._context = None
