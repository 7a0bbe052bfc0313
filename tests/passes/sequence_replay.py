"""Follows a runtime sequence as the shims would, and holds it to what queues, descriptors and tokens allow.

What is known to be done is deduced from tokens alone: a token of a channel ends its task and all before it there, and a
token of the output also ends all tasks whose words the finished items of that column took.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

import numpy as np
from memtile_replay import Memtile

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.passes.attention.core.parameters import LANES_NORTH, NORTH, NORTHERN, Word
from npuc.passes.attention.plan import Plan
from npuc.passes.attention.transfers import FIRST, OUTPUTS, SECOND, Channel
from npuc.passes.attention.work import Work

CHANNELS = {
    geometry.channel_queue_offset("shim", direction, number): (direction, number)
    for direction in geometry.DIRECTIONS
    for number in range(2)
}


@dataclass
class Pushed:
    """A task: its descriptors, whether its end gives a token, and the words it moves as (argument, word index)."""

    descriptors: tuple[int, ...]
    token: bool
    words: np.ndarray  # [n, 2]
    done: bool = False


@dataclass
class Shim:
    descriptors: dict[int, dict[str, int]] = field(default_factory=dict)
    patches: dict[int, tuple[int, int]] = field(default_factory=dict)
    tasks: dict[Channel, list[Pushed]] = field(default_factory=lambda: defaultdict(list))
    tokens: dict[Channel, deque[Pushed]] = field(default_factory=lambda: defaultdict(deque))


class Replay:
    """shims[column] after the whole sequence; parameters[column, row]: words, passed on to the north; chained,
    iterated, repeated: uses."""

    def __init__(self, plan: Plan, work: Work, data: bytes) -> None:
        self.plan, self.work = plan, work
        self.shims = [Shim() for _ in range(plan.columns)]
        self.memtiles = [Memtile(plan) for _ in range(plan.columns)]  # where these keep K and V
        self.parameters: dict[tuple[int, int], tuple[int, ...]] = {}
        self.started: list[tuple[int, int]] = []
        self.sent_at_waits: dict[int, list[int]] = defaultdict(list)  # column -> words pushed to FIRST at each output's
        self.chained = self.iterated = self.repeated = 0
        stream = txn.read_txn(data)
        assert stream.columns == plan.columns
        for operation in stream.operations:
            self._step(operation)
        for shim in self.shims:
            assert not any(shim.tokens.values()), "a token is left"
            for tasks in shim.tasks.values():
                assert all(task.done for task in tasks)
        self._run_memtiles()

    def _run_memtiles(self) -> None:
        for column, memtile in enumerate(self.memtiles):
            for ring, channel in zip(memtile.rings, (FIRST, SECOND), strict=False):
                source = column - column % self.plan.group_columns
                size = self.plan.key_block * self.plan.row_words
                ring.arrived.extend(self.words(source, channel).reshape(-1, size, 2))
                ring.run()
                assert ring.is_rewound()

    def at_cores(self, column: int, channel: Channel) -> np.ndarray:
        """The same of all that the column's cores get, by way of a memory tile that may keep it; as it lies there."""
        if not self.plan.kept:
            return self.words(column - column % self.plan.group_columns, channel)
        out = self.memtiles[column].rings[(FIRST, SECOND).index(channel)].out
        return np.concatenate(out) if out else np.zeros((0, 2), int)

    def words(self, column: int, channel: Channel) -> np.ndarray:
        """[n, 2] (argument, word index) of all that a channel moved, in order."""
        tasks = self.shims[column].tasks[channel]
        return np.concatenate([task.words for task in tasks]) if tasks else np.zeros((0, 2), int)

    def _step(self, operation: txn.Operation) -> None:
        if isinstance(operation, txn.Sync):
            assert (operation.row, operation.rows, operation.columns) == (0, 1, 1)
            self._token(operation.column, (geometry.DIRECTIONS[operation.direction], operation.channel))
            return
        column, row, offset = geometry.split_address(operation.address)  # type: ignore[union-attr]
        shim = self.shims[column]
        if isinstance(operation, txn.BlockWrite) and row == geometry.SHIM_ROW:
            number, rest = divmod(offset - geometry.bd_offset("shim", 0), geometry.BD_STRIDE)
            assert rest == 0 and len(operation.words) == 8
            busy = [t for tasks in shim.tasks.values() for t in tasks if number in t.descriptors and not t.done]
            assert not busy, f"descriptor {number} of column {column} is rewritten in flight"
            shim.descriptors[number] = geometry.unpack_bd("shim", operation.words)
            shim.patches.pop(number, None)
        elif row == geometry.MEMTILE_ROW:
            assert isinstance(operation, (txn.Write, txn.BlockWrite))
            words = operation.words if isinstance(operation, txn.BlockWrite) else (operation.value,)
            self.memtiles[column].write(offset, words)
        elif isinstance(operation, txn.BlockWrite):
            assert offset == self.plan.core_buffers["params"].address
            self.parameters[column, row] = operation.words
        elif isinstance(operation, txn.DdrPatch):
            number, rest = divmod(offset - 4 - geometry.bd_offset("shim", 0), geometry.BD_STRIDE)
            assert rest == 0
            shim.patches[number] = (operation.argument, operation.offset)
        elif isinstance(operation, txn.Write) and row == geometry.SHIM_ROW:
            self._push(shim, CHANNELS[offset], operation.value)
        else:
            assert isinstance(operation, txn.Write) and operation.value == 1
            assert offset == geometry.lock_offset("core", self.plan.core_locks["start"])
            self._start(column, row)

    def _start(self, column: int, row: int) -> None:
        """A core, and those in the north that it tells of the call, each of the next one."""
        words = self.parameters[column, row]
        self.started.append((column, row))
        if words[Word.FLAGS] & NORTHERN:
            told = list(words)
            told[Word.LANE], *others = (words[word] for word in LANES_NORTH)
            for word, lane in zip(LANES_NORTH, (*others, 0), strict=True):
                told[word] = lane
            told[Word.FLAGS] -= NORTH
            self.parameters[column, row + 1] = tuple(told)
            self._start(column, row + 1)

    def _push(self, shim: Shim, channel: Channel, word: int) -> None:
        first, repeat, token = geometry.split_queue_word("shim", word)
        chain = [first]
        while shim.descriptors[chain[-1]]["use_next"]:
            chain.append(shim.descriptors[chain[-1]]["next_bd"])
            assert len(chain) <= geometry.BD_COUNT["shim"], "the chain never ends"
        self.chained += len(chain) > 1
        self.repeated += repeat > 1
        pieces = [self._piece(shim, number, run) for run in range(repeat) for number in chain]
        task = Pushed(tuple(chain), token, np.concatenate(pieces))
        waiting = [t for t in shim.tasks[channel] if not t.done]
        assert len(waiting) < geometry.CHANNEL_QUEUE_DEPTH, "the queue overflows"
        shim.tasks[channel].append(task)
        if token:
            shim.tokens[channel].append(task)

    def _piece(self, shim: Shim, number: int, run: int) -> np.ndarray:
        fields, (argument, offset) = shim.descriptors[number], shim.patches[number]
        assert fields["valid"] and offset % 4 == 0 and not fields["iteration_current"]
        index = np.arange(fields["length"])
        places = np.full(fields["length"], offset // 4)
        for level in range(3):
            wrap, step = fields.get(f"d{level}_wrap", 0), fields[f"d{level}_step"] + 1
            places += (index % wrap if wrap else index) * step
            if not wrap:
                break
            index = index // wrap
        if fields["iteration_wrap"]:
            self.iterated += 1
            assert run <= fields["iteration_wrap"]
            places += run * (fields["iteration_step"] + 1)
        return np.stack([np.full_like(places, argument), places], axis=1)

    def _token(self, column: int, channel: Channel) -> None:
        shim = self.shims[column]
        task = shim.tokens[channel].popleft()
        for earlier in shim.tasks[channel]:
            earlier.done = True
            if earlier is task:
                break
        if channel == OUTPUTS[self.plan.outlets - 1]:  # the last one that is waited for
            self.sent_at_waits[column].append(sum(len(pushed.words) for pushed in shim.tasks[FIRST]))
            self._consumed(column)

    def _consumed(self, column: int) -> None:
        """The items whose output is out have taken their queries, keys and values."""
        shim, plan = self.shims[column], self.plan
        tile = 4 * plan.query_block * plan.row_words
        outputs = OUTPUTS[: plan.outlets]
        out = [sum(len(task.words) for task in shim.tasks[channel] if task.done) for channel in outputs]
        items = min(out) // (tile // plan.outlets)
        group, member = divmod(column, plan.group_columns)
        begun = list(self.work.of_group(group))[:items]
        blocks = sum(item.end - item.first for item in begun if not item.again)
        if plan.mask_parts:
            block = 2 * plan.query_block * plan.key_block
            own = (items * plan.query_chunks + plan.mask_parts * blocks) * block
        else:
            own = items * tile
        size = plan.key_block * plan.row_words
        taken = {SECOND: own, FIRST: 2 * blocks * size if member == 0 else 0}
        if plan.split:
            counts = zip((FIRST, SECOND), plan.query_blocks, strict=True)
            taken = {channel: (items * queries + blocks) * size * (member == 0) for channel, queries in counts}
        sent = sum(item.end - item.first for item in begun)
        for ring, queries in zip(self.memtiles[column].rings, plan.query_blocks, strict=False):
            ring.done(items * queries + blocks, items * queries + sent)
        for channel, words in taken.items():
            for task in shim.tasks[channel]:
                words -= len(task.words)
                if words < 0:
                    break
                task.done = True
