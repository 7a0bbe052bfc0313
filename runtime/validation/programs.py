"""What is measured elsewhere, written as core programs and array images of the proof kit's kind.

Core programs time themselves by the core's timer and send the cycles out, so that the same images give the same figures
on hardware. A core's memory (banks are of 16 KiB): input block at design.IN in bank 0, output at design.OUT in bank 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.proof import design
from npuc.runtime.proof.programs import blocks, nops
from npuc.runtime.validation import hand_scheduled

TILE = (0, 2)
A, B, C = 0x1000, 0x8000, 0xC000
"""Places of a matrix product's operands, each in a bank of its own."""
FEW, MANY = 4, 12
"""Passes of what is timed; the difference is free of what surrounds it."""
EDGE = 32  # of the matrices
OWN = geometry.CORE_VIEW_OWN


def _timed(region: str) -> str:
    """The cycles of a region, a word at p7."""
    return f"""
    mov r17:r16, cntr
    {region}
    mov r19:r18, cntr
    nop
    sub r18, r18, r16
    st r18, [p7], #4
    """


def _calls(name: str, function: str, count: int) -> str:
    """The function called again and again, its pointers set in the delay slots."""
    return _timed(f"""
    mova r31, #{count}
    {name}:
    jl #{function}
    movxm p0, #{OWN + A:#x}
    movxm p1, #{OWN + B:#x}
    movxm p2, #{OWN + C:#x}
    movxm p3, #{OWN + C:#x}
    nop
    add r31, r31, #-1
    jnz r31, #{name}
    {nops(5)}
    """)


def _tiled(matrix: np.ndarray, rows: int, columns: int) -> tuple[int, ...]:
    height, width = matrix.shape
    tiles = matrix.reshape(height // rows, rows, width // columns, columns).transpose(0, 2, 1, 3)
    return tuple(np.ascontiguousarray(tiles).reshape(-1).view(np.uint32).tolist())


def product(a: np.ndarray, b: np.ndarray) -> design.Image:
    """C += A B of 32x32 bf16, hand-scheduled, 2 (FEW + MANY) times, half of them an empty function.

    Sends 4 words and C: cycles of FEW and MANY products, of FEW and MANY empty calls.
    """
    copy = f"""
    movxm p0, #{OWN + C:#x}
    movxm lc, #{EDGE * EDGE // 8}
    movxm ls, #copied
    movxm le, #copied_last
    {nops(8)}
    copied:
    vlda wl0, [p0], #32
    {nops(7)}
    vst wl0, [p7], #32
    copied_last:
    nop
    """
    body = "\n".join([
        "mov p7, p1",
        *(_calls(f"{what}_{count}", what, count) for what in ("multiply", "return") for count in (FEW, MANY)),
        "padda [p7], #16", copy,
    ])  # fmt: skip
    functions = f"multiply:\n{hand_scheduled.text()}\nreturn:\nret lr\n{nops(5)}"
    memory = {(TILE, A): _tiled(a, 4, 8), (TILE, B): _tiled(b, 8, 4)}
    return design.one_core(f"{blocks(body)}\n{functions}", 8, 8 + EDGE * EDGE, tile=TILE, memory=memory)


def inner_loop(multiply: str, bundles: int, multiplies: int, together: bool) -> design.Image:
    """The issue pattern of a compiled product's inner loop: sends the cycles of 10 FEW and 10 MANY passes.

    multiply: text of one, with {0} for an accumulator's number. together: whether one pair of loads of a bundle reads
    one bank, as where a compiler has both operands of a pair in one buffer.
    """
    second = A + 0x400 if together else B
    lines = [f"{multiply.format(n % 4)}" if n < multiplies else "nop" for n in range(bundles)]
    lines[0] = f"vlda wl8, [p2, #0x0]; vldb wl9, [p3, #0x0]; {lines[0]}"
    lines[1:-1] = [f"vlda wl8, [p2, #0x0]; {line}" if line != "nop" else "vlda wl8, [p2, #0x0]" for line in lines[1:-1]]
    lines[-1] = "nop"

    def passes(count: int) -> str:
        return _timed(f"""
        movxm lc, #{10 * count}
        movxm ls, #first_{count}
        movxm le, #last_{count}
        {nops(8)}
        first_{count}:
        {chr(10).join(lines[:-1])}
        last_{count}:
        {lines[-1]}
        """)

    setup = f"mov p7, p1\n movxm p2, #{OWN + A:#x}\n movxm p3, #{OWN + second:#x}\n movxm r4, #28\n movxm r5, #776\n"
    return design.one_core(blocks(setup + passes(FEW) + passes(MANY)), 8, 2, tile=TILE)


GELU_BLOCK = 512  # elements
TABLE = 0x8000


def gelu_table(scale: float) -> np.ndarray:
    """GELU of all int8 values, of the same scale (value = scale * integer)."""
    from math import erf

    values = scale * np.arange(-128, 128)
    exact = [0.5 * x * (1 + erf(x / 2**0.5)) for x in values.tolist()]
    return np.clip(np.rint(np.array(exact) / scale), -128, 127).astype(np.int8)


def gelu(elements: int, table: Sequence[int]) -> design.Image:
    """GELU of int8, an element at a time, by the table: blocks of GELU_BLOCK come and go by DMA."""
    words = np.array(table, dtype=np.int8).view(np.uint32).tolist()
    body = f"""
    movxm p2, #{OWN + TABLE + 128:#x}
    movxm lc, #{GELU_BLOCK}
    movxm ls, #element
    movxm le, #element_last
    {nops(8)}
    element:
    lda.s8 r2, [p0], #1
    {nops(6)}
    mov dj0, r2
    lda.s8 r3, [p2, dj0]
    {nops(6)}
    st.s8 r3, [p1], #1
    {nops(6)}
    element_last:
    nop
    """
    size = GELU_BLOCK // 4
    return design.one_core(blocks(body), size, size, elements // GELU_BLOCK, TILE, {(TILE, TABLE): tuple(words)})
