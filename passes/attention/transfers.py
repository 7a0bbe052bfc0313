"""What the shims move for one work item: tasks of buffer descriptors, in 32-bit words and bytes of the caller's arrays.

Nothing outside the caller's arrays is read or written, and no word too many is sent: where an item has fewer rows than
its tile, rows are sent (and their results written) again (with a mask Q and O are copies in the order of items then);
where the last key block has fewer keys than a block, other rows of the same head fill it, which the cores hide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from npuc.compiler.diagnostics import ResourceError
from npuc.passes.array.fifo import SHIM_OUTPUT_CHANNELS
from npuc.passes.attention.call import Call, Left
from npuc.passes.attention.masks import mask_copy, shape_of_keys
from npuc.passes.attention.plan import CORES_PER_COLUMN, ELEMENT_BYTES, WORD_BYTES, Plan
from npuc.passes.attention.shares import plan_work
from npuc.passes.attention.streams import FIRST_CHANNEL, SECOND_CHANNEL
from npuc.passes.attention.work import Item, Stretch, Work

Channel = tuple[str, int]  # of a shim
# O of a column: of its first cores, and of the others where K and V have a channel each.
OUTPUTS: tuple[Channel, ...] = tuple(("s2mm", channel) for channel in SHIM_OUTPUT_CHANNELS)
FIRST: Channel = ("mm2s", FIRST_CHANNEL)
SECOND: Channel = ("mm2s", SECOND_CHANNEL)
CHANNELS = (*OUTPUTS, SECOND, FIRST)

# The iteration field of a descriptor has 6 bits, so one task moves so many blocks of K and V at most.
BLOCKS_PER_TASK = 64
LONGEST_STEP = 1 << 20  # words: step fields of a shim descriptor
MOST_REPEATS = 256  # of a task


@dataclass(frozen=True)
class Operand:
    """A tensor [batch, head, row, D] in a buffer argument of the call.

    argument: which one.  offset: bytes to its first element.  batch, head, row: strides in 32-bit words; a row's
    elements lie one behind the other.
    """

    argument: int
    offset: int
    batch: int
    head: int  # or of a set of heads, where rows lie in the order of items
    row: int

    def place(self, batch: int, head: int, row: int) -> int:
        """Bytes from the argument's start."""
        return self.offset + WORD_BYTES * (batch * self.batch + head * self.head + row * self.row)


@dataclass(frozen=True)
class Operands:
    """Where a call's tensors lie.  mask: its copy (`masks`), with rows as MaskCopy says.  in_order: Q and O are copies
    in the order of items' rows."""

    q: Operand
    k: Operand
    v: Operand
    o: Operand
    mask: Operand | None = None
    mask_per_query: bool = False
    mask_by_rows: bool = False
    in_order: bool = False


class Piece(NamedTuple):
    """One descriptor: `words` words of `argument` from byte `offset` on, `row` of them in a row if not 0 (rows `stride`
    words apart), after every `rows` rows, if not 0, from `block` words further on than before; each of `iterations`
    runs moves on by `step` words."""

    argument: int
    offset: int
    words: int
    row: int = 0
    stride: int = 0
    iterations: int = 1
    step: int = 1
    rows: int = 0
    block: int = 1


class Task(NamedTuple):
    """A push to one channel: the chain of pieces, `repeat` times."""

    pieces: tuple[Piece, ...]
    repeat: int = 1


Stage = Mapping[Channel, Sequence[Task]]
"""Transfers that need each other to come to their ends, and those of the stages before."""


def contiguous(argument: int, batch: int, heads: int, length: int, row_words: int) -> Operand:
    """The operand that is a whole argument in row-major order, [B, H, S, D]."""
    return Operand(argument, 0, heads * length * row_words, length * row_words, row_words)


def whole_arguments(
    plan: Plan,
    call: Call,
    numbers: Mapping[str, int],
    mask_shape: Sequence[int] | None = None,
    left: Left | None = None,
) -> Operands:
    """All tensors whole arguments in row-major order; numbers: role -> argument; mask_shape: as the caller has it.
    left: what the mask leaves; its copy, and the order of rows, are those of what is left then."""
    words = plan.row_words
    queries = (call.batch, call.heads, call.query_length)
    in_order = False
    seen = call if left is None else call.leaving(left)
    if mask_shape is not None:
        work = plan_work(plan, seen, masked=True)
        in_order = not work.fills
        if in_order:
            queries = (call.batch, work.per_round // call.batch, work.rounds * work.rows)
    keys = (call.batch, call.kv_heads, call.key_length, words)
    found = Operands(
        contiguous(numbers["q"], *queries, words),
        contiguous(numbers["k"], *keys),
        contiguous(numbers["v"], *keys),
        contiguous(numbers["out"], *queries, plan.output_words),
        in_order=in_order,
    )
    if mask_shape is None:
        return found
    if left is not None:
        mask_shape = shape_of_keys(mask_shape, left.first, left.end)
    copy = mask_copy(plan, seen, mask_shape)
    head = copy.rows * copy.row_words
    batch = copy.heads * head if copy.batch > 1 else 0
    mask = Operand(numbers["mask"], 0, batch, head if copy.heads > 1 else 0, copy.row_words)
    return replace(found, mask=mask, mask_per_query=copy.per_query, mask_by_rows=copy.by_rows)


def without_keys(operands: Operands, first: int) -> Operands:
    """Those of the same call from key `first` on."""
    k, v = (replace(one, offset=one.place(0, 0, first)) for one in (operands.k, operands.v))
    return replace(operands, k=k, v=v)


def check_strides(plan: Plan, operands: Operands) -> None:
    """ResourceError when a step does not fit a descriptor; such arrays are copied first."""
    for name, operand, rows in (
        ("Q", operands.q, 1),
        ("K", operands.k, plan.keys_stepped),
        ("V", operands.v, plan.keys_stepped),
        ("O", operands.o, 1),
        *([("the mask", operands.mask, 1)] if operands.mask is not None else []),
    ):
        if not 0 < operand.row * rows <= LONGEST_STEP:
            raise ResourceError(
                f"rows of {name} lie {operand.row} words apart, a descriptor steps over {LONGEST_STEP // rows} at most"
            )


class Transfers:
    """Tasks of the items of one call."""

    def __init__(self, plan: Plan, work: Work, operands: Operands) -> None:
        check_strides(plan, operands)
        self.plan, self.work, self.operands = plan, work, operands
        self.row_words, self.output_words = plan.row_words, plan.output_words
        self.column_rows = CORES_PER_COLUMN * plan.query_block

    def stages(self, item: Item, column: int) -> tuple[Stage, ...]:
        """What the `column`-th column of its group moves for an item: Q, K and V, or a mask, and O of its rows."""
        first, whole = column * self.column_rows, self.column_rows
        part = whole // self.plan.outlets
        output: Stage = {
            channel: self._rows(self.operands.o, item, first + number * part, part)
            for number, channel in enumerate(OUTPUTS[: self.plan.outlets])
        }
        if self.operands.mask is not None:
            mask = [Task((self._mask(self.operands.mask, item, column),))]
            return {SECOND: list(self._chunks(item, first))}, {SECOND: mask, FIRST: self._turns(item, column)}, output
        if not self.plan.split:
            rows = self._rows(self.operands.q, item, first, whole)
            return {SECOND: rows}, {FIRST: self._turns(item, column)}, output
        if column:
            return (output,)
        keys = {FIRST: self._keys(self.operands.k, item), SECOND: self._keys(self.operands.v, item)}
        before_keys, before_values = (blocks * self.plan.key_block for blocks in self.plan.query_blocks)
        return (
            {FIRST: self._rows(self.operands.q, item, 0, before_keys)},
            {SECOND: self._rows(self.operands.q, item, before_keys, before_values)},
            {} if item.again else keys,
            output,
        )

    def further(self) -> dict[int, list[int]]:
        """argument -> bytes from the first head of the call to each; of copies in the order of items to its set."""
        call, operands = self.work.call, self.operands
        heads = range(call.heads)
        shared, sets = [call.kv_head(head) for head in heads], self._sets()
        found = {}
        for operand, places in (
            (operands.q, sets if operands.in_order else heads),
            (operands.k, shared),
            (operands.v, shared),
            (operands.o, sets if operands.in_order else heads),
            (operands.mask, sets),
        ):
            if operand is not None:
                found[operand.argument] = [
                    operand.place(batch, place, 0) - operand.offset for batch in range(call.batch) for place in places
                ]
        return found

    def _sets(self) -> list[int]:
        """Of each head of a batch: the set that begins with it."""
        call, sets = self.work.call, [0] * self.work.call.heads
        for number, head in enumerate(self.work.set_heads()[: self.work.per_round // call.batch]):
            sets[head] = number
        return sets

    def _chunks(self, item: Item, first: int) -> Iterator[Task]:
        """The columns of Q's rows in blocks as wide as those of the mask; the last may overlap the one before."""
        plan, q = self.plan, self.operands.q
        width = plan.key_block * ELEMENT_BYTES // WORD_BYTES
        whole, rest = divmod(self.row_words, width)
        if self.operands.in_order:
            parts = [(self._in_order(q, item, first), self.column_rows, 1)]
        else:
            parts = [
                (q.place(*self._head(item, stretch), stretch.query), stretch.rows, heads)
                for stretch, heads in self._side_by_side(q, self.work.stretches(item.base, first, self.column_rows))
            ]
        if len(parts) == 1 and parts[0][2] == 1:
            (offset, rows, _) = parts[0]
            yield Task((Piece(q.argument, offset, whole * rows * width, width, q.row, rows=rows, block=width),))
        else:
            pieces = (_columns(q, offset, rows, heads, width, whole) for offset, rows, heads in parts)
            yield Task(tuple(pieces), whole)
        if rest:
            moved = WORD_BYTES * (self.row_words - width)
            yield Task(tuple(_columns(q, offset + moved, rows, heads, width, 1) for offset, rows, heads in parts))

    def _in_order(self, operand: Operand, item: Item | None, first: int) -> int:
        """Where row `first` of an item (None: of any) lies in a copy in the order of items, of the first heads."""
        round_ = 0 if item is None else self.work.rounds - 1 - item.number // self.work.per_round
        return operand.place(0, 0, round_ * self.work.rows + first)

    def _head(self, item: Item, stretch: Stretch) -> tuple[int, int]:
        """Batch and head of rows of an item."""
        batch, head = divmod(item.head, self.work.call.heads)
        return batch, head + stretch.head

    def _side_by_side(self, operand: Operand, stretches: Iterable[Stretch]) -> Iterator[tuple[Stretch, int]]:
        """Stretches of which some, of the same queries of heads that follow each other, are of one descriptor."""
        held: Stretch | None = None
        heads = 0
        for stretch in stretches:
            if (
                held is not None
                and stretch == held._replace(head=held.head + heads)
                and 0 < operand.head <= LONGEST_STEP
            ):
                heads += 1
                continue
            if held is not None:
                yield held, heads
            held, heads = stretch, 1
        if held is not None:
            yield held, heads

    def _mask(self, mask: Operand, item: Item, column: int) -> Piece:
        """All parts of the key blocks of an item."""
        plan = self.plan
        first = column * self.column_rows
        if self.operands.mask_by_rows:
            offset = self._in_order(mask, item if self.operands.mask_per_query else None, first)
        else:
            offset = mask.place(0, 0, item.base + first if self.operands.mask_per_query else 0)
        width = plan.key_block * ELEMENT_BYTES // WORD_BYTES
        begin, blocks = plan.mask_parts * item.first, plan.mask_parts * (item.end - item.first)
        words = blocks * self.column_rows * width
        begins = offset + WORD_BYTES * width * begin
        return Piece(mask.argument, begins, words, width, mask.row, rows=self.column_rows, block=width)

    def _rows(self, operand: Operand, item: Item, first: int, count: int) -> list[Task]:
        """Rows of an item of Q or O, from its row `first` on."""
        if self.operands.in_order:
            width = self.output_words if operand is self.operands.o else self.row_words
            return [Task((Piece(operand.argument, self._in_order(operand, item, first), count * width),))]
        tasks: list[Task] = []
        side_by_side = self._side_by_side(operand, self.work.stretches(item.base, first, count))
        for (stretch, heads), alike in groupby(side_by_side):
            piece = self._piece(operand, *self._head(item, stretch), stretch.query, stretch.rows)
            if heads > 1:
                piece = _of_heads(piece, operand, stretch.rows, heads)
            tasks += self._repeated(piece, sum(1 for _ in alike))
        return tasks

    def _repeated(self, piece: Piece, times: int) -> list[Task]:
        return [Task((piece,), min(MOST_REPEATS, times - done)) for done in range(0, times, MOST_REPEATS)]

    def _keys(self, operand: Operand, item: Item) -> list[Task]:
        """K or V of all key blocks of an item; a last block that is not full holds other rows of the same head too."""
        call, block = self.work.call, self.plan.key_block
        batch, head = divmod(item.head, call.heads)
        head, first = call.kv_head(head), item.first * block
        there = min(item.end * block, call.key_length) - first
        missing = (item.end - item.first) * block - there
        if missing > call.key_length:
            return self._all_keys(operand, batch, head)
        before = (item.begin - item.first) * block
        pieces = [self._piece(operand, batch, head, first + before, there - before)]
        if missing:
            pieces.append(self._piece(operand, batch, head, call.key_length - missing, missing))
        if before:
            pieces.append(self._piece(operand, batch, head, first, before))
        return [Task(tuple(pieces))]

    def _all_keys(self, operand: Operand, batch: int, head: int) -> list[Task]:
        """A block of all keys there are, as often as they go into it, and the rest."""
        times, rest = divmod(self.plan.key_block, self.work.call.key_length)
        tasks = [Task((self._piece(operand, batch, head, 0, self.work.call.key_length),), times)]
        if rest:
            tasks.append(Task((self._piece(operand, batch, head, 0, rest),)))
        return tasks

    def _piece(self, operand: Operand, batch: int, head: int, row: int, rows: int) -> Piece:
        return self._moving(operand, batch, head, row, rows, 1)

    def _moving(self, operand: Operand, batch: int, head: int, row: int, rows: int, iterations: int) -> Piece:
        """`rows` rows from `row` on, `iterations` times, each time the next ones."""
        width = self.output_words if operand is self.operands.o else self.row_words
        dense = operand.row == width or rows == 1
        return Piece(
            operand.argument,
            operand.place(batch, head, row),
            rows * width,
            0 if dense else width,
            0 if dense else operand.row,
            iterations,
            rows * operand.row if iterations > 1 else 1,
        )

    def _turns(self, item: Item, column: int) -> list[Task]:
        """K and V block by block in turn, of all key blocks of an item; the first column of a group sends for them."""
        if column:
            return []
        call = self.work.call
        batch, head = divmod(item.head, call.heads)
        head = call.kv_head(head)
        whole = min(item.end, call.key_length // self.plan.key_block)
        tasks = list(self._whole_blocks(batch, head, item.begin, whole))
        if whole < item.end:
            tasks += self._last_block(batch, head)
        return tasks + list(self._whole_blocks(batch, head, item.first, item.begin))

    def _whole_blocks(self, batch: int, head: int, begin: int, end: int) -> Iterator[Task]:
        """Blocks begin .. end - 1 of K and V in turn."""
        block = self.plan.key_block
        for first in range(begin, end, BLOCKS_PER_TASK):
            count = min(BLOCKS_PER_TASK, end - first)
            pieces = tuple(
                self._moving(operand, batch, head, first * block, block, count)
                for operand in (self.operands.k, self.operands.v)
            )
            yield Task(pieces, count)

    def _last_block(self, batch: int, head: int) -> Iterator[Task]:
        """The block that is not full: its keys, then others of the same head in place of the missing ones."""
        length, block = self.work.call.key_length, self.plan.key_block
        there = length % block
        missing = block - there
        operands = (self.operands.k, self.operands.v)
        if missing <= length:
            yield Task(
                tuple(
                    self._piece(operand, batch, head, first, rows)
                    for operand in operands
                    for first, rows in ((length - there, there), (length - missing, missing))
                )
            )
            return
        for operand in operands:
            yield from self._all_keys(operand, batch, head)


def _of_heads(piece: Piece, operand: Operand, rows: int, heads: int) -> Piece:
    """The piece that is so many rows of a head, of heads that follow each other."""
    width = piece.words // rows
    piece = piece._replace(words=heads * piece.words, row=width)
    if rows == 1:
        return piece._replace(stride=operand.head)
    return piece._replace(stride=operand.row, rows=rows, block=operand.head)


def _columns(q: Operand, offset: int, rows: int, heads: int, width: int, runs: int) -> Piece:
    """The first columns of so many rows, one by one in each run."""
    piece = Piece(q.argument, offset, rows * width, width, q.row, runs, width if runs > 1 else 1)
    return piece if heads == 1 else _of_heads(piece, q, rows, heads)


def joined(stages: Iterable[Stage]) -> Stage:
    """All of them as one: neighbouring tasks of a channel that run once are one chain."""
    together: dict[Channel, list[Task]] = {channel: [] for channel in CHANNELS}
    for stage in stages:
        for channel, some in stage.items():
            tasks = together[channel]
            for task in some:
                if tasks and tasks[-1].repeat == task.repeat == 1:
                    tasks[-1] = Task(tasks[-1].pieces + task.pieces)
                else:
                    tasks.append(task)
    return together


def one_by_one(tasks: Iterable[Task]) -> Iterator[Task]:
    """The same transfers with one descriptor a task: no chain, no iteration, no repeat."""
    for task in tasks:
        for run in range(task.repeat):
            for piece in task.pieces:
                moved = WORD_BYTES * piece.step * (run % piece.iterations) if piece.iterations > 1 else 0
                yield Task((piece._replace(offset=piece.offset + moved, iterations=1, step=1),))
