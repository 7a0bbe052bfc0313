"""A core's way to memory: the four windows of its address space, its tile's registers, and bank conflicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.memory import DataMemory, EarlyLoad
from npuc.runtime.emulator.semantics import UNALIGNED
from npuc.runtime.emulator.semantics.definedness import Origin, Partial, split

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
    registers. strict: bytes that were never defined are kept, see `core_strict.py`.
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

    if TYPE_CHECKING:  # what a core adds (core_strict.py)
        cycle: int

        def report(self, address: int, text: str) -> None: ...

        def certain(self, value: Any, what: str, pc: int) -> Any: ...

        def stored(self, memory: DataMemory, offset: int, size: int, value: Any, pc: int) -> Any: ...

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
        memory.shared, memory.unguarded = self.cycle, True
        return memory, address & 0xFFFF

    def load(self, address: int, size: int, pc: int) -> Any:
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
        return self._bytes(address, size, pc)

    def _bytes(self, address: int, size: int, pc: int) -> Any:
        memory, offset = self._locate(address, size)
        data = self._content(memory, offset, size, Origin(self.name, pc, f"loads {size} bytes at {address:#x}"))
        if isinstance(data, Partial) and memory.origins_kept and memory.origin(offset, size) is None:
            memory.early_loads.setdefault((self.name, pc), EarlyLoad(offset, size, self.cycle))
        return data

    def _content(self, memory: DataMemory, offset: int, size: int, reader: Origin) -> Any:
        """Bytes of a memory, with those of them that are undefined; reader: who reads them, and what for."""
        data = memory.data[offset : offset + size].copy()
        written = memory.written
        if written is None or written[offset : offset + size].all():
            return data
        origin = memory.origin(offset, size) or reader._replace(text=f"{reader.text}, {memory.why()}")
        undefined = np.where(written[offset : offset + size], 0, 0xFF).astype(np.uint8)
        return Partial(data, undefined, origin)

    def _number(self, data: Any) -> Any:
        """Bytes as an unsigned number."""
        if isinstance(data, Partial):
            return Partial(self._number(data.value), self._number(data.undefined), data.origin)
        return int.from_bytes(data.tobytes(), "little")

    def load_word(self, address: int, size: int, pc: int) -> Any:
        """1, 2 or 4 bytes from data memory as an unsigned number, for the bundle at pc."""
        return self._number(self._bytes(address, size, pc))

    def load_around(self, address: int, size: int, pc: int) -> Any:
        """The aligned word that holds 1 or 2 bytes, for a sub-word store."""
        if address & (size - 1):
            raise EmulationError(_unaligned(address, size))
        memory, offset = self._locate(address & 0xFFFFC, 4)
        return self._number(self._content(memory, offset, 4, Origin(self.name, pc, f"stores into {address:#x}")))

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

    def store_register(self, address: int, value: Any, pc: int) -> None:
        """Sets a register of the tile, by st.tm."""
        bus, offset = self._bus_offset(address)
        bus.write(offset, self.certain(value, "a register of the tile", pc) if self.strict else value)

    @staticmethod
    def merge(word: Any, address: int, size: int, value: Any) -> Any:
        """The word with the addressed 1 or 2 bytes replaced."""
        shift = 8 * (address & 3)
        mask = ((1 << 8 * size) - 1) << shift
        return ((value << shift) & mask) | (word & ~mask)

    def gather(self, addresses: list[int], pc: int) -> Any:
        """Four fetches of 8 bytes. What lies past the end of a 16-byte half is not known: 0, undefined if strict."""
        result, undefined = np.zeros((2, 32), dtype=np.uint8)
        origin = None
        for lane, address in enumerate(addresses):
            start, place = address & 15, slice(8 * lane, 8 * lane + 8)
            half = self._bytes(address & 0xFFFF0, 16, pc)
            bytes_, bits = split(half)
            piece = bytes_[start : start + 8]
            result[place][: piece.size] = piece
            if bits is not None:
                undefined[place][: piece.size] = bits[start : start + 8]
                origin = half.origin
            if start > 8:
                undefined[place][piece.size :] = 0xFF
                text = f"gathers at {address & 0xFFFFF:#x} from beyond the end of a 16-byte half"
                origin = origin or Origin(self.name, pc, text)
        return Partial(result, undefined, origin) if self.strict and undefined.any() else result

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
                value = self.stored(memory, offset, size, value, pc)
            else:
                value = split(value)[0]
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
