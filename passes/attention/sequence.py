"""The runtime sequence of a call: parameters and start of the cores, and each work item's transfers.

A function of plan, call and where the tensors lie, made anew for each call.  Operations: facts/platform/txn.md.

Default: an item's transfers in few tasks, as many items under way in a column as its queues and descriptors hold, one
token an item (its output's last).  Plain: one descriptor a task and one wait a task, no chain, iteration or repeat.
Neither rewrites a descriptor before the token of its last task, or one that comes after it, is there.  Query heads that
share K and V are rows of one head's items (grouped.py), or share items (shares.py), where that reads these less often.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from npuc.compiler.emit.txn_writer import TxnWriter
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.dma import kept_streams
from npuc.passes.array.target import NPU1
from npuc.passes.attention.call import Call
from npuc.passes.attention.core.parameters import head_table, parameter_words
from npuc.passes.attention.grouped import grouped
from npuc.passes.attention.keeping import Keeper
from npuc.passes.attention.plan import CORES_PER_COLUMN, Plan
from npuc.passes.attention.shares import plan_work
from npuc.passes.attention.shims import DEPTH, DESCRIPTORS, Flight, Shim, Template
from npuc.passes.attention.streams import START, make_design
from npuc.passes.attention.transfers import (
    CHANNELS,
    FIRST,
    OUTPUTS,
    SECOND,
    Channel,
    Operands,
    Stage,
    Transfers,
    joined,
    one_by_one,
)
from npuc.passes.attention.work import Item, Work

COSTS = NPU1.costs
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
    work = plan_work(plan, call, masked=operands.mask is not None)
    return (_Plain if style == "plain" else _Sequence)(plan, work, operands).build()


_Stage = dict[Channel, tuple[Template, ...]]


class _Tasks(NamedTuple):
    """Of an item in one column: stages by channel, of which the default style has one.

    descriptors: all that the first stage needs; most: its tasks of one channel.  late: K and V of an item that needs
    more descriptors than a shim has, for which those of its Q are awaited.
    """

    stages: tuple[_Stage, ...]
    descriptors: int
    most: int
    late: _Stage | None = None

    @property
    def of(self) -> _Stage:
        return self.stages[0]


class _Part:
    """An item in one column of its group, and how many tasks of each channel were sent."""

    __slots__ = ("flight", "item", "sent", "shim", "tasks")

    def __init__(self, shim: Shim, item: Item, tasks: _Tasks) -> None:
        self.shim, self.item, self.tasks = shim, item, tasks
        self.flight = Flight()
        self.sent = dict.fromkeys(CHANNELS, 0)


class _Sequence:
    """Builds the default style."""

    def __init__(self, plan: Plan, work: Work, operands: Operands) -> None:
        self.plan, self.work = plan, work
        self.transfers = Transfers(plan, work, operands)
        self.writer = TxnWriter()
        self.shims = [Shim(number, self.writer) for number in range(plan.columns)]
        self._tasks: dict[tuple[int, int, int, bool, int], _Tasks] = {}
        self._on = self.transfers.further()
        under_way = self._under_way() if plan.split else 1
        self.ahead = under_way > 1
        self.short = self._short_item() if under_way == 2 else 0
        self.items = [list(work.of_group(group)) for group in range(plan.groups)]
        self.keepers = list(self._made_keepers()) if plan.kept else []

    def _made_keepers(self) -> Iterator[Keeper]:
        kept = kept_streams(make_design(self.plan))
        for column in range(self.plan.columns):
            items = self.items[column // self.plan.group_columns]
            yield Keeper(column, self.writer, kept, self.plan.query_blocks, items, self.work)

    def _under_way(self) -> int:
        """Items whose tasks a column always holds at once: of two, an item's wait for no output but earlier ones'."""
        members = range(self.plan.group_columns)
        every = (self.tasks(item, member) for item in self.work.first_of_rounds() for member in members)
        return min(min(DESCRIPTORS // tasks.descriptors, DEPTH // tasks.most) for tasks in every)

    def _short_item(self) -> int:
        """The blocks of keys of an item that takes its cores as long as the next one's Q takes to come, which is not
        sent for until the output before is known to be out, if that is made while half of the item's own Q comes.

        With two items under way shorter ones make their output before they wait for Q.
        """
        plan = self.plan
        tasks = self.tasks(next(iter(self.work.first_of_rounds())), 0)
        block, column = plan.key_block * plan.row_words, CORES_PER_COLUMN * plan.query_block * plan.output_words
        known = COSTS.completion + column // (2 * plan.outlets)
        sent = tasks.descriptors * (COSTS.block_write + COSTS.patch) + (tasks.most - 1) * COSTS.push_gap
        come = COSTS.shim_start + 2 * block - plan.query_blocks[0] * block // 2
        return max(0, -(-(known + sent + come) // plan.estimate.compute_per_block))

    def build(self) -> bytes:
        for turn in range(max(map(len, self.items))):
            items = [(group, items[turn]) for group, items in enumerate(self.items) if turn < len(items)]
            self._turn(items, first=turn == 0)
        for shim in self.shims:
            while shim.flights:
                self._retire(shim)
            if self.keepers:
                self.keepers[shim.number].finish()
        return self.writer.finish(self.plan.columns)

    def _retire(self, shim: Shim) -> None:
        """Wait for the output of a column's oldest item."""
        shim.retire()
        if self.keepers:
            self.keepers[shim.number].retire()

    def _members(self, group: int) -> Sequence[Shim]:
        width = self.plan.group_columns
        return self.shims[group * width : (group + 1) * width]

    def _start_cores(self, column: int) -> None:
        """The words of the call into the memory of the lowest core, then its start lock, of which the others learn from
        each other; cores without work of this call sleep on."""
        plan = self.plan
        group, member = divmod(column, plan.group_columns)
        if not self.work.count(group):
            return
        lane_rows = [(member * CORES_PER_COLUMN + core) * plan.query_block for core in range(CORES_PER_COLUMN)]
        for lane_row, row in zip(lane_rows, geometry.CORE_ROWS, strict=True):
            table = head_table(self.work, plan.head_dim, lane_row)
            if table:
                self.writer.block(geometry.tile_address(column, row, plan.core_buffers["heads"].address), table)
        lowest, *north = lane_rows
        words = parameter_words(
            self.work, group, lowest, self.ahead, plan.head_dim, self.short, north, bounded=plan.bounded
        )
        row = geometry.CORE_ROWS[0]
        self.writer.block(geometry.tile_address(column, row, plan.core_buffers["params"].address), words)
        lock = geometry.lock_offset("core", plan.core_locks[START])
        self.writer.write(geometry.tile_address(column, row, lock), 1)

    def tasks(self, item: Item, member: int) -> _Tasks:
        """Those of an item in the `member`-th column of its group: the same templates for all heads."""
        key = (item.base, item.first, item.end, item.again, member)
        tasks = self._tasks.get(key)
        if tasks is None:
            tasks = self._tasks[key] = self._made(item._replace(head=0), member)
        return tasks

    def _made(self, first: Item, member: int) -> _Tasks:
        moved = self.transfers.stages(first, member)
        made = self._of_stages(moved)
        if self.plan.split and made.descriptors > DESCRIPTORS:
            *queries, keys, output = moved
            late = self._templates(joined((keys,)))
            made = self._of_stages((*queries, output))._replace(descriptors=DESCRIPTORS, late=late)
        return made

    def _of_stages(self, moved: Sequence[Stage]) -> _Tasks:
        stages = tuple(map(self._templates, self.styled(moved)))
        some = stages[0].values()
        return _Tasks(stages, sum(task.count for tasks in some for task in tasks), max(map(len, some)))

    def styled(self, stages: Iterable[Stage]) -> Iterable[Stage]:
        return (joined(stages),)

    def _templates(self, stage: Stage) -> _Stage:
        return {
            channel: tuple(Template(task, [self._on[piece.argument] for piece in task.pieces]) for task in tasks)
            for channel, tasks in stage.items()
        }

    def _parts(self, items: Sequence[tuple[int, Item]]) -> list[_Part]:
        """The items, each in every column of its group."""
        return [
            _Part(shim, item, self.tasks(item, member))
            for group, item in items
            for member, shim in enumerate(self._members(group))
        ]

    def _turn(self, items: Sequence[tuple[int, Item]], first: bool) -> None:
        """One item of every group.

        At first Q, K and V of all columns are sent for (behind Q that is sent by repeating, K or V is a task of its
        own), then the cores get their parameters, and outputs, which come last, are made ready.  Later a column's
        inputs are sent for as soon as its turn comes.  Further tasks of a channel come after the first ones of all
        columns, as pushes to a channel keep their distance.
        """
        parts = self._parts(items)
        for part in parts:
            self._begin(part)
            if not first:
                for channel in (SECOND, FIRST):
                    self._send_next(part, channel)
                self._keep([part])
        inputs = (FIRST, SECOND) if self.plan.split else (SECOND, FIRST)  # what cores wait for first
        if first:
            for channel in (*inputs, *(inputs if self.plan.split else ())):
                for part in parts:
                    self._send_next(part, channel)
            self._keep(parts)
            for column in range(self.plan.columns):
                self._start_cores(column)
        for part in parts:
            for channel in OUTPUTS:
                self._send_next(part, channel)
        for _ in range(1, max(part.tasks.most for part in parts)):
            for channel in (SECOND, *OUTPUTS, FIRST):
                for part in parts:
                    self._send_next(part, channel)
        for part in parts:
            if part.tasks.late is not None:
                self._send_late(part, part.tasks.late)

    def _send_late(self, part: _Part, late: _Stage) -> None:
        """K and V, once all Q has come, which waits for no K or V, and has left its descriptors."""
        for channel in (FIRST, SECOND):
            while part.flight.tasks[channel]:
                part.shim.done(part.flight, channel)
        for channel in (FIRST, SECOND):
            for task in late[channel]:
                part.shim.push(part.flight, channel, task, part.item.head, token=False)

    def _begin(self, part: _Part) -> None:
        """Wait until the column holds the item's tasks, or has nothing else under way."""
        shim, tasks = part.shim, part.tasks
        while shim.flights and not (shim.holds(tasks.of, tasks.descriptors) and self._is_kept(part)):
            self._retire(shim)
        shim.flights.append(part.flight)

    def _is_kept(self, part: _Part) -> bool:
        """Whether a memory tile that keeps K and V can be told of the item now."""
        return not self.keepers or self.keepers[part.shim.number].holds(part.item)

    def _keep(self, parts: Iterable[_Part]) -> None:
        """What memory tiles that keep K and V do for the items."""
        for part in parts:
            if self.keepers:
                self.keepers[part.shim.number].begin(part.item)

    def _send_next(self, part: _Part, channel: Channel) -> None:
        """The item's next task of a channel, if there is one: when the queue is full, after the token of its oldest.

        Tokens are given by the last task of the output, by tasks that one beyond the queue waits for, and by all Q
        before K and V that wait for it.
        """
        tasks, sent = part.tasks.of[channel], part.sent[channel]
        left = len(tasks) - sent - 1
        if left < 0:
            return
        if sent >= DEPTH:
            part.shim.done(part.flight, channel)
        token = left == 0 if channel in OUTPUTS else left >= DEPTH or part.tasks.late is not None
        part.shim.push(part.flight, channel, tasks[sent], part.item.head, token)
        part.sent[channel] = sent + 1


class _Plain(_Sequence):
    """One descriptor a task, one token a task; a stage is over before the next begins: what waits does so in tiles."""

    def styled(self, stages: Iterable[Stage]) -> Iterable[Stage]:
        return [{channel: list(one_by_one(tasks)) for channel, tasks in stage.items()} for stage in stages]

    def _under_way(self) -> int:
        return 1

    def _made(self, first: Item, member: int) -> _Tasks:
        return self._of_stages(self.transfers.stages(first, member))

    def _turn(self, items: Sequence[tuple[int, Item]], first: bool) -> None:
        if first:
            for column in range(self.plan.columns):
                self._start_cores(column)
        parts = self._parts(items)
        self._keep(parts)
        most = max(len(part.tasks.stages) for part in parts)
        for number in range(-most, 0):  # the last is the output's in all columns
            at = [(part, *each) for part in parts for each in _stage(part.tasks.stages, number).items()]
            self._run(at)
        for part in parts:
            if self.keepers:
                self.keepers[part.shim.number].retire()

    def _run(self, stage: Sequence[tuple[_Part, Channel, Sequence[Template]]]) -> None:
        """Push a stage's tasks, of all columns and channels in turn, and wait for all of them."""
        waiting = deque((part, channel, deque(tasks)) for part, channel, tasks in stage)
        while waiting:
            part, channel, tasks = waiting.popleft()
            if not tasks:
                continue
            if len(part.flight.tasks[channel]) == DEPTH:
                part.shim.done(part.flight, channel)
            part.shim.push(part.flight, channel, tasks.popleft(), part.item.head, token=True)
            waiting.append((part, channel, tasks))
        for part, channel, _ in stage:
            while part.flight.tasks[channel]:
                part.shim.done(part.flight, channel)


def _stage(stages: Sequence[_Stage], number: int) -> _Stage:
    """Counted from the last one; before the first there is nothing to move."""
    return stages[number] if -number <= len(stages) else {}
