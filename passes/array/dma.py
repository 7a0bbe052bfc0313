"""DMA programs of the core tiles and memory tiles: rings of descriptors that wait on locks and run for ever.

The same in every tile of a kind, whatever the lengths: how often a ring turns is decided by what the shims send.
"""

from __future__ import annotations

from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.descriptors import (
    ChannelStart,
    Descriptor,
    Dimension,
    DmaProgram,
    packed_tile_columns,
    packed_tiles,
    ring,
)
from npuc.passes.attention.memory import rows_stream
from npuc.passes.attention.plan import CORES_PER_COLUMN, WORD_BYTES, Plan

# Tiles of the core's matrix multiply (4x8 by 8x4, bf16), as words a row: facts/semantics/vmac.md.
LEFT_TILE = (4, 4)  # Q, K: 4 rows of 8
RIGHT_TILE = (8, 2)  # V: 8 keys of 4
RESULT_TILE = (4, 2)  # O: 4 rows of 4

KEY_VALUE_CHANNEL = 0  # S2MM 0 and MM2S 0 of a memory tile, S2MM 0 of a core
QUERY_CHANNEL = 1  # S2MM 1 of a memory tile and of a core
OUTPUT_CHANNEL = 1  # MM2S 1 of a memory tile
FIRST_CORE_CHANNEL = 2  # memory tile: MM2S 2 + c sends Q to core c, S2MM 2 + c takes its O


def core_program(plan: Plan) -> DmaProgram:
    """S2MM 0: k0 v0 k1 v1; S2MM 1: q, or m0 m1 where there is a mask; MM2S 0: the finished o."""
    buffers, locks = plan.core_buffers, plan.core_locks
    key_words, query_words = plan.key_bytes // WORD_BYTES, plan.query_bytes // WORD_BYTES

    def received(number: int, buffer: str, words: int, locked: str) -> Descriptor:
        empty, full = locks[f"{locked}_empty"], locks[f"{locked}_full"]
        address = buffers[buffer].address
        return Descriptor("core", number, address, words, acquire=(empty, -1), release=(full, 1))

    names = ("k0", "v0", "k1", "v1")
    key_values = ring([received(number, name, key_words, name[0]) for number, name in enumerate(names)])
    if plan.mask_parts:
        mask_words = plan.mask_bytes // WORD_BYTES
        query = ring([received(4, "m0", mask_words, "m"), received(5, "m1", mask_words, "m")])
    else:
        query = ring([received(4, "q", query_words, "q")])
    output = ring(
        [
            Descriptor(
                "core",
                4 + len(query),
                buffers["o"].address,
                query_words,
                acquire=(locks["o_full"], -1),
                release=(locks["o_empty"], 1),
            )
        ]
    )
    starts = (
        ChannelStart("s2mm", KEY_VALUE_CHANNEL, 0),
        ChannelStart("s2mm", QUERY_CHANNEL, 4),
        ChannelStart("mm2s", 0, output[0].number),
    )
    return DmaProgram("core", (*key_values, *query, *output), starts)


class _DescriptorNumbers:
    """Hands out memory tile descriptors: channels of even number own 0..23, odd ones 24..47."""

    def __init__(self) -> None:
        self._free = [list(geometry.MEMTILE_EVEN_CHANNEL_BDS), list(geometry.MEMTILE_ODD_CHANNEL_BDS)]

    def take(self, channel: int) -> int:
        return self._free[channel % 2].pop(0)


class _MemtileBuilder:
    """Collects the rings of one memory tile."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.numbers = _DescriptorNumbers()
        self.descriptors: list[Descriptor] = []
        self.starts: list[ChannelStart] = []

    def ring(self, direction: str, channel: int, steps: list[tuple[str, str, tuple[Dimension, ...]]]) -> None:
        """steps: (buffer, lock pair, order of the words), for ever; receiving fills, sending empties."""
        plan = self.plan
        links = []
        for buffer, locked, order in steps:
            empty, full = plan.memtile_locks[f"{locked}_empty"], plan.memtile_locks[f"{locked}_full"]
            wait, signal = (empty, full) if direction == "s2mm" else (full, empty)
            place = plan.memtile_buffers[buffer]
            links.append(
                Descriptor(
                    "memtile",
                    self.numbers.take(channel),
                    place.address,
                    place.size // WORD_BYTES,
                    order,
                    acquire=(wait, -1),
                    release=(signal, 1),
                )
            )
        self.descriptors += ring(links)
        self.starts.append(ChannelStart(direction, channel, links[0].number))


def memtile_program(plan: Plan) -> DmaProgram:
    """K and V in turn, in as they lie and out in tiles to all cores; Q and O through two buffers for each core."""
    rows = plan.row_words
    # A core reads the two halves of a key block through its two load ports: half by half, then dimension by dimension.
    keys = packed_tiles(plan.key_block, rows, plan.key_block // 2, LEFT_TILE[1])
    values = packed_tile_columns(plan.key_block, rows, *RIGHT_TILE)
    stream = rows_stream(plan.mask_parts)
    blocks = packed_tiles(plan.query_block, plan.key_block // 2 if plan.mask_parts else rows, *LEFT_TILE)
    outputs = packed_tiles(plan.query_block, rows, *RESULT_TILE)
    builder = _MemtileBuilder(plan)
    names = ("k0", "v0", "k1", "v1")
    builder.ring("s2mm", KEY_VALUE_CHANNEL, [(name, name[0], ()) for name in names])
    builder.ring("mm2s", KEY_VALUE_CHANNEL, [(name, name[0], keys if name[0] == "k" else values) for name in names])
    halves_of_cores = [(half, core) for half in range(2) for core in range(CORES_PER_COLUMN)]
    builder.ring(
        "s2mm", QUERY_CHANNEL, [(f"{stream}{core}.{half}", f"{stream}{core}", ()) for half, core in halves_of_cores]
    )
    builder.ring("mm2s", OUTPUT_CHANNEL, [(f"o{core}.{half}", f"o{core}", ()) for half, core in halves_of_cores])
    for core in range(CORES_PER_COLUMN):
        channel = FIRST_CORE_CHANNEL + core
        builder.ring("mm2s", channel, [(f"{stream}{core}.{half}", f"{stream}{core}", blocks) for half in range(2)])
        builder.ring("s2mm", channel, [(f"o{core}.{half}", f"o{core}", outputs) for half in range(2)])
    return DmaProgram("memtile", tuple(builder.descriptors), tuple(builder.starts))
