"""What register writes amount to: per tile, how much of which memory and which registers they reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from npuc.compiler.emit import cdo
from npuc.compiler.target.npu1 import geometry
from npuc.compiler.target.npu1.registers import array_name


@dataclass
class _Tile:
    """Words written to one tile: by register array, and to its memories."""

    registers: Counter[str] = field(default_factory=Counter)
    program_bytes: int = 0
    data_bytes: int = 0
    enabled: bool = False


def _kind(row: int) -> str:
    return geometry.tile_kind(row) if row < geometry.ROWS else "tile"


def _count_word(tile: _Tile, kind: str, offset: int) -> None:
    program = geometry.PROGRAM_MEMORY_OFFSET
    if kind == "core" and program <= offset < program + geometry.PROGRAM_MEMORY_SIZE:
        tile.program_bytes += 4
    elif offset < geometry.DATA_MEMORY_SIZE.get(kind, 0):
        tile.data_bytes += 4
    else:
        tile.registers[array_name(kind, offset) if kind != "tile" else "outside the array"] += 1


def _writes(command: cdo.Command) -> Iterable[int]:
    """Addresses of the words a command writes."""
    if isinstance(command, cdo.DmaWrite):
        return range(command.address, command.address + 4 * len(command.words), 4)
    return () if isinstance(command, (cdo.Nop, cdo.MaskPoll)) else (command.address,)


def _enables(command: cdo.Command) -> bool | None:
    """What a command does to a core's enable bit."""
    mask = command.mask if isinstance(command, cdo.MaskWrite) else 0xFFFFFFFF
    if not isinstance(command, (cdo.Write, cdo.MaskWrite)) or not mask & geometry.CORE_CONTROL_ENABLE:
        return None
    return bool(command.value & geometry.CORE_CONTROL_ENABLE)


def summarise(commands: Iterable[cdo.Command]) -> dict[str, Any]:
    """Commands by kind, and per tile the words written to registers and the bytes written to memories."""
    kinds: Counter[str] = Counter()
    tiles: dict[tuple[int, int], _Tile] = {}
    for command in commands:
        kinds[type(command).__name__] += 1
        for address in _writes(command):
            column, row, offset = geometry.split_address(address)
            tile = tiles.setdefault((column, row), _Tile())
            _count_word(tile, _kind(row), offset)
            if offset == geometry.CORE_CONTROL and _kind(row) == "core":
                enables = _enables(command)
                tile.enabled = tile.enabled if enables is None else enables
    return {
        "commands": dict(sorted(kinds.items())),
        "tiles": [
            {
                "tile": f"{_kind(row)}({column},{row})",
                "program_bytes": tile.program_bytes,
                "data_bytes": tile.data_bytes,
                "enabled": tile.enabled,
                "register_words": dict(sorted(tile.registers.items())),
            }
            for (column, row), tile in sorted(tiles.items())
        ],
    }
