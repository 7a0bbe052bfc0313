"""The state buffer of a core (layout.py) with views of it."""

from __future__ import annotations

import numpy as np

from npuc.runtime.emulator.native import layout


class StateBuffer:
    """bytes, words (int64), scalars (the scalar registers among the words); address: of the first byte.

    numbers: the words again, as a memoryview, which gives and takes single numbers in a fraction of numpy's time.
    """

    def __init__(self) -> None:
        raw = np.zeros(layout.STATE_BYTES + 64, dtype=np.uint8)
        start = -raw.ctypes.data % 64
        self.bytes = raw[start : start + layout.STATE_BYTES]
        self.words = self.bytes.view(np.int64)
        self.numbers = self.bytes.data.cast("q")
        self.scalars = self.words[: layout.SCALAR_COUNT]
        self.address = int(self.bytes.ctypes.data)

    def copy(self) -> StateBuffer:
        """Another buffer with the same content."""
        other = StateBuffer()
        other.bytes[:] = self.bytes
        return other
