"""Buffer objects of the software device, as incoherent as the NPU's are.

What the host writes and what the device sees are two copies: a host's write reaches the device when its lines are
flushed, a device's write the host when they are dropped. A flush does both (x86's clflush): bytes that the host changed
go to the device, then the host has what the device has.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

import numpy as np

from npuc.runtime.devices import abi
from npuc.runtime.devices.system_calls import error

FIRST_OFFSET = 0x100000000  # of mmap: DRM's first page offset


def host_memory(length: int, alignment: int) -> tuple[memoryview, int]:
    """Zeroed pages at an address that is a multiple of `alignment`, and that address."""
    spare = alignment if alignment > mmap.PAGESIZE else 0
    pages = mmap.mmap(-1, length + spare)
    base = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    address = -(-base // alignment) * alignment
    return memoryview(pages)[address - base : address - base + length], address


def read_user(address: int, size: int) -> bytes:
    """Memory of this process at an address; EFAULT where there is none."""
    if not size:
        return b""
    if address == 0:
        raise error(errno.EFAULT, "copy from user")
    try:
        descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    except OSError:
        return ctypes.string_at(address, size)
    try:
        data = os.pread(descriptor, size, address)
    except (OSError, OverflowError) as reason:
        raise error(errno.EFAULT, "copy from user") from reason
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise error(errno.EFAULT, "copy from user")
    return data


def write_user(address: int, data: bytes) -> None:
    """Into memory of this process; EFAULT where there is none."""
    if data:
        read_user(address, len(data))
        ctypes.memmove(address, data, len(data))


class Buffer:
    """One object. address: the device's, None where it follows from the mapping (SVA). references: what keeps it."""

    def __init__(self, kind: int, size: int, offset: int | None) -> None:
        self.kind, self.size, self.offset = kind, size, offset
        self.fixed_address: int | None = None
        self.mapped_at: int | None = None
        self.mappings = 0
        self.references = 1
        self._host: memoryview | None = None
        self._device: np.ndarray | None = None
        self._shadow: np.ndarray | None = None

    @property
    def address(self) -> int:
        """The device's; INVALID_ADDRESS before a mapping gives it one."""
        if self.fixed_address is not None:
            return self.fixed_address
        return abi.INVALID_ADDRESS if self.mapped_at is None else self.mapped_at

    def place(self, host: memoryview) -> None:
        """Lie in memory that is another's: a part of the heap."""
        self._host = host

    def map(self, alignment: int) -> tuple[memoryview, int]:
        """The host's view, and where it lies."""
        if self._host is None or self.mapped_at is None or self.mapped_at % alignment:
            held = bytes(self._host) if self._host is not None else b""
            self._host, self.mapped_at = host_memory(self.size, alignment)
            self._host[: len(held)] = held
        return self._host, self.mapped_at

    def unmapped(self) -> None:
        """The last mapping has gone: the device reaches it no more by that address, what it holds stays."""
        self.mapped_at = None

    @property
    def host(self) -> memoryview:
        """What the host and the driver see."""
        if self._host is None:
            self._host = memoryview(bytearray(self.size))
        return self._host

    @property
    def word(self) -> int:
        """The first one, which in command buffers is the header."""
        return int.from_bytes(bytes(self.host[:4]), "little")

    @property
    def device(self) -> np.ndarray:
        """What the device sees, bytes."""
        if self._device is None:
            self._device, self._shadow = np.zeros(self.size, np.uint8), np.zeros(self.size, np.uint8)
        return self._device

    def flush(self, offset: int, size: int) -> None:
        """Write the host's changes out and drop what it has."""
        part = slice(offset, min(self.size, offset + size))
        device = self.device[part]
        assert self._shadow is not None
        host, shadow = np.frombuffer(self.host, np.uint8)[part], self._shadow[part]
        changed = host != shadow
        device[changed] = host[changed]
        host[:] = device
        shadow[:] = device

    def released(self) -> bool:
        """One reference less; whether it was the last."""
        self.references -= 1
        assert self.references >= 0
        return not self.references


class Heap:
    """Where device buffers are carved from: the first gap that is large enough."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self._taken: dict[int, int] = {}  # first address -> bytes

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        return sum(self._taken.values())

    def take(self, size: int) -> int:
        """An address for `size` bytes; ENOSPC where no gap has them."""
        size = -(-size // abi.DEV_BO_ALIGNMENT) * abi.DEV_BO_ALIGNMENT
        at = abi.HEAP_BASE
        for first in sorted(self._taken):
            if first - at >= size:
                break
            at = first + self._taken[first]
        if at + size > abi.HEAP_BASE + self.buffer.size:
            raise error(errno.ENOSPC, "device heap")
        self._taken[at] = size
        return at

    def give_back(self, address: int) -> None:
        del self._taken[address]

    def part(self, address: int, size: int) -> memoryview:
        """The host's view of it."""
        at = address - abi.HEAP_BASE
        return self.buffer.host[at : at + size]
