"""A client of the amdxdna driver: what XRT's shim does, in its order (facts/platform/amdxdna.md, section 3).

Open, version, metadata, device heap; a context with its array images; buffers; commands and their ends. Whatever fails
gives back what was taken, in reverse order, and raises BackendError with cause and remedy (failures.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from npuc.compiler.diagnostics import BackendError
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.devices import abi, commands
from npuc.runtime.devices.failures import no_answer, refused
from npuc.runtime.devices.giving_back import close_all, closed
from npuc.runtime.devices.system_calls import Mapping, Pinned, SystemCalls

CORE_ROWS = len(geometry.CORE_ROWS)
OPERATIONS_PER_CYCLE = geometry.OPERATIONS_PER_CYCLE_PER_COLUMN
COMMAND_BYTES = 4096
FOREVER = (1 << 63) - 1
GONE = (errno.ENODEV, errno.ENXIO, errno.ESHUTDOWN)
COLUMNS_AND_ROWS = (geometry.COLUMNS_PHYSICAL, geometry.ROWS)


class Client:
    """One open device node, shared by all kernels of the process; `open` opens it, `close` gives it back.

    track: whose interface the driver speaks. emulated: whether an emulator is behind it. gone: the device went away
    from behind it (a reset, a driver loaded anew), so that nothing through it will work again; a new one may.
    """

    def __init__(self, calls: SystemCalls, node: str) -> None:
        self.calls, self.node = calls, node
        self.track = abi.MAINLINE  # whose VERSION request is every track's
        self.process = os.getpid()
        self.gone = False
        with contextlib.ExitStack() as undo:
            with refused("open", node):
                self.descriptor = calls.open(node)
            undo.callback(self._close_descriptor)
            self.track = self._track()
            self._require_npu1()
            self.heap = Memory(self, abi.BO_DEV_HEAP, abi.HEAP_BYTES)
            undo.pop_all()

    @property
    def emulated(self) -> bool:
        return self.calls.emulated

    def _close_descriptor(self) -> None:
        with contextlib.suppress(OSError):
            self.calls.close(self.descriptor)

    def close(self) -> None:
        """Give back the heap and the node."""
        closed(self.heap.close)
        self._close_descriptor()

    def request(self, request: str, /, **fields: Any) -> dict[str, Any]:
        """The fields of a request's structure after the driver answered. Raises BackendError."""
        with refused(request, self.node):
            return self._request(request, fields)

    def _request(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        layout = self.track.layout_of(name)
        argument = bytearray(layout.pack(**fields))
        try:
            self.calls.ioctl(self.descriptor, self.track.requests[name], argument)
        except OSError as error:
            self.gone = self.gone or error.errno in GONE
            raise
        return layout.unpack(bytes(argument))

    def _track(self) -> abi.Track:
        name = Pinned(bytes(32))
        answer = self.request("VERSION", name=name.address, name_len=31)
        driver = name.data[: answer["name_len"]].decode("ascii", "replace")
        if driver != abi.DRIVER_NAME:
            raise BackendError(f"{self.node} belongs to the driver {driver!r}, not {abi.DRIVER_NAME}")
        track = abi.track_of(answer["major"], answer["minor"])
        if track is None:
            raise BackendError(
                f"the amdxdna driver has version {answer['major']}.{answer['minor']}, whose interface is not known",
                remedy="use a kernel's own driver (0.x) or AMD's module (1.x), or run through XRT",
            )
        return track

    def query(self, parameter: int, structure: str) -> dict[str, Any]:
        """What GET_INFO tells."""
        layout = self.track.layouts[structure]
        buffer = Pinned(bytes(layout.size))
        self.request("GET_INFO", param=parameter, buffer_size=layout.size, buffer=buffer.address)
        return layout.unpack(buffer.data)

    def _require_npu1(self) -> None:
        array = self.query(abi.QUERY_AIE_METADATA, "query_aie_metadata")
        found = array["cols"], array["rows"]
        if found != COLUMNS_AND_ROWS:
            raise BackendError(
                f"the device has {found[0]} columns and {found[1]} rows; npu1 has {COLUMNS_AND_ROWS[0]} and "
                f"{COLUMNS_AND_ROWS[1]}",
                remedy="npuc makes code for npu1 (Phoenix, Hawk Point) only: run emulated here",
            )

    def firmware_version(self) -> tuple[int, int, int, int]:
        """Of the NPU's firmware."""
        answer = self.query(abi.QUERY_FIRMWARE_VERSION, "query_firmware_version")
        return answer["major"], answer["minor"], answer["patch"], answer["build"]


class Memory:
    """A buffer object that the host has mapped; `address` is the device's.

    Device buffers lie in the client's heap, the others have mappings of their own.
    """

    def __init__(self, client: Client, kind: int, size: int) -> None:
        self.client, self.size = client, size
        self._mapping: Mapping | None = None
        self.view: memoryview
        with contextlib.ExitStack() as undo:
            self.handle = client.request("CREATE_BO", size=size, type=kind)["handle"]
            undo.callback(self._forget)
            told = client.request("GET_BO_INFO", handle=self.handle)
            if kind == abi.BO_DEV:
                self.address = told["xdna_addr"]
                at = self.address - client.heap.address
                self.view = client.heap.view[at : at + size]
            else:
                alignment = abi.HEAP_BYTES if kind == abi.BO_DEV_HEAP else abi.PAGE
                whole = -(-size // abi.PAGE) * abi.PAGE
                with refused("mmap", client.node):
                    self._mapping = client.calls.map(client.descriptor, whole, told["map_offset"], alignment)
                undo.callback(self._unmap)
                self.view = self._mapping.view[:size]
                self.address = self._device_address(kind, told["xdna_addr"])
            undo.pop_all()

    def _device_address(self, kind: int, told: int) -> int:
        """Known once mapped: shared virtual addresses are the host's, which older drivers do not tell."""
        assert self._mapping is not None
        if kind != abi.BO_DEV_HEAP:
            told = self.client.request("GET_BO_INFO", handle=self.handle)["xdna_addr"]
        if told == abi.INVALID_ADDRESS and kind == abi.BO_DEV_HEAP:
            return abi.HEAP_BASE
        return self._mapping.address if told == abi.INVALID_ADDRESS else told

    def flush(self, size: int | None = None, offset: int = 0) -> None:
        """What the host wrote goes to memory."""
        self._sync(abi.TO_DEVICE, self.size if size is None else size, offset)

    def drop(self, size: int | None = None, offset: int = 0) -> None:
        """What the device wrote is read anew.

        Kernels after Linux 6.14 take FROM_DEVICE for debug buffers alone and answer EINVAL for others; their flush
        drops lines as well (x86's clflush), and no line is dirty here: buffers were flushed before the run.
        """
        if self.client.track is abi.MAINLINE:
            self.flush(size, offset)
        else:
            self._sync(abi.FROM_DEVICE, self.size if size is None else size, offset)

    def _sync(self, direction: int, size: int, offset: int) -> None:
        self.client.request("SYNC_BO", handle=self.handle, direction=direction, offset=offset, size=size)

    def _unmap(self) -> None:
        if self._mapping is not None:
            mapping, self._mapping = self._mapping, None
            with contextlib.suppress(AttributeError):
                self.view.release()
            with refused("munmap", self.client.node):
                self.client.calls.unmap(mapping)

    def _forget(self) -> None:
        closed(lambda: self.client.request("GEM_CLOSE", handle=self.handle))

    def close(self) -> None:
        """Give the mapping and the buffer back, both even where one of them fails."""
        if not self.handle:
            return
        try:
            if self._mapping is None:
                self.view.release()
            self._unmap()
        finally:
            handle, self.handle = self.handle, 0
            self.client.request("GEM_CLOSE", handle=handle)


@dataclass(frozen=True)
class ArrayImage:
    """A PDI for a compute unit. functional: of the kernel, 0 for those that take TXN sequences."""

    pdi: bytes
    functional: int = 0


class Context:
    """A partition of `columns` with its compute units configured, in the order of `images`."""

    def __init__(self, client: Client, columns: int, images: Sequence[ArrayImage]) -> None:
        self.client = client
        self._syncobj = 0
        self._images: list[Memory] = []
        with contextlib.ExitStack() as undo:
            self._create(columns)
            undo.callback(self.close)
            self._configure(images)
            undo.pop_all()

    def _create(self, columns: int) -> None:
        layout = self.client.track.layouts["qos_info"]
        own = {"user_start_col": abi.START_COLUMN_NOT_REQUESTED} if "user_start_col" in layout.names else {}
        quality = Pinned(layout.pack(priority=abi.NORMAL_PRIORITY, **own))
        answer = self.client.request(
            "CREATE_HWCTX",
            qos_p=quality.address,
            max_opc=OPERATIONS_PER_CYCLE * columns,
            num_tiles=columns * CORE_ROWS,
        )
        self.handle, self._syncobj = answer["handle"], answer["syncobj_handle"]

    def _configure(self, images: Sequence[ArrayImage]) -> None:
        client = self.client
        head, one = client.track.layouts["hwctx_param_config_cu"], client.track.layouts["cu_config"]
        entries = b""
        for image in images:
            memory = Memory(client, abi.BO_DEV, len(image.pdi))
            self._images.append(memory)
            memory.view[:] = image.pdi
            memory.flush()
            entries += one.pack(cu_bo=memory.handle, cu_func=image.functional)
        parameter = Pinned(head.pack(num_cus=len(images)) + entries)
        client.request(
            "CONFIG_HWCTX",
            handle=self.handle,
            param_type=abi.CONFIG_CU,
            param_val=parameter.address,
            param_val_size=len(parameter.data),
        )

    def submit(self, command: Memory, held: Sequence[Memory]) -> int:
        """Hand a command over, with all buffers that it names; its number."""
        handles = Pinned(struct.pack(f"<{len(held)}I", *(memory.handle for memory in held)))
        return self.client.request(
            "EXEC_CMD",
            hwctx=self.handle,
            type=abi.SUBMIT_EXEC_BUF,
            cmd_handles=command.handle,
            args=handles.address,
            cmd_count=1,
            arg_count=len(held),
        )["seq"]

    def wait(self, number: int, seconds: float | None) -> bool:
        """Whether the command has ended within the time (None: however long). Raises BackendError."""
        name, fields, _keep = self._waiting(number, seconds)
        try:
            self.client._request(name, fields)
        except OSError as reason:
            if reason.errno == errno.ETIME:
                return False
            with refused(name, self.client.node):
                raise
        return True

    def _waiting(self, number: int, seconds: float | None) -> tuple[str, dict[str, Any], tuple[Pinned, ...]]:
        """The request that waits, its fields, and what they point at. By the context's timeline where it has one."""
        if not self._syncobj:
            if "WAIT_CMD" not in self.client.track.requests:
                raise BackendError("the driver gave no timeline to wait on, and has no WAIT_CMD")
            milliseconds = 0 if seconds is None else max(1, round(seconds * 1e3))  # 0: forever
            return "WAIT_CMD", {"hwctx": self.handle, "timeout": milliseconds, "seq": number}, ()
        handle, point = Pinned(struct.pack("<I", self._syncobj)), Pinned(struct.pack("<Q", number))
        until = FOREVER if seconds is None else time.monotonic_ns() + round(seconds * 1e9)
        fields = {
            "handles": handle.address,
            "points": point.address,
            "timeout_nsec": until,
            "count_handles": 1,
            "flags": abi.WAIT_FOR_SUBMIT,
        }
        return "SYNCOBJ_TIMELINE_WAIT", fields, (handle, point)

    def close(self) -> None:
        """End the context, then give its images back. The first failure is raised when all was tried."""
        steps: list[Callable[[], object]] = []
        if self._syncobj:
            steps.append(partial(self.client.request, "SYNCOBJ_DESTROY", handle=self._syncobj))
        if self.handle:
            steps.append(partial(self.client.request, "DESTROY_HWCTX", handle=self.handle))
        steps += [memory.close for memory in reversed(self._images)]
        self.handle, self._syncobj, self._images = 0, 0, []
        close_all(steps)


class Command:
    """A command buffer, used again and again."""

    def __init__(self, client: Client) -> None:
        self._memory = Memory(client, abi.BO_CMD, COMMAND_BYTES)

    @property
    def handle(self) -> int:
        return self._memory.handle

    def submit(self, context: Context, data: bytes, held: Sequence[Memory]) -> int:
        """Hand `data` over as a command of the context."""
        self.fill(data)
        return context.submit(self._memory, held)

    def fill(self, data: bytes) -> None:
        """Make it this command, which a chain will name."""
        self._memory.view[: len(data)] = data

    @property
    def state(self) -> int:
        return commands.state_of(self._memory.view)

    @property
    def failed(self) -> int:
        """Of a chain: the number of the command that failed."""
        return commands.failed_in(self._memory.view)

    @property
    def health(self) -> commands.Health | None:
        """Of the context, after a failure."""
        return commands.health_of(self._memory.view)

    def finish(self, context: Context, number: int, seconds: float | None) -> int:
        """The state that the command ended in. Raises BackendError where it has not ended within the time."""
        if not context.wait(number, seconds):
            assert seconds is not None
            raise no_answer(seconds)
        return self.state

    def close(self) -> None:
        self._memory.close()
