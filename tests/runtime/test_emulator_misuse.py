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


def test_a_reset_drops_the_tasks_of_a_channel_and_nothing_starts_while_it_lasts():
    control = geometry.tile_address(0, 2, geometry.channel_control_offset("core", "s2mm", 0))
    on, off = cdo.MaskWrite(control, 2, 2), cdo.MaskWrite(control, 2, 0)
    boot(*start("core", 2, 4), on, off, *start("core", 2, 4))
    with pytest.raises(EmulationError, match=r"pushes descriptor 0 to S2MM 0 of core\(0,2\), which is held in reset"):
        boot(on, *start("core", 2, 4))


def test_a_shim_descriptor_stays_inside_the_buffers_of_the_call():
    with pytest.raises(EmulationError, match=r"descriptor 0 of shim\(0,0\) .* where no buffer lies"):
        boot(*start("shim", 0, 0xFFFFFFFF))
