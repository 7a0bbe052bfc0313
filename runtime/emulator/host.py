"""Host memory as the shims see it: the buffer arguments of the present run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npuc.runtime.emulator.errors import EmulationError

AIE_OFFSET = 0x80000000  # where the array sees host memory (facts/platform/txn.md, "DDR patch semantics")
SPACING = 1 << 32  # device addresses of consecutive arguments: far apart, so that an overrun meets nothing


class HostMemory:
    """Argument i lies at device address (i + 1) * SPACING."""

    def __init__(self) -> None:
        self._buffers: list[np.ndarray] = []

    def attach(self, arguments: Sequence[bytearray | memoryview]) -> None:
        """Use these buffers, padded to words."""
        self._buffers = []
        for argument in arguments:
            words = np.zeros(-(-len(argument) // 4), dtype=np.uint32)
            words.view(np.uint8)[: len(argument)] = np.frombuffer(argument, dtype=np.uint8)
            self._buffers.append(words)

    def detach(self, arguments: Sequence[bytearray | memoryview]) -> None:
        """Copy the contents back into the arguments."""
        for argument, words in zip(arguments, self._buffers, strict=True):
            argument[:] = words.view(np.uint8)[: len(argument)].tobytes()

    def address(self, argument: int, offset: int, who: str) -> int:
        """The address the controller puts into a descriptor."""
        if argument >= len(self._buffers):
            raise EmulationError(f"{who} names buffer argument {argument}; the call has {len(self._buffers)}")
        return (argument + 1) * SPACING + offset + AIE_OFFSET

    def _locate(self, places: np.ndarray) -> tuple[int, np.ndarray]:
        first = (int(places[0]) * 4 - AIE_OFFSET) // SPACING - 1
        return first, places - ((first + 1) * SPACING + AIE_OFFSET) // 4

    def check(self, places: np.ndarray, who: str) -> None:
        """EmulationError unless all word addresses lie in one buffer."""
        index, inside = self._locate(places)
        low, high = int(inside.min()), int(inside.max())
        if not 0 <= index < len(self._buffers):
            raise EmulationError(f"{who} accesses address {int(places[0]) * 4:#x}, where no buffer lies")
        if low < 0 or high >= len(self._buffers[index]):
            raise EmulationError(f"{who} accesses bytes {4 * low}..{4 * high + 3} of buffer argument {index}, "
                                 f"which has {4 * len(self._buffers[index])}")

    def read(self, places: np.ndarray) -> np.ndarray:
        index, inside = self._locate(places)
        return self._buffers[index][inside]

    def write(self, places: np.ndarray, words: np.ndarray) -> None:
        index, inside = self._locate(places)
        self._buffers[index][inside] = words
