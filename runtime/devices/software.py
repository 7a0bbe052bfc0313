"""The amdxdna driver and an npu1 behind it, in software: it answers the system calls and runs kernels on the emulator.

What it checks, in which order and with which errno, is the driver's own behaviour for npu1 (facts/platform/amdxdna.md,
and the driver's public sources of August 2026 where the sheet is silent). What a driver lets pass though it is wrong it
keeps in `complaints`. Every failure can be asked for at every step (`faults`), everything taken is counted (`taken`).
"""

from __future__ import annotations

import errno
import itertools
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from npuc.compiler.diagnostics import NpucError
from npuc.compiler.emit.layout import Layout
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.devices import abi, software_requests
from npuc.runtime.devices.faults import Faults
from npuc.runtime.devices.software_contexts import Context
from npuc.runtime.devices.software_memory import FIRST_OFFSET, Buffer, Heap
from npuc.runtime.devices.system_calls import Mapping, error
from npuc.runtime.emulator.device import Device, RunStatistics
from npuc.runtime.emulator.timing import PHOENIX, MachineTable

NODE = "/dev/accel/accel0"
RUNS_KEPT = 16


@dataclass(frozen=True)
class Taken:
    """What is held at a moment, of all processes' view of the device. All zero: everything was given back."""

    descriptors: int = 0
    buffers: int = 0
    mappings: int = 0
    contexts: int = 0
    syncobjs: int = 0


@dataclass
class OpenFile:
    """What one descriptor owns."""

    buffers: dict[int, Buffer] = field(default_factory=dict)  # by handle
    contexts: dict[int, Context] = field(default_factory=dict)
    syncobjs: dict[int, Context] = field(default_factory=dict)
    heap: Heap | None = None
    closed: bool = False
    gone: bool = False  # the device went away from behind it


class SoftwareDevice:
    """Stands where the system's calls stand (npuc.runtime.devices.system_calls.SystemCalls).

    track: whose interface it speaks. locked_limit: bytes that may be mapped, as RLIMIT_MEMLOCK has it (None: any).
    max_cycles: after which the watchdog ends a command. firmware: its version. The rest is the emulator's.
    """

    emulated = True

    def __init__(
        self,
        track: abi.Track = abi.MAINLINE,
        *,
        node: str = NODE,
        locked_limit: int | None = None,
        firmware: tuple[int, int, int, int] = (1, 5, 5, 391),
        version: tuple[int, int] | None = None,
        columns: int = geometry.COLUMNS_PHYSICAL,
        machine: MachineTable = PHOENIX,
        strict: bool = False,
        engine: str | None = None,
        max_cycles: int | None = None,
    ) -> None:
        self.track, self.node, self.firmware, self.columns = track, node, firmware, columns
        self.version = track.version if version is None else version
        self.machine, self.strict, self.engine, self.max_cycles = machine, strict, engine, max_cycles
        self.locked_limit = locked_limit
        self.faults = Faults()
        self.complaints: list[str] = []
        self.runs: deque[RunStatistics] = deque(maxlen=RUNS_KEPT)
        self.last_failure: NpucError | None = None
        self.calls: deque[str] = deque(maxlen=4096)  # names of the calls made
        self.lock = threading.RLock()
        self.numbers = itertools.count(1)  # of contexts and syncobjs: no two of a device are alike
        self._descriptors = itertools.count(1000)
        self._offsets = itertools.count(FIRST_OFFSET, 1 << 32)
        self._files: dict[int, OpenFile] = {}
        self._mappings: dict[int, tuple[Mapping, Buffer, OpenFile]] = {}
        self._names = {number: name for name, number in track.requests.items()}
        self._by_order = {number & 0xFF: name for number, name in self._names.items()}

    # what tests ask

    @property
    def taken(self) -> Taken:
        """What is held now."""
        with self.lock:
            files = list(self._files.values())
            return Taken(
                len(files),
                sum(len(file.buffers) for file in files),
                len(self._mappings),
                sum(len(file.contexts) for file in files),
                sum(len(file.syncobjs) for file in files),
            )

    @property
    def computing(self) -> bool:
        """Whether the emulator is at work for some context: time that passes meanwhile is not the device's."""
        with self.lock:
            return any(context.computing for file in self._files.values() for context in file.contexts.values())

    def complain(self, text: str) -> None:
        """Note what a driver would not refuse, and what is wrong all the same."""
        self.complaints.append(text)

    # the system calls

    def nodes(self) -> Sequence[str]:
        return [self.node]

    def open(self, path: str) -> int:
        self._called("open")
        if path != self.node:
            raise error(errno.ENOENT, path)
        with self.lock:
            descriptor = next(self._descriptors)
            self._files[descriptor] = OpenFile()
        return descriptor

    def close(self, descriptor: int) -> None:
        self._called("close")
        with self.lock:
            file = self._files.pop(descriptor, None)
        if file is None:
            raise error(errno.EBADF, "close")
        if file.contexts or file.buffers:
            self.complain(f"closed with {len(file.contexts)} contexts and {len(file.buffers)} buffers")
        file.closed = True
        for context in list(file.contexts.values()):
            software_requests.end_context(self, file, context)
        for handle in list(file.buffers):
            software_requests.drop(self, file, [file.buffers.pop(handle)])

    def map(self, descriptor: int, length: int, offset: int, alignment: int = abi.PAGE) -> Mapping:
        self._called("mmap")
        file = self._file(descriptor)
        with self.lock:
            found = [buffer for buffer in file.buffers.values() if buffer.offset == offset]
            if not found or length <= 0 or length > found[0].size:
                raise error(errno.EINVAL, "mmap")
            locked = sum(mapping.length for mapping, _, _ in self._mappings.values())
            if self.locked_limit is not None and locked + length > self.locked_limit:
                raise error(errno.EAGAIN, "mmap")
            buffer = found[0]
            view, address = buffer.map(alignment)
            mapping = Mapping(address, length, view[:length])
            buffer.mappings += 1
            buffer.references += 1
            self._mappings[id(mapping)] = mapping, buffer, file
        return mapping

    def unmap(self, mapping: Mapping) -> None:
        self._called("munmap")
        with self.lock:
            entry = self._mappings.pop(id(mapping), None)
        if entry is None:
            raise error(errno.EINVAL, "munmap")
        _, buffer, file = entry
        mapping.view.release()
        buffer.mappings -= 1
        if not buffer.mappings:
            buffer.unmapped()
        software_requests.drop(self, file, [buffer])

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        """By its order number, as DRM looks requests up; another track's size or direction is a complaint."""
        if request >> 8 & 0xFF != ord("d"):
            raise error(errno.ENOTTY, f"request {request:#x}")
        name = self._names.get(request) or self._by_order.get(request & 0xFF)
        self._called(name or f"request {request:#x}")
        file = self._file(descriptor)
        if name is None:
            raise error(errno.EINVAL, f"request {request:#x}")
        if request not in self._names:
            self.complain(f"{name} by number {request:#x}; {self.track.name} has {self.track.requests[name]:#x}")
        layout = self.track.layout_of(name)
        if len(argument) != request >> 16 & 0x3FFF:
            self.complain(f"{name} with {len(argument)} bytes, its number says {request >> 16 & 0x3FFF}")
            raise error(errno.EFAULT, name)
        values = layout.unpack(bytes(argument).ljust(layout.size, b"\0"))
        changed: dict[str, Any] = software_requests.REQUESTS[name](self, file, values)
        if changed and request >> 30 & 2:
            argument[:] = layout.pack(**{**values, **changed})[: len(argument)]

    def _file(self, descriptor: int) -> OpenFile:
        with self.lock:
            file = self._files.get(descriptor)
        if file is None:
            raise error(errno.EBADF, "descriptor")
        if file.gone:
            raise error(errno.ENODEV, "descriptor")
        return file

    def unplug(self) -> None:
        """The device goes and comes back, as where its driver is bound anew: what is open now is of no use any more."""
        with self.lock:
            for file in self._files.values():
                file.gone = True

    def _called(self, name: str) -> None:
        self.calls.append(name)
        code = self.faults.code_of(name)
        if code is not None:
            raise error(code, name)

    # what requests need of it

    @property
    def files(self) -> list[OpenFile]:
        """All that are open."""
        return list(self._files.values())

    def next_offset(self) -> int:
        """Of a buffer's mapping."""
        return next(self._offsets)

    def new_device(self, columns: int) -> Device:
        """An emulated partition."""
        return Device(columns, self.machine, self.strict, self.engine)

    def note_failure(self, reason: NpucError) -> None:
        self.last_failure = reason

    def layout(self, name: str) -> Layout:
        return self.track.layouts[name]
