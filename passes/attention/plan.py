"""The plan of one attention kernel: tiles, columns, memory maps, locks and work items as plain data.

Everything later (core kernel, array configuration, runtime sequence) reads this and nothing else about the shape of the
computation.  All sizes and addresses are in bytes unless a name says words or blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

CORES_PER_COLUMN = 4
ELEMENT_BYTES = 2  # bf16 in device memory
WORD_BYTES = 4


class Buffer(NamedTuple):
    """A range of one tile's data memory, tile-relative."""

    address: int
    size: int

    @property
    def end(self) -> int:
        return self.address + self.size


@dataclass(frozen=True)
class WorkItem:
    """What the four cores of one column do at a time: 4 * query_block rows of one head against all its keys."""

    batch: int
    head: int
    kv_head: int
    round: int


@dataclass(frozen=True)
class Estimate:
    """Cycles the cost model expects.

    block: one key block on one core, the larger of compute and streams; item: one work item; total: the whole run.
    """

    compute_per_block: int
    stream_per_block: int
    item: int
    sequence: int
    total: int

    @property
    def block(self) -> int:
        return max(self.compute_per_block, self.stream_per_block)


@dataclass(frozen=True)
class Plan:
    """Tiles and places of one kernel.

    query_block, key_block: rows of Q a core holds, rows of K and V it takes at a time.
    items[column]: the work items of a column, in order.
    core_buffers, memtile_buffers: name -> Buffer in a core tile's or memory tile's own data memory; the same in
    every tile of the kind.  core_locks, memtile_locks: name -> lock id in the tile; *_initial: name -> value at load.
    """

    batch: int
    heads: int
    kv_heads: int
    query_length: int
    key_length: int
    head_dim: int
    query_block: int
    key_block: int
    columns: int
    items: tuple[tuple[WorkItem, ...], ...]
    core_buffers: Mapping[str, Buffer]
    core_locks: Mapping[str, int]
    core_lock_initial: Mapping[str, int]
    memtile_buffers: Mapping[str, Buffer]
    memtile_locks: Mapping[str, int]
    memtile_lock_initial: Mapping[str, int]
    estimate: Estimate

    @property
    def key_blocks(self) -> int:
        """Key blocks of one work item."""
        return self.key_length // self.key_block

    @property
    def rows_per_item(self) -> int:
        return CORES_PER_COLUMN * self.query_block

    @property
    def rounds(self) -> int:
        """Work items of one head."""
        return self.query_length // self.rows_per_item

    @property
    def row_words(self) -> int:
        """32-bit words of one row of Q, K, V or O."""
        return self.head_dim * ELEMENT_BYTES // WORD_BYTES

    @property
    def query_bytes(self) -> int:
        """One core's Q, also its finished O."""
        return self.query_block * self.head_dim * ELEMENT_BYTES

    @property
    def key_bytes(self) -> int:
        """One block of K, also of V without its tail."""
        return self.key_block * self.head_dim * ELEMENT_BYTES

    @property
    def cores(self) -> int:
        return self.columns * CORES_PER_COLUMN

    @property
    def macs(self) -> int:
        """Multiply-accumulates of QK^T and PV, nothing masked."""
        return 2 * self.batch * self.heads * self.query_length * self.key_length * self.head_dim

    def to_json(self) -> dict[str, Any]:
        """Plain data for metadata and `--json`; the work items as a count per column, for their order is a rule."""
        return {
            "batch": self.batch,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "query_length": self.query_length,
            "key_length": self.key_length,
            "head_dim": self.head_dim,
            "query_block": self.query_block,
            "key_block": self.key_block,
            "key_blocks": self.key_blocks,
            "rounds": self.rounds,
            "columns": self.columns,
            "cores": self.cores,
            "items": [len(items) for items in self.items],
            "core_buffers": {name: list(buffer) for name, buffer in self.core_buffers.items()},
            "core_locks": dict(self.core_locks),
            "memtile_buffers": {name: list(buffer) for name, buffer in self.memtile_buffers.items()},
            "memtile_locks": dict(self.memtile_locks),
            "estimate": asdict(self.estimate),
        }

    def describe(self) -> str:
        """The plan as text for people: shape, tiles, memory maps, locks, estimate."""
        per_column = ", ".join(str(len(items)) for items in self.items)
        lines = [
            f"attention  batch {self.batch}, heads {self.heads} ({self.kv_heads} of K and V), "
            f"{self.query_length} queries, {self.key_length} keys, head size {self.head_dim}",
            f"tiles      {self.query_block} queries a core, {self.key_block} keys a block, {self.key_blocks} blocks",
            f"array      {self.columns} columns, {self.cores} cores, work items per column {per_column}",
        ]
        lines += _memory_lines("core", self.core_buffers)
        lines += _memory_lines("memtile", self.memtile_buffers)
        lines.append(_lock_line("core", self.core_locks, self.core_lock_initial))
        lines.append(_lock_line("memtile", self.memtile_locks, self.memtile_lock_initial))
        cost = self.estimate
        lines.append(
            f"estimate   {cost.compute_per_block} cycles of compute and {cost.stream_per_block} of streams a block, "
            f"{cost.item} an item, {cost.total} in all"
        )
        return "\n".join(lines) + "\n"


def _memory_lines(kind: str, buffers: Mapping[str, Buffer]) -> list[str]:
    used = sum(buffer.size for buffer in buffers.values())
    lines = [f"{kind:<10} {used:,} bytes"]
    for name, buffer in sorted(buffers.items(), key=lambda entry: entry[1].address):
        lines.append(f"  {buffer.address:#07x}..{buffer.end:#07x}  {buffer.size:6}  {name}")
    return lines


def _lock_line(kind: str, locks: Mapping[str, int], initial: Mapping[str, int]) -> str:
    return f"{kind} locks " + " ".join(f"{name}={lock}({initial[name]})" for name, lock in locks.items())
