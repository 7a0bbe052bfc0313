"""Host memory as the shims see it: the buffer arguments of the present run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npuc.runtime.emulator.errors import EmulationError

AIE_OFFSET = 0x80000000  # where the array sees host memory (facts/platform/txn.md, "DDR patch semantics")
SPACING = 1 << 32  # device addresses of consecutive arguments: far apart, so that an overrun meets nothing
BLOCK = 1 << 12  # words that are kept together when some of them are written


class HostMemory:
    """Argument i lies at device address (i + 1) * SPACING."""

    def __init__(self) -> None:
        self._buffers: list[np.ndarray] = []
        # Blocks that were written since `mark`, as they were then, by argument and number.
        self._former: dict[tuple[int, int], np.ndarray] | None = None

    def attach(self, arguments: Sequence[bytearray | memoryview]) -> None:
        """Use these buffers, padded to words."""
        self._buffers, self._former = [], None
        for argument in arguments:
            words = np.zeros(-(-len(argument) // 4), dtype=np.uint32)
            words.view(np.uint8)[: len(argument)] = np.frombuffer(argument, dtype=np.uint8)
            self._buffers.append(words)

    def detach(self, arguments: Sequence[bytearray | memoryview]) -> None:
        """Copy the contents back into the arguments that can be written."""
        for argument, words in zip(arguments, self._buffers, strict=True):
            if memoryview(argument).readonly:
                continue
            argument[:] = words.view(np.uint8)[: len(argument)].tobytes()

    @property
    def size(self) -> int:
        """Bytes of all buffers."""
        return sum(words.nbytes for words in self._buffers)

    def mark(self) -> None:
        """From now on `as_marked` tells whether the buffers are as they are now."""
        self._former = {}

    def unmark(self) -> None:
        """Nobody will ask any more."""
        self._former = None

    def about_to_write(self, base: int, count: int) -> None:
        """Words of one buffer are about to be written, by the device address of the first."""
        if self._former is None:
            return
        argument, index = self._place(base)
        for block in range(index // BLOCK, (index + count - 1) // BLOCK + 1):
            if (argument, block) not in self._former:
                self._former[argument, block] = self._block(argument, block).copy()

    def as_marked(self) -> bool:
        """Whether all buffers are as they were when they were marked."""
        assert self._former is not None
        return all(np.array_equal(self._block(*place), former) for place, former in self._former.items())

    def _block(self, argument: int, block: int) -> np.ndarray:
        return self._buffers[argument][block * BLOCK : (block + 1) * BLOCK]

    def address(self, argument: int, offset: int, who: str) -> int:
        """The address the controller puts into a descriptor."""
        if argument >= len(self._buffers):
            raise EmulationError(f"{who} names buffer argument {argument}; the call has {len(self._buffers)}")
        return (argument + 1) * SPACING + offset + AIE_OFFSET

    def window(self, base: int, reach: int, who: str) -> tuple[np.ndarray, int]:
        """The words of the buffer that device word address `base` lies in, and its index there.

        EmulationError unless words base..base+reach all lie in one buffer.
        """
        argument, index = self._place(base)
        if not 0 <= argument < len(self._buffers):
            raise EmulationError(f"{who} accesses address {base * 4:#x}, where no buffer lies")
        words = self._buffers[argument]
        if index + reach >= len(words):
            raise EmulationError(
                f"{who} accesses bytes {4 * index}..{4 * (index + reach) + 3} of buffer argument "
                f"{argument}, which has {4 * len(words)}"
            )
        return words, index

    @staticmethod
    def _place(base: int) -> tuple[int, int]:
        """The argument that a device word address means, and the index in its buffer."""
        argument = (base * 4 - AIE_OFFSET) // SPACING - 1
        return argument, base - ((argument + 1) * SPACING + AIE_OFFSET) // 4
