"""DMA channels, and the streams that join them.

A stream moves when its sending channel and all its receiving channels have a descriptor under way; then words pass at
one a cycle (DDR: slower) in bursts that end where any of the descriptors does.  The time of a burst is computed, not
stepped.  Approximations: receive and send buffers (15 and 48 words) give no slack, and bank conflicts between a DMA
channel and a core cost the channel nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.descriptor import Descriptor, interpret
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.streams import Sink
from npuc.runtime.emulator.tile import Tile

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

LONGEST_BURST = 1024  # words; bounds how long a DDR share is held


class Channel:
    """One S2MM or MM2S channel: its queue of tasks and the descriptor it runs."""

    def __init__(self, array: Array, tile: Tile, direction: str, number: int) -> None:
        self.array, self.tile, self.direction, self.number = array, tile, direction, number
        self.name = f"{direction.upper()} {number} of {tile.name}"
        self.rank = tile.unit_rank(direction, number)
        self.control = 0
        self.queue: deque[tuple[int, int, bool]] = deque()
        self.repeats = 0
        self.first = 0
        self.token = False
        self.busy = False  # a task is under way
        self.number_running: int | None = None  # its descriptor
        self.descriptor: Descriptor | None = None
        self.position = 0
        self.ready = False  # the lock is held, words may pass
        self.waiting_lock: tuple[int, int] | None = None
        self.ready_since = 0
        self.words = self.busy_cycles = self.starved_cycles = self.tasks = 0

    @property
    def remaining(self) -> int:
        return len(self.descriptor.places) - self.position if self.descriptor else 0

    # tasks

    def push(self, word: int, who: str) -> None:
        """A write to the start queue.  EmulationError when four tasks wait already."""
        bd, repeat, token = geometry.split_queue_word(self.tile.kind, word)
        if len(self.queue) >= geometry.CHANNEL_QUEUE_DEPTH:
            raise EmulationError(f"the queue of {self.name} overflows: {who} pushes descriptor {bd} while "
                                 f"{geometry.CHANNEL_QUEUE_DEPTH} tasks wait")
        self._check_number(bd)
        self.queue.append((bd, repeat, token))
        if not self.busy:
            self._next_task()

    def reset(self, who: str) -> None:
        """A reset finds no task: what becomes of one under way is not known."""
        if self.busy:
            raise EmulationError(f"{who} resets {self.name} while a task is under way, which is not modelled")

    def _check_number(self, bd: int) -> None:
        if bd >= geometry.BD_COUNT[self.tile.kind]:
            raise EmulationError(f"{self.name}: there is no descriptor {bd}")
        if self.tile.kind == "memtile":
            even = bd in geometry.MEMTILE_EVEN_CHANNEL_BDS
            if even != (self.number % 2 == 0):
                raise EmulationError(f"{self.name} cannot use descriptor {bd}: even channels reach 0..23, odd 24..47")

    def _next_task(self) -> None:
        self.busy = bool(self.queue)
        if self.busy:
            self.first, self.repeats, self.token = self.queue.popleft()
            machine = self.array.machine
            first = 0
            if self.tile.kind == "shim":
                first = machine.shim_mm2s_first if self.direction == "mm2s" else machine.shim_s2mm_first
            self._load(self.first, machine.task_start + first)

    def _load(self, bd: int, delay: int) -> None:
        """Begin a descriptor after `delay` cycles."""
        self._check_number(bd)
        who = f"descriptor {bd} of {self.tile.name} ({self.name})"
        self.number_running = bd
        self.descriptor, self.tile.descriptors[bd] = interpret(self.tile.kind, self.tile.descriptors[bd], who)
        self.position = 0
        self._check_places(who)
        clock = self.array.clock
        clock.at(clock.cycle + delay, self.rank, self.acquire)

    def _check_places(self, who: str) -> None:
        assert self.descriptor is not None
        places = self.descriptor.places
        if self.tile.memory is None:
            self.array.host.check(places, who)
        elif int(places.min()) < 0 or int(places.max()) >= self.tile.memory.size // 4:
            raise EmulationError(f"{who} leaves the memory: words {int(places.min()):#x}..{int(places.max()):#x}")

    def acquire(self) -> None:
        """Take the descriptor's lock, or wait for it."""
        assert self.descriptor is not None
        wanted = self.descriptor.acquire
        self.waiting_lock = None
        if wanted is not None and not self.tile.locks.try_acquire(*wanted, self.name):
            self.waiting_lock = wanted
            self.tile.locks.wait(wanted[0], self._wake)
            return
        self.ready = True
        self.ready_since = self.array.clock.cycle
        self.array.streams_of(self).advance()

    def _wake(self) -> None:
        clock = self.array.clock
        clock.at(clock.cycle + self.array.machine.lock_visible, self.rank, self.acquire)

    # words

    def take(self, count: int) -> np.ndarray:
        """The next `count` words to send."""
        assert self.descriptor is not None
        places = self.descriptor.places[self.position : self.position + count]
        if self.tile.memory is None:
            return self.array.host.read(places)
        return self.tile.memory.words[places]

    def put(self, words: np.ndarray) -> None:
        """Store received words."""
        assert self.descriptor is not None
        places = self.descriptor.places[self.position : self.position + len(words)]
        if self.tile.memory is None:
            self.array.host.write(places, words)
        else:
            self.tile.memory.store_words(places, words)

    def moved(self, count: int, started: int) -> None:
        """`count` words have passed since `started`; ends the descriptor when they were its last."""
        assert self.descriptor is not None
        now = self.array.clock.cycle
        self.words += count
        self.busy_cycles += now - started
        self.starved_cycles += max(0, started - self.ready_since)
        self.ready_since = now
        self.position += count
        if self.remaining:
            return
        self.ready = False
        release, following = self.descriptor.release, self.descriptor.following
        self.descriptor = None
        if release is not None:
            self.tile.locks.release(*release, self.name)
        if following is not None:
            self._load(following, self.array.machine.next_descriptor)
        elif self.repeats > 1:
            self.repeats -= 1
            self._load(self.first, self.array.machine.next_descriptor)
        else:
            self._finish_task()

    def _finish_task(self) -> None:
        self.tasks += 1
        self.array.last_completion = self.array.clock.cycle
        if self.token:
            self.array.controller_token(self)
        self._next_task()

    def describe(self) -> str | None:
        """What the channel waits for, one line; None when it has no task."""
        if not self.busy:
            return None
        place = f"{self.name}, descriptor {self.number_running}"
        if self.waiting_lock is not None:
            lock, value = self.waiting_lock
            locks = self.tile.locks
            return (f"{place}: waits to acquire lock {lock} by {value}, which is {locks.values[lock]} "
                    f"(last changed by {locks.writers[lock]})")
        return f"{place}: {self.remaining} of {len(self.descriptor.places) if self.descriptor else 0} words to go"


class Stream:
    """One sending channel and all that receive from it."""

    def __init__(self, array: Array, source: Channel, sinks: tuple[Sink, ...]) -> None:
        self.array, self.source = array, source
        self.sinks = [sink.tile.channels["s2mm", sink.channel] for sink in sinks]
        self.latency = max(sink.latency for sink in sinks)
        self.moving = False
        self._ended = -1

    def advance(self) -> None:
        """Start a burst when every end is ready."""
        ends = [self.source, *self.sinks]
        if self.moving or not all(end.ready for end in ends):
            return
        count = min(LONGEST_BURST, *(end.remaining for end in ends))
        cycles = self._duration(count)
        clock = self.array.clock
        started = clock.cycle
        if started > self._ended + self.array.machine.next_descriptor:
            cycles += self.latency  # the way was empty
        self.moving = True
        words = self.source.take(count)

        def arrive() -> None:
            self.moving = False
            self._ended = clock.cycle
            self._leave_ddr()
            for sink in self.sinks:
                sink.put(words)
            for end in ends:
                end.moved(count, started)
            self.advance()

        clock.at(started + cycles, self.source.rank, arrive)

    def _ddr(self) -> tuple[str, float, float] | None:
        """Direction, cycles a word and bytes a cycle of the DDR end, if there is one."""
        machine = self.array.machine
        if self.source.tile.kind == "shim":
            return "read", machine.shim_mm2s_word, machine.ddr_read_bytes
        if any(sink.tile.kind == "shim" for sink in self.sinks):
            return "write", machine.shim_s2mm_word, machine.ddr_write_bytes
        return None

    def _duration(self, count: int) -> int:
        ddr = self._ddr()
        if ddr is None:
            return count
        direction, word, total = ddr
        self.array.ddr_users[direction] += 1
        return -(-count * max(word, 4 * self.array.ddr_users[direction] / total) // 1).__int__()

    def _leave_ddr(self) -> None:
        ddr = self._ddr()
        if ddr is not None:
            self.array.ddr_users[ddr[0]] -= 1
