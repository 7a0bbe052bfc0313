"""The runtime sequence of a call: parameters and start of the cores, and each work item's transfers.

A function of plan, call and where the tensors lie, made anew for each call.  Operations: facts/platform/txn.md.

Default: K and V of up to 64 blocks a task, as many items under way in a column as its queues and descriptors hold, one
token an item (its output's last).  Plain: one descriptor a task and one wait a task, no chain, iteration or repeat.
Neither rewrites a descriptor before the token of its last task, or one that comes after it, is there.  Query heads that
share K and V are rows of one head's items where that takes fewer items (grouped.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from npuc.compiler.emit.txn_writer import TxnWriter
from npuc.compiler.target.npu1 import geometry
from npuc.passes.attention.call import Call
from npuc.passes.attention.core.parameters import parameter_words
from npuc.passes.attention.grouped import grouped
from npuc.passes.attention.plan import CORES_PER_COLUMN, Plan
from npuc.passes.attention.shims import (
    CHANNELS,
    DEPTH,
    KEYS_VALUES,
    OUTPUT,
    QUERIES,
    Channel,
    Flight,
    Shim,
    Template,
)
from npuc.passes.attention.streams import START
from npuc.passes.attention.transfers import Operands, Task, Transfers, one_by_one
from npuc.passes.attention.work import Item, Work

STYLES = ("default", "plain")
LONGEST_KNOWN = 256 << 10  # bytes of a sequence with precedent on hardware


def length_warnings(size: int) -> list[str]:
    """What is odd about a sequence of so many bytes."""
    if size <= LONGEST_KNOWN:
        return []
    known = f"none above {LONGEST_KNOWN >> 10} KiB is known to have run on an NPU"
    return [f"the runtime sequence has {size >> 10:,} KiB, {known}: give batch, heads or queries in several calls"]


def sequence(plan: Plan, call: Call, operands: Operands, style: str = "default") -> bytes:
    """The TXN of a call.  ResourceError for strides or key lengths that descriptors and queues cannot serve."""
    call, operands = grouped(call, operands, plan.rows_per_item)
    work = Work(call, plan.rows_per_item, plan.key_block, plan.groups)
    return (_Plain if style == "plain" else _Sequence)(plan, work, operands).build()


class _Tasks(NamedTuple):
    """Of an item in one column, by channel.  descriptors: all they need; most: tasks of one channel."""

    of: dict[Channel, tuple[Template, ...]]
    descriptors: int
    most: int


class _Part:
    """An item in one column of its group, and how many tasks of each channel were sent."""

    __slots__ = ("flight", "head", "sent", "shim", "tasks")

    def __init__(self, shim: Shim, head: int, tasks: _Tasks) -> None:
        self.shim, self.head, self.tasks = shim, head, tasks
        self.flight = Flight()
        self.sent = dict.fromkeys(CHANNELS, 0)


class _Sequence:
    """Builds the default style."""

    def __init__(self, plan: Plan, work: Work, operands: Operands) -> None:
        self.plan, self.work = plan, work
        self.transfers = Transfers(plan, work, operands)
        self.writer = TxnWriter()
        self.shims = [Shim(number, self.writer) for number in range(plan.columns)]
        self._tasks: dict[tuple[int, int, int, int], _Tasks] = {}
        self._on = self.transfers.further()

    def build(self) -> bytes:
        groups = [list(self.work.of_group(group)) for group in range(self.plan.groups)]
        for turn in range(max(map(len, groups))):
            items = [(group, items[turn]) for group, items in enumerate(groups) if turn < len(items)]
            self._turn(items, first=turn == 0)
        for shim in self.shims:
            while shim.flights:
                shim.retire()
        return self.writer.finish(self.plan.columns)

    def _members(self, group: int) -> Sequence[Shim]:
        width = self.plan.group_columns
        return self.shims[group * width : (group + 1) * width]

    def _start_cores(self, column: int) -> None:
        """Parameters into the cores' memories, then their start locks; cores without work of this call sleep on."""
        plan = self.plan
        group, member = divmod(column, plan.group_columns)
        if not self.work.count(group):
            return
        address = plan.core_buffers["params"].address
        lock = geometry.lock_offset("core", plan.core_locks[START])
        for core, row in enumerate(geometry.CORE_ROWS):
            lane_row = (member * CORES_PER_COLUMN + core) * plan.query_block
            words = parameter_words(self.work, group, lane_row)
            self.writer.block(geometry.tile_address(column, row, address), words)
            self.writer.write(geometry.tile_address(column, row, lock), 1)

    def tasks(self, item: Item, member: int) -> _Tasks:
        """Those of an item in the `member`-th column of its group: the same templates for all heads."""
        key = (item.base, item.first, item.end, member)
        tasks = self._tasks.get(key)
        if tasks is None:
            tasks = self._tasks[key] = self._made(item._replace(head=0), member)
        return tasks

    def _made(self, first: Item, member: int) -> _Tasks:
        transfers = self.transfers
        of = {
            OUTPUT: self.templates(transfers.output(first, member)),
            QUERIES: self.templates(transfers.queries(first, member)),
            KEYS_VALUES: self.templates(transfers.keys_values(first) if member == 0 else ()),
        }
        return _Tasks(of, sum(task.count for some in of.values() for task in some), max(map(len, of.values())))

    def templates(self, tasks: Iterable[Task]) -> tuple[Template, ...]:
        return tuple(Template(task, [self._on[piece.argument] for piece in task.pieces]) for task in tasks)

    def _parts(self, items: Sequence[tuple[int, Item]]) -> list[_Part]:
        """The items, each in every column of its group."""
        return [
            _Part(shim, item.head, self.tasks(item, member))
            for group, item in items
            for member, shim in enumerate(self._members(group))
        ]

    def _turn(self, items: Sequence[tuple[int, Item]], first: bool) -> None:
        """One item of every group.

        At first Q and K of all columns are sent for, then the cores get their parameters, and outputs, which come last,
        are made ready.  Later a column is served as soon as its turn comes.  Further tasks of a channel come after the
        first ones of all columns, as pushes to a channel keep their distance.
        """
        parts = self._parts(items)
        for part in parts:
            self._begin(part)
            if not first:
                for channel in CHANNELS:
                    self._send_next(part, channel)
        if first:
            for part in parts:
                self._send_next(part, QUERIES)
            for part in parts:
                self._send_next(part, KEYS_VALUES)
            for column in range(self.plan.columns):
                self._start_cores(column)
            for part in parts:
                self._send_next(part, OUTPUT)
        for _ in range(1, max(part.tasks.most for part in parts)):
            for channel in (QUERIES, OUTPUT, KEYS_VALUES):
                for part in parts:
                    self._send_next(part, channel)

    def _begin(self, part: _Part) -> None:
        """Wait until the column holds the item's tasks, or has nothing else under way."""
        shim, tasks = part.shim, part.tasks
        while shim.flights and not shim.holds(tasks.of, tasks.descriptors):
            shim.retire()
        shim.flights.append(part.flight)

    def _send_next(self, part: _Part, channel: Channel) -> None:
        """The item's next task of a channel, if there is one: when the queue is full, after the token of its oldest.

        Tokens are given by the last task of the output, and by tasks of K and V that one beyond the queue waits for.
        """
        tasks, sent = part.tasks.of[channel], part.sent[channel]
        left = len(tasks) - sent - 1
        if left < 0:
            return
        if sent >= DEPTH:
            part.shim.done(part.flight, channel)
        token = left == 0 if channel is OUTPUT else left >= DEPTH
        part.shim.push(part.flight, channel, tasks[sent], part.head, token)
        part.sent[channel] = sent + 1


class _Plain(_Sequence):
    """One descriptor a task, one token a task; an item is over before the next begins.

    All queries are sent before keys and values, these before outputs are taken: what waits does so in the tiles.
    """

    def templates(self, tasks: Iterable[Task]) -> tuple[Template, ...]:
        return super().templates(one_by_one(tasks))

    def _turn(self, items: Sequence[tuple[int, Item]], first: bool) -> None:
        if first:
            for column in range(self.plan.columns):
                self._start_cores(column)
        parts = self._parts(items)
        # The last task of a masked item's own rows is its mask, which goes out along with keys and values.
        masks = 1 if self.plan.mask_parts else 0
        self._run(parts, QUERIES, held_back=masks)
        for part in parts if masks else ():
            part.shim.push(part.flight, QUERIES, part.tasks.of[QUERIES][-1], part.head, token=True)
        self._run(parts, KEYS_VALUES)
        for part in parts if masks else ():
            part.shim.done(part.flight, QUERIES)
        self._run(parts, OUTPUT)

    def _run(self, parts: Iterable[_Part], channel: Channel, held_back: int = 0) -> None:
        """Push the tasks of a channel but for the last `held_back`, column by column in turn, and wait for them."""
        waiting = deque(parts)
        while waiting:
            part = waiting.popleft()
            tasks, sent = part.tasks.of[channel], part.sent[channel]
            under_way = len(part.flight.tasks[channel])
            if sent + held_back < len(tasks) and under_way < DEPTH:
                part.shim.push(part.flight, channel, tasks[sent], part.head, token=True)
                part.sent[channel] = sent + 1
            elif under_way:
                part.shim.done(part.flight, channel)
            else:
                continue
            waiting.append(part)
