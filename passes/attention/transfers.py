"""What the shims move for one work item: tasks of buffer descriptors, in 32-bit words and bytes of the caller's arrays.

Nothing outside the caller's arrays is read or written, and no word too many is sent: where an item has fewer rows than
its tile, rows are sent (and their results written) again (with a mask Q and O are padded copies then); where the last
key block has fewer keys than a block, other rows of the same head fill it, which the cores hide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from npuc.compiler.diagnostics import ResourceError
from npuc.passes.array.fifo import SHIM_OUTPUT_CHANNEL
from npuc.passes.attention.call import Call
from npuc.passes.attention.masks import MaskCopy, mask_copy, queries_held
from npuc.passes.attention.plan import CORES_PER_COLUMN, ELEMENT_BYTES, WORD_BYTES, Plan
from npuc.passes.attention.streams import FIRST_CHANNEL, SECOND_CHANNEL
from npuc.passes.attention.work import Item, Work

Channel = tuple[str, int]  # of a shim
OUTPUT: Channel = ("s2mm", SHIM_OUTPUT_CHANNEL)
FIRST: Channel = ("mm2s", FIRST_CHANNEL)
SECOND: Channel = ("mm2s", SECOND_CHANNEL)
CHANNELS = (OUTPUT, SECOND, FIRST)

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
    head: int
    row: int

    def place(self, batch: int, head: int, row: int) -> int:
        """Bytes from the argument's start."""
        return self.offset + WORD_BYTES * (batch * self.batch + head * self.head + row * self.row)


@dataclass(frozen=True)
class Operands:
    """Where a call's tensors lie.  mask: its copy (`masks`); mask_per_query: its rows are those of the queries."""

    q: Operand
    k: Operand
    v: Operand
    o: Operand
    mask: Operand | None = None
    mask_per_query: bool = False


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
    plan: Plan, call: Call, numbers: Mapping[str, int], mask_shape: Sequence[int] | None = None
) -> Operands:
    """All tensors whole arguments in row-major order; numbers: role -> argument; mask_shape: as the caller has it."""
    words = plan.row_words
    queries = (call.batch, call.heads, queries_held(plan, call), words)
    keys = (call.batch, call.kv_heads, call.key_length, words)
    return Operands(
        contiguous(numbers["q"], *queries),
        contiguous(numbers["k"], *keys),
        contiguous(numbers["v"], *keys),
        contiguous(numbers["out"], *queries[:3], plan.output_words),
        *(() if mask_shape is None else _mask_operand(numbers["mask"], mask_copy(plan, call, mask_shape))),
    )


def _mask_operand(argument: int, copy: MaskCopy) -> tuple[Operand, bool]:
    head = copy.rows * copy.row_words
    batch = copy.heads * head if copy.batch > 1 else 0
    return Operand(argument, 0, batch, head if copy.heads > 1 else 0, copy.row_words), copy.per_query


def without_keys(operands: Operands, copy: MaskCopy, first: int) -> Operands:
    """Those of the same call from key `first` on; copy: the mask's of the keys that are left."""
    assert operands.mask is not None
    k, v = (replace(one, offset=one.place(0, 0, first)) for one in (operands.k, operands.v))
    mask, per_query = _mask_operand(operands.mask.argument, copy)
    return replace(operands, k=k, v=v, mask=mask, mask_per_query=per_query)


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
        self.queries_held = queries_held(plan, work.call)

    def stages(self, item: Item, column: int) -> tuple[Stage, ...]:
        """What the `column`-th column of its group moves for an item: Q, K and V, or a mask, and O of its rows."""
        first, whole = item.base + column * self.column_rows, self.column_rows
        output: Stage = {OUTPUT: self._rows(self.operands.o, item, first, whole)}
        if self.operands.mask is not None:
            chunks = [Task((piece,)) for piece in self._chunks(item, first)]
            mask = [Task((self._mask(self.operands.mask, item, column),))]
            return {SECOND: chunks}, {SECOND: mask, FIRST: self._turns(item, column)}, output
        if not self.plan.split:
            rows = self._rows(self.operands.q, item, first, whole)
            return {SECOND: rows}, {FIRST: self._turns(item, column)}, output
        if column:
            return (output,)
        before_keys, before_values = (blocks * self.plan.key_block for blocks in self.plan.query_blocks)
        return (
            {FIRST: self._rows(self.operands.q, item, item.base, before_keys)},
            {SECOND: self._rows(self.operands.q, item, item.base + before_keys, before_values)},
            {FIRST: self._keys(self.operands.k, item), SECOND: self._keys(self.operands.v, item)},
            output,
        )

    def further(self) -> dict[int, list[int]]:
        """argument -> bytes from the first head of the call to each."""
        call, operands = self.work.call, self.operands
        found = {}
        for operand, shared in (
            (operands.q, False),
            (operands.k, True),
            (operands.v, True),
            (operands.o, False),
            (operands.mask, False),
        ):
            if operand is not None:
                heads = [call.kv_head(head) if shared else head for head in range(call.heads)]
                found[operand.argument] = [
                    operand.place(batch, head, 0) - operand.offset for batch in range(call.batch) for head in heads
                ]
        return found

    def _chunks(self, item: Item, first: int) -> Iterator[Piece]:
        """The columns of Q's rows in blocks as wide as those of the mask; the last may overlap the one before."""
        plan, q = self.plan, self.operands.q
        offset = q.place(*divmod(item.head, self.work.call.heads), first)
        width = plan.key_block * ELEMENT_BYTES // WORD_BYTES
        whole, rest = divmod(self.row_words, width)
        block = self.column_rows * width
        yield Piece(q.argument, offset, whole * block, width, q.row, rows=self.column_rows, block=width)
        if rest:
            yield Piece(q.argument, offset + WORD_BYTES * (self.row_words - width), block, width, q.row)

    def _mask(self, mask: Operand, item: Item, column: int) -> Piece:
        """All parts of the key blocks of an item."""
        plan = self.plan
        batch, head = divmod(item.head, self.work.call.heads)
        first = item.base + column * self.column_rows if self.operands.mask_per_query else 0
        width = plan.key_block * ELEMENT_BYTES // WORD_BYTES
        begin, blocks = plan.mask_parts * item.first, plan.mask_parts * (item.end - item.first)
        offset = mask.place(batch, head, first) + WORD_BYTES * width * begin
        words = blocks * self.column_rows * width
        return Piece(mask.argument, offset, words, width, mask.row, rows=self.column_rows, block=width)

    def _rows(self, operand: Operand, item: Item, first: int, count: int) -> list[Task]:
        """Rows of a head of Q or O; in place of those beyond the last, those that Work.query names."""
        call = self.work.call
        batch, head = divmod(item.head, call.heads)
        if self.work.by_turns and self.operands.mask is None:
            return self._repeated(self._piece(operand, batch, head, 0, call.query_length), count // call.query_length)
        valid = max(0, min(count, self.queries_held - first))
        tasks = [Task((self._piece(operand, batch, head, first, valid),))] if valid else []
        last = self._piece(operand, batch, head, call.query_length - 1, 1)
        return tasks + self._repeated(last, count - valid)

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
        pieces = [self._piece(operand, batch, head, first, there)]
        if missing:
            pieces.append(self._piece(operand, batch, head, call.key_length - missing, missing))
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
        call, block = self.work.call, self.plan.key_block
        batch, head = divmod(item.head, call.heads)
        head = call.kv_head(head)
        whole = min(item.end, call.key_length // block)
        tasks = []
        for first in range(item.first, whole, BLOCKS_PER_TASK):
            count = min(BLOCKS_PER_TASK, whole - first)
            pieces = tuple(
                self._moving(operand, batch, head, first * block, block, count)
                for operand in (self.operands.k, self.operands.v)
            )
            tasks.append(Task(pieces, count))
        if whole < item.end:
            tasks += self._last_block(batch, head)
        return tasks

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
