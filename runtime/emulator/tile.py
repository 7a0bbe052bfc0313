"""One tile of the array: its memory, locks, descriptors, channels, switch and core."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.locks import Locks
from npuc.runtime.emulator.memory import DataMemory

if TYPE_CHECKING:
    from npuc.runtime.emulator.core_unit import CoreUnit
    from npuc.runtime.emulator.dma import Channel


class Tile:
    """State only; what registers do to it is in `registers.py`."""

    def __init__(self, column: int, row: int, strict: bool, warn: Callable[[str], None]) -> None:
        self.column, self.row = column, row
        self.kind = geometry.tile_kind(row)
        self.name = f"{self.kind}({column},{row})"
        self.rank = 1 + (column * geometry.ROWS + row) * 16
        self.memory: DataMemory | None = None
        if self.kind != "shim":
            self.memory = DataMemory(geometry.DATA_MEMORY_SIZE[self.kind], f"the memory of {self.name}")
            if strict:
                self.memory.written = np.zeros(self.memory.size, dtype=bool)
        self.locks = Locks(geometry.LOCK_COUNT[self.kind], self.name, strict, warn)
        self.descriptors = [[0] * geometry.BD_WORDS[self.kind] for _ in range(geometry.BD_COUNT[self.kind])]
        self.ran_by: dict[int, set[tuple[str, int]]] = {}  # channels that ran a descriptor since it was written
        self.masters: dict[int, int] = {}
        self.slaves: dict[int, int] = {}
        self.slots: dict[tuple[int, int], int] = {}
        self.timer_origins: dict[int, int] = {}  # by Timer_Control of the module: the cycle at which it was 0
        self.plain: dict[int, int] = {}  # registers stored without an effect
        self.channels: dict[tuple[str, int], Channel] = {}
        self.core: CoreUnit | None = None

    def unit_rank(self, direction: str, number: int) -> int:
        """Order inside a cycle: the core, then S2MM channels, then MM2S channels."""
        return self.rank + 1 + (number if direction == "s2mm" else 6 + number)
