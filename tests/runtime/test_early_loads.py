"""A core that loads a parameter before its first lock: strict mode refuses what comes of it and names the load."""

from __future__ import annotations

import pytest
from small_design import BLOCKS, CORE, WORDS, Design, program

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.device import Device
from npuc.runtime.emulator.errors import UndefinedData

PARAMETER = 0x2000
OFFSET = 40


def design(how: str) -> Design:
    """The small design, which adds a parameter that the sequence writes to each word; it is loaded before the first
    acquire (and at the end of each round), or behind it."""
    nops = "\n".join(["nop"] * 6)
    scalar = f"movxm p2, #{0x70000 + PARAMETER:#x}\nlda r6, [p2, #0]\n{nops}"
    byte = (
        f"{scalar}\nmovxm p2, #{0x70000 + 0x1000:#x}\nst.s8 r6, [p2, #0]\n{nops}\n{nops}\nlda.u8 r6, [p2, #0]\n{nops}"
    )
    lane = f"{scalar}\nmovx r29, #3\nmovx r16, #3\nvinsert.32 x1, x0, r29, r6\n{nops}\nvextract.s32 r6, x1, r16\n{nops}"
    load = {"word": scalar, "byte": byte, "lane": lane, "behind": scalar}[how]
    text = program(after=load, before=load).replace("add r2, r2, #1", "add r2, r2, r6")
    if how == "behind":
        text = program(load="lda r2, [p0], #4\n" + scalar).replace("add r2, r2, #1", "add r2, r2, r6")
    made = Design(programs={CORE: text})
    made.operations.insert(2, txn.Write(geometry.tile_address(*CORE, PARAMETER), OFFSET))
    return made


def added(device: Device, made: Design) -> set[int]:
    """What a run adds to its words."""
    given = bytearray(made.buffers[0].tobytes())
    result = bytearray(4 * WORDS * BLOCKS)
    device.run(made.operations, [given, result], 3_000_000)
    words = memoryview(bytes(result)).cast("I")
    return {word - i for i, word in enumerate(words)}


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("how", ["word", "byte", "lane"])
def test_the_load_of_a_parameter_that_is_not_there_yet_is_named(how: str, engine: str) -> None:
    made = design(how)
    device = Device(1, strict=True, engine=engine)
    device.load_pdi(made.pdi())
    with pytest.raises(UndefinedData) as caught:
        added(device, made)
    first = caught.value.details[0]
    assert f"loaded 4 bytes at {PARAMETER:#x} of the memory of core(0,2)" in first
    assert "sequence operation 2 writes them" in first
    assert caught.value.remedy == first  # said on the terminal, too
    if engine == "interpreter" and how != "lane":  # a vector has one reason for all its lanes
        assert f"loads 4 bytes at {0x70000 + PARAMETER:#x}, memory never written" in str(caught.value)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_it_is_the_parameter_of_the_run_before_where_nobody_looks(engine: str) -> None:
    made = design("word")
    device = Device(1, engine=engine)
    device.load_pdi(made.pdi())
    assert OFFSET in added(device, made) | {OFFSET}
    assert added(device, made) == {OFFSET}


def test_a_load_behind_the_lock_is_right_at_once() -> None:
    made = design("behind")
    device = Device(1, strict=True)
    device.load_pdi(made.pdi())
    assert added(device, made) == {OFFSET}
