"""Byte-addressed memories of tiles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.semantics.definedness import Origin


class EarlyLoad(NamedTuple):
    """A core loaded bytes that nothing had written: offset in the memory, array cycle."""

    offset: int
    size: int
    cycle: int


class DataMemory:
    """A tile's data memory: `data`, numpy uint8 of `size` bytes, and its view `words`, uint32.

    Zero after reset (an assumption of the machine table). `name` is what errors call it. `written`: in strict mode,
    which bytes are defined; `origins`: why those of a word (by its offset) are not, where a core stored them so.
    `origins_kept`: whether what is undefined without an origin was never written. `early_loads`: the first load of
    never written bytes of each bundle, by core and address of the bundle. `shared`: the cycle at which a
    neighbouring core last accessed it; `unguarded`: it has since its own core last acquired a lock.
    """

    def __init__(self, size: int = 65536, name: str = "data memory") -> None:
        self.size = size
        self.name = name
        self.data = np.zeros(size, dtype=np.uint8)
        self.words = self.data.view(np.uint32)
        self.written: np.ndarray | None = None
        self.origins: dict[int, Origin] = {}
        self.origins_kept = True
        self.early_loads: dict[tuple[str, int], EarlyLoad] = {}
        self.shared: int | None = None
        self.unguarded = False

    def check(self, address: int, count: int) -> None:
        """Raises EmulationError when bytes address..address+count leave the memory."""
        if address < 0 or address + count > self.size:
            raise EmulationError(
                f"access to {count} bytes at {address:#x} is outside the {self.size} bytes of {self.name}"
            )

    def read(self, address: int, count: int) -> bytes:
        """count bytes from address. Raises EmulationError outside the memory."""
        self.check(address, count)
        return self.data[address : address + count].tobytes()

    def write(self, address: int, data: bytes) -> None:
        """Stores data at address. Raises EmulationError outside the memory."""
        self.check(address, len(data))
        self.data[address : address + len(data)] = np.frombuffer(data, dtype=np.uint8)
        if self.written is not None:
            self.written[address : address + len(data)] = True

    def origin(self, offset: int, size: int) -> Origin | None:
        """Why the first undefined byte of these is; None: it was never written."""
        assert self.written is not None
        first = offset + int(np.argmin(self.written[offset : offset + size]))
        return self.origins.get(first & ~3)

    def why(self) -> str:
        """What undefined bytes without an origin are."""
        return "memory never written" if self.origins_kept else "memory never written or with undefined bits"

    def store_words(self, places: np.ndarray, words: np.ndarray) -> None:
        """Scatter 32-bit words to word addresses, which the caller has checked."""
        self.words[places] = words
        if self.written is not None:
            self.written.reshape(-1, 4)[places] = True
