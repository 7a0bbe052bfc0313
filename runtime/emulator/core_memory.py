"""A core's way to memory: the four windows of its address space, its tile's registers, and bank conflicts."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.semantics import UNALIGNED

OWN_MEMORY = 0x70000
# The 64 KiB windows of the data address space, by address bits 16 and up (facts/platform/device_npu1.md).
WINDOWS = {4: "south", 5: "west", 6: "north"}
TILE_REGISTERS = 0x80000
"""Where a core sees its own tile's registers by lda.tm and st.tm: the default of the public toolchain's read_tm and
write_tm (llvm-aie, aiev2intrin.h); the fact sheets do not have it."""


def _unaligned(address: int, size: int) -> str:
    return (
        f"access to {size} bytes at {address:#x} is not aligned: facts/schedule/aie2_hazards.md section 3 does not "
        "say what it does"
    )


class TileBus(Protocol):
    """The tile's registers as lda.tm and st.tm reach them; offset: in the tile's address range."""

    def read(self, offset: int) -> int:
        """The word at that offset."""

    def write(self, offset: int, value: int) -> None:
        """Sets the word at that offset."""


class MemoryAccess:
    """What a core's instructions do to memory. Addresses are those of the program, 20 bits.

    data_memory: the tile's own, seen at 0x70000..0x7ffff. `neighbours`: the data memories of the neighbours by side
    (`south`, `west`, `north`), those that exist; `bus`: the tile's registers, or None; both set by whoever builds the
    array. `accesses`: (address - OWN_MEMORY, bytes) of this cycle; `stores`: (address, bytes, value, bundle) of this
    cycle; `shared`: the pipeline times at which something is touched that others may change, and whether that is
    registers. strict: call `report`.
    """

    def __init__(self, data_memory: DataMemory, strict: bool, name: str) -> None:
        self.data_memory = data_memory
        self.strict = strict
        self.name = name
        self.neighbours: dict[str, DataMemory] = {}
        self.bus: TileBus | None = None
        self.stores: list[Any] = []
        self.accesses: list[tuple[int, int]] = []
        self.shared: dict[int, bool] = {}
        self.accessing = 0  # address of the bundle whose load takes place, for reports
        self.saved: set[int] = set()  # strict: addresses of words that hold registers never written, saved there
        self.loaded_defined = True  # strict: whether the last load had none of them

    def report(self, address: int, text: str) -> None:
        """Notes a finding of strict mode about the bundle at that address."""
        raise NotImplementedError

    def warn(self, address: int, kind: str, text: str) -> None:
        """Notes what the machine survives in the bundle at that address, the first of each kind."""
        raise NotImplementedError

    def touch(self, address: int, time: int, delays: tuple[int, ...]) -> None:
        """An access to data memory issues that takes place in these later cycles."""
        if address < OWN_MEMORY:
            for delay in delays:
                self.shared.setdefault(time + delay, False)

    def touch_gather(self, addresses: list[int], time: int) -> None:
        """A gather takes place at that pipeline time."""
        if any(address & 0xFFFFF < OWN_MEMORY for address in addresses):
            self.shared.setdefault(time, False)

    def touch_register(self, time: int) -> None:
        """An access to a tile register takes place at that pipeline time."""
        self.shared[time] = True

    def _locate(self, address: int, size: int) -> tuple[DataMemory, int]:
        """The memory and the offset in it of an aligned access."""
        place = address - OWN_MEMORY
        if place & (size - 1):
            raise EmulationError(_unaligned(address, size))
        self.accesses.append((place, size))
        if 0 <= place < 0x10000:
            return self.data_memory, place
        window = WINDOWS.get(address >> 16)
        if window is None:
            raise EmulationError(f"access to {address:#x}, which is no data memory")
        memory = self.neighbours.get(window)
        if memory is None:
            raise EmulationError(f"access to {address:#x}: {self.name} has no {window} neighbour with data memory")
        memory.shared = True
        return memory, address & 0xFFFF

    def _loaded(self, memory: DataMemory, offset: int, address: int, size: int) -> None:
        self.loaded_defined = not self.saved or self.saved.isdisjoint(range(address & ~3, address + size, 4))
        if memory.written is not None and not memory.written[offset : offset + size].all():
            self.report(self.accessing, f"loads {size} bytes at {address:#x}, memory never written")

    def save(self, address: int, size: int, known: bool) -> None:
        """Strict: a store takes place, of a register that was written or of one that was not (it is only saved)."""
        words = range(address & ~3, address + size, 4)
        if not known:
            self.saved.update(words)
        elif self.saved:
            self.saved.difference_update(words)

    def check_loaded(self) -> None:
        """Strict: reports that a load which computes found a register never written."""
        if not self.loaded_defined:
            self.report(self.accessing, "loads what was saved of a register never written")

    def load(self, address: int, size: int, pc: int) -> np.ndarray:
        """A vector from data memory, for the bundle at pc; the low bits of an address that is not aligned are ignored
        (facts/platform/device_npu1.md, last section)."""
        if address & (size - 1):
            text = (
                f"a vector load at {address:#x} is not aligned to {size} bytes: the low bits of the address are ignored"
            )
            if self.strict:
                self.report(pc, text)
            else:
                self.warn(pc, UNALIGNED, text)
            address &= -size
        return self._bytes(address, size)

    def _bytes(self, address: int, size: int) -> np.ndarray:
        memory, offset = self._locate(address, size)
        if self.strict:
            self._loaded(memory, offset, address, size)
        return memory.data[offset : offset + size].copy()

    def load_word(self, address: int, size: int) -> int:
        """1, 2 or 4 bytes from data memory as an unsigned number."""
        return int.from_bytes(self._bytes(address, size).tobytes(), "little")

    def load_around(self, address: int, size: int) -> int:
        """The aligned word that holds 1 or 2 bytes, for a sub-word store."""
        if address & (size - 1):
            raise EmulationError(_unaligned(address, size))
        memory, offset = self._locate(address & 0xFFFFC, 4)
        return int.from_bytes(memory.data[offset : offset + 4].tobytes(), "little")

    def _bus_offset(self, address: int) -> tuple[TileBus, int]:
        if self.bus is None:
            raise EmulationError("a core by itself has no tile registers to access by lda.tm or st.tm")
        if not TILE_REGISTERS <= address <= 0xFFFFF or address & 3:
            raise EmulationError(
                f"access to tile registers at {address:#x}: only whole words from {TILE_REGISTERS:#x} on are known"
            )
        return self.bus, address - TILE_REGISTERS

    def load_register(self, address: int) -> int:
        """A register of the tile, by lda.tm."""
        bus, offset = self._bus_offset(address)
        return bus.read(offset)

    def store_register(self, address: int, value: int) -> None:
        """Sets a register of the tile, by st.tm."""
        bus, offset = self._bus_offset(address)
        bus.write(offset, value)

    @staticmethod
    def merge(word: int, address: int, size: int, value: int) -> int:
        """The word with the addressed 1 or 2 bytes replaced."""
        shift = 8 * (address & 3)
        mask = ((1 << 8 * size) - 1) << shift
        return (word & ~mask) | ((value << shift) & mask)

    def gather(self, addresses: list[int]) -> np.ndarray:
        """Four fetches of 8 bytes. What lies past the end of a 16-byte half is not known: zeros, strict reports it."""
        result = np.zeros(32, dtype=np.uint8)
        for lane, address in enumerate(addresses):
            start = address & 15
            memory, offset = self._locate(address & 0xFFFF0, 16)
            piece = memory.data[offset + start : offset + min(start + 8, 16)]
            if self.strict and start > 8:
                self.report(self.accessing, f"a gather at {address & 0xFFFFF:#x} reads past the end of a 16-byte half")
            result[8 * lane : 8 * lane + piece.size] = piece
        return result

    def _store(self) -> None:
        """Writes the stores of this cycle."""
        loads = list(self.accesses)
        for address, size, value, pc in self.stores:
            memory, offset = self._locate(address, size)
            if self.strict:
                place = address - OWN_MEMORY
                if any(first < place + size and place < first + count for first, count in loads):
                    self.report(pc, f"a load and this store meet at {address:#x} in one cycle")
            if memory.written is not None:
                memory.written[offset : offset + size] = True
            if isinstance(value, int):
                memory.data[offset : offset + size] = np.frombuffer(
                    (value & ((1 << 8 * size) - 1)).to_bytes(size, "little"), dtype=np.uint8
                )
            else:
                memory.data[offset : offset + size] = value
        self.stores.clear()

    def _bank_stall(self) -> int:
        """Cycles the core stands still: accesses of one cycle that want the same bank go one after the other.

        Physical bank of an address: 2 * ((address >> 14) & 3) + ((address >> 4) & 1); 256 bits take both of a pair
        (facts/schedule/aie2_timing_hw.md). Every neighbour's memory has banks of its own.
        """
        waiting = [
            (1 << ((place >> 4) & 1) if size <= 16 else 3) << (2 * ((place >> 14) & 15))
            for place, size in self.accesses
        ]
        rounds = -1
        while waiting:
            taken, losers = 0, []
            for banks in waiting:
                if taken & banks:
                    losers.append(banks)
                taken |= banks if not taken & banks else 0
            waiting = losers
            rounds += 1
        return rounds
