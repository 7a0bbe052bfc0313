"""Probes: short core programs whose results and times tell what the fact sheets are not sure of.

A probe's first word is a time by the core's own timer, which is reported beside the prediction; the others are values.
Where the facts are sure of them they are judged, bit for bit; where they are not, they settle an assumption.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.proof import design
from npuc.runtime.proof.programs import OWN, blocks, loop, nops, timed

WORDS_IN = 64
"""Of every probe: random words."""
APART = OWN + 0x8000
"""In another bank than what arrives."""
UNTOUCHED = OWN + 0xE000
"""Memory that no program of these writes."""
SPARE_LOCK = geometry.CORE_LOCK_OWN + 8
SOUTH_OFFSET = 0x2000
"""Where the southern neighbour's memory holds words for a probe."""


@dataclass(frozen=True)
class Probe:
    """program: its text. words: of output, the time included. settles: the assumption whose outcome the values are, or,
    by_time, the time is.

    sure: whether the values are judged. tile: where it runs. memory: words that the image puts into tiles, by place and
    byte offset. helpers: programs of other cores.
    """

    name: str
    program: str
    words: int
    sure: bool = True
    settles: str | None = None
    by_time: bool = False
    tile: tuple[int, int] = (0, 2)
    memory: Mapping[tuple[tuple[int, int], int], tuple[int, ...]] = field(default_factory=dict)
    helpers: Mapping[tuple[int, int], str] = field(default_factory=dict)


def _vectors(*registers: str) -> str:
    """Registers of 256 bits to the output, once all results have landed."""
    return nops(8) + "\n".join(f"vst {register}, [p1], #32" for register in registers)


def _pair(access: str, second: int) -> str:
    """200 passes over a bundle of two accesses, the second at an address of its own."""
    before = (
        f"movxm p2, #{OWN + design.IN:#x}\n movxm p3, #{second:#x}\n vlda wl2, [p2, #32]\n{nops(7)} vst wl2, [p3, #0]"
    )
    passes = loop(200, f"{access}\n{nops(6)}", "add r3, r3, #1")
    return blocks(timed(f"{before}\n movx r3, #0\n{nops(8)}", passes, _values("wl0", "wl1")))


def _values(*registers: str) -> str:
    """The registers behind the time, which fills a vector's place so that no word of the output is left unwritten."""
    return "st r18, [p1], #4\n" * 7 + _vectors(*registers)


_TWO_LOADS = "vlda wl0, [p2, #0]; vldb wl1, [p3, #0]"
_LOAD_STORE = "vlda wl0, [p2, #0]; vst wl2, [p3, #0]"
IN_BANK = OWN + design.IN + 0x800
"""In the bank that p2 reads."""

NORTH = (0, 3)
"""The core whose southern neighbour runs the probes."""
_BALL, _BACK, _GO = 8, 9, 10  # locks of the core that runs the probes
ROUNDS, CASCADE_WORDS = 50, 16


def _lock_and(lock: int, other: int) -> str:
    return f"movx r2, #{lock}; mov r3, #1\n movx r4, #{other}; mov r5, #-1\n"


def _rounds() -> Probe:
    """Two cores that release a lock for each other by turns."""
    own, south = geometry.CORE_LOCK_OWN, geometry.CORE_LOCK_SOUTH
    region = f"""again:
    rel r2, r3
    {nops(4)} acq r4, r5
    {nops(4)} add r6, r6, #-1
    {nops(2)} jnz r6, #again
    {nops(5)}"""
    before = _lock_and(own + _BALL, own + _BACK) + f"movx r6, #{ROUNDS}\n nop"
    back = f"acq r4, r5\n{nops(4)} rel r2, r3\n{nops(4)} j #again\n{nops(5)}"
    helper = f"{_lock_and(south + _BACK, south + _BALL)} again:\n {back}"
    return Probe(
        f"a lock handed to a neighbour and back {ROUNDS} times", blocks(timed(before, region, "st r6, [p1], #4")), 2,
        sure=False, by_time=True, helpers={NORTH: helper},
        settles="a release is seen in the next cycle, and a core that waits goes on two cycles later",
    )  # fmt: skip


def _cascade() -> Probe:
    """Words of the northern core's cascade, from the moment it may send."""
    own, south = geometry.CORE_LOCK_OWN, geometry.CORE_LOCK_SOUTH
    before = f"{_lock_and(own + _GO, own + _GO)} mov crSCDEn, r3\n{nops(2)}"
    region = f"rel r2, r3\n{nops(8)}" + f"vmov x1, SCD\n{nops(2)}" * CASCADE_WORDS + nops(8)
    helper = (
        f"{_lock_and(south + _GO, south + _GO)} mov crMCDEn, r3\n movxm r6, #0x5a0f1234\n vbcst.32 x1, r6\n{nops(4)}"
        f"again:\n acq r2, r5\n{nops(8)}" + f"vmov MCD, x1\n{nops(2)}" * CASCADE_WORDS + f"j #again\n{nops(5)}"
    )
    return Probe(
        f"{CASCADE_WORDS} words of the cascade", blocks(timed(before, region, _values("wl1"))), 16,
        sure=False, by_time=True, settles="a word of the cascade takes one cycle from core to core",
        helpers={NORTH: helper},
    )  # fmt: skip


BANKS: tuple[Probe, ...] = (
    Probe("two loads of one bank", _pair(_TWO_LOADS, IN_BANK), 24),
    Probe("two loads of two banks", _pair(_TWO_LOADS, APART), 24),
    Probe("a load and a store of one bank", _pair(_LOAD_STORE, IN_BANK).replace("wl1, [p1]", "wl2, [p1]"), 24),
    Probe("a load and a store of two banks", _pair(_LOAD_STORE, APART).replace("wl1, [p1]", "wl2, [p1]"), 24),
    Probe(
        "a lock that is free, released and acquired 16 times",
        blocks(timed(
            f"movx r2, #{SPARE_LOCK}; mov r3, #1\n mov r4, #-1\n",
            f"rel r2, r3\n{nops(4)} acq r2, r4\n{nops(4)}" * 16, "st r3, [p1], #4",
        )), 2, by_time=True, settles="a lock that is free costs one cycle",
    ),
    Probe("a hardware loop of one bundle, 100 times", blocks(timed(
        "movx r3, #0", f"movxm lc, #100\n movxm ls, #first\n movxm le, #first\n{nops(8)}first:\n add r3, r3, #1\n",
        "st r3, [p1], #4",
    )), 2),
    Probe("a taken branch, 100 times", blocks(timed(
        "movxm r3, #100\n movx r2, #0", f"again:\n add r3, r3, #-1\n add r2, r2, #1\n nop\n jnz r3, #again\n{nops(5)}",
        "st r2, [p1], #4",
    )), 2),
    _rounds(),
    _cascade(),
)  # fmt: skip


def _bytes_at_the_end(size: int) -> str:
    """A hardware loop of `size` bytes that stores a byte in its last bundle, 32 times."""
    full = "nopa; nopb; nopx; nopm; nops; nopv\n"
    body = full * (size // 16 - 1)
    before = (
        f"movxm p2, #{APART:#x}\n movx r5, #0\n"
        + "st r5, [p2], #4\n" * 8
        + f"{nops(8)} movxm p2, #{APART:#x}\n movx r4, #85"
    )
    region = loop(32, body, "st.s8 r4, [p2], #1")
    after = f"{nops(16)} movxm p2, #{APART:#x}\n vlda wl0, [p2, #0]\n" + _values("wl0")
    return blocks(timed(before, region, after))


def _bytes_apart() -> str:
    """16 bytes, seven bundles apart, no loop: what all sources allow."""
    before = (
        f"movxm p2, #{APART:#x}\n movx r5, #0\n"
        + "st r5, [p2], #4\n" * 8
        + f"{nops(8)} movxm p2, #{APART:#x}\n movx r4, #1"
    )
    region = f"st.s8 r4, [p2], #1\n{nops(5)} add r4, r4, #3\n{nops(2)}" * 16
    after = f"{nops(16)} movxm p2, #{APART:#x}\n vlda wl0, [p2, #0]\n" + _values("wl0")
    return blocks(timed(before, region, after))


SUB_WORD: tuple[Probe, ...] = (
    Probe("bytes stored seven bundles apart", _bytes_apart(), 16),
    *(
        Probe(
            f"bytes stored at the end of a hardware loop of {size} bytes", _bytes_at_the_end(size), 16, sure=False,
            settles=f"a sub-word store at the end of a hardware loop of {size} bytes is not lost",
        )
        for size in (96, 112, 128, 160)
    ),
)  # fmt: skip


def _broadcast_copy(distance: int) -> str:
    region = f"vbcst.32 x0, r4\n{nops(distance - 1)} vmov wh2, wl0"
    return blocks(timed(f"lda r4, [p0, #0]\n{nops(7)} vlda wl0, [p0, #32]\n{nops(8)}", region, _values("wh2")))


def _early_load(distance: int) -> str:
    """What a reader `distance` bundles after a load gets: the old value below 7."""
    return blocks(
        timed(
            "movx r2, #17\n nop", f"lda r2, [p0, #0]\n{nops(distance - 1)} add r3, r2, #0\n{nops(8)}", "st r3, [p1], #4"
        )
    )


def _south(distance: int) -> str:
    before = f"movxm p2, #{geometry.CORE_VIEW_SOUTH + SOUTH_OFFSET:#x}\n movx r2, #17\n nop"
    region = f"lda r2, [p2, #0]\n{nops(distance - 1)} add r3, r2, #0\n{nops(8)}"
    return blocks(timed(before, region, "st r3, [p1], #4"))


_NEIGHBOUR = {((0, 2), SOUTH_OFFSET): (0x12345678, 0, 0, 0)}

DOUBTFUL: tuple[Probe, ...] = (
    Probe("a copy three bundles after its broadcast", _broadcast_copy(3), 16),
    Probe(
        "a copy two bundles after its broadcast", _broadcast_copy(2), 16, sure=False,
        settles="vmov of a half two bundles after vbcst reads the new value",
    ),
    Probe("a read seven bundles after its load", _early_load(7), 2),
    Probe("a read six bundles after its load", _early_load(6), 2),
    *(
        Probe(
            f"a read {word} bundles after a load from the southern neighbour", _south(count), 2, sure=False,
            settles="a load from a neighbour lands as one from the own memory", tile=(0, 3), memory=_NEIGHBOUR,
        )
        for word, count in (("seven", 7), ("six", 6))
    ),
    Probe(
        "a vector load that is not aligned",
        blocks(timed("", f"padda [p0], #4\n vlda wl0, [p0, #0]\n{nops(8)}", _values("wl0"))),
        16, sure=False, settles="a vector load ignores the low bits of its address",
    ),
    Probe(
        "memory that was never written",
        blocks(timed(f"movxm p2, #{UNTOUCHED:#x}", f"vlda wl0, [p2, #0]\n{nops(8)}", _values("wl0"))),
        16, sure=False, settles="memory is zero when a context begins",
    ),
    Probe(
        "a stream read that does not wait and finds nothing",
        blocks(timed("movx r2, #17\n nop", f"mov.nb r2, SS\n{nops(9)}", "st r2, [p1], #4")), 2, sure=False,
        settles="a stream read that fails gives 0",
    ),
)  # fmt: skip
