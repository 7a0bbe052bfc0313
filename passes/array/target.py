"""What an array offers, as a value: its tiles, what they hold, and what its parts cost."""

from __future__ import annotations

from dataclasses import dataclass

from npuc.compiler.target.npu1 import geometry


@dataclass(frozen=True)
class Costs:
    """Cycles, as facts/silicon has them (the emulator's table has the same, with the basis of each).

    word: of a shim channel.  descriptor: from one to the next.  ddr_bytes: a cycle, all channels, each way.
    shim_start: to the first word of a task.  write, block_write, patch: operations of the runtime sequence; a block
    write of more than block_words words takes block_word more for each.  push_gap: between two pushes to one channel.
    completion: from the last word to the sequence's knowledge of it.
    """

    word: float
    descriptor: int
    ddr_bytes: float
    shim_start: int
    write: int
    block_write: int
    block_words: int
    block_word: int
    patch: int
    push_gap: int
    completion: int


@dataclass(frozen=True)
class Target:
    """Geometry and capacities; memories in bytes, locks and descriptors of one tile.

    core_banks: what compilers count, each of two physical ones.  memtile_descriptors: for channels of even number, and
    as many for odd ones.  memtile_channels: each way.  task_queue: tasks that a channel takes beside the one that runs.
    """

    name: str
    columns: int
    core_rows: tuple[int, ...]
    core_memory: int
    core_banks: int
    program_memory: int
    memtile_memory: int
    core_locks: int
    memtile_locks: int
    memtile_channels: int
    lock_maximum: int
    core_descriptors: int
    memtile_descriptors: int
    shim_descriptors: int
    task_queue: int
    costs: Costs

    @property
    def cores_per_column(self) -> int:
        return len(self.core_rows)

    @property
    def core_bank(self) -> int:
        """Bytes in a row that one access of 256 bits keeps busy: it occupies both of the physical banks."""
        return self.core_memory // self.core_banks


NPU1 = Target(
    name="npu1",
    columns=geometry.COLUMNS,
    core_rows=geometry.CORE_ROWS,
    core_memory=geometry.CORE_MEMORY_SIZE,
    core_banks=geometry.CORE_COMPILER_BANKS,
    program_memory=geometry.PROGRAM_MEMORY_SIZE,
    memtile_memory=geometry.MEMTILE_MEMORY_SIZE,
    core_locks=geometry.LOCK_COUNT["core"],
    memtile_locks=geometry.LOCK_COUNT["memtile"],
    memtile_channels=geometry.CHANNEL_COUNT["memtile"],
    lock_maximum=geometry.LOCK_MAXIMUM,
    core_descriptors=geometry.BD_COUNT["core"],
    memtile_descriptors=len(geometry.MEMTILE_EVEN_CHANNEL_BDS),
    shim_descriptors=geometry.BD_COUNT["shim"],
    task_queue=geometry.CHANNEL_QUEUE_DEPTH,
    costs=Costs(
        word=1.05,
        descriptor=2,
        ddr_bytes=26.0,
        shim_start=747,
        write=100,
        block_write=203,
        block_words=8,
        block_word=13,
        patch=100,
        push_gap=2850,
        completion=8000,
    ),
)
