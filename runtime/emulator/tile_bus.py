"""A core's way to the registers of its own tile, by lda.tm and st.tm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.tile import Tile

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

PROCESSOR_BUS = 0x32038  # Core_Processor_Bus, facts/platform/registers_aie2.json


class TileBus:
    """The registers of `tile`.

    Core_Processor_Bus must be enabled (bit 0); without it public designs report that the core hangs.
    """

    def __init__(self, array: Array, tile: Tile) -> None:
        self._array, self._tile = array, tile

    def _address(self, offset: int) -> int:
        tile = self._tile
        if not tile.plain.get(PROCESSOR_BUS, 0) & 1:
            raise EmulationError(
                "lda.tm or st.tm while Core_Processor_Bus is not enabled: the core would hang",
                remedy="set bit 0 of Core_Processor_Bus",
            )
        return geometry.tile_address(tile.column, tile.row, offset)

    def read(self, offset: int) -> int:
        """The word at that offset.  EmulationError where the bus is off."""
        return self._array.registers.read(self._address(offset), self._tile.name)

    def write(self, offset: int, value: int) -> None:
        """Sets the word at that offset.  EmulationError as `read`."""
        self._array.registers.write(self._address(offset), value, self._tile.name)
