"""What the emulated array refuses, by name: register writes whose effect is unknown or without bound."""

from __future__ import annotations

import pytest

from npuc.compiler.emit import cdo, pdi
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.device import Device
from npuc.runtime.emulator.errors import EmulationError


def start(kind: str, row: int, length: int) -> list[cdo.Command]:
    """Descriptor 0 of the tile in column 0, and its start on S2MM 0."""
    queue = geometry.channel_queue_offset(kind, "s2mm", 0)
    words = geometry.pack_bd(kind, valid=1, length=length)
    return [
        cdo.DmaWrite(geometry.tile_address(0, row, geometry.BD_BASE[kind]), tuple(words)),
        cdo.Write(geometry.tile_address(0, row, queue), 0),
    ]


def boot(*commands: cdo.Command) -> None:
    Device(1).load_pdi(pdi.write_pdi(commands))


def test_a_channel_is_not_reset_while_its_task_waits():
    control = geometry.tile_address(0, 2, geometry.channel_control_offset("core", "s2mm", 0))
    reset = cdo.MaskWrite(control, 2, 2)
    boot(reset, *start("core", 2, 4))
    with pytest.raises(EmulationError, match=r"CDO command 3 resets S2MM 0 of core\(0,2\) while a task is under way"):
        boot(*start("core", 2, 4), reset)


def test_a_shim_descriptor_cannot_ask_for_memory_without_bound():
    with pytest.raises(EmulationError, match=r"descriptor 0 of shim\(0,0\) .* has length 4,294,967,295 words"):
        boot(*start("shim", 0, 0xFFFFFFFF))
