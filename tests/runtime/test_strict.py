"""Strict mode: what the hardware leaves to chance is reported with its bundle, and correct programs run clean."""

from __future__ import annotations

import re
from typing import Any

import pytest
from core_programs import Cores

from npuc.runtime.emulator.errors import EmulationError

OWN = 0x70000

SAVED = "st r16, [p0, #0]\nvst wl4, [p0, #32]\n.\n"
LOCK = "\nrel #48, r1\n."
LANE = "\n\nvextract.s32 r1, x1, r17\n\n" + LOCK  # lane r17 of x1 decides what a lock gets
HALF = {"x2": bytes(64), "wl3": bytes(32)}

# name: program, registers that are written before, what is reported
MISUSE: dict[str, tuple[str, dict[str, Any], str]] = {
    "scalar register": ("add r1, r2, r3" + LOCK, {"r2": 1}, "bundle 0x0, reads r3, never written"),
    "half of a vector": ("vadd.8 x1, x2, x3" + LANE, {**HALF, "r17": 9}, "bundle 0x0, reads wh3, never written"),
    "accumulator quarter": (
        "vconv.bf16.fp32 wl1, bml2" + LANE,
        {"amll2": bytes(32), "r17": 5},
        "bundle 0x0, reads amlh2, never written",
    ),
    "lane that no insert wrote": ("vinsert.32 x1, x1, r29, r2" + LANE, {"r17": 3}, "reads wl1 wh1, never written"),
    "lane that a mask takes": (
        "vsel.32 x1, x2, x3, r18" + LANE,
        {**HALF, "r17": 8, "r18": 0x100},
        "reads wh3, never written",
    ),
    "product": (
        "vmul cm1, x2, x3, r2\n\n\n\n\nvmov x1, bmh1" + LANE,
        {**HALF, "x2": bytes([1] * 64), "r2": 0x338, "r17": 1},
        "reads wh3, never written",
    ),
    "factor of the float sum": (
        "vmac.f bml1, bml1, x2, x3, r2\n\n\n\n\n\nvmov x1, bml1" + LANE,
        {**HALF, "bml1": bytes(64), "r2": 0x3C, "r17": 1},
        "reads wh3, never written",
    ),
    "pointer": ("lda r1, [p3, #0]\n.\n", {}, "reads p3, never written: the address of an access depends on it"),
    "stride": ("lda r1, [p0, dj3]", {"p0": OWN}, "reads dj3, never written"),
    "count of a 2D pointer": (
        "padda.2d [p0], d1\nlda r1, [p0, #0]",
        {"p0": OWN, "m1": 0, "dn1": 0, "dj1": 4},
        "bundle 0x0, reads dc1, never written",
    ),
    "address of a gather": ("vldb.4x32.lo wl0, wl4", {}, "reads wl4, never written: the address of an access depends"),
    "shift register": (
        "vups.s32.s16 bml2, wl2, s1\n\n\nvmov x1, bml2" + LANE,
        {"wl2": bytes(32), "r17": 0},
        "bundle 0x0, reads s1, never written",
    ),
    "configuration word": (
        "vmac cm1, cm1, x2, x2, r3",
        {"x2": bytes(64), "cm1": bytes(128)},
        "reads r3, never written: a configuration word depends on it",
    ),
    "mode of a shuffle": (
        "vshuffle x1, x2, x2, r3",
        {"x2": bytes(64)},
        "reads r3, never written: vshuffle mode depends",
    ),
    "saturation mode": (
        "movx crSat, r3\nvpack.s8.s16 wl1, x2",
        {"x2": bytes(64)},
        "crSat depends on what was never defined: core(0,3), bundle 0x0, reads r3, never written",
    ),
    "rounding mode": (
        "movx crRnd, r3\nvconv.bf16.fp32 wl1, bml2",
        {"bml2": bytes(64)},
        "crRnd depends on what was never defined",
    ),
    "link register": ("ret lr\n.\n", {}, "reads lr, never written: the target of a branch depends on it"),
    "condition of a branch": (
        "jnz r4, #64\n.\n",
        {},
        "reads r4, never written: whether a branch is taken depends on it",
    ),
    "count of a hardware loop": (
        "movxm ls, #160\nmovxm le, #176\nmov lc, r5\n.\n\n\n",
        {},
        "how often a hardware loop runs depends on what was never defined: core(0,3), bundle 0x20, reads r5",
    ),
    "condition of a lock": ("acq.cond #48, r1, r26", {"r1": 1}, "reads r26, never written"),
    "number of a lock": ("rel r0, r1", {"r1": 1}, "reads r0, never written: which lock is used depends on it"),
    "value of a lock": ("rel #48, r1", {}, "reads r1, never written: the value of a lock depends on it"),
    "word for the stream": ("mov ms, r1", {}, "reads r1, never written: a word for the stream depends on it"),
    "result not landed yet": (
        "mul r3, r2, r2\nadd r1, r3, r3" + LOCK,
        {"r2": 1},
        "bundle 0x10, reads r3, never written",
    ),
    "memory": ("lda r1, [p0, #0]\n." + LOCK, {"p0": OWN + 0x40}, "loads 4 bytes at 0x70040, memory never written"),
    "byte of a word in memory": (
        "st.s8 r1, [p0, #0]\n.\n.\nlda r1, [p0, #0]\n." + LOCK,
        {"p0": OWN + 0x40, "r1": 0},
        "memory never written",
    ),
    "rest of a vector in memory": (
        "st r2, [p0, #0]\n.\nvlda wl1, [p0, #0]\n." + LANE,
        {"p0": OWN + 0x40, "r2": 0, "r17": 1},
        "loads 32 bytes at 0x70040, memory never written",
    ),
    "a neighbour's memory": (
        "vldb wl1, [p0, #0]\n." + LANE,
        {"p0": 0x60000, "r17": 0},
        "loads 32 bytes at 0x60000, memory never written",
    ),
    "a saved register, restored and used": (
        SAVED + "lda r16, [p0, #0]\n.\nadd r1, r16, r2" + LOCK,
        {"p0": OWN, "r2": 1},
        "bundle 0x0, reads r16, never written",
    ),
    "a copied register, used": ("mov r6, r4\nadd r1, r6, r2" + LOCK, {"r2": 1}, "bundle 0x0, reads r4, never written"),
    "a copied vector, used": (
        "vmov x5, x6\n\n\nvadd.8 x1, x5, x3" + LANE,
        {"x3": bytes(64), "r17": 0},
        "bundle 0x0, reads wl6 wh6, never written",
    ),
    "a saved vector, loaded to compute": (
        SAVED + "vlda.conv.fp32.bf16 bml1, [p0, #32]\n.\nvmov x1, bml1" + LANE,
        {"p0": OWN, "r17": 0},
        "bundle 0x10, reads wl4, never written",
    ),
    "beyond a half of a gather": (
        "vldb.4x16.lo wl1, wl4\n." + LANE,
        {"wl4": (OWN + 0x100 + 28).to_bytes(4, "little") * 8, "r17": 1},
        "gathers at 0x7010e from beyond the end of a 16-byte half",
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


@pytest.fixture(params=["interpreter", "native"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NPUC_ENGINE", request.param)
    return request.param


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_named_with_its_core(name: str, engine: str) -> None:
    text, registers, message = MISUSE[name]
    cores = Cores(1, strict=True)
    unit = cores.load(0, 3, text + "\ndone", **registers)
    if name in ("two vector writes", "load meets store", "beyond a half of a gather"):
        assert unit.tile.memory is not None
        unit.tile.memory.write(0, bytes(0x200))
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
    "a vector built lane by lane": "vinsert.32 x1, x1, r29, r2" + LANE,
    "a sum whose upper half nobody reads": "vmov wl4, wl3\n\nvadd.32 x1, x4, x4" + LANE,
    "a part of a vector that a mask leaves out": "vsel.32 x1, x3, x7, r17" + LANE,
    "bits that are masked off": "vband x1, x7, x3" + LANE,
    "operands of which a product reads the low bytes": (
        "vmov wl4, wl3\n\nvmul cm1, x4, x3, r4\n\n\n\n\nvmov x1, bmh1" + LANE
    ),
    "lanes that meet zeros": "vmul cm1, x7, x3, r5\n\n\n\n\nvmov x1, bml1" + LANE,
    "a column of a product that nobody reads": (
        "vconv.fp32.bf16 bml1, wl3\n\nvmov x4, x3\n\nvinsert.16 x4, x4, r29, r8\n\n"
        "vmac.f bml1, bml1, x3, x4, r6\n\n\n\n\n\n\nvmov x1, bml1" + LANE.replace("r17", "r18")
    ),
    "bytes beside those that a vector load needs": "st r2, [p0, #64]\n.\nvlda wl1, [p0, #64]\n." + LANE,
    "undefined lanes that go through memory": (
        "vinsert.32 x4, x7, r29, r2\n\nvst wl4, [p0, #96]\n\nvlda wl1, [p0, #96]\n." + LANE
    ),
    "a word of a stream that was not there": "mov.nb r8, SS\n.\nadd r8, r8, r2",
    "a value that a select leaves out": "sel.eqz r1, r2, r8, r27" + LOCK,
    "a branch that is not taken with a target never written": "jnzd r9, r27, p4\n.",
    "a forwarded result": "vband x4, x3, x3\nvadd.16 x5, x4, x3\n\n",
    "a copy right after its source's first write": "vbcst.32 x10, r2\nvmov bmh1, x10\n\n",
}


@pytest.mark.parametrize("name", CORRECT)
def test_correct_programs_run_clean(name: str, engine: str) -> None:
    cores = Cores(1, strict=True)
    words = {"r4": 0x308, "r5": 0x338, "r6": 0x1C}
    values = {"p0": OWN, "r2": 1, "r3": 2, "s1": 0, "x3": bytes(64), "r17": 0, "r18": 5, "r27": 0, "r29": 0}
    unit = cores.load(0, 2, CORRECT[name] + "\ndone", **values, **words)
    assert unit.tile.memory is not None
    unit.tile.memory.write(0, bytes(64))
    cores.run()
    assert unit.done_at is not None


def test_without_strict_mode_the_old_value_is_what_a_reader_gets() -> None:
    cores = Cores(1)
    unit = cores.load(0, 2, "mul r1, r2, r2\nadd r3, r1, r1\ndone", r2=3)
    cores.run()
    assert unit.core.registers.read("r3") == 0 and unit.core.registers.read("r1") == 9


def loop_of(bundles: int, last: str) -> str:
    """A hardware loop of that many bundles of 16 bytes whose last one is given, run three times."""
    start = 16 * 9
    setup = f"movxm ls, #{start}\nmovxm le, #{start + 16 * (bundles - 1)}\nmov lc, r5\n" + "\n" * 6
    return setup + "add r7, r7, r2\n" * (bundles - 1) + last + "\n.\n."


@pytest.mark.parametrize("store", ["st.s8 r1, [p0, #0]", "st.s16 r1, [p0, #0]"])
@pytest.mark.parametrize(("bundles", "lost"), [(1, True), (6, True), (7, True), (8, False)])
def test_sub_word_stores_at_the_end_of_a_short_loop_are_refused(
    bundles: int, lost: bool, store: str, engine: str
) -> None:
    """facts/schedule/aie2_hazards.md section 6: lost up to 112 bytes."""
    for count, found in ((3, lost), (1, False)):
        cores = Cores(1, strict=True)
        unit = cores.load(0, 2, loop_of(bundles, store) + "\ndone", p0=OWN, r1=5, r2=1, r5=count, r7=0)
        if not found:
            cores.run()
            assert unit.done_at is not None
            continue
        with pytest.raises(EmulationError, match=rf"hardware loop of {16 * bundles} bytes is lost at the jump back"):
            cores.run()


def test_whole_word_stores_may_end_a_loop() -> None:
    cores = Cores(1, strict=True)
    unit = cores.load(0, 2, loop_of(3, "st r1, [p0, #0]") + "\ndone", p0=OWN, r1=5, r2=1, r5=3, r7=0)
    cores.run()
    assert unit.done_at is not None
