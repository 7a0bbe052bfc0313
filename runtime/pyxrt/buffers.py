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
from npuc.runtime.pyxrt.errors import as_xrt, failed, not_served, wrong_arguments

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


class bo:
    """A buffer, or a part of one."""

    flags = BufferFlags
    normal, cacheable, device_only = BufferFlags.normal, BufferFlags.cacheable, BufferFlags.device_only
    host_only, p2p, svm = BufferFlags.host_only, BufferFlags.p2p, BufferFlags.svm

    def __init__(self, on: device | hw_context | bo, size: int, *rest: Any) -> None:
        if isinstance(on, bo) and _whole(size) and len(rest) == 1 and _whole(rest[0]):
            self._part_of(on, size, rest[0])
        elif isinstance(on, device | hw_context) and _whole(size) and len(rest) == 2 and _whole(rest[1]):
            flags, group = rest
            if not isinstance(flags, BufferFlags):
                wrong_arguments("bo", on, size, *rest)
            self._allocate(on, size, flags, group)
        elif isinstance(on, hw_context) and _whole(size) and len(rest) == 1 and _whole(rest[0]):
            self._allocate(on, size, BufferFlags.normal, rest[0])
        else:
            wrong_arguments("bo", on, size, *rest)

    def _allocate(self, on: device | hw_context, size: int, flags: BufferFlags, group: int) -> None:
        kind = KINDS.get(flags)
        if kind is None:
            raise failed(f"unsupported buffer type: flag {flags.name}", errno.EOPNOTSUPP)
        bank = group & (1 << GROUP_BITS) - 1
        if bank == SCALAR:
            not_served("bo with the group of an argument that is no buffer")
        if bank >= BANKS:
            raise failed(f"no memory bank {bank}", errno.EINVAL)
        self.device = on if isinstance(on, device) else on.get_device()
        with as_xrt():
            self._memory = Memory(self.device.client, kind, size)
        self._first, self._size = 0, size
        self._keeper = _Keeper(self._memory, self.device)

    def _part_of(self, whole: bo, size: int, offset: int) -> None:
        if offset + size > whole._size:
            raise failed(f"sub-buffer of {size} bytes at {offset} of {whole._size}", errno.EINVAL)
        self.device, self._memory, self._keeper = whole.device, whole._memory, whole._keeper
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

    def write(self, data: Any, seek: int) -> None:
        source = memoryview(data).cast("B") if not isinstance(data, np.ndarray) else memoryview(data.tobytes())
        if seek + len(source) > self._size:
            raise failed(f"writing {len(source)} bytes at {seek} of {self._size}", errno.EINVAL)
        self.map()[seek : seek + len(source)] = source

    def read(self, size: int, skip: int) -> np.ndarray:
        if skip + size > self._size:
            raise failed(f"reading {size} bytes at {skip} of {self._size}", errno.EINVAL)
        return np.frombuffer(bytes(self.map()[skip : skip + size]), np.int8).copy()

    def sync(self, direction: xclBOSyncDirection, size: int | None = None, offset: int = 0) -> None:
        if not isinstance(direction, xclBOSyncDirection):
            wrong_arguments("sync", direction)
        size = self._size if size is None else size
        if offset + size > self._size:
            raise failed(f"Invalid BO offset and size for sync'ing: {offset}, {size}", errno.EINVAL)
        with as_xrt():
            if direction is xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE:
                self._memory.flush(size, self._first + offset)
            elif direction is xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE:
                self._memory.drop(size, self._first + offset)
            else:
                raise failed(f"sync in direction {direction.name}", errno.EOPNOTSUPP)


class _Keeper:
    """Gives a buffer back with the last object that is it or a part of it."""

    def __init__(self, memory: Memory, on: device) -> None:
        weakref.finalize(self, give_back, memory, on)


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 0
