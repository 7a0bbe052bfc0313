"""What a runtime sequence has the memory tiles do where they keep K and V (array/kept.py): fill their rings with all
that comes, and send it on item by item, K and V of a head again for each of its items.

A ring takes what comes on its channel in order: Q of an item, then, for the first item of a head of K and V, its keys;
all of a head's places are given free at the end of its last item.  Where keys are not kept (Work.by_heads), all goes on
as it came.  A call begins with the rings at their first places, and leaves them there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.emit.txn_writer import TxnWriter
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.descriptors import Descriptor
from npuc.passes.array.kept import Kept, chained
from npuc.passes.attention.work import Item, Work

DEPTH = geometry.CHANNEL_QUEUE_DEPTH
MOST_REPEATS = 256  # of a task


@lru_cache(maxsize=4096)
def packed(descriptor: Descriptor) -> tuple[int, ...]:
    return descriptor.pack()


class _Runs:
    """Tasks of one descriptor, one block a run.  total: runs of a call.  pushed: so far.  ends: of the tasks that may
    still be in the queue, in runs."""

    def __init__(self, total: int) -> None:
        self.total, self.pushed, self.ends = total, 0, deque[int]()

    def tasks(self, until: int) -> Iterator[int]:
        """Runs of each of the tasks that are wanted for so many in all; each as long as it can be."""
        pushed = self.pushed
        while pushed < until:
            some = min(MOST_REPEATS, self.total - pushed)
            pushed += some
            yield some

    def holds(self, until: int) -> bool:
        return len(self.ends) + sum(1 for _ in self.tasks(until)) <= DEPTH

    def push(self, until: int) -> Iterator[int]:
        for some in list(self.tasks(until)):
            self.pushed += some
            self.ends.append(self.pushed)
            yield some

    def done(self, until: int) -> None:
        while self.ends and self.ends[0] <= until:
            self.ends.popleft()


class _Ring:
    """One channel of a column's memory tile.  queries: blocks of an item's Q on it.  items: all of the call."""

    def __init__(self, keeper: Keeper, kept: Kept, queries: int, items: Sequence[Item], work: Work) -> None:
        self.keeper, self.kept, self.queries, self.work = keeper, kept, queries, work
        self.first, self.end = (items[0].first, items[0].end) if items else (0, 0)
        self.of_head = self.end - self.first + work.of_head * queries
        came = sum(map(self._comes, items))
        filled, self._released, self._held = kept.descriptors
        self.fill, self.release = _Runs(came), _Runs(0 if work.by_heads else came)
        held = queries + self.end - self.first if work.by_heads else 0
        moved = ((filled, came), (self._released, self.release.total), (self._held, held))
        self.rewound = [descriptor for descriptor, runs in moved if runs % kept.tiles]
        self.free = deque(kept.spare)
        self.begun = self.came = 0  # items, and blocks that come for them
        self.flights: deque[tuple[list[int], int]] = deque()  # items under way: their descriptors, what came till then

    def _comes(self, item: Item) -> int:
        return self.queries + (0 if item.again else item.end - item.first)

    def holds(self, item: Item) -> bool:
        """Whether the queues take the item's tasks, and there are descriptors for them."""
        until = self.came + self._comes(item)
        if self.work.by_heads:
            queued = self.fill.holds(until) and len(self.flights) < DEPTH
            return queued and sum(len(self.kept.parts(*span)) for span in self._spans(item)) <= len(self.free)
        return self.fill.holds(until) and self.release.holds(until)

    def begin(self, item: Item) -> None:
        """Tasks that take in what comes for the item, and send it."""
        keeper, channel = self.keeper, self.kept.channel
        self.came += self._comes(item)
        for runs in self.fill.push(self.came):
            keeper.push("s2mm", channel, self.kept.numbers[0], runs)
        numbers: list[int] = []
        if not self.work.by_heads:
            for runs in self.release.push(self.came):
                keeper.push("mm2s", channel, self._released.number, runs)
        elif not self.begun:  # block by block, as they come
            keeper.push("mm2s", channel, self._held.number, self.came)
        else:
            chain = self._chain(item)
            numbers = [self.free.popleft() for _ in chain]
            keeper.write(chain)
            keeper.push("mm2s", channel, numbers[0], 1)
        self.begun += 1
        self.flights.append((numbers, self.came))

    def _spans(self, item: Item) -> tuple[tuple[int, int], tuple[int, int]]:
        """(first place, blocks) of an item's Q and of its keys."""
        head, turn = divmod(self.begun, self.work.of_head)
        start = head * self.of_head
        keys = start + self.queries
        queries = keys + self.end - self.first + (turn - 1) * self.queries if turn else start
        return (queries, self.queries), (keys + item.first - self.first, item.end - item.first)

    def _chain(self, item: Item) -> list[Descriptor]:
        """An item's Q and keys.  Those of a head were taken in while the one before was worked on."""
        turn = self.begun % self.work.of_head
        freed = self.of_head if turn == self.work.of_head - 1 else 0
        numbers, (queries, keys) = iter(self.free), self._spans(item)
        chain = self.kept.sending(numbers, *queries, come=True)
        return chained(chain + self.kept.sending(numbers, *keys, come=not turn, freed=freed))

    def retire(self) -> None:
        """The output of the oldest item under way is out."""
        numbers, came = self.flights.popleft()
        self.free.extend(numbers)
        for runs in (self.fill, self.release):
            runs.done(came)


class Keeper:
    """A column's memory tile.  queries: blocks of an item's Q by channel.  items: all that the column works on."""

    def __init__(
        self,
        column: int,
        writer: TxnWriter,
        kept: Sequence[Kept],
        queries: Sequence[int],
        items: Sequence[Item],
        work: Work,
    ) -> None:
        self.column, self.writer = column, writer
        self.rings = [_Ring(self, one, blocks, items, work) for one, blocks in zip(kept, queries, strict=True)]

    def holds(self, item: Item) -> bool:
        """Whether there is room for the item's tasks."""
        return all(ring.holds(item) for ring in self.rings)

    def begin(self, item: Item) -> None:
        """ResourceError where it never finds room."""
        if not self.holds(item):
            blocks = item.end - item.first
            raise ResourceError(f"{blocks:,} blocks of keys are more than tasks of a memory tile move for one item")
        for ring in self.rings:
            ring.begin(item)

    def retire(self) -> None:
        for ring in self.rings:
            ring.retire()

    def finish(self) -> None:
        """All items are done: the rings are set back."""
        for ring in self.rings:
            for descriptor in ring.rewound:
                offset, word = ring.kept.rewind(descriptor)
                self.writer.write(geometry.tile_address(self.column, geometry.MEMTILE_ROW, offset), word)

    def push(self, direction: str, channel: int, number: int, runs: int) -> None:
        offset = geometry.channel_queue_offset("memtile", direction, channel)
        self.writer.write(
            geometry.tile_address(self.column, geometry.MEMTILE_ROW, offset), geometry.queue_word(number, runs)
        )

    def write(self, chain: Sequence[Descriptor]) -> None:
        for descriptor in chain:
            offset = geometry.bd_offset("memtile", descriptor.number)
            words = packed(replace(descriptor, number=0))
            self.writer.block(geometry.tile_address(self.column, geometry.MEMTILE_ROW, offset), words)
