"""The streams of the attention kernel, and the layouts in which its cores read and write.

K and V go to all cores of the columns that share them, in one of two ways.  By turns on one channel: on the other each
core gets rows of its own, Q, or, where there is a mask, blocks of Q's columns and then of the mask's parts.  On a
channel each: before an item's keys its Q comes on both, in blocks as large as theirs, and every core takes its own rows
out of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.emit.elf import CoreImage
from npuc.passes.array.design import Design, Place
from npuc.passes.array.fifo import CORES, DEVICE, Fifo
from npuc.passes.array.target import NPU1, Target
from npuc.passes.array.tile import Order, Tile

if TYPE_CHECKING:
    from npuc.passes.attention.plan import Plan

FIRST_CHANNEL, SECOND_CHANNEL = 0, 1  # of shims (MM2S), memory tiles and cores
START = "start"  # the lock that a call raises

# Small tiles of the cores' matrix multiply (4x8 by 8x4, bf16): facts/semantics/vmac.md.
QUERY_ORDER = Order(4, 8)
MASK_ORDER = Order(4, 8)
VALUE_ORDER = Order(8, 4, "cols")
OUTPUT_ORDER = Order(4, 4)
# The same of int8 (4x8 by 8x8).
INTEGER_VALUE_ORDER = Order(8, 8, "cols")
INTEGER_OUTPUT_ORDER = Order(4, 8)
ONES_BYTES = 64  # for every 8 keys: a tile of ones behind V, for the row sums


def output_pieces(query_block: int) -> int:
    """In how many pieces a core's O leaves it where K and V have a channel each: of whole groups of four rows."""
    return 2 if query_block % 16 == 0 else 1


def key_order(key_block: int) -> Order:
    """A core reads the two halves of a key block through its two load ports: half by half, then along the head."""
    return Order(key_block // 2, 8)


def streams(
    head_dim: int,
    query_block: int,
    key_block: int,
    mask_parts: int,
    split: bool,
    group_columns: int = 1,
    kept: int = 0,
) -> tuple[Fifo, ...]:
    """K, V, the cores' own rows and O.  split: K and V have a channel each.  kept: blocks of each that memory tiles
    hold for tasks of the runtime sequence, if not 0.

    Raises ResourceError for sizes that have no such layout.
    """
    keys = Tile(key_block, head_dim, "bf16", key_order(key_block))
    values = Tile(key_block, head_dim, "bf16", VALUE_ORDER)
    rows: tuple[Fifo, ...] = ()
    if mask_parts:
        block = Tile(query_block, key_block, "bf16", MASK_ORDER)
        rows = (Fifo("m", block, depth=2, dealt=True, channel=SECOND_CHANNEL),)
    elif not split:
        block = Tile(query_block, head_dim, "bf16", QUERY_ORDER)
        rows = (Fifo("q", block, depth=1, dealt=True, channel=SECOND_CHANNEL),)
    shared = dict(columns=group_columns, relay_depth=kept or 2, kept=bool(kept))
    beside = SECOND_CHANNEL if split else FIRST_CHANNEL
    pieces, outlets = (output_pieces(query_block), 2) if split else (1, 1)
    return (
        Fifo("k", keys, depth=2, channel=FIRST_CHANNEL, **shared),  # type: ignore[arg-type]
        Fifo("v", values, 2, channel=beside, behind=key_block // 8 * ONES_BYTES, **shared),  # type: ignore[arg-type]
        *rows,
        _output(Tile(query_block, head_dim, "bf16", OUTPUT_ORDER), pieces, outlets),
    )


def _output(results: Tile, pieces: int, outlets: int) -> Fifo:
    return Fifo("o", results, 1, producer=CORES, consumers=DEVICE, dealt=True, pieces=pieces, outlets=outlets)


def integer_streams(
    head_dim: int, query_block: int, key_block: int, output: str, group_columns: int = 1, kept: int = 0
) -> tuple[Fifo, ...]:
    """Those of int8: K and V on a channel each.  output: element type of O."""
    shared = dict(columns=group_columns, relay_depth=kept or 2, kept=bool(kept))
    keys = Tile(key_block, head_dim, "i8", key_order(key_block))
    values = Tile(key_block, head_dim, "i8", INTEGER_VALUE_ORDER)
    results = Tile(query_block, head_dim, output, INTEGER_OUTPUT_ORDER)
    ones = key_block // 8 * ONES_BYTES
    return (
        Fifo("k", keys, depth=2, channel=FIRST_CHANNEL, **shared),  # type: ignore[arg-type]
        Fifo("v", values, depth=2, channel=SECOND_CHANNEL, behind=ones, **shared),  # type: ignore[arg-type]
        _output(results, output_pieces(query_block), outlets=2),
    )


def plan_streams(plan: Plan) -> tuple[Fifo, ...]:
    """Those of a plan."""
    sizes = (plan.head_dim, plan.query_block, plan.key_block)
    if plan.precision == "int8":
        return integer_streams(*sizes, plan.output, plan.group_columns, plan.kept)
    return streams(*sizes, plan.mask_parts, plan.split, plan.group_columns, plan.kept)


def most_kept(fifos: Sequence[Fifo], target: Target) -> int:
    """Blocks of K and of V, or of Q on its way with them, that memory tiles hold beside the output."""
    relayed = {fifo.name: fifo for fifo in fifos}
    output = relayed["o"]
    others = target.cores_per_column * output.relay_depth * output.tile.nbytes
    both = relayed["k"].tile.nbytes + relayed["v"].tile.nbytes
    return min((target.memtile_memory - others) // both, target.lock_maximum)


def make_design(plan: Plan, programs: Mapping[Place, CoreImage] | None = None) -> Design:
    """What a plan and its core programs configure.  Raises ResourceError where the plan contradicts its streams."""
    design = Design(NPU1, plan.columns, plan_streams(plan), plan.core_buffers, (START,), programs or {})
    for kind, said, derived in (
        ("core", plan.core_locks, design.core_locks),
        ("memory tile", plan.memtile_locks, design.relay_locks),
    ):
        if dict(said) != {name: number for number, name in enumerate(derived)}:
            raise ResourceError(f"the plan's {kind} locks are not those of its streams")
    return design
