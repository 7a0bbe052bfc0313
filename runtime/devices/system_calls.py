"""The few system calls by which a driver is spoken to, so that something else than a kernel can answer them."""

from __future__ import annotations

import ctypes
import errno
import functools
import glob
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from npuc.compiler.diagnostics import BackendError

NODES = "/dev/accel/accel*"


@dataclass(frozen=True)
class Mapping:
    """Memory of a device in this process: `view` over `length` bytes at `address`."""

    address: int
    length: int
    view: memoryview


class SystemCalls(Protocol):
    """Calls that fail raise OSError with the errno.

    emulated: whether an emulator is behind them.
    """

    emulated: bool

    def nodes(self) -> Sequence[str]:
        """Device nodes that are there, in order."""
        ...

    def open(self, path: str) -> int:
        """A descriptor of a device node, for reading and writing."""
        ...

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        """A request with its structure, which the driver may change."""
        ...

    def map(self, descriptor: int, length: int, offset: int, alignment: int = mmap.PAGESIZE) -> Mapping:
        """`length` bytes at the driver's `offset`, shared and locked, at an address that is a multiple of alignment."""
        ...

    def unmap(self, mapping: Mapping) -> None:
        """Give a mapping back; its view is released."""
        ...

    def close(self, descriptor: int) -> None:
        """Give a descriptor back, with all that was made through it."""
        ...


class LinuxCalls:
    """The system's own."""

    emulated = False

    def nodes(self) -> Sequence[str]:
        return sorted(glob.glob(NODES))

    def open(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        import fcntl

        while True:
            try:
                fcntl.ioctl(descriptor, request, argument, True)
                return
            except InterruptedError:  # a signal's handler has run, and has not raised
                continue

    def map(self, descriptor: int, length: int, offset: int, alignment: int = mmap.PAGESIZE) -> Mapping:
        """Reserves more than it needs, gives back what lies beside the aligned part, and maps over that."""
        memory, read_write = _memory(), mmap.PROT_READ | mmap.PROT_WRITE
        spare = alignment if alignment > mmap.PAGESIZE else 0
        reserved = memory.map(0, length + spare, read_write, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        address = -(-reserved // alignment) * alignment
        try:
            flags = mmap.MAP_SHARED | _MAP_LOCKED | _MAP_FIXED
            memory.map(address, length, read_write, flags, descriptor, offset)
        except OSError:
            memory.unmap(reserved, length + spare)
            raise
        for first, size in ((reserved, address - reserved), (address + length, reserved + spare - address)):
            if size:
                memory.unmap(first, size)
        view = memoryview((ctypes.c_char * length).from_address(address)).cast("B")
        return Mapping(address, length, view)

    def unmap(self, mapping: Mapping) -> None:
        mapping.view.release()
        _memory().unmap(mapping.address, mapping.length)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)


_MAP_FIXED, _MAP_LOCKED = 0x10, 0x2000  # of Linux on x86-64 and aarch64; Python names neither


class _Memory:
    """mmap and munmap at addresses, which Python's mmap has not."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        word, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        self._map, self._unmap = library.mmap, library.munmap
        self._map.restype = word
        self._map.argtypes = (word, size, number, number, number, ctypes.c_int64)
        self._unmap.argtypes = (word, size)

    def map(self, address: int, length: int, protection: int, flags: int, descriptor: int, offset: int) -> int:
        got = self._map(address, length, protection, flags, descriptor, offset)
        if got is None or got == ctypes.c_void_p(-1).value:
            raise error(ctypes.get_errno(), f"mmap of {length} bytes")
        return got

    def unmap(self, address: int, length: int) -> None:
        if self._unmap(address, length):
            raise error(ctypes.get_errno(), f"munmap of {length} bytes")


_memory = functools.cache(_Memory)


class Pinned:
    """Bytes that stay where they are while a request points at them."""

    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data or b"\0")
        self._held = (ctypes.c_char * len(self._data)).from_buffer(self._data)
        self.address = ctypes.addressof(self._held)
        self._size = len(data)

    @property
    def data(self) -> bytes:
        """What they hold now."""
        return bytes(self._data[: self._size])


_stand_in: SystemCalls | None = None


def present() -> SystemCalls:
    """What clients speak through. Raises BackendError where the system has no such devices at all."""
    if _stand_in is not None:
        return _stand_in
    if os.name != "posix" or not os.path.isdir("/dev"):
        raise BackendError("the amdxdna driver is Linux's", remedy="run emulated here")
    return LinuxCalls()


def stand_in() -> SystemCalls | None:
    """What stands in for the system's calls, where something does."""
    return _stand_in


@contextmanager
def replaced(calls: SystemCalls) -> Iterator[SystemCalls]:
    """Speak through `calls` within the block, in all threads."""
    global _stand_in
    before, _stand_in = _stand_in, calls
    try:
        yield calls
    finally:
        _stand_in = before


def error(code: int, what: str) -> OSError:
    """As the system raises it."""
    return OSError(code, f"{what}: {errno.errorcode.get(code, code)}, {os.strerror(code)}")
