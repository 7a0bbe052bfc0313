"""The plan of one attention kernel: tiles, columns, memory maps, locks and work items as plain data.

Everything later (core kernel, array configuration, runtime sequence) reads this and nothing else about the shape of the
computation.  All sizes and addresses are in bytes unless a name says words or blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.passes.array.design import Buffer
from npuc.passes.array.target import NPU1
from npuc.passes.attention.call import Call
from npuc.passes.attention.integer_factors import Quantities
from npuc.passes.attention.shares import plan_work
from npuc.passes.attention.work import Work

CORES_PER_COLUMN = NPU1.cores_per_column
ELEMENT_BYTES = 2  # bf16 in device memory
BYTES = {"bf16": 2, "int8": 1, "i8": 1}  # an element in that precision, and of that type
WORD_BYTES = 4


@dataclass(frozen=True)
class Estimate:
    """Cycles the cost model expects.

    compute_per_block, stream_per_block: one key block on one core, and on its channel.  item: what a work item costs
    beside its blocks.  compute, streams: of the busiest column; ddr, dispatch: of the whole run; start, drain: before
    the first block and after the last.  total: the run.  binds: the largest of compute, streams, ddr and dispatch.
    """

    compute_per_block: int
    stream_per_block: int
    item: int
    compute: int
    streams: int
    ddr: int
    dispatch: int
    start: int
    drain: int
    total: int
    binds: str


def shared_out(rows: int, key_block: int) -> tuple[int, int]:
    """Blocks that so many rows of Q are, by the channel on which they come."""
    blocks = rows // key_block
    return blocks - blocks // 2, blocks // 2


@dataclass(frozen=True)
class Plan:
    """Tiles and places of one kernel, whatever the lengths of a call.

    query_block, key_block: rows of Q a core holds, rows of K and V it takes at a time.  group_columns: neighbouring
    columns that share one stream of K and V.  mask_parts: bf16 numbers to an element of the mask operand, 0 where there
    is none; with one, Q travels before the mask in blocks as the mask has them (`query_chunks` of them).  split: K and
    V have a channel each, and Q travels before them in blocks as they have them (`query_blocks`).  kept: blocks that
    memory tiles hold of what comes on either channel, where they send K and V of a head again for its further items
    (`Work.by_heads`); else 0.  bounded: whether softcaps of calls are
    (`core.capped`).  call: what it was planned for, and runs without being told otherwise.  precision: of Q,
    K and V; output: element type of O.
    core_buffers, memtile_buffers: name -> Buffer in a core tile's or memory tile's own data memory; the same in
    every tile of the kind.  core_locks, memtile_locks: name -> lock id in the tile; *_initial: name -> value at load.
    """

    head_dim: int
    query_block: int
    key_block: int
    columns: int
    group_columns: int
    mask_parts: int
    split: bool
    core_buffers: Mapping[str, Buffer]
    core_locks: Mapping[str, int]
    core_lock_initial: Mapping[str, int]
    memtile_buffers: Mapping[str, Buffer]
    memtile_locks: Mapping[str, int]
    memtile_lock_initial: Mapping[str, int]
    call: Call
    estimate: Estimate
    precision: str = "bf16"
    output: str = "bf16"
    kept: int = 0
    bounded: bool = False

    @property
    def groups(self) -> int:
        """Column groups: each takes work items of its own."""
        return self.columns // self.group_columns

    @property
    def rows_per_item(self) -> int:
        return self.group_columns * CORES_PER_COLUMN * self.query_block

    @property
    def work(self) -> Work:
        """The work items of the planned call."""
        return plan_work(self, self.call, masked=bool(self.mask_parts))

    @property
    def row_words(self) -> int:
        """32-bit words of one row of Q, K or V."""
        return self.head_dim * BYTES[self.precision] // WORD_BYTES

    @property
    def output_words(self) -> int:
        """32-bit words of one row of O."""
        return self.head_dim * BYTES[self.output] // WORD_BYTES

    @property
    def query_bytes(self) -> int:
        """One core's Q, also its finished O."""
        return self.query_block * self.head_dim * ELEMENT_BYTES

    @property
    def key_bytes(self) -> int:
        """One block of K, also of V without its tail."""
        return self.key_block * self.head_dim * ELEMENT_BYTES

    @property
    def query_blocks(self) -> tuple[int, int]:
        """Blocks of key_block rows of an item's Q that come before K, and the further ones that come before V, where
        these are split."""
        return shared_out(self.rows_per_item, self.key_block)

    @property
    def keys_stepped(self) -> int:
        """Rows of K and V that a descriptor steps over at once: a block's, where the two take turns."""
        return 1 if self.split else self.key_block

    @property
    def outlets(self) -> int:
        """Channels on which a column's O reaches device memory."""
        return 1 + self.split

    @property
    def query_chunks(self) -> int:
        """Blocks of the mask's shape in which Q travels, where there is a mask: chunk c holds the columns from
        min(c * key_block, head_dim - key_block) on."""
        return -(-self.head_dim // self.key_block)

    @property
    def mask_bytes(self) -> int:
        """One part of the mask for one core's rows and a key block."""
        return self.query_block * self.key_block * ELEMENT_BYTES

    @property
    def cores(self) -> int:
        return self.columns * CORES_PER_COLUMN

    def to_json(self) -> dict[str, Any]:
        """Plain data for metadata and `--json`; `from_json` gives an equal plan back."""
        places = ("core_buffers", "memtile_buffers")
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in ("precision", "output"):  # said where they are not the usual ones
            if values[name] == "bf16":
                del values[name]
        for name in ("kept", "bounded"):
            if not values[name]:
                del values[name]
        for name, value in values.items():
            if name in places:
                values[name] = {buffer: list(place) for buffer, place in value.items()}
            elif isinstance(value, Mapping):
                values[name] = dict(value)
            elif is_dataclass(value):
                values[name] = asdict(value)  # type: ignore[arg-type]
        if not self.call.quantities:
            del values["call"]["quantities"]
        return values

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`.  Raises InputError for unknown, missing or impossible fields."""
        try:
            values = dict(data)
            for name in ("core_buffers", "memtile_buffers"):
                values[name] = {buffer: Buffer(*map(int, place)) for buffer, place in values[name].items()}
            quantities = tuple(Quantities(**one) for one in values["call"].get("quantities", ()))
            values["call"] = Call(**{**values["call"], "quantities": quantities})
            values["estimate"] = Estimate(**values["estimate"])
            plan = cls(**values)
            sizes = (plan.head_dim, plan.query_block, plan.key_block, plan.columns, plan.group_columns)
            if not all(isinstance(size, int) and 0 < size <= 1 << 16 for size in sizes):
                raise ValueError("a size is not a positive number")
            if plan.mask_parts not in (0, 1, 2) or (plan.mask_parts and plan.head_dim < plan.key_block):
                raise ValueError(f"{plan.mask_parts} parts of a mask, with head size {plan.head_dim}")
            if plan.split and (plan.mask_parts or plan.rows_per_item % plan.key_block):
                raise ValueError(f"K and V on two channels, with a mask or {plan.rows_per_item} rows an item")
            if not 0 <= plan.kept <= NPU1.lock_maximum or (plan.kept and not plan.split):
                raise ValueError(f"{plan.kept} blocks kept, of K and V on {1 + plan.split} channels")
            if plan.bounded not in (False, True) or (plan.bounded and (plan.mask_parts or plan.precision == "int8")):
                raise ValueError("a bounded softcap, with a mask or int8")
            if plan.precision not in ("bf16", "int8") or plan.output not in ("bf16", "i8"):
                raise ValueError(f"precision {plan.precision} with results of {plan.output}")
            if (plan.precision == "int8") != bool(plan.call.quantities) or (
                plan.precision == "int8" and not plan.split
            ):
                raise ValueError("int8 has factors, and K and V on two channels")
            if plan.columns % plan.group_columns or plan.columns > NPU1.columns:
                raise ValueError(f"{plan.columns} columns in groups of {plan.group_columns}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"not a plan: {error}") from error
        return plan

    def describe(self) -> str:
        """The plan as text for people: shape, tiles, memory maps, locks, estimate."""
        call, work = self.call, self.work
        per_group = ", ".join(str(work.count(group)) for group in range(self.groups))
        lines = [
            f"attention  batch {call.batch}, heads {call.heads} ({call.kv_heads} of K and V), "
            f"{call.query_length} queries, {call.key_length} keys, head size {self.head_dim}",
            f"tiles      {self.query_block} queries a core, {self.key_block} keys a block, {work.key_blocks} blocks"
            + (f", a mask in {self.mask_parts} parts" if self.mask_parts else "")
            + (f", int8 to {self.output}" if self.precision == "int8" else ""),
            f"array      {self.columns} columns, {self.cores} cores, K and V "
            f"{'on a channel each' if self.split else 'by turns'}, shared by {self.group_columns}, "
            f"work items per group {per_group}",
        ]
        if self.kept:
            sent = (
                f"K and V of a head are read once and sent {work.of_head} times"
                if work.by_heads
                else "nothing sent again"
            )
            lines.append(f"kept       {self.kept} blocks of each channel in the memory tiles, {sent}")
        lines += _memory_lines("core", self.core_buffers)
        lines += _memory_lines("memtile", self.memtile_buffers)
        lines.append(_lock_line("core", self.core_locks, self.core_lock_initial))
        lines.append(_lock_line("memtile", self.memtile_locks, self.memtile_lock_initial))
        cost = self.estimate
        lines += [
            f"block      {cost.compute_per_block:,} cycles of compute, {cost.stream_per_block:,} of streams; "
            f"an item {cost.item:,} more",
            f"run        compute {cost.compute:,}, streams {cost.streams:,}, DDR {cost.ddr:,}, dispatch "
            f"{cost.dispatch:,}, start-up {cost.start:,}, drain {cost.drain:,}",
            f"predicted  {cost.total:,} cycles, bound by {cost.binds}",
        ]
        return "\n".join(lines) + "\n"


def _memory_lines(kind: str, buffers: Mapping[str, Buffer]) -> list[str]:
    used = sum(buffer.size for buffer in buffers.values())
    lines = [f"{kind:<10} {used:,} bytes"]
    for name, buffer in sorted(buffers.items(), key=lambda entry: entry[1].address):
        lines.append(f"  {buffer.address:#07x}..{buffer.end:#07x}  {buffer.size:6}  {name}")
    return lines


def _lock_line(kind: str, locks: Mapping[str, int], initial: Mapping[str, int]) -> str:
    return f"{kind} locks " + " ".join(f"{name}={lock}({initial[name]})" for name, lock in locks.items())
