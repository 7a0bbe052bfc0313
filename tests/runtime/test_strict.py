"""Strict mode: what the hardware leaves to chance is reported with its bundle, and correct programs run clean."""

from __future__ import annotations

import re
from typing import Any

import pytest
from core_programs import Cores

from npuc.runtime.emulator.errors import EmulationError

OWN = 0x70000

SAVED = "st r16, [p0, #0]\nvst wl4, [p0, #32]\n.\n"

# name: program, registers that are written before, what is reported
MISUSE: dict[str, tuple[str, dict[str, Any], str]] = {
    "scalar register": ("add r1, r2, r3", {"r2": 1}, "reads r3, never written"),
    "half of a vector": ("vadd.8 x1, x2, x3", {"x2": bytes(64), "wl3": bytes(32)}, "reads wh3, never written"),
    "accumulator quarter": ("vconv.bf16.fp32 wl1, bml2", {"amll2": bytes(32)}, "reads amlh2, never written"),
    "stride": ("lda r1, [p0, dj3]", {"p0": OWN}, "reads dj3, never written"),
    "count of a 2D pointer": (
        "padda.2d [p0], d1",
        {"p0": OWN, "m1": 0, "dn1": 0, "dj1": 0},
        "reads dc1, never written",
    ),
    "shift register": ("vups.s32.s16 bml2, wl1, s1", {"wl1": bytes(32)}, "reads s1, never written"),
    "link register": ("ret lr\n.\n", {}, "reads lr, never written"),
    "condition": ("acq.cond #48, r1, r26", {"r1": 1}, "reads r26, never written"),
    "result not landed yet": ("mul r1, r2, r2\nadd r3, r1, r1", {"r2": 1}, "reads r1, never written"),
    "memory": ("lda r1, [p0, #0]\n.\n", {"p0": OWN + 0x40}, "loads 4 bytes at 0x70040, memory never written"),
    "rest of a vector in memory": (
        "st r1, [p0, #0]\n.\nvlda wl1, [p0, #0]\n.\n",
        {"p0": OWN + 0x40, "r1": 0},
        "loads 32 bytes at 0x70040, memory never written",
    ),
    "a neighbour's memory": (
        "vldb wl1, [p0, #0]\n.\n",
        {"p0": 0x60000},
        "loads 32 bytes at 0x60000, memory never written",
    ),
    "a saved register, restored and used": (
        SAVED + "lda r16, [p0, #0]\n.\nadd r1, r16, r2",
        {"p0": OWN, "r2": 1},
        "reads r16, never written",
    ),
    "a copied register, used": ("mov r1, r4\nadd r3, r1, r2", {"r2": 1}, "reads r1, never written"),
    "a copied vector, used": ("vmov x5, x6\n\n\nvadd.8 x5, x5, x3", {"x3": bytes(64)}, "reads wl5 wh5, never written"),
    "a saved vector, loaded to compute": (
        SAVED + "vlda.conv.fp32.bf16 bml1, [p0, #32]\n.\n",
        {"p0": OWN},
        "loads what was saved of a register never written",
    ),
    "two scalar writes": ("mul r1, r2, r2\nadd r1, r2, r2", {"r2": 1}, "two writes of r1 land in the same cycle"),
    "two vector writes": (
        "vldb wl1, [p0, #0]\n\n\n\n\nvmov wl1, wl2\n\n",
        {"p0": OWN, "wl2": bytes(32)},
        "two writes of wl1 land in the same cycle",
    ),
    "load meets store": (
        "lda r1, [p0, #0]; st r2, [p0, #0]\n.\n",
        {"p0": OWN, "r2": 0},
        "a load and this store meet at 0x70000 in one cycle",
    ),
    "transfer in delay slots": ("jz r1, #64\njnz r1, #128", {"r1": 1}, "a control transfer in the delay slots"),
    "lock beyond its range": ("rel #48, r1\n.\nrel #48, r1\n.\n", {"r1": 40}, "leaves 0..63: 80"),
    "unaligned": ("vlda wl1, [p0, #0]\n.\n", {"p0": OWN + 16}, "is not aligned"),
    "outside data memory": ("lda r1, [p0, #0]\n.\n", {"p0": 0x20000}, "which is no data memory"),
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_named_with_its_core(name: str) -> None:
    text, registers, message = MISUSE[name]
    cores = Cores(1, strict=True)
    unit = cores.load(0, 3, text + "\ndone", **registers)
    if name in ("two vector writes", "load meets store"):
        assert unit.tile.memory is not None
        unit.tile.memory.write(0, bytes(64))
    with pytest.raises(EmulationError, match=re.escape(message)) as caught:
        cores.run()
    assert "core(0,3)" in f"{caught.value.place} {caught.value.message}"


CORRECT = {
    "a register saved and restored": SAVED + "mov r16, r2\nadd r1, r16, r2\nlda r16, [p0, #0]\nvldb wl4, [p0, #32]\n.",
    "a register copied": "mov p6, p5\nadd r17, r18, #0\nmov r17, r2\nadd r1, r17, r2\nvmov x5, x6\nvmov x5, x3",
    "a saved place written again": SAVED + "st r2, [p0, #0]\n.\nlda r16, [p0, #0]\n.\nadd r1, r16, r16",
    "a value used when it has landed": "mov r2, #3\nmul r1, r2, r2\n\nadd r3, r1, r1",
    "both halves written apart": "vlda wl1, [p0, #0]\nvlda wh1, [p0, #32]\n.\nvadd.8 x2, x1, x1",
    "a load next to a store": "lda r1, [p0, #0]; st r2, [p0, #4]\n.",
    "modes at reset": "vups.s32.s16 bml2, wl3, s1\n\n\nvsrs.s16.s32 wl4, bml2, s1\n\n\n",
    "a later short write and an earlier long one": "lda r1, [p0, #0]\nmov r1, #1\nadd r3, r1, r1\n.\nadd r3, r1, r1",
    "a release in range": "rel #48, r2\n.",
    "a forwarded result": "vband x4, x3, x3\nvadd.16 x5, x4, x3\n\n",
    "a copy right after its source's first write": "vbcst.32 x10, r2\nvmov bmh1, x10\n\n",
}


@pytest.mark.parametrize("name", CORRECT)
def test_correct_programs_run_clean(name: str) -> None:
    cores = Cores(1, strict=True)
    unit = cores.load(0, 2, CORRECT[name] + "\ndone", p0=OWN, r2=1, s1=0, x3=bytes(64))
    assert unit.tile.memory is not None
    unit.tile.memory.write(0, bytes(64))
    cores.run()
    assert unit.done_at is not None


def test_without_strict_mode_the_old_value_is_what_a_reader_gets() -> None:
    cores = Cores(1)
    unit = cores.load(0, 2, "mul r1, r2, r2\nadd r3, r1, r1\ndone", r2=3)
    cores.run()
    assert unit.core.registers.read("r3") == 0 and unit.core.registers.read("r1") == 9
