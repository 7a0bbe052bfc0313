"""S2MM channels: they take words from a stream and write them to memory.

A loaded descriptor lets 15 words into the channel before its lock is granted; then a word a cycle passes.  The cycle at
which the last word is taken follows from when the words arrive; the next descriptor accepts one cycle later (measured:
dma.bd_switch_recv, dma.s2mm_backpressure of facts/silicon/calibration.json).
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from npuc.runtime.emulator.dma import FINISH_ON_TLAST_LSB, OUT_OF_ORDER, Channel, Task
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.streams import Inlet, Segment
from npuc.runtime.emulator.tile import Tile
from npuc.runtime.emulator.waits import Wait

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

COUNTS_WITH_TOKENS, COUNTS_IN_REGISTER = 2, 3  # finish-on-TLAST modes, bits 17:16 of the control register
COUNT_FIFO = 8  # A: counts that can wait to be read
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
        self.stored_by = 0.0  # when the last of them was taken
        self.loaded_at = self.granted_at = self.resume_at = 0  # resume: from when on the lock lets words through
        self.fits = 0  # words of the descriptor that the buffer holds
        self.ending = False
        self.wants_header = False  # out-of-order mode: the next word is a header that names the descriptor
        self.header: int | None = None  # in that mode, of the packet whose descriptor is under way
        self.counts: deque[int] = deque()

    @property
    def out_of_order(self) -> bool:
        return bool(self.control & OUT_OF_ORDER)

    @property
    def finishes_on_tlast(self) -> bool:
        return bool(self.control >> FINISH_ON_TLAST_LSB & 3)

    def write_control(self, value: int, who: str) -> None:
        if value >> FINISH_ON_TLAST_LSB & 3 == COUNTS_WITH_TOKENS:
            raise EmulationError(
                f"{who} makes {self.name} put word counts into task tokens, which is not modelled: "
                "the token's layout is in no public source"
            )
        super().write_control(value, who)

    def first_word_delay(self) -> int:
        return self.array.machine.shim_s2mm_first if self.tile.kind == "shim" else 0

    def reset(self) -> None:
        super().reset()
        self.pending.clear()
        self.inlet.drop()
        self.base = self.inlet.entered
        self.ending = self.wants_header = False
        self.header = None

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
            self.pending.appendleft(
                Segment(segment.words[1:], segment.first + segment.period, segment.period, segment.last)
            )
        self.later(segment.first, self._load_named, int(segment.words[0]))

    def _load_named(self, header: int) -> None:
        """Begin the descriptor that a header names."""
        self.header = header
        try:
            self.load(header >> 5 & 63, 1)
        except EmulationError as error:
            sources = " or ".join(self.array.sources_of(self.inlet))
            error.message += f": {self.name} took {header:#010x}, a word of {sources}, for a packet's header"
            if header.bit_count() % 2 == 0:
                error.message += ", whose parity it has not: has the packet before it no end?"
            raise

    def run_ended(self) -> None:
        if not self.control or not self.out_of_order:
            Channel.run_ended(self)
            return
        assert self.task is not None
        self.descriptor, self.header, self.granted, self.ending = None, None, False, False
        if self.task.left > 1:
            self.task.left -= 1
            self.later(self.array.clock.cycle + self.array.machine.next_descriptor, self._await_header)
        else:
            self.next_task()

    def ends_task(self) -> bool:
        if not self.control or not self.out_of_order:
            return Channel.ends_task(self)
        assert self.task is not None
        return self.task.left == 1

    # a descriptor

    @property
    def length(self) -> int:
        return self.descriptor.pattern.length if self.descriptor is not None else 0

    def begin(self) -> None:
        assert self.descriptor is not None
        self.loaded_at = now = self.clock.cycle
        self.stored, self.stored_by, self.ending = 0, now - 1.0, False
        length, buffer = self.descriptor.pattern.length, self.array.machine.receive_words
        self.fits = length if length < buffer else buffer
        wanted = self._wanted() if self.control else length
        self.inlet.open(self.base + (wanted if wanted < buffer else buffer), now)
        self.lock_asked = now
        self._acquire()

    def proceed(self) -> None:
        if not self.granted or self.descriptor is None or (self.control and self.paused):
            return
        now, inlet = self.clock.cycle, self.inlet
        self.granted_at = self.resume_at = now
        held, buffer = inlet.entered - self.base, self.fits
        if held >= buffer and now > self.loaded_at and (full := self._taken(buffer) + 1) <= now:
            self.resume_at += self.array.machine.receive_resume
            if full < now and self.array.listeners:
                self.array.note(self.name, "memory backpressure", full, now + 1)
        wanted = self._wanted() if self.control else self.descriptor.pattern.length
        inlet.open(self.base + wanted, self.resume_at)
        self._check()

    def _wanted(self) -> int:
        """Words the descriptor takes: its length, or up to a TLAST that is under way and ends it."""
        if self.finishes_on_tlast:
            so_far = self.stored
            for segment in self.pending:
                so_far += len(segment.words)
                if segment.last and so_far <= self.length:
                    return so_far
        return self.length

    def _taken(self, count: int) -> float:
        """The cycle in which the descriptor's `count`-th word is taken, all words up to it being under way.

        A word is taken when it has arrived, a cycle after the one before it at the earliest, and beyond the buffer not
        before the lock is held.
        """
        if self.stored:
            return self._taken_of_rest(count)
        # Words arrive a cycle apart at least, so that of their arrivals only the last one's matters.
        left, arrived = count, 0.0
        for segment in self.pending:
            words = len(segment.words)
            if words >= left:
                arrived = segment.first + (left - 1) * segment.period
                break
            left -= words
        if not arrived.is_integer():  # sums in another order would round in another way
            return self._taken_of_rest(count)
        last = self.stored_by + count
        beyond = count - self.array.machine.receive_words
        if beyond > 0 and last < self.resume_at - 1 + beyond:
            last = self.resume_at - 1.0 + beyond
        return arrived if arrived > last else last

    def _taken_of_rest(self, count: int) -> float:
        """As `_taken`, segment by segment, also when some words are in memory already."""
        buffer = self.array.machine.receive_words
        last, done = self.stored_by, self.stored
        for segment in self.pending:
            words = min(len(segment.words), count - done)
            if words <= 0:
                break
            inside = min(max(buffer - done, 0), words)
            if inside:
                last = max(last + inside, segment.first + (inside - 1) * segment.period)
            if words > inside:
                if done <= buffer:
                    last = max(last, self.resume_at - 1.0)
                last = max(last + words - inside, segment.first + (words - 1) * segment.period)
            done += words
        return last

    def received(self, segment: Segment) -> None:
        """A segment is on the way to the channel."""
        if segment.token is not None:
            raise EmulationError(
                f"the task token of {segment.token} arrives at {self.name}: what such a word looks "
                "like is in no public source"
            )
        self.pending.append(segment)
        if self.control:
            if segment.last and self.finishes_on_tlast:  # the port refuses what follows until the next descriptor
                self.inlet.open_until = min(self.inlet.open_until, self.inlet.entered)
            if self.wants_header:
                self._take_header()
                return
            if self.paused:
                return
        if self.granted and not self.ending:
            self._check()

    def _check(self) -> None:
        """Ends the descriptor when its last word is on the way."""
        descriptor = self.descriptor
        if self.ending or descriptor is None:
            return
        held = self.inlet.entered - self.base
        count = self._wanted() if self.control else descriptor.pattern.length
        if held < count:
            if held - self.stored > WRITE_THROUGH:
                taken = self._taken(held)
                self._store(held - self.stored)
                self.stored_by = taken
            return
        self.ending = True
        buffered = (min(count, self.array.machine.receive_words) + 3) // 4  # the buffer empties by 16 bytes a cycle
        last, empty = self._taken(count), self.granted_at - 1 + buffered
        clock = self.clock
        clock.at(math.floor(last if last > empty else empty) + 1, self.rank, self._end, count)

    def _store(self, count: int) -> None:
        """Write the next words of the descriptor to memory."""
        assert self.descriptor is not None and self.window is not None
        pending, wanted = self.pending, count
        pieces: list[Any] = []
        while wanted:
            segment = pending.popleft()
            words = segment.words
            size = len(words)
            if size > wanted:
                period = segment.period
                rest = Segment(words[wanted:], segment.first + wanted * period, period, segment.last)
                pending.appendleft(rest)
                words, size = words[:wanted], wanted
            pieces.append(words)
            wanted -= size
        pattern, window, first = self.descriptor.pattern, self.window, self.stored
        if window.memory is None:
            part = (first, count) if pattern.linear else (0, pattern.reach + 1)
            self.array.host.about_to_write(self.descriptor.base + part[0], part[1])
        places: slice | np.ndarray
        if pattern.linear:
            places = slice(first, first + count)
            window.bytes[4 * first : 4 * (first + count)] = b"".join(pieces)
        else:
            places = pattern.offsets(first, count)
            window.words[places] = np.frombuffer(b"".join(pieces), np.uint32)
        if window.written is not None:
            window.written[places] = True
        self.stored += count

    def _end(self, count: int) -> None:
        descriptor, now = self.descriptor, self.clock.cycle
        assert descriptor is not None
        first: float = self.loaded_at
        if self.pending and not self.stored and self.pending[0].first > first:
            first = self.pending[0].first
        if count > self.stored:
            self._store(count - self.stored)
        task: Task | None = self.task if self.ends_task() else None
        self.base += count
        self.words += count
        self.busy_cycles += count
        starved = now - (self.granted_at if self.granted_at > self.loaded_at else self.loaded_at) - count
        if starved > 0:
            self.starved_cycles += starved
        if self.array.listeners:
            self.array.note(self.name, "receiving", first, now)
        if self.control and self.control >> FINISH_ON_TLAST_LSB & 3 == COUNTS_IN_REGISTER:
            self._count(count, task is not None)
        self.finished(descriptor, task)
        self.run_ended()

    def _count(self, words: int, ends_task: bool) -> None:
        """A descriptor's words for the count register."""
        if len(self.counts) == COUNT_FIFO:
            raise EmulationError(
                f"{self.name} has {COUNT_FIFO} word counts that were not read; what becomes of the "
                "next one is not modelled: the depth of their FIFO is in no public source"
            )
        self.counts.append(words | (self.loaded or 0) << 24 | int(ends_task) << 30 | 1 << 31)

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
        what = (
            "a packet header"
            if self.wants_header
            else (f"{self.length - (self.inlet.entered - self.base)} of {self.length} words to go")
        )
        origin = f"they come from {' and '.join(sources)}" if sources else "no stream leads here"
        return (Wait(self.name, "words", self.name, f"{what}; {origin}", sources),)


class _ReceiverInlet(Inlet):
    def __init__(self, channel: Receiver) -> None:
        super().__init__(channel.array, channel.tile, channel.name)
        self.channel = channel
        self.receive = channel.received  # type: ignore[method-assign]  # a call less for each segment

    def ddr(self) -> tuple[str, float, float] | None:
        machine, descriptor = self.array.machine, self.channel.descriptor
        if self.tile.kind != "shim":
            return None
        run = machine.ddr_run / descriptor.pattern.run if descriptor is not None else 0.0
        return "write", max(machine.shim_s2mm_word, run), machine.ddr_write_bytes
