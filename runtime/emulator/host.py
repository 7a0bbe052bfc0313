"""The host buffers a run works on, as the array addresses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npuc.runtime.emulator.errors import EmulationError

DDR_OFFSET = 0x8000_0000  # where the array sees host memory (facts/platform/txn.md, "DDR patch semantics")
_SPACING = 1 << 36  # buffers lie far apart: an overrun never lands in the next one


@dataclass(frozen=True)
class HostBuffer:
    """One argument of a run as the array sees it: `words` is a numpy uint32 view of the caller's bytes."""

    argument: int
    address: int
    words: np.ndarray

    @property
    def size(self) -> int:
        """Bytes."""
        return 4 * len(self.words)


class HostMemory:
    """The buffers of the current run, by device address."""

    def __init__(self) -> None:
        self.buffers: list[HostBuffer] = []

    def attach(self, arguments: Sequence[bytearray | memoryview]) -> None:
        """Gives each argument a device address. Bytes beyond the last whole word cannot be reached by the array."""
        self.buffers = []
        for i, argument in enumerate(arguments):
            view = memoryview(argument).cast("B")
            words = np.frombuffer(view[: len(view) // 4 * 4], dtype=np.uint32)
            self.buffers.append(HostBuffer(i, (i + 1) * _SPACING, words))

    def detach(self) -> None:
        """Lets go of the caller's buffers."""
        self.buffers = []

    def address(self, argument: int) -> int:
        """Device address of an argument; an omitted one has address 0 (facts/platform/txn.md, "Host convention")."""
        return self.buffers[argument].address if 0 <= argument < len(self.buffers) else 0

    def locate(self, address: int, count: int, who: str) -> tuple[HostBuffer, int]:
        """(buffer, word index) of `count` bytes at an array address, DDR_OFFSET included.

        Raises EmulationError naming `who` and the address when they do not all lie in one buffer.
        """
        device = address - DDR_OFFSET
        for buffer in self.buffers:
            start = device - buffer.address
            if 0 <= start and start + count <= buffer.size:
                return buffer, start // 4
            if 0 <= start < _SPACING:
                raise EmulationError(
                    f"{who} reaches bytes {start}..{start + count - 1} of argument {buffer.argument}, "
                    f"which has {buffer.size} bytes (address {address:#x})")
        raise EmulationError(f"{who} reaches {count} bytes at {address:#x}, outside every buffer of the run")
