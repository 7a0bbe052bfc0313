"""An array that tests configure by register writes, and what its units reported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npuc.compiler.asm.assembler import assemble
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.array import Array, Note
from npuc.runtime.emulator.timing import PHOENIX, MachineTable

Place = tuple[int, int]
Port = tuple[str, int]
WHO = "the test"


class Bench:
    """`array`, with helpers that write its registers; `notes`: everything its units reported."""

    def __init__(self, columns: int = 1, strict: bool = False, machine: MachineTable = PHOENIX) -> None:
        self.array = Array(columns, machine, strict)
        self.notes: list[Note] = []
        self.array.listeners.append(self.notes.append)

    @classmethod
    def of_array(cls, array: Array) -> Bench:
        """For an array that exists."""
        bench = cls()
        bench.array = array
        array.listeners.append(bench.notes.append)
        return bench

    def kind(self, tile: Place) -> str:
        return geometry.tile_kind(tile[1])

    def write(self, tile: Place, offset: int, value: int) -> None:
        self.array.registers.write(geometry.tile_address(*tile, offset), value, WHO)

    def read(self, tile: Place, offset: int) -> int:
        return self.array.registers.read(geometry.tile_address(*tile, offset), WHO)

    # configuration

    def circuit(self, tile: Place, slave: Port, *masters: Port) -> None:
        """Join a slave port to masters."""
        kind = self.kind(tile)
        index = geometry.slave_index(kind, *slave)
        self.write(tile, geometry.slave_offset(kind, index), geometry.CIRCUIT_SLAVE_WORD)
        for master in masters:
            self.write(
                tile,
                geometry.master_offset(kind, geometry.master_index(kind, *master)),
                geometry.circuit_master_word(index),
            )

    def packets(self, tile: Place, slave: Port, slots: list[tuple[int, int, int, int]]) -> None:
        """A slave in packet mode with slots (id, mask, msel, arbiter)."""
        kind = self.kind(tile)
        index = geometry.slave_index(kind, *slave)
        self.write(tile, geometry.slave_offset(kind, index), geometry.PACKET_SLAVE_WORD)
        for number, slot in enumerate(slots):
            self.write(tile, geometry.slot_offset(kind, index, number), geometry.slot_word(*slot))

    def packet_master(self, tile: Place, master: Port, arbiter: int, msels: int, drop: bool) -> None:
        kind = self.kind(tile)
        self.write(
            tile,
            geometry.master_offset(kind, geometry.master_index(kind, *master)),
            geometry.packet_master_word(arbiter, msels, drop),
        )

    def shim_dma(self, column: int = 0) -> None:
        """Connect the shim's DMA channels to the switch."""
        self.write((column, 0), geometry.SHIM_MUX, 0x4400)
        self.write((column, 0), geometry.SHIM_DEMUX, 0x50)

    def tokens(self, column: int = 0) -> None:
        """A circuit from the shim's control port to the controller."""
        self.circuit((column, 0), ("ctrl", 0), ("south", 0))

    def descriptor(self, tile: Place, number: int, length: int, **fields: int) -> None:
        kind = self.kind(tile)
        words = geometry.pack_bd(kind, length=length, **{"valid": 1, **fields})
        for index, word in enumerate(words):
            self.write(tile, geometry.bd_offset(kind, number) + 4 * index, word)

    def control(self, tile: Place, direction: str, channel: int, value: int) -> None:
        self.write(tile, geometry.channel_control_offset(self.kind(tile), direction, channel), value)

    def start(
        self, tile: Place, direction: str, channel: int, number: int, repeat: int = 1, token: bool = False
    ) -> None:
        self.write(
            tile,
            geometry.channel_queue_offset(self.kind(tile), direction, channel),
            geometry.queue_word(number, repeat, token),
        )

    def release(self, tile: Place, lock: int, value: int = 1) -> None:
        self.array.tiles[tile].locks.release(lock, value, WHO)

    def program(self, tile: Place, text: str, before: Callable[[dict[str, int]], object] = len) -> None:
        """Load and start a core.  before: called with the program's symbols when it is loaded."""
        core = self.array.tiles[tile].core
        assert core is not None
        assembly = assemble(text)
        code = assembly.code
        core.load_program(0, code)
        self.write(tile, geometry.CORE_CONTROL, geometry.CORE_CONTROL_RESET)
        before(assembly.symbols)
        self.write(tile, geometry.CORE_CONTROL, geometry.CORE_CONTROL_ENABLE)

    # memory

    def put(self, tile: Place, word: int, words: np.ndarray) -> None:
        memory = self.array.tiles[tile].memory
        assert memory is not None
        memory.words[word : word + len(words)] = words

    def get(self, tile: Place, word: int, count: int) -> np.ndarray:
        memory = self.array.tiles[tile].memory
        assert memory is not None
        return memory.words[word : word + count].copy()

    # time

    def at(self, cycle: int, action: Callable[[], None]) -> None:
        self.array.clock.at(cycle, 0, action)

    def run(self, until: int = 1_000_000) -> int:
        """Until nothing is left to do; the cycle."""
        clock = self.array.clock
        while (due := clock.next_cycle()) is not None and due <= until:
            clock.step()
        return clock.cycle

    def of(self, unit: str, what: str) -> list[tuple[float, float]]:
        """Start and end of what a unit reported."""
        return [(note.start, note.end) for note in self.notes if note.unit == unit and note.what == what]
