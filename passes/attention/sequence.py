"""The runtime sequence: parameters and start of the cores, and each work item's transfers (facts/platform/txn.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.emit import txn
from npuc.compiler.emit.npua import ControlTemplate
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.descriptors import Descriptor
from npuc.passes.array.flows import SHIM_KEY_VALUE_CHANNEL, SHIM_OUTPUT_CHANNEL, SHIM_QUERY_CHANNEL
from npuc.passes.attention.plan import CORES_PER_COLUMN, ELEMENT_BYTES, Plan, WorkItem

# The iteration field of a descriptor has 6 bits, so one push moves so many blocks of K and V at most.
BLOCKS_PER_PUSH = 64
S2MM = 0  # direction of a sync


@dataclass(frozen=True)
class BufferNumbers:
    """Which buffer argument of the kernel each tensor is."""

    q: int
    k: int
    v: int
    o: int


@dataclass(frozen=True)
class _Transfer:
    """A shim descriptor with the buffer argument and byte offset that it starts at."""

    descriptor: Descriptor
    argument: int
    offset: int


def runtime_sequence(plan: Plan, buffers: BufferNumbers) -> ControlTemplate:
    """Work items of all columns in turn, as many under way in a column as its queues and descriptors hold.

    Raises ResourceError when the keys of one item need more pushes than a channel's queue holds.
    """
    pushes = _pushes(plan)
    under_way = geometry.CHANNEL_QUEUE_DEPTH // len(pushes) if pushes else 0
    if not under_way:
        raise ResourceError(
            f"{plan.key_length} keys need {len(pushes)} pushes for one work item, "
            f"a shim channel's queue holds {geometry.CHANNEL_QUEUE_DEPTH}",
            remedy=f"at most {geometry.CHANNEL_QUEUE_DEPTH * BLOCKS_PER_PUSH * plan.key_block} keys",
        )
    operations: list[txn.Operation] = []
    for index in range(max(map(len, plan.items))):
        for column, items in enumerate(plan.items):
            if index >= len(items):
                continue
            if index >= under_way:
                operations.append(_output_done(column))
            operations += _item(plan, buffers, column, items[index], index % under_way)
            if index == 0:  # the first words are on their way from memory while the cores get their parameters
                operations += _start_cores(plan, column)
    for column, items in enumerate(plan.items):
        operations += [_output_done(column)] * min(len(items), under_way)
    return ControlTemplate(plan.columns, tuple(operations))


def _pushes(plan: Plan) -> list[tuple[int, int]]:
    """(first key block, blocks) of each push of one work item."""
    return [
        (first, min(BLOCKS_PER_PUSH, plan.key_blocks - first)) for first in range(0, plan.key_blocks, BLOCKS_PER_PUSH)
    ]


def _output_done(column: int) -> txn.Operation:
    return txn.Sync(column, geometry.SHIM_ROW, S2MM, SHIM_OUTPUT_CHANNEL)


def _start_cores(plan: Plan, column: int) -> Iterator[txn.Operation]:
    """Parameters (work items, key blocks of each) into the cores' memories, then their start locks."""
    parameters = plan.core_buffers["params"].address
    lock = geometry.lock_offset("core", plan.core_locks["start"])
    for row in geometry.CORE_ROWS:
        for word, value in enumerate((len(plan.items[column]), plan.key_blocks)):
            yield txn.Write(geometry.tile_address(column, row, parameters + 4 * word), value)
        yield txn.Write(geometry.tile_address(column, row, lock), 1)


def _item(plan: Plan, buffers: BufferNumbers, column: int, item: WorkItem, slot: int) -> Iterator[txn.Operation]:
    """Descriptors and pushes of one work item; slot: which of the column's descriptor sets it uses."""
    pushes = _pushes(plan)
    first = slot * (2 * len(pushes) + 2)
    query_words = CORES_PER_COLUMN * plan.query_block * plan.row_words
    rows = (item.batch * plan.heads + item.head) * plan.query_length + item.round * plan.rows_per_item
    offset = rows * plan.head_dim * ELEMENT_BYTES
    query, output = first + 2 * len(pushes), first + 2 * len(pushes) + 1
    yield from _write(column, _Transfer(Descriptor("shim", output, 0, query_words), buffers.o, offset))
    yield _push(column, "s2mm", SHIM_OUTPUT_CHANNEL, geometry.queue_word(output, token=True))
    yield from _write(column, _Transfer(Descriptor("shim", query, 0, query_words), buffers.q, offset))
    yield _push(column, "mm2s", SHIM_QUERY_CHANNEL, geometry.queue_word(query))
    head = (item.batch * plan.kv_heads + item.kv_head) * plan.key_length * plan.head_dim * ELEMENT_BYTES
    for number, (block, count) in enumerate(pushes):
        keys = first + 2 * number
        for transfer in _key_values(plan, buffers, keys, head + block * plan.key_bytes, count):
            yield from _write(column, transfer)
        yield _push(column, "mm2s", SHIM_KEY_VALUE_CHANNEL, geometry.queue_word(keys, count))


def _key_values(plan: Plan, buffers: BufferNumbers, number: int, offset: int, count: int) -> Iterator[_Transfer]:
    """A block of K, then one of V, each descriptor moving on by a block every time it is used."""
    words = plan.key_block * plan.row_words
    keys = Descriptor("shim", number, 0, words, next=number + 1, iterations=count, iteration_step=words)
    values = Descriptor("shim", number + 1, 0, words, iterations=count, iteration_step=words)
    yield _Transfer(keys, buffers.k, offset)
    yield _Transfer(values, buffers.v, offset)


def _write(column: int, transfer: _Transfer) -> Iterator[txn.Operation]:
    address = geometry.tile_address(column, geometry.SHIM_ROW, geometry.bd_offset("shim", transfer.descriptor.number))
    yield txn.BlockWrite(address, transfer.descriptor.pack())
    yield txn.DdrPatch(address + 4, transfer.argument, transfer.offset)


def _push(column: int, direction: str, channel: int, word: int) -> txn.Operation:
    offset = geometry.channel_queue_offset("shim", direction, channel)
    return txn.Write(geometry.tile_address(column, geometry.SHIM_ROW, offset), word)
