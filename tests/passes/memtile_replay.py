"""Follows what a runtime sequence tells a memory tile that keeps K and V, and holds it to queues, locks and rings.

Each ring is filled as early as its locks let it be, which is when it overwrites most.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from npuc.compiler.target.npu1 import geometry
from npuc.passes.array import dma
from npuc.passes.array.kept import Kept
from npuc.passes.attention.plan import Plan
from npuc.passes.attention.streams import make_design

QUEUES = {
    geometry.channel_queue_offset("memtile", direction, channel): (direction, channel)
    for direction in geometry.DIRECTIONS
    for channel in range(2)
}


@dataclass
class Sent:
    """A task that fills or sends: its descriptors and the blocks moved up to its end."""

    descriptors: tuple[int, ...]
    end: int
    done: bool = False


class Ring:
    """One channel.  arrived: blocks that the shim sends, in order.  out: what cores get."""

    def __init__(self, kept: Kept) -> None:
        self.kept, self.arrived, self.out = kept, deque[np.ndarray](), list[np.ndarray]()
        self.places: list[np.ndarray | None] = [None] * kept.tiles
        self.empty, self.full, self.next, self.fills = kept.tiles, 0, 0, 0
        self.words = {one.number: list(one.pack()) for one in kept.descriptors}
        self.tasks: dict[str, list[Sent]] = {"s2mm": [], "mm2s": []}
        # Tasks that send: descriptor, repeats, and the words of those that are written for it.
        self.waiting: deque[tuple[int, int, dict[int, list[int]]]] = deque()
        self.rewound: list[tuple[int, int, int]] = []  # descriptor, number of the word, value

    def write(self, number: int, word: int, words: tuple[int, ...]) -> None:
        if len(words) == 1:  # what was a block's is set back, when all is done
            assert all(task.done for tasks in self.tasks.values() for task in tasks)
            self.rewound.append((number, word, *words))
            return
        self._is_free(number)
        assert word == 0
        self.words[number] = list(words)

    def _is_free(self, number: int) -> None:
        assert number in self.kept.spare
        busy = [task for tasks in self.tasks.values() for task in tasks if number in task.descriptors and not task.done]
        assert not busy, f"descriptor {number} of a memory tile is rewritten in flight"

    def push(self, direction: str, word: int) -> None:
        first, repeat, token = geometry.split_queue_word("memtile", word)
        assert not token
        tasks = self.tasks[direction]
        assert sum(not task.done for task in tasks) < geometry.CHANNEL_QUEUE_DEPTH, "the queue may overflow"
        chain, blocks = [first], 0
        while True:
            fields = geometry.unpack_bd("memtile", self.words[chain[-1]])
            blocks += fields["length"] // self.kept.fifo.tile.words
            if not fields["use_next"]:
                break
            chain.append(fields["next_bd"])
        before = tasks[-1].end if tasks else 0
        tasks.append(Sent(tuple(chain), before + blocks * repeat))
        if direction == "s2mm":
            assert first == self.kept.numbers[0]
            self.fills += repeat
        else:
            written = {number: self.words[number] for number in chain if number in self.kept.spare}
            self.waiting.append((first, repeat, written))

    def run(self) -> None:
        """All tasks, each as soon as it can go on."""
        self._fill()
        for first, repeat, written in self.waiting:
            self.words |= written
            for _ in range(repeat):
                number: int | None = first
                while number is not None:
                    number = self._send(number)
        assert not self.arrived and not self.fills and not self.full and self.empty == self.kept.tiles
        for number, word, value in self.rewound:
            self.words[number][word] = value

    def _fill(self) -> None:
        while self.arrived and self.empty and self.fills:
            place = self._moved(self.kept.numbers[0])[0]
            self.places[place] = self.arrived.popleft()
            self.empty, self.full, self.fills = self.empty - 1, self.full + 1, self.fills - 1

    def _moved(self, number: int) -> tuple[int, int, dict[str, int]]:
        """(place, blocks, fields) of a run of a descriptor, which moves on."""
        fields = geometry.unpack_bd("memtile", self.words[number])
        tile = self.kept.fifo.tile.words
        current = fields["iteration_current"] if fields["iteration_wrap"] else 0
        start = 4 * fields["base_address"] - geometry.MEMTILE_VIEW_OWN - self.kept.address
        place, rest = divmod(start // 4 + current * (fields["iteration_step"] + 1), tile)
        assert rest == 0
        if fields["iteration_wrap"]:
            fields["iteration_current"] = current + 1 if current < fields["iteration_wrap"] else 0
            self.words[number] = list(geometry.pack_bd("memtile", **fields))
        return place, fields["length"] // tile, fields

    def _send(self, number: int) -> int | None:
        place, blocks, fields = self._moved(number)
        empty, full = (geometry.MEMTILE_LOCK_OWN + lock for lock in self.kept.locks)
        if fields["acquire_enable"]:
            assert (fields["acquire_lock"], fields["acquire_value"]) == (full, -blocks)
            assert self.full >= blocks, "what is sent never comes"
            self.full -= blocks
        for block in self.places[place : place + blocks]:
            assert block is not None
            self.out.append(block)
        if fields["release_value"]:
            assert fields["release_lock"] == empty
            self.empty += fields["release_value"]
        self._fill()
        return fields["next_bd"] if fields["use_next"] else None

    def done(self, came: int, sent: int) -> None:
        for direction, until in (("s2mm", came), ("mm2s", sent)):
            for task in self.tasks[direction]:
                task.done |= task.end <= until

    def is_rewound(self) -> bool:
        return all(self.words[one.number] == list(one.pack()) for one in self.kept.descriptors)


class Memtile:
    """A column's."""

    def __init__(self, plan: Plan) -> None:
        self.rings = [Ring(kept) for kept in dma.kept_streams(make_design(plan))]

    def write(self, offset: int, words: tuple[int, ...]) -> None:
        if offset in QUEUES:
            direction, channel = QUEUES[offset]
            self.rings[channel].push(direction, *words)
            return
        number, rest = divmod(offset - geometry.bd_offset("memtile", 0), geometry.BD_STRIDE)
        ring = self.rings[number // len(geometry.MEMTILE_EVEN_CHANNEL_BDS)]
        ring.write(number, rest // 4, words)
