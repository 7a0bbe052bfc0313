"""Cycles of a call, by following its runtime sequence: a coarse clock of controller, shim channels and cores.

The sequence is issued operation by operation, as the controller does.  Each push gives its channel words to move; the
items of a column group take theirs in order, at the cost model's cycles a block and an item; a wait ends with the last
word of its task.  Streams run ahead of the cores by what the tiles buffer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.target import NPU1
from npuc.passes.attention import cost
from npuc.passes.attention.call import call_of
from npuc.passes.attention.core.parameters import AHEAD, Word
from npuc.passes.attention.cost import Tiles
from npuc.passes.attention.grouped import grouped_call
from npuc.passes.attention.plan import CORES_PER_COLUMN, ELEMENT_BYTES, WORD_BYTES, Plan, shared_out
from npuc.passes.attention.sequence import sequence
from npuc.passes.attention.transfers import FIRST, OUTPUT, SECOND, Channel, whole_arguments
from npuc.passes.attention.work import Item, Work

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

COSTS = NPU1.costs
BUFFERED_BLOCKS = 3  # of K and V on their way, in the memory tile and in the core
FORWARD = 40  # from the last word into a memory tile to the first one at a core
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

    word: cycles a word.
    """

    def __init__(self, word: float) -> None:
        self.word = word
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
                self.time = max(self.time, task.pushed) + COSTS.shim_start
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
            time = max(time, task.pushed) + COSTS.shim_start + task.words * self.word
        return time


class Group:
    """The items of a column group, followed as far as their tasks have been pushed."""

    def __init__(self, clock: Clock, number: int) -> None:
        width = clock.tiles.group_columns
        self.clock, self.items = clock, list(clock.work.of_group(number))
        self.columns = range(number * width, (number + 1) * width)
        self.started = 0.0
        self.end = self.free = 0.0  # of the last item's blocks; when its output has left the cores
        self.outputs: dict[int, list[float]] = {column: [] for column in self.columns}  # when items' output is out
        self._made: float | None = None  # when the last item's output would leave if the next one's Q did not come
        self._steps = self._work()

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
        queries = [
            (clock.lanes[column, channel], words)
            for (channel, words), column in product(clock.query_words, self.columns[: clock.own])
        ]
        for item in self.items:
            while any(lane.words < words for lane, words in queries):
                yield
            if tiles.split:
                loaded = 0.0
                for lane, words in queries:
                    after = 0.0 if clock.ahead else loaded  # then all blocks of one channel are taken first
                    loaded = max(loaded, self._passed(lane, words // clock.block_words, after))
                self._leaves(loaded)  # it is made as the next item's Q is taken
                self.free -= core_words  # the last output leaves while the first block's scores are made
            else:
                arrived = max(lane.take(words, 0.0) for lane, words in queries)
                loaded = max(arrived + FORWARD, self.end) + core_words
            begin = max(loaded, self.free, self.started) + cost.ITEM_BEFORE * cost.item_cycles(tiles)
            yield from self._blocks(item, begin)
            self.free = self.end + (1 - cost.ITEM_BEFORE) * cost.item_cycles(tiles) + core_words
            self._made = self.free
            if not tiles.split:
                self._leaves(0.0)

    def _leaves(self, not_before: float) -> None:
        """The last item's output, once: of all cores of a column one after the other, which end at once where their
        rows come together, else one after the other as their rows came."""
        if self._made is None:
            return
        words = self.clock.output_words
        last = words if self.clock.tiles.split else words // CORES_PER_COLUMN
        leaves, self._made = max(self._made, not_before) + FORWARD + last, None
        for out in self.outputs.values():
            out.append(max(leaves, (out[-1] if out else 0.0) + words))

    def _passed(self, lane: Lane, blocks: int, after: float) -> float:
        """When the cores have taken the blocks of an item's Q on a channel, which they do as the last one's output is
        made, and not before `after`; each comes by way of the memory tile, and to where the one before the last was."""
        words, arrived = self.clock.block_words, 0.0
        recent = [0.0] * (BUFFERED_BLOCKS - 1) + [self.end]  # when the blocks before let go of their buffers
        for _ in range(blocks):
            arrived = max(lane.take(words, recent[0]) + FORWARD, arrived, recent[-2]) + words
            recent = [*recent[1:], max(arrived, self.end, self.started, after)]
        return recent[-1]

    def _blocks(self, item: Item, begin: float) -> Iterator[None]:
        """Moves `end` to that of the item's blocks, the first of which begins at `begin` at the earliest."""
        clock, tiles = self.clock, self.clock.tiles
        keys = clock.lanes[self.columns[0], FIRST]  # and V, where there is a mask
        others = [clock.lanes[column, SECOND] for column in self.columns[: clock.own]] if clock.other_words else []
        half = 0 if tiles.split else clock.block_words // 2
        compute = cost.HIDDEN_BLOCK if clock.hidden(item) else cost.block_cycles(tiles)
        call = clock.work.call
        if call.window < min(tiles.rows, call.key_length) and not clock.hidden(item):
            # Of the cores that take a block together, to some it is the first or the last that their rows see.
            compute += cost.partial_cycles(tiles)
        recent = [0.0] * (BUFFERED_BLOCKS - 1) + [self.end]  # when the blocks before let go of their buffers
        end, rest = begin, item.end - item.first
        while rest:
            held = [keys.words // clock.block_words, *(lane.words // clock.other_words for lane in others)]
            if not min(held):
                yield
                continue
            some = 1 if rest < 16 or end < keys.time else min(rest, 8, *held)
            arrived = keys.take(some * clock.block_words, recent[0]) + half + FORWARD
            ready = arrived - (half + (some - 1) * clock.block_words) * clock.word
            for lane in others:
                arrived = max(arrived, lane.take(some * clock.other_words, recent[0]) + FORWARD)
            end = max(max(end, ready) + some * compute, arrived + (1 - VALUES_NEEDED) * compute)
            recent = [*recent[1:], end]
            rest -= some
        self.end = end + clock.partial_blocks(item) * cost.partial_cycles(tiles)


class Clock:
    """Issues the operations of a sequence; `time` is when the next one begins."""

    def __init__(self, tiles: Tiles, work: Work) -> None:
        self.tiles, self.work, self.time = tiles, work, 0.0
        self.ahead = False  # whether cores take an item's Q while they make the last one's output
        row_words = tiles.head_dim * ELEMENT_BYTES // WORD_BYTES
        rows = CORES_PER_COLUMN * tiles.query_block
        self.output_words = rows * row_words
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
        self.word = max(COSTS.word, busy * WORD_BYTES / COSTS.ddr_bytes)
        self.lanes: dict[tuple[int, Channel], Lane] = defaultdict(lambda: Lane(self.word))
        self.groups = [Group(self, number) for number in range(tiles.groups)]
        self._descriptors: dict[tuple[int, int], Sequence[int]] = {}
        self._pushed: dict[tuple[int, Channel], float] = {}
        self._sent: dict[int, list[int]] = defaultdict(lambda: [0])  # words of O up to each of its tokens
        self._tokens: dict[tuple[int, Channel], int] = defaultdict(int)

    def group(self, column: int) -> Group:
        return self.groups[column // self.tiles.group_columns]

    def issue(self, operation: txn.Operation) -> None:
        if isinstance(operation, txn.Sync):
            channel = (geometry.DIRECTIONS[operation.direction], operation.channel)
            self.time = max(self.time, self._end(operation.column, channel) + COSTS.completion)
        elif isinstance(operation, txn.BlockWrite):
            column, row, offset = geometry.split_address(operation.address)
            if row == geometry.SHIM_ROW:
                number = (offset - geometry.bd_offset("shim", 0)) // geometry.BD_STRIDE
                self._descriptors[column, number] = operation.words
            elif row != geometry.MEMTILE_ROW:
                self.ahead = bool(operation.words[Word.FLAGS] & AHEAD)
            self.time += COSTS.block_write + max(0, len(operation.words) - COSTS.block_words) * COSTS.block_word
        elif isinstance(operation, txn.Write):
            column, row, offset = geometry.split_address(operation.address)
            if row == geometry.SHIM_ROW:
                self._push(column, QUEUES[offset], operation.value)
            else:
                self.group(column).started = self.time
            self.time += COSTS.write
        else:
            self.time += COSTS.patch

    def _push(self, column: int, channel: Channel, value: int) -> None:
        self.time = max(self.time, self._pushed.get((column, channel), -COSTS.push_gap) + COSTS.push_gap)
        self._pushed[column, channel] = self.time
        number, repeat, token = geometry.split_queue_word("shim", value)
        fields = descriptor_fields(tuple(self._descriptors[column, number]))
        words = fields["length"]
        while fields["use_next"]:
            fields = descriptor_fields(tuple(self._descriptors[column, fields["next_bd"]]))
            words += fields["length"]
        if channel == OUTPUT:
            self._sent[column][-1] += words * repeat
            if token:
                self._sent[column].append(self._sent[column][-1])
        else:
            self.lanes[column, channel].push(Task(self.time, words * repeat, bool(token)))

    def _end(self, column: int, channel: Channel) -> float:
        """When the task ends whose token is the channel's next."""
        group, token = self.group(column), self._tokens[column, channel]
        self._tokens[column, channel] += 1
        if channel == OUTPUT:
            return group.output(column, self._sent[column][token] // self.output_words - 1)
        group.follow()
        return self.lanes[column, channel].end(token)

    def hidden(self, item: Item) -> bool:
        """Whether no row of an item sees a key: it takes one block all the same."""
        call = self.work.call
        last = min(item.base + self.tiles.rows, call.query_length) - 1
        return last + call.diagonal < 0 or item.base + call.diagonal - call.window + 1 >= call.key_length

    def partial_blocks(self, item: Item) -> int:
        """Blocks that a core's rows see in part, of the core with the last rows."""
        call, tiles = self.work.call, self.tiles
        last = min(item.base + tiles.rows, call.query_length) - 1
        first = min(item.base + tiles.rows - tiles.query_block, last)
        size, end = tiles.key_block, call.key_length - 1
        low, high = first + call.diagonal - call.window + 1, min(last + call.diagonal, end)
        whole_low, whole_high = last + call.diagonal - call.window + 1, min(first + call.diagonal, end)
        seen = high // size - max(low, 0) // size + 1
        whole = (whole_high + 1) // size - -(-max(whole_low, 0) // size)
        return max(0, min(seen, item.end - item.first) - max(whole, 0)) if not self.hidden(item) else 0


@lru_cache(maxsize=4096)
def descriptor_fields(words: tuple[int, ...]) -> dict[str, int]:
    return geometry.unpack_bd("shim", words)


def predicted_cycles(plan: Plan, attention: Attention, style: str = "default") -> int:
    """Of a call on a plan, from the first operation of its sequence to its last completion.

    Raises InputError where a length is open, ResourceError where no sequence serves the call.
    """
    call = call_of(attention)
    numbers = {argument.role: number for number, argument in enumerate(attention.arguments)}
    mask_shape = attention.argument("mask").shape if attention.mask is not None else None
    operands = whole_arguments(plan, call, numbers, mask_shape)  # type: ignore[arg-type]
    done = call if mask_shape is not None else grouped_call(call, plan.rows_per_item)
    clock = Clock(plan_tiles(plan, attention), Work(done, plan.rows_per_item, plan.key_block, plan.groups))
    for operation in txn.read_txn(sequence(plan, call, operands, style)).operations:
        clock.issue(operation)
    return round(clock.time)


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
    return Tiles(*sizes, recipe=attention.recipe, capped=attention.softcap is not None)
