"""The core's end of the stream switch: master Core 0 is its input, slave Core 0 its output (see core_services.py)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

import numpy as np

from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.streams import Inlet, Outlet, Segment, Supply, slave_of
from npuc.runtime.emulator.tile import Tile

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

OPEN_EVERY = 4  # words taken between two messages to the sender: it hears of room that much late at most
OUTPUT_WORDS = 2  # A: words the output holds before the switch takes them


class StreamPort(Inlet):
    """Words that wait for the core to read them, and words it wrote that wait for room in the switch."""

    def __init__(self, array: Array, tile: Tile) -> None:
        super().__init__(array, tile, f"the stream input of {tile.name}")
        self._pending: deque[Segment] = deque()
        self._next = 0  # of the first pending segment
        self._taken = 0
        self._wake_reader: list[Callable[[], None]] = []
        self._output = _Output(array, tile)
        self.outlet = self._output.outlet

    def unread(self) -> int:
        """Words that came for the core, or are on their way to it."""
        return self.entered - self._taken

    def unsent(self) -> int:
        """Words of the core that the switch has not taken."""
        return self._output.held()

    def contents(self) -> tuple[deque[Segment], int, Hashable]:
        """What lies in the port: words for the core, how many of the first of them it has read, words of the core."""
        return self._pending, self._next, self._output.contents()

    # input

    def receive(self, segment: Segment) -> None:
        if segment.token is not None:
            raise EmulationError(f"the task token of {segment.token} arrives at {self.name}")
        self._pending.append(segment)
        wakers, self._wake_reader = self._wake_reader, []
        for wake in wakers:
            self.when_readable(wake)

    def take(self) -> tuple[int, bool] | None:
        """The next word that has arrived by now, with its TLAST, or None."""
        if not self._pending:
            return None
        segment, at = self._pending[0], self._next
        now = self.array.clock.cycle
        if segment.first + at * segment.period > now:
            return None
        self._next += 1
        final = self._next == len(segment.words)
        if final:
            self._pending.popleft()
            self._next = 0
        self._taken += 1
        if self._taken - self.open_until >= OPEN_EVERY or not self._pending:
            self.open(self._taken, now)
        return int(segment.words[at]), final and segment.last

    def when_readable(self, wake: Callable[[], None]) -> None:
        """Call `wake` once, at the cycle at which the next word can be taken."""
        if not self._pending:
            self._wake_reader.append(wake)
            return
        arrival = math.ceil(self._pending[0].first + self._next * self._pending[0].period)
        self.array.clock.at(arrival, self.tile.rank, wake)

    def drop(self) -> None:
        super().drop()
        self._pending.clear()
        self._next, self._taken = 0, self.entered

    # output

    def offer(self, word: int, last: bool) -> bool:
        """Give a word to the switch; False when it has no room."""
        return self._output.put(word, last)

    def when_writable(self, wake: Callable[[], None]) -> None:
        """Call `wake` once, when there is room again."""
        self._output.wake.append(wake)


class _Output(Supply):
    """Words the core wrote, with TLAST."""

    def __init__(self, array: Array, tile: Tile) -> None:
        self.array, self.tile = array, tile
        self.wake: list[Callable[[], None]] = []
        self._words: deque[tuple[int, bool]] = deque()
        name = f"the stream output of {tile.name}"
        self.outlet = Outlet(array, tile, slave_of("core", "core"), name, tile.rank, self)

    def put(self, word: int, last: bool) -> bool:
        if len(self._words) >= OUTPUT_WORDS:
            return False
        self._words.append((word, last))
        self.outlet.pump()
        return True

    def held(self) -> int:
        """Words that wait to leave."""
        return len(self._words)

    def contents(self) -> Hashable:
        """Those words, with TLAST."""
        return tuple(self._words)

    def offer(self) -> int:
        for position, (_, last) in enumerate(self._words):
            if last:
                return position + 1
        return len(self._words)

    def peek(self) -> int:
        return self._words[0][0]

    def take(self, count: int) -> np.ndarray:
        taken = [self._words.popleft() for _ in range(count)]
        self.tail = taken[-1][1]
        wakers, self.wake = self.wake, []
        for wake in wakers:
            self.array.clock.at(self.array.clock.cycle + 1, self.tile.rank, wake)
        return np.array([word for word, _ in taken], dtype=np.uint32)
