"""S2MM channels: they take words from a stream and write them to memory.

A loaded descriptor lets 15 words into the channel before its lock is granted; then a word a cycle passes.  The cycle at
which the last word is taken follows from when the words arrive; the next descriptor accepts one cycle later (measured:
dma.bd_switch_recv, dma.s2mm_backpressure of facts/silicon/calibration.json).
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from npuc.runtime.emulator.dma import FINISH_ON_TLAST_LSB, OUT_OF_ORDER, Channel, Task
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.streams import Inlet, Segment
from npuc.runtime.emulator.tile import Tile
from npuc.runtime.emulator.waits import Wait

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

COUNTS_WITH_TOKENS, COUNTS_IN_REGISTER = 2, 3  # finish-on-TLAST modes, bits 17:16 of the control register
COUNT_FIFO = 8  # A: entries of the count register's FIFO that are kept
WRITE_THROUGH = 16384  # words; longer descriptors write what has arrived before they end


class Receiver(Channel):
    """An S2MM channel and its end of the streams."""

    direction = "s2mm"

    def __init__(self, array: Array, tile: Tile, number: int) -> None:
        super().__init__(array, tile, number)
        self.inlet = _ReceiverInlet(self)
        self.base = 0  # index, among all words that entered, of the first that the present descriptor takes
        self.stored = 0  # words of the descriptor in memory already
        self.pending: deque[Segment] = deque()
        self.loaded_at = self.granted_at = 0
        self.first_at: float | None = None  # arrival of the descriptor's first word
        self.taken_by = 0.0  # when the words received so far are taken at the earliest, counted to the last word
        self.ending = False
        self.wants_header = False  # out-of-order mode: the next word is a header that names the descriptor
        self.counts: deque[int] = deque(maxlen=COUNT_FIFO)

    @property
    def out_of_order(self) -> bool:
        return bool(self.control & OUT_OF_ORDER)

    @property
    def finishes_on_tlast(self) -> bool:
        return bool(self.control >> FINISH_ON_TLAST_LSB & 3)

    def write_control(self, value: int, who: str) -> None:
        if value >> FINISH_ON_TLAST_LSB & 3 == COUNTS_WITH_TOKENS:
            raise EmulationError(f"{who} makes {self.name} put word counts into task tokens, which is not modelled: "
                                 "the token's layout is in no public source")
        super().write_control(value, who)

    def first_word_delay(self) -> int:
        return self.array.machine.shim_s2mm_first if self.tile.kind == "shim" else 0

    def reset(self) -> None:
        super().reset()
        self.pending.clear()
        self.inlet.drop()
        self.base = self.inlet.entered
        self.ending = self.wants_header = False

    # tasks

    def next_task(self) -> None:
        self.task = self.queue.popleft() if self.queue else None
        if self.task is None:
            return
        delay = self.array.machine.task_start + self.first_word_delay()
        if self.out_of_order:
            self.later(self.array.clock.cycle + delay, self._await_header)
        else:
            self.load(self.task.first, delay)

    def _await_header(self) -> None:
        self.wants_header = True
        self.inlet.open(self.base + self.array.machine.receive_words, self.array.clock.cycle)
        self._take_header()

    def _take_header(self) -> None:
        if not self.pending:
            return
        segment = self.pending.popleft()
        self.wants_header = False
        self.base += 1
        if len(segment.words) > 1:
            self.pending.appendleft(Segment(segment.words[1:], segment.first + segment.period, segment.period,
                                            segment.last))
        number = int(segment.words[0]) >> 5 & 63
        self.later(segment.first, lambda: self.load(number, 1))

    def run_ended(self) -> None:
        if not self.out_of_order:
            super().run_ended()
            return
        assert self.task is not None
        self.descriptor, self.granted = None, False
        if self.task.left > 1:
            self.task.left -= 1
            self.later(self.array.clock.cycle + self.array.machine.next_descriptor, self._await_header)
        else:
            self.next_task()

    def ends_task(self) -> bool:
        if self.out_of_order:
            assert self.task is not None
            return self.task.left == 1
        return super().ends_task()

    # a descriptor

    @property
    def length(self) -> int:
        return self.descriptor.pattern.length if self.descriptor is not None else 0

    def begin(self) -> None:
        now = self.array.clock.cycle
        self.loaded_at = now
        self.stored, self.ending = 0, False
        self.first_at = self.pending[0].first if self.pending else None
        self.taken_by = now + self.length - 1.0
        self.inlet.open(self.base + min(self.array.machine.receive_words, self.length), now)
        super().begin()

    def proceed(self) -> None:
        if self.paused or not self.granted or self.descriptor is None:
            return
        machine, now = self.array.machine, self.array.clock.cycle
        buffer = machine.receive_words
        self.granted_at = now
        held = self.inlet.entered - self.base
        resume = now
        if now > self.loaded_at and held >= buffer and self.length > buffer:
            resume = now + machine.receive_resume
            self.taken_by = max(self.taken_by, resume + self.length - 1.0 - buffer)
        self.taken_by = max(self.taken_by, now - 1 + math.ceil(min(self.length, buffer) / 4))  # 16 bytes a cycle
        self._backpressure(held, now)
        for segment in self.pending:
            self._account(segment)
        self.inlet.open(self.base + self.length, resume)
        self._check()

    def _backpressure(self, held: int, now: int) -> None:
        buffer = self.array.machine.receive_words
        full_since = self.loaded_at + buffer
        if held >= buffer and now > full_since:
            self.array.note(self.name, "memory backpressure", full_since, now + 1)

    def _account(self, segment: Segment, before: int | None = None) -> None:
        """The words of `segment` are under way; before: how many of the descriptor came before them."""
        if before is None:
            before = 0
            for other in self.pending:
                if other is segment:
                    break
                before += len(other.words)
            before += self.stored
        count = min(len(segment.words), self.length - before)
        if count > 0:
            last = segment.first + (count - 1) * segment.period
            self.taken_by = max(self.taken_by, last + self.length - before - count)

    def received(self, segment: Segment) -> None:
        """A segment is on the way to the channel."""
        if segment.token is not None:
            raise EmulationError(f"the task token of {segment.token} arrives at {self.name}: what such a word looks "
                                 "like is in no public source")
        self.pending.append(segment)
        if self.first_at is None:
            self.first_at = segment.first
        if self.wants_header:
            self._take_header()
        elif self.granted and not self.paused:
            self._account(segment)
            self._check()

    def _check(self) -> None:
        """Ends the descriptor when its last word is on the way."""
        if self.ending or self.descriptor is None:
            return
        held = self.inlet.entered - self.base
        count, early = self.length, False
        if self.finishes_on_tlast:
            so_far = self.stored
            for segment in self.pending:
                so_far += len(segment.words)
                if segment.last and so_far <= self.length:
                    count, early = so_far, so_far < self.length
                    break
        if held < count:
            if held - self.stored > WRITE_THROUGH:
                self._store(held - self.stored)
            return
        self.ending = True
        last = self.taken_by - (self.length - count) if early else self.taken_by
        self.later(math.floor(last) + 1, lambda: self._end(count))

    def _store(self, count: int) -> None:
        """Write the next words of the descriptor to memory."""
        assert self.descriptor is not None and self.window is not None
        pieces: list[np.ndarray] = []
        wanted = count
        while wanted:
            segment = self.pending.popleft()
            if len(segment.words) > wanted:
                rest = Segment(segment.words[wanted:], segment.first + wanted * segment.period, segment.period,
                               segment.last)
                self.pending.appendleft(rest)
                pieces.append(segment.words[:wanted])
                break
            pieces.append(segment.words)
            wanted -= len(segment.words)
        words = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        pattern, window = self.descriptor.pattern, self.window
        places: slice | np.ndarray
        if pattern.linear:
            places = slice(window.base + self.stored, window.base + self.stored + count)
        else:
            places = window.base + pattern.offsets(self.stored, count)
        window.words[places] = words
        if window.written is not None:
            window.written.reshape(-1, 4)[places] = True
        self.stored += count

    def _end(self, count: int) -> None:
        descriptor, now = self.descriptor, self.array.clock.cycle
        assert descriptor is not None
        if count > self.stored:
            self._store(count - self.stored)
        task: Task | None = self.task if self.ends_task() else None
        self.base += count
        self.words += count
        self.busy_cycles += count
        self.starved_cycles += max(0, now - max(self.granted_at, self.loaded_at) - count)
        self.array.note(self.name, "receiving", max(self.loaded_at, self.first_at or 0), now)
        if self.finishes_on_tlast:
            self.counts.append(count | (self.loaded or 0) << 24 | int(task is not None) << 30 | 1 << 31)
        self.finished(descriptor, task)
        self.run_ended()

    def write_count(self) -> int:
        """Words of the present descriptor that have arrived by now and, the lock being held, are in memory."""
        if not self.granted:
            return 0
        now, count = self.array.clock.cycle, self.stored
        for segment in self.pending:
            count += min(len(segment.words), max(0, math.floor((now - segment.first) / segment.period) + 1))
        return min(count, self.length)

    def pop_count(self) -> int:
        """A read of the finish-on-TLAST count register: valid[31] last[30] descriptor[29:24] words[17:0]."""
        return self.counts.popleft() if self.counts else 0

    # diagnosis

    def progress(self) -> tuple[int, int]:
        return (self.inlet.entered - self.base if self.descriptor is not None else 0), self.length

    def starved(self) -> bool:
        return (self.granted or self.wants_header) and not self.ending

    def waits_for(self) -> tuple[Wait, ...]:
        waits = super().waits_for()
        if waits or not self.starved():
            return waits
        sources = self.array.sources_of(self.inlet)
        what = "a packet header" if self.wants_header else (
            f"{self.length - (self.inlet.entered - self.base)} of {self.length} words to go")
        origin = f"they come from {' and '.join(sources)}" if sources else "no stream leads here"
        return (Wait(self.name, "words", self.name, f"{what}; {origin}", sources),)


class _ReceiverInlet(Inlet):
    def __init__(self, channel: Receiver) -> None:
        super().__init__(channel.array, channel.tile, channel.name)
        self.channel = channel

    def ddr(self) -> tuple[str, float, float] | None:
        machine = self.array.machine
        return ("write", machine.shim_s2mm_word, machine.ddr_write_bytes) if self.tile.kind == "shim" else None

    def receive(self, segment: Segment) -> None:
        self.channel.received(segment)
