"""Core programs of the proof kit, in npuc's assembly language.

Each takes a block at p0 (design.IN), leaves its results at p1 (design.OUT), and begins again. Registers p0 and p1 are
set at the start of each block; bodies may use all others but r0 and r1 of the locks around them.
"""

from __future__ import annotations

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.proof import design

OWN = geometry.CORE_VIEW_OWN
BF16_CONFIGURATION = 28
"""4x8x4 bf16 multiply-accumulate in fp32 (facts/semantics/vmac.md)."""
ROUNDING_MODES = (0, 1, 2, 3, 8, 9, 10, 11, 12, 13)
"""Values of crRnd with a meaning (facts/semantics/convert.md, section 1)."""


def nops(count: int) -> str:
    return "nop\n" * count


def blocks(body: str) -> str:
    """The program around a body: both buffers acquired before it, given on after it, for ever."""
    return f"""
    run:
    {_lock("acq", design.IN_FULL, -1)}
    {_lock("acq", design.OUT_EMPTY, -1)}
    movxm p0, #{OWN + design.IN:#x}
    movxm p1, #{OWN + design.OUT:#x}
    {body}
    {nops(10)}
    {_lock("rel", design.IN_EMPTY, 1)}
    {_lock("rel", design.OUT_FULL, 1)}
    j #run
    {nops(5)}
    """


def _lock(operation: str, number: int, value: int) -> str:
    own = geometry.CORE_LOCK_OWN + number
    return f"movx r0, #{own}; mov r1, #{value}\n{operation} r0, r1\n{nops(4)}"


ADD_WORDS = 32


def add() -> str:
    """Adds 1 to the first word, 4 to the second, 7 to the third, ..."""
    return blocks(f"""
    movxm r4, #{ADD_WORDS}
    movx r5, #1
    word:
    lda r2, [p0], #4
    add r4, r4, #-1
    {nops(6)}
    add r2, r2, r5
    add r5, r5, #3
    st r2, [p1], #4
    jnz r4, #word
    {nops(5)}
    """)


NUMBERS_IN = 16 + 16 + 16 + 32
"""Words of a block: A as 4x8 and B as 8x4 bf16, C as 4x4 fp32, 32 integers of 32 bits."""
NUMBERS_OUT = 16 + len(ROUNDING_MODES) * (8 + 16)
"""Words: C + A B, then in each rounding mode its 16 bf16 and the 32 integers shifted right by 5 to 16 bits."""


def numbers() -> str:
    """A multiply-accumulate, and conversions in every rounding mode."""
    load = [
        f"vlda {register}, [p0], #32"
        for register in ("wl0", "wh0", "wl1", "wh1", "amll0", "amlh0", "amll1", "amlh1", "amhl1", "amhh1")
    ]
    convert = [
        f"""
        movx crRnd, r{2 + index % 2}
        vconv.bf16.fp32 wl2, bml0
        vsrs.s16.s32 x4, cm1, s0
        movx r{2 + (index + 1) % 2}, #{ROUNDING_MODES[(index + 1) % len(ROUNDING_MODES)]}
        {nops(4)}
        vst wl2, [p1], #32
        vst wl4, [p1], #32
        vst wh4, [p1], #32"""
        for index in range(len(ROUNDING_MODES))
    ]
    return blocks("\n".join([
        f"movx r4, #{BF16_CONFIGURATION}", f"movx r2, #{ROUNDING_MODES[0]}", "movx r5, #0", "mov s0, #5",
        "movx crSat, r5", "movx crF2FMask, r5", *load, nops(7),
        "vmac.f bml0, bml0, x0, x1, r4", nops(8), "vst amll0, [p1], #32",
        "vst amlh0, [p1], #32", *convert,
    ]))  # fmt: skip


def timed(before: str, region: str, after: str = "") -> str:
    """A body whose first word of output is the cycles of the region by the core's own timer, a reading included."""
    return f"""
    {before}
    mov r17:r16, cntr
    {region}
    mov r19:r18, cntr
    nop
    sub r18, r18, r16
    st r18, [p1], #4
    {after}
    """


def loop(count: int, body: str, last: str) -> str:
    """A hardware loop; the bundles that set it up are far enough before its end."""
    return f"movxm lc, #{count}\n movxm ls, #first\n movxm le, #last\n{nops(8)}first:\n{body}\nlast:\n {last}\n"
