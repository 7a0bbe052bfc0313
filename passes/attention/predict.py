"""Cycles of a call, by following its runtime sequence: a coarse clock of controller, shim channels and cores.

The sequence is issued operation by operation, as the controller does.  Each push gives its channel words to move; the
items of a column group take theirs in order, at the cost model's cycles a block and an item; a wait ends with the last
word of its task.  Streams run ahead of the cores by what the tiles buffer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.target import NPU1, Costs
from npuc.passes.attention import cost
from npuc.passes.attention.block_costs import runs
from npuc.passes.attention.call import Call, call_of
from npuc.passes.attention.core.parameters import AHEAD, MOST_SHORT, SHORT_ITEM, WORDS, Word
from npuc.passes.attention.cost import Tiles
from npuc.passes.attention.grouped import grouped_call
from npuc.passes.attention.plan import (
    BYTES,
    CORES_PER_COLUMN,
    ELEMENT_BYTES,
    WORD_BYTES,
    Estimate,
    Plan,
    shared_out,
)
from npuc.passes.attention.sequence import sequence
from npuc.passes.attention.shares import plan_work
from npuc.passes.attention.streams import output_pieces
from npuc.passes.attention.transfers import FIRST, OUTPUTS, SECOND, Channel, whole_arguments
from npuc.passes.attention.work import Item, Work

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

BUFFERED_BLOCKS = 4  # of K and V on their way, in the memory tile and in the core
CORE_BLOCKS = 2  # in the core
FORWARD = 40  # from the last word into a memory tile to the first one at a core
FAR = 1 << 40  # words: more than a call has
VALUES_NEEDED = 0.5  # of a block's cycles pass before it needs V

QUEUES = {
    geometry.channel_queue_offset("shim", direction, number): (direction, number)
    for direction in geometry.DIRECTIONS
    for number in range(geometry.CHANNEL_COUNT["shim"])
}


class Task(NamedTuple):
    """A push: when, how many words, and whether its end gives a token."""

    pushed: float
    words: int
    token: bool


class Lane:
    """A shim's sending channel: its tasks one after the other, taken by the items in pieces of any size.

    word: cycles a word. start: to the first one of a task.
    """

    def __init__(self, word: float, start: int) -> None:
        self.word, self.start = word, start
        self.tasks: list[Task] = []
        self.ends: list[float] = []  # of the tasks that have gone
        self.time = 0.0
        self.words = 0  # pushed and not taken
        self._left = 0

    def push(self, task: Task) -> None:
        self.tasks.append(task)
        self.words += task.words

    def take(self, words: int, not_before: float) -> float:
        """When the last of the next words has gone, of those pushed, if none goes before `not_before`."""
        self.words -= words
        while words:
            if not self._left:
                task = self.tasks[len(self.ends)]
                self._left = task.words
                self.time = max(self.time, task.pushed) + self.start
            some = min(words, self._left)
            self.time = max(self.time, not_before) + some * self.word
            words, self._left = words - some, self._left - some
            if not self._left:
                self.ends.append(self.time)
        return self.time

    def end(self, token: int) -> float:
        """Of the task with that token; where items have not taken it yet, the tiles hold it."""
        place = [index for index, task in enumerate(self.tasks) if task.token][token]
        if place < len(self.ends):
            return self.ends[place]
        time = self.time
        for task in self.tasks[len(self.ends) : place + 1]:
            time = max(time, task.pushed) + self.start + task.words * self.word
        return time


class Relay:
    """A memory tile's sending channel where it keeps what came on a lane: blocks of that, or some of them again.

    block: words.
    """

    word = 1.0

    def __init__(self, lane: Lane, block: int) -> None:
        self.lane, self.block = lane, block
        self.again = False  # whether the next words are there
        self.time = 0.0

    @property
    def words(self) -> int:
        return FAR if self.again else self.lane.words

    def take(self, words: int, not_before: float) -> float:
        """As a lane's; each block comes whole before it goes on."""
        came = 0.0 if self.again else self.lane.take(words, 0.0) + FORWARD + self.block
        self.time = max(max(self.time, not_before) + words, came)
        return self.time


class Group:
    """The items of a column group, followed as far as their tasks have been pushed."""

    def __init__(self, clock: Clock, number: int) -> None:
        width = clock.tiles.group_columns
        self.clock, self.items = clock, list(clock.work.of_group(number))
        self.columns = range(number * width, (number + 1) * width)
        self.started = 0.0
        cores = clock.tiles.rows // clock.tiles.query_block
        self.ends = [0.0] * cores  # of the last item's blocks, core by core
        self.free = [0.0] * cores  # when its output has left them
        self._recent = [0.0] * (
            CORE_BLOCKS if clock.tiles.kept else BUFFERED_BLOCKS
        )  # when all cores had let go of the buffers of the last blocks
        self.outputs: dict[int, list[float]] = {column: [] for column in self.columns}  # when items' output is out
        self._made: list[float] = []  # when the last item's output would leave if the next one's Q did not come
        self._relays: dict[tuple[int, Channel], Relay] = {}
        self._steps = self._work()

    def _source(self, column: int, channel: Channel, again: bool = False) -> Lane | Relay:
        """Where a column's blocks come from; again: they are in the memory tile."""
        lane = self.clock.lanes[column, channel]
        if not self.clock.tiles.kept:
            return lane
        relay = self._relays.setdefault((column, channel), Relay(lane, self.clock.block_words))
        relay.again = again
        return relay

    def follow(self) -> None:
        next(self._steps, None)

    def output(self, column: int, number: int) -> float:
        """When the output of the column's item `number` is out."""
        self.follow()
        if number == len(self.outputs[column]):  # the next item's tasks wait for its token
            self._leaves(0.0)
        return self.outputs[column][number]

    def _work(self) -> Iterator[None]:
        """Goes on to where a task is missing."""
        clock, tiles = self.clock, self.clock.tiles
        core_words = clock.output_words // CORES_PER_COLUMN
        places = [
            ((column, channel), words)
            for (channel, words), column in product(clock.query_words, self.columns[: clock.own])
        ]
        before = FAR  # blocks of the last item
        for item in self.items:
            queries = [(self._source(*place), words) for place, words in places]
            while any(lane.words < words for lane, words in queries):
                yield
            if tiles.split:
                loaded = self._loaded(queries, before < clock.short)
                self._leaves(0.0)  # while the next item's Q is waited for
                before = item.end - item.first
                # The last output leaves while the first block's scores are made.
                begins = [max(loaded, free - core_words, self.started) for free in self.free]
            else:
                arrived = [time for lane, words in queries for time in self._core_by_core(lane, words)]
                begins = [
                    max(max(time + FORWARD, end) + core_words, free, self.started)
                    for time, end, free in zip(arrived, self.ends, self.free, strict=True)
                ]
            yield from self._blocks(item, [begin + cost.ITEM_BEFORE * cost.item_cycles(tiles) for begin in begins])
            rest = (1 - cost.ITEM_BEFORE) * cost.item_cycles(tiles) + core_words
            self.free = [end + rest for end in self.ends]
            self._made = self.free
            if not tiles.split:
                self._leaves(0.0)

    def _core_by_core(self, lane: Lane | Relay, words: int) -> list[float]:
        """When the rows of each core of a column have gone, which go one core's after the other's."""
        last = lane.take(words, 0.0)
        return [last - left * lane.word * words / CORES_PER_COLUMN for left in reversed(range(CORES_PER_COLUMN))]

    def _leaves(self, not_before: float) -> None:
        """The last item's output, once: of the cores of each outlet of a column one after the other."""
        if not self._made:
            return
        each = CORES_PER_COLUMN * self.clock.outlet_words // self.clock.output_words  # cores of an outlet
        words = self.clock.outlet_words // each
        for number, out in enumerate(self.outputs.values()):
            made = self._made[number * CORES_PER_COLUMN :][:CORES_PER_COLUMN]
            before, last = out[-1] if out else 0.0, 0.0
            for first in range(0, CORES_PER_COLUMN, each):
                time = before
                for one in made[first : first + each]:
                    time = max(time, max(one, not_before) + FORWARD) + words
                last = max(last, time)
            out.append(last)
        self._made = []

    def _loaded(self, queries: Iterable[tuple[Lane | Relay, int]], short: bool) -> float:
        """When the cores have an item's Q; short: the last one's output is made before.  Else it is with half of Q."""
        loaded, ahead, pieces = 0.0, self.clock.ahead, output_pieces(self.clock.tiles.query_block)
        core_words = self.clock.output_words // CORES_PER_COLUMN
        ready = max(self.free) - core_words if ahead and short else max(self.ends)
        for lane, words in queries:
            blocks = words // self.clock.block_words
            # Where not ahead, all blocks of one channel are taken first.
            taken = self._passed(lane, blocks, ready, 0.0 if ahead else loaded)
            loaded = max(loaded, taken[-1])
            if ahead and not short:
                half = taken[_blocks_before_outputs(blocks, pieces)]
                self._made = [max(made, half + core_words / pieces) for made in self._made]
        return loaded

    def _passed(self, lane: Lane | Relay, blocks: int, end: float, after: float) -> list[float]:
        """When the cores have taken 0, 1 ... of the blocks of an item's Q on a channel, which they do from `end` on,
        and not before `after`; each comes by way of the memory tile, and to where the one before the last was."""
        words, arrived, taken = self.clock.block_words, 0.0, [end]
        recent = [0.0] * (BUFFERED_BLOCKS - 1) + [end]  # when the blocks before let go of their buffers
        for _ in range(blocks):
            if isinstance(lane, Relay):
                arrived = lane.take(words, recent[-2]) + FORWARD
                recent = [*recent[1:], max(arrived, end, self.started, after)]
                taken.append(recent[-1])
                continue
            arrived = max(lane.take(words, recent[0]) + FORWARD, arrived, recent[-2]) + words
            recent = [*recent[1:], max(arrived, end, self.started, after)]
            taken.append(recent[-1])
        return taken

    def _blocks(self, item: Item, begins: list[float]) -> Iterator[None]:
        """Moves `ends` to those of the item's blocks, the first of which begins at `begins` at the earliest."""
        clock, tiles = self.clock, self.clock.tiles
        keys = self._source(self.columns[0], FIRST, item.again)  # and V, where there is a mask
        own = self.columns[: clock.own] if clock.other_words else []
        others = [self._source(column, SECOND, item.again) for column in own]
        half = 0 if tiles.split else clock.block_words // 2
        ends, recent = begins, self._recent
        for rest, cycles in runs(tiles, clock.work, item.base, item.first, item.end):
            slowest, alike, cores = max(cycles), len({*cycles}) == 1, len(cycles)
            if alike and len({*ends}) == 1:  # one stands for all
                ends, cycles = ends[:1], cycles[:1]
            while rest:
                held = [keys.words // clock.block_words, *(lane.words // clock.other_words for lane in others)]
                if not min(held):
                    yield
                    continue
                some = min(rest, 8, *held) if alike and rest >= 16 and min(ends) >= keys.time else 1
                arrived = keys.take(some * clock.block_words, recent[0]) + half + FORWARD
                ready = arrived - (half + (some - 1) * clock.block_words) * keys.word
                for lane in others:
                    arrived = max(arrived, lane.take(some * clock.other_words, recent[0]) + FORWARD)
                if some > 1:
                    after = arrived + (1 - VALUES_NEEDED) * slowest
                    ends = [max(max(end, ready) + some * slowest, after) for end in ends]
                else:
                    ends = [
                        max(max(end, ready) + one, arrived + (1 - VALUES_NEEDED) * one)
                        for end, one in zip(ends, cycles, strict=True)
                    ]
                recent = [*recent[1:], max(ends)]
                rest -= some
            ends = ends * (cores // len(ends))
        self.ends, self._recent = ends, recent


def _blocks_before_outputs(blocks: int, pieces: int) -> int:
    """Of an item's Q on a channel, those before the last of so many pieces of the output (`core.query_blocks`)."""
    each, over = divmod(blocks, 2 * pieces)
    return each * pieces + min(over, 1) + max(0, over - 1 - pieces)


class Clock:
    """Issues the operations of a sequence; `time` is when the next one begins."""

    def __init__(self, tiles: Tiles, work: Work, costs: Costs) -> None:
        self.tiles, self.work, self.costs, self.time = tiles, work, costs, 0.0
        self.ahead = False  # whether cores take an item's Q while they make the last one's output
        self.short = 0  # blocks of an item that makes its output before
        row_words = tiles.head_dim * BYTES[tiles.precision] // WORD_BYTES
        rows = CORES_PER_COLUMN * tiles.query_block
        self.output_words = rows * tiles.head_dim * BYTES[tiles.output] // WORD_BYTES
        self.outlet_words = self.output_words // (1 + tiles.split)
        # Of an item's Q, and of a key block: K and V, and the mask; own: columns of a group with inputs of their own.
        self.query_words, self.own = [(SECOND, self.output_words)], tiles.group_columns
        self.block_words, self.other_words = 2 * tiles.key_block * row_words, cost.mask_bytes(tiles) // WORD_BYTES
        if tiles.mask_parts:  # Q comes in blocks of its columns, as wide as those of the mask
            width = tiles.key_block * ELEMENT_BYTES // WORD_BYTES
            self.query_words = [(SECOND, rows * -(-row_words // width) * width)]
        if tiles.split:
            self.block_words = self.other_words = tiles.key_block * row_words
            channels = zip((FIRST, SECOND), shared_out(tiles.rows, tiles.key_block), strict=True)
            self.query_words, self.own = [(channel, blocks * self.block_words) for channel, blocks in channels], 1
        # All channels of K and V together move no more than device memory gives.
        busy = 2 * tiles.groups if tiles.split else tiles.groups
        self.word = max(costs.word, busy * WORD_BYTES / costs.ddr_bytes)
        self.lanes: dict[tuple[int, Channel], Lane] = defaultdict(lambda: Lane(self.word, costs.shim_start))
        self.groups = [Group(self, number) for number in range(tiles.groups)]
        self._descriptors: dict[tuple[int, int], Sequence[int]] = {}
        self._pushed: dict[tuple[int, Channel], float] = {}
        self._sent: dict[tuple[int, Channel], list[int]] = defaultdict(lambda: [0])  # words of O up to each token
        self._tokens: dict[tuple[int, Channel], int] = defaultdict(int)

    def group(self, column: int) -> Group:
        return self.groups[column // self.tiles.group_columns]

    def issue(self, operation: txn.Operation) -> None:
        costs = self.costs
        if isinstance(operation, txn.Sync):
            channel = (geometry.DIRECTIONS[operation.direction], operation.channel)
            self.time = max(self.time, self._end(operation.column, channel) + costs.completion)
        elif isinstance(operation, txn.BlockWrite):
            column, row, offset = geometry.split_address(operation.address)
            if row == geometry.SHIM_ROW:
                number = (offset - geometry.bd_offset("shim", 0)) // geometry.BD_STRIDE
                self._descriptors[column, number] = operation.words
            elif row != geometry.MEMTILE_ROW:
                if len(operation.words) == WORDS:  # not those of the heads' factors
                    flags = operation.words[Word.FLAGS]
                    self.ahead, self.short = bool(flags & AHEAD), flags >> SHORT_ITEM & MOST_SHORT
            self.time += costs.block_write + max(0, len(operation.words) - costs.block_words) * costs.block_word
        elif isinstance(operation, txn.Write):
            column, row, offset = geometry.split_address(operation.address)
            if row == geometry.SHIM_ROW:
                self._push(column, QUEUES[offset], operation.value)
            elif row != geometry.MEMTILE_ROW:
                self.group(column).started = self.time + cost.ALL_TOLD
            self.time += costs.write
        else:
            self.time += costs.patch

    def _push(self, column: int, channel: Channel, value: int) -> None:
        gap = self.costs.push_gap
        self.time = max(self.time, self._pushed.get((column, channel), -gap) + gap)
        self._pushed[column, channel] = self.time
        number, repeat, token = geometry.split_queue_word("shim", value)
        fields = descriptor_fields(tuple(self._descriptors[column, number]))
        words = fields["length"]
        while fields["use_next"]:
            fields = descriptor_fields(tuple(self._descriptors[column, fields["next_bd"]]))
            words += fields["length"]
        if channel in OUTPUTS:
            sent = self._sent[column, channel]
            sent[-1] += words * repeat
            if token:
                sent.append(sent[-1])
        else:
            self.lanes[column, channel].push(Task(self.time, words * repeat, bool(token)))

    def _end(self, column: int, channel: Channel) -> float:
        """When the task ends whose token is the channel's next."""
        group, token = self.group(column), self._tokens[column, channel]
        self._tokens[column, channel] += 1
        if channel in OUTPUTS:
            return group.output(column, (self._sent[column, channel][token] - 1) // self.outlet_words)
        group.follow()
        return self.lanes[column, channel].end(token)


@lru_cache(maxsize=4096)
def descriptor_fields(words: tuple[int, ...]) -> dict[str, int]:
    return geometry.unpack_bd("shim", words)


def predicted_cycles(plan: Plan, attention: Attention, style: str = "default", costs: Costs = NPU1.costs) -> int:
    """Of a call on a plan, from the first operation of its sequence to its last completion.

    costs: of the machine that is asked about; the sequence is the same on all.
    Raises InputError where a length is open, ResourceError where no sequence serves the call.
    """
    call = _call_of(attention)
    numbers = {argument.role: number for number, argument in enumerate(attention.arguments)}
    mask_shape = attention.argument("mask").shape if attention.mask is not None else None
    operands = whole_arguments(plan, call, numbers, mask_shape)  # type: ignore[arg-type]
    clock = Clock(plan_tiles(plan, attention), _work_of(plan, attention), costs)
    for operation in txn.read_txn(sequence(plan, call, operands, style)).operations:
        clock.issue(operation)
    return round(clock.time)


def predicted(plan: Plan, attention: Attention, style: str = "default", costs: Costs = NPU1.costs) -> Estimate:
    """What the cost model says of a call, term by term, and the total by its sequence. Raises as `predicted_cycles`."""
    terms = cost.estimate(plan_tiles(plan, attention), _work_of(plan, attention), costs)
    return replace(terms, total=predicted_cycles(plan, attention, style, costs))


def _call_of(attention: Attention) -> Call:
    """As it is run: floating tensors that are multiplied as integers have a scale for each head of all batches."""
    call = call_of(attention)
    if attention.precision != "int8" or attention.argument("q").dtype == "i8":
        return call
    return replace(call, quantities=call.quantities[:1] * (call.batch * call.heads))


def _work_of(plan: Plan, attention: Attention) -> Work:
    """The items of a call on a plan."""
    call, masked = _call_of(attention), attention.mask is not None
    return plan_work(plan, call if masked else grouped_call(call, plan.rows_per_item), masked)


def plan_tiles(plan: Plan, attention: Attention) -> Tiles:
    """What of a plan the costs depend on."""
    sizes = (
        plan.head_dim,
        plan.query_block,
        plan.key_block,
        plan.columns,
        plan.group_columns,
        plan.mask_parts,
        plan.split,
    )
    capped = attention.softcap is not None
    return Tiles(
        *sizes,
        recipe=attention.recipe,
        capped=capped,
        precision=plan.precision,
        output=plan.output,
        kept=plan.kept,
        bounded=plan.bounded,
    )
