"""The runtime sequence of a call: parameters and start of the cores, and each work item's transfers.

A function of plan, call and where the tensors lie, made anew for each call.  Operations: facts/platform/txn.md.

Default: K and V of up to 64 blocks a task, as many items under way in a column as its queues and descriptors hold, one
token an item (its output's last).  Plain: one descriptor a task and one wait a task, no chain, iteration or repeat.
Neither rewrites a descriptor before the token of its last task, or one that comes after it, is there.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.emit.txn_writer import TxnWriter
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.fifo import SHIM_OUTPUT_CHANNEL
from npuc.passes.attention.call import Call
from npuc.passes.attention.core.parameters import parameter_words
from npuc.passes.attention.plan import CORES_PER_COLUMN, Plan
from npuc.passes.attention.streams import KEY_VALUE_CHANNEL, QUERY_CHANNEL, START
from npuc.passes.attention.transfers import Operands, Task, Transfers, one_by_one
from npuc.passes.attention.work import Item, Work

STYLES = ("default", "plain")
Channel = tuple[str, int]
OUTPUT: Channel = ("s2mm", SHIM_OUTPUT_CHANNEL)
QUERIES: Channel = ("mm2s", QUERY_CHANNEL)
KEYS_VALUES: Channel = ("mm2s", KEY_VALUE_CHANNEL)


def sequence(plan: Plan, call: Call, operands: Operands, style: str = "default") -> bytes:
    """The TXN of a call.  ResourceError for strides or key lengths that descriptors and queues cannot serve."""
    work = Work(call, plan.rows_per_item, plan.key_block, plan.groups)
    return (_Plain if style == "plain" else _Sequence)(plan, work, operands).build()


class _Flight:
    """An item under way in a column: the descriptors of each of its tasks, by channel."""

    def __init__(self) -> None:
        self.tasks: dict[Channel, deque[list[int]]] = {OUTPUT: deque(), QUERIES: deque(), KEYS_VALUES: deque()}


class _Column:
    """What is known of one shim: free descriptors, and tasks that may still be in its queues."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.free = list(range(geometry.BD_COUNT["shim"]))
        self.queued: dict[Channel, int] = {OUTPUT: 0, QUERIES: 0, KEYS_VALUES: 0}
        self.flights: deque[_Flight] = deque()
        self.descriptor_addresses = [
            geometry.tile_address(number, geometry.SHIM_ROW, geometry.bd_offset("shim", descriptor))
            for descriptor in self.free
        ]
        self.queue_addresses = {
            channel: geometry.tile_address(number, geometry.SHIM_ROW, geometry.channel_queue_offset("shim", *channel))
            for channel in self.queued
        }

    def holds(self, tasks: Mapping[Channel, Sequence[Task]]) -> bool:
        """Whether these tasks find descriptors and places in the queues now."""
        wanted = sum(len(task.pieces) for some in tasks.values() for task in some)
        return wanted <= len(self.free) and all(
            self.queued[channel] + len(some) <= geometry.CHANNEL_QUEUE_DEPTH for channel, some in tasks.items()
        )


@dataclass
class _Part:
    """An item in one column of its group (the `member`-th), with the tasks still to be pushed."""

    column: _Column
    item: Item
    member: int
    flight: _Flight = field(default_factory=_Flight)
    tasks: dict[Channel, deque[Task]] = field(default_factory=dict)
    sent: Counter[Channel] = field(default_factory=Counter)


class _Sequence:
    """Builds the default style."""

    def __init__(self, plan: Plan, work: Work, operands: Operands) -> None:
        self.plan, self.work = plan, work
        self.transfers = Transfers(plan, work, operands)
        self.writer = TxnWriter()
        self.columns = [_Column(number) for number in range(plan.columns)]

    def build(self) -> bytes:
        groups = [list(self.work.of_group(group)) for group in range(self.plan.groups)]
        for turn in range(max(map(len, groups))):
            items = [(group, items[turn]) for group, items in enumerate(groups) if turn < len(items)]
            self._turn(items, first=turn == 0)
        for column in self.columns:
            while column.flights:
                self._retire(column)
        return self.writer.finish(self.plan.columns)

    def _members(self, group: int) -> Sequence[_Column]:
        width = self.plan.group_columns
        return self.columns[group * width : (group + 1) * width]

    def _start_cores(self, column: _Column) -> None:
        """Parameters into the cores' memories, then their start locks; cores without work of this call sleep on."""
        plan = self.plan
        group, member = divmod(column.number, plan.group_columns)
        if not self.work.count(group):
            return
        address = plan.core_buffers["params"].address
        lock = geometry.lock_offset("core", plan.core_locks[START])
        for core, row in enumerate(geometry.CORE_ROWS):
            lane_row = (member * CORES_PER_COLUMN + core) * plan.query_block
            words = parameter_words(self.work, group, lane_row)
            self.writer.block(geometry.tile_address(column.number, row, address), words)
            self.writer.write(geometry.tile_address(column.number, row, lock), 1)

    def _turn(self, items: Sequence[tuple[int, Item]], first: bool) -> None:
        """One item of every group.

        At first Q and K of all columns are sent for, then the cores get their parameters, and outputs, which come last,
        are made ready.  Later a column is served as soon as its turn comes.  Further tasks of a channel come after the
        first ones of all columns, as pushes to a channel keep their distance.
        """
        parts = [
            _Part(column, item, member) for group, item in items for member, column in enumerate(self._members(group))
        ]
        for part in parts:
            self._begin(part)
            if not first:
                for channel in part.tasks:
                    self._send_next(part, channel)
        if first:
            for part in parts:
                self._send_next(part, QUERIES)
            for part in parts:
                self._send_next(part, KEYS_VALUES)
            for column in self.columns:
                self._start_cores(column)
            for part in parts:
                self._send_next(part, OUTPUT)
        while any(tasks for part in parts for tasks in part.tasks.values()):
            for channel in (QUERIES, OUTPUT, KEYS_VALUES):
                for part in parts:
                    self._send_next(part, channel)

    def _begin(self, part: _Part) -> None:
        """Wait until the column holds the item's tasks, or has nothing else under way."""
        column, transfers = part.column, self.transfers
        part.tasks = {
            OUTPUT: deque(transfers.output(part.item, part.member)),
            QUERIES: deque(transfers.queries(part.item, part.member)),
            KEYS_VALUES: deque(transfers.keys_values(part.item) if part.member == 0 else ()),
        }
        while column.flights and not column.holds(part.tasks):
            self._retire(column)
        column.flights.append(part.flight)

    def _send_next(self, part: _Part, channel: Channel) -> None:
        """The item's next task of a channel, if there is one: when the queue is full, after the token of its oldest.

        Tokens are given by the last task of the output, and by tasks of K and V that one beyond the queue waits for.
        """
        tasks = part.tasks[channel]
        if not tasks:
            return
        depth = geometry.CHANNEL_QUEUE_DEPTH
        if part.sent[channel] >= depth:
            self._done(part.column, part.flight, channel)
        task = tasks.popleft()
        token = not tasks if channel == OUTPUT else len(tasks) >= depth
        self._push(part.column, part.flight, channel, task, token)
        part.sent[channel] += 1

    def _push(self, column: _Column, flight: _Flight, channel: Channel, task: Task, token: bool = False) -> None:
        """Descriptors of a task, chained, and its push."""
        if len(task.pieces) > len(column.free):
            raise ResourceError(f"a work item needs more than the {geometry.BD_COUNT['shim']} descriptors of a shim")
        numbers = [column.free.pop(0) for _ in task.pieces]
        for index, piece in enumerate(task.pieces):
            following = numbers[index + 1] if index + 1 < len(numbers) else None
            address = column.descriptor_addresses[numbers[index]]
            self.writer.block(address, _shim_words(*piece[2:], following))
            self.writer.patch(address + 4, piece.argument, piece.offset)
        self.writer.write(column.queue_addresses[channel], geometry.queue_word(numbers[0], task.repeat, token))
        flight.tasks[channel].append(numbers)
        column.queued[channel] += 1

    def _done(self, column: _Column, flight: _Flight, channel: Channel) -> None:
        """Wait for the token of the item's oldest task of a channel."""
        self._sync(column, channel)
        column.free += flight.tasks[channel].popleft()
        column.queued[channel] -= 1

    def _retire(self, column: _Column) -> None:
        """Wait for the output of the oldest item: all its tasks are done then."""
        self._sync(column, OUTPUT)
        for channel, tasks in column.flights.popleft().tasks.items():
            column.queued[channel] -= len(tasks)
            for numbers in tasks:
                column.free += numbers

    def _sync(self, column: _Column, channel: Channel) -> None:
        direction, number = channel
        self.writer.sync(column.number, geometry.SHIM_ROW, geometry.DIRECTIONS.index(direction), number)


class _Plain(_Sequence):
    """One descriptor a task, one token a task; an item is over before the next begins.

    All queries are sent before keys and values, these before outputs are taken: what waits does so in the tiles.
    """

    def _turn(self, items: Sequence[tuple[int, Item]], first: bool) -> None:
        if first:
            for column in self.columns:
                self._start_cores(column)
        masked = self.plan.mask_parts > 0
        parts = [(column, item, member) for group, item in items for member, column in enumerate(self._members(group))]
        flights = [_Flight() for _ in parts]
        pending: dict[Channel, list[deque[Task]]] = {
            QUERIES: [deque(one_by_one(self.transfers.queries(item, member))) for _, item, member in parts],
            KEYS_VALUES: [
                deque(one_by_one(self.transfers.keys_values(item) if member == 0 else [])) for _, item, member in parts
            ],
            OUTPUT: [deque(one_by_one(self.transfers.output(item, member))) for _, item, member in parts],
        }
        # The last task of a masked item's own rows is its mask, which goes out along with keys and values.
        masks = [tasks.pop() for tasks in pending[QUERIES]] if masked else []
        columns = [column for column, _, _ in parts]
        self._run(columns, flights, QUERIES, pending[QUERIES])
        for column, flight, task in zip(columns, flights, masks, strict=False):
            self._push(column, flight, QUERIES, task, token=True)
        self._run(columns, flights, KEYS_VALUES, pending[KEYS_VALUES])
        self._run(columns, flights, QUERIES, [deque() for _ in parts])
        self._run(columns, flights, OUTPUT, pending[OUTPUT])

    def _run(
        self, columns: Sequence[_Column], flights: Sequence[_Flight], channel: Channel, tasks: Sequence[deque[Task]]
    ) -> None:
        """Push these tasks, column by column in turn, and wait for them and those pushed before."""
        waiting = deque(zip(columns, flights, tasks, strict=True))
        while waiting:
            column, flight, left = waiting.popleft()
            under_way = len(flight.tasks[channel])
            if left and under_way < geometry.CHANNEL_QUEUE_DEPTH:
                self._push(column, flight, channel, left.popleft(), token=True)
            elif under_way:
                self._done(column, flight, channel)
            else:
                continue
            waiting.append((column, flight, left))


@lru_cache(maxsize=4096)
def _shim_words(
    words: int, row: int, stride: int, iterations: int, step: int, rows: int, block: int, following: int | None
) -> tuple[int, ...]:
    """Register words of a shim descriptor; its address is patched in."""
    fields = {"length": words, "valid": 1, "ax_cache": geometry.SHIM_AX_CACHE}
    fields["burst"] = len(geometry.SHIM_BURST_BYTES) - 1
    if row:
        fields |= {"d0_wrap": row, "d1_step": stride - 1}
    if rows:
        fields |= {"d1_wrap": rows, "d2_step": block - 1}
    if iterations > 1:
        fields |= {"iteration_wrap": iterations - 1, "iteration_step": step - 1}
    if following is not None:
        fields |= {"use_next": 1, "next_bd": following}
    return tuple(geometry.pack_bd("shim", **fields))
