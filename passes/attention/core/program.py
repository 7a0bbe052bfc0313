"""The whole program of one core.

It waits for `start`, reads its parameters (parameters.py) and runs; then it waits
again, so that one loaded kernel serves any number of calls with any lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import UnsupportedError
from npuc.passes.attention.core.context import (
    CORE_MEMORY,
    ELEMENTWISE,
    MATMUL_4X8X4,
    SHUFFLE_4X8_TO_8X4,
    TILE,
    ConstantPool,
    Context,
    Shape,
)
from npuc.passes.attention.core.normalise import normalise
from npuc.passes.attention.core.parameters import ITEMS, KEY_LENGTH
from npuc.passes.attention.core.probabilities import exponentiate
from npuc.passes.attention.core.query import clear_accumulators, transpose_queries
from npuc.passes.attention.core.rebase import FLOOR_NONE, rebase
from npuc.passes.attention.core.scores import compute_scores
from npuc.passes.attention.core.values import accumulate_values
from npuc.passes.machine.ir import Builder, Program, Reg

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention
    from npuc.passes.attention.plan import Plan

CONV_EVEN = 12  # crRnd: round to nearest even; the reset value is floor (facts/semantics/convert.md section 1)
NO_SATURATION = 0  # crSat
ONE_BF16 = b"\x80\x3f"
# Bounds of scale * log2(e) within which factor, inverse and limits stay normal bf16 numbers.
FACTOR_RANGE = (2.0**-60, 2.0**60)


@dataclass(frozen=True)
class KernelProgram:
    """One core's program and what its data memory holds at the start: (offset, bytes) pieces."""

    program: Program
    data: tuple[tuple[int, bytes], ...]


def build(plan: Plan, attention: Attention) -> KernelProgram:
    """The program of every core of `plan`.  UnsupportedError when the scale is out of range."""
    factor = attention.scale * math.log2(math.e)
    if not FACTOR_RANGE[0] <= factor <= FACTOR_RANGE[1]:
        raise UnsupportedError(f"scale {attention.scale:g} is outside what the kernel represents")
    shape = Shape(plan.query_block, plan.key_block, plan.head_dim, factor)
    b = Builder("attention")
    buffers = {name: buffer.address for name, buffer in plan.core_buffers.items()}
    pool = ConstantPool(CORE_MEMORY + buffers["constants"], plan.core_buffers["constants"].size)
    k = Context(b, shape, buffers, dict(plan.core_locks), pool)
    with b.source("constants and modes"):
        _prepare(k)
    with b.forever("run"), b.source("parameters of the call"):
        k.acquire("start")
        items, blocks = _parameters(k)
        with b.counted_loop(items, "item"):
            _work_item(k, blocks)
    block_bytes = shape.keys * shape.head_dim * 2
    ones = ONE_BF16 * (TILE // 2) * (shape.keys // 8)
    data = (
        (buffers["constants"], pool.data()),
        (buffers["v0"] + block_bytes, ones),
        (buffers["v1"] + block_bytes, ones),
    )
    return KernelProgram(b.program, data)


def _prepare(k: Context) -> None:
    """Registers that live through the program, and the modes of the vector units."""
    k.b.constant("crRnd", CONV_EVEN)
    k.b.constant("crSat", NO_SATURATION)
    for name, value in (
        ("one", 1),
        ("minus_one", -1),
        ("zero", 0),
        ("matmul", MATMUL_4X8X4),
        ("elementwise", ELEMENTWISE),
        ("mode_4x8_to_8x4", SHUFFLE_4X8_TO_8X4),
        ("half_block", k.shape.keys * k.shape.head_dim),
        ("keys", k.address("k0")),
        ("keys_sum", k.address("k0") + k.address("k1")),
        ("values", k.address("v0")),
        ("values_sum", k.address("v0") + k.address("v1")),
        ("flag", 0),
    ):
        k.registers[name] = k.scalar(value, name)
    k.registers["pool"] = k.pointer("constants", name="p_constants")


def _parameters(k: Context) -> tuple[Reg, Reg]:
    p = k.pointer("params", name="p_params")
    items, keys = k.b.r("items"), k.b.r("key_length")
    k.b.op("LDA_dms_lda_idx_imm", items, p, 4 * ITEMS, region="params")
    k.b.op("LDA_dms_lda_idx_imm", keys, p, 4 * KEY_LENGTH, region="params")
    assert k.shape.keys & (k.shape.keys - 1) == 0
    rounded, blocks = k.b.r("keys_rounded"), k.b.r("blocks")
    k.b.op("ADD_add_r_ri", rounded, keys, k.shape.keys - 1)
    k.b.op("LSHL", blocks, rounded, k.scalar(1 - k.shape.keys.bit_length(), "right_shift"))
    return items, blocks


def _work_item(k: Context, blocks: Reg) -> None:
    b = k.b
    k.acquire("q_full")
    with b.source("Q tiles transposed"):
        transpose_queries(k)
    k.acquire("o_empty")
    with b.source("O, sums and references cleared"):
        clear_accumulators(k)
        floor, left = k.scalar(FLOOR_NONE, "floor"), b.r("blocks_left")
        b.op("ADD_add_r_ri", left, blocks, 0)
    with b.counted_loop(left, "block"):
        _key_block(k, floor)
    k.release("q_empty")
    with b.source("O divided by the sums"):
        normalise(k)
    k.release("o_full")


def _key_block(k: Context, floor: Reg) -> None:
    b, keep = k.b, k.registers
    k.acquire("k_full")
    with b.source("scores: U = K Q^T - reference"):
        compute_scores(k, keep["keys"])
    k.release("k_empty")
    with b.source("reference moved where scores outgrow it"):
        b.op("SUB", keep["keys"], keep["keys_sum"], keep["keys"])
        condition, not_first = b.r("must_rebase"), b.r("not_first")
        b.op("OR", condition, keep["flag"], floor)
        b.op("EQZ", not_first, floor)
        with b.if_nonzero(condition):
            rebase(k, not_first, floor)
        b.constant(floor, 0)
    with b.source("probabilities: P = 2^(factor U)"):
        exponentiate(k)
    k.acquire("v_full")
    with b.source("values: O += P V"):
        accumulate_values(k, keep["values"])
    k.release("v_empty")
    with b.source("next block"):
        b.op("SUB", keep["values"], keep["values_sum"], keep["values"])
