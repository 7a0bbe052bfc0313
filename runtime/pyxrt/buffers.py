"""bo: buffer objects, which are not coherent with the device."""

from __future__ import annotations

import errno
import weakref
from typing import Any

import numpy as np

from npuc.runtime.devices import abi
from npuc.runtime.devices.client import Memory
from npuc.runtime.pyxrt.devices import device, give_back, hw_context
from npuc.runtime.pyxrt.enums import Enumeration, xclBOSyncDirection
from npuc.runtime.pyxrt.errors import as_xrt, failed, invalid, not_served
from npuc.runtime.pyxrt.signatures import SIZE, UNSIGNED, Kind, Unfit, chosen, instance, overload

GROUP_BITS = 16  # of a group id: the memory bank; the context's slot is above
SCALAR = 0xFFFF  # the bank of an argument that is no buffer
BANKS = 2  # HOST, SRAM


class BufferFlags(Enumeration):
    normal = 0
    cacheable = 1 << 24
    device_only = 1 << 28
    host_only = 1 << 29
    p2p = 1 << 30
    svm = 1 << 27


KINDS = {BufferFlags.cacheable: abi.BO_DEV, BufferFlags.host_only: abi.BO_SHARE}


_FLAGS = ("flags", instance(BufferFlags, "bo.flags"))


class bo:
    """A buffer, or a part of one."""

    flags = BufferFlags
    normal, cacheable, device_only = BufferFlags.normal, BufferFlags.cacheable, BufferFlags.device_only
    host_only, p2p, svm = BufferFlags.host_only, BufferFlags.p2p, BufferFlags.svm

    def __init__(self, *given: Any, **named: Any) -> None:
        """bo(device, size, flags, group), bo(hwctx, size[, flags], group), bo(bo, size, offset)."""
        size, group = ("size", SIZE), ("group", UNSIGNED)
        overloads = (
            overload(("device", instance(device)), size, _FLAGS, group),
            overload(("hwctx", instance(hw_context)), size, _FLAGS, group),
            overload(("hwctx", instance(hw_context)), size, group),
            overload(instance(bo), SIZE, SIZE),
        )
        _, values = chosen("bo.__init__", overloads, given, named)
        on, length, *rest = values
        if isinstance(on, bo):
            self._part_of(on, length, rest[0])
        else:
            self._allocate(on, length, rest[0] if len(rest) == 2 else BufferFlags.normal, rest[-1])

    def _allocate(self, on: device | hw_context, size: int, flags: BufferFlags, group: int) -> None:
        kind = KINDS.get(flags)
        if kind is None:
            raise failed(f"unsupported buffer type: {flags.name} flag", errno.EOPNOTSUPP)
        bank = group & (1 << GROUP_BITS) - 1
        if bank == SCALAR:
            not_served("bo with the group of an argument that is no buffer")
        if bank >= BANKS:
            raise failed(f"no memory bank {bank}", errno.EINVAL)
        self.bank = bank
        self.device = on if isinstance(on, device) else on.get_device()
        with as_xrt():
            self._memory = Memory(self.device.client, kind, size)
        self._first, self._size = 0, size
        self._keeper = _Keeper(self._memory, self.device)

    def _part_of(self, whole: bo, size: int, offset: int) -> None:
        if offset + size > whole._size:
            raise invalid(f"sub buffer size and offset ({size} bytes at {offset} of {whole._size})")
        self.device, self._memory, self._keeper, self.bank = whole.device, whole._memory, whole._keeper, whole.bank
        self._first, self._size = whole._first + offset, size

    @property
    def memory(self) -> Memory:
        """The buffer that it is, or a part of."""
        return self._memory

    def size(self) -> int:
        return self._size

    def address(self) -> int:
        return self._memory.address + self._first

    def map(self) -> memoryview:
        """The host's bytes, which it may write; nothing is synchronised by that."""
        return memoryview(self._memory.view)[self._first : self._first + self._size]

    def write(self, *given: Any) -> None:
        """write(data, seek): whatever has a buffer, as its bytes."""
        _, (data, seek) = chosen("write", (overload(_BUFFER, SIZE),), given, {})
        source = memoryview(data.tobytes()) if not data.contiguous else data.cast("B")
        if seek + len(source) > self._size:
            raise invalid(f"attempting to write past buffer size ({len(source)} bytes at {seek} of {self._size})")
        self.map()[seek : seek + len(source)] = source

    def read(self, *given: Any) -> np.ndarray:
        """read(size, skip): int8."""
        _, (size, skip) = chosen("read", (overload(SIZE, SIZE),), given, {})
        if skip + size > self._size:
            raise invalid(f"attempting to read past buffer size ({size} bytes at {skip} of {self._size})")
        return np.frombuffer(bytes(self.map()[skip : skip + size]), np.int8).copy()

    def sync(self, *given: Any) -> None:
        """sync(direction[, size, offset])."""
        direction = instance(xclBOSyncDirection)
        _, values = chosen("sync", (overload(direction, SIZE, SIZE), overload(direction)), given, {})
        way, size, offset = values if len(values) == 3 else (values[0], self._size, 0)
        if offset + size > self._size:
            raise failed(f"Invalid BO offset and size for sync'ing: {offset}, {size}", errno.EINVAL)
        if not size:
            return
        with as_xrt():
            if way is xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE:
                self._memory.flush(size, self._first + offset)
            elif way is xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE:
                self._memory.drop(size, self._first + offset)
            else:
                raise failed(f"sync in direction {way.name}", errno.EOPNOTSUPP)


def _buffer(value: Any) -> memoryview:
    try:
        return memoryview(value)
    except TypeError as reason:
        raise Unfit from reason


_BUFFER = Kind("Buffer", _buffer)


class _Keeper:
    """Gives a buffer back with the last object that is it or a part of it."""

    def __init__(self, memory: Memory, on: device) -> None:
        weakref.finalize(self, give_back, memory, on)
