"""MM2S channels: they read descriptors' words from memory and send them into the switches.

A descriptor counts as done when its last word is taken at the far end.  Where the way is free that is known while the
words enter, and measured: some cycles before the last of them has left (timing.py, `*_mm2s_finish`).

A channel that cannot send fetches ahead: into six entries of 16 bytes, each of words of one descriptor, so that it
takes the locks of up to six descriptors before the words of the first have left (dma.mm2s_inflight of
facts/silicon/calibration.json: 48 words in flight from a core to the shim, 24 of them on the way).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from npuc.runtime.emulator.descriptor import Descriptor
from npuc.runtime.emulator.dma import Channel, Task, Window
from npuc.runtime.emulator.errors import UndefinedData
from npuc.runtime.emulator.streams import Inlet, Outlet, Supply
from npuc.runtime.emulator.switches import source_slave
from npuc.runtime.emulator.tile import Tile
from npuc.runtime.emulator.waits import Wait

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

ENTRY_WORDS = 4  # words of a fetched 16-byte entry


@dataclass(slots=True)
class Run:
    """One run of a descriptor whose lock is held.

    task: the one it ends.  header: still to be sent before the words.  position: of the next word.  left: words still
    to be sent, without the header.
    """

    number: int
    descriptor: Descriptor
    window: Window
    task: Task | None
    header: int | None
    left: int
    position: int = 0


class Sender(Channel, Supply):
    """An MM2S channel and the supply of its outlet."""

    direction = "mm2s"

    def __init__(self, array: Array, tile: Tile, number: int) -> None:
        super().__init__(array, tile, number)
        self.outlet = Outlet(array, tile, lambda: source_slave(tile, number), self.name, self.rank, self)
        self.runs: deque[Run] = deque()  # the first is being sent, the others are fetched ahead
        self.parked = False  # the last run is that of the loaded descriptor: the next is not asked for yet
        self.in_packet = False  # the descriptor loaded last did not end its packet
        self.ready_since = 0
        self._resets = 0
        self.unfinished: list[int] = []  # descriptors sent, not yet done

    @property
    def busy(self) -> bool:
        return self.task is not None or bool(self.runs) or bool(self.unfinished)

    @property
    def number_running(self) -> int | None:
        return self.runs[0].number if self.runs else self.loaded

    def in_use(self) -> list[int]:
        return [run.number for run in self.runs] or super().in_use()

    def progress(self) -> tuple[int, int]:
        if self.runs:
            return self.runs[0].position, self.runs[0].descriptor.pattern.length
        return 0, self.descriptor.pattern.length if self.descriptor is not None else 0

    def first_word_delay(self) -> int:
        return self.array.machine.shim_mm2s_first if self.tile.kind == "shim" else 0

    def reset(self) -> None:
        super().reset()
        self._resets += 1
        self.runs.clear()
        self.unfinished.clear()
        self.in_packet = self.parked = False
        self.outlet.reset()

    # descriptors

    def proceed(self) -> None:
        if self.granted and not self.parked:
            self._start()
        self.outlet.pump()

    def _start(self) -> None:
        """The loaded descriptor has its lock: its words may be fetched."""
        descriptor, window, number = self.descriptor, self.window, self.loaded
        assert descriptor is not None and window is not None and number is not None
        word = None
        if descriptor.packet is not None and not self.in_packet:
            word = self.array.header(descriptor.packet, self.tile)
        self.in_packet = not descriptor.tlast
        if not self.runs:
            self.ready_since = self.clock.cycle
        self.runs.append(
            Run(number, descriptor, window, self.task if self.ends_task() else None, word, descriptor.pattern.length)
        )
        self.parked = True
        if self.array.listeners:
            self.array.note(self.name, "descriptor started", self.clock.cycle)
        self.fetch_ahead()

    def fetch_ahead(self) -> None:
        """While nothing can be sent: ask for the next descriptor if an entry is free."""
        if not self.parked or not self.outlet.blocked_on:
            return
        entries = sum(-(-run.left // ENTRY_WORDS) for run in self.runs)
        if entries < self.array.machine.send_entries:
            self.parked = False
            self.run_ended()

    # the supply of the outlet

    def offer(self) -> int:
        if not self.runs or (self.control and self.paused):
            return 0
        run = self.runs[0]
        return run.left + (run.header is not None)

    def peek(self) -> int:
        run = self.runs[0]
        return run.header if run.header is not None else int(self._read(run, 1)[0])

    def take(self, count: int) -> np.ndarray:
        run = self.runs[0]
        if run.header is None:
            words = self._read(run, count)
        else:
            words = np.empty(count, dtype=np.uint32)
            words[0], run.header = run.header, None
            count -= 1
            words[1:] = self._read(run, count)
        run.position += count
        run.left -= count
        self.tail = not run.left and run.descriptor.tlast
        return words

    def _read(self, run: Run, count: int) -> np.ndarray:
        pattern, window, position = run.descriptor.pattern, run.window, run.position
        if pattern.linear:
            if window.written is not None:
                self._check_written(run, np.arange(position, position + count))
            return window.words[position : position + count].copy()
        offsets = pattern.offsets(position, count)
        if window.written is not None:
            self._check_written(run, offsets[offsets >= 0])
        words = window.words.take(offsets, mode="wrap")  # all lie inside; numpy's own check takes longer
        if pattern.pads:
            words[offsets < 0] = 0
        return words

    def _check_written(self, run: Run, offsets: np.ndarray) -> None:
        """Strict: memory that is sent was written before, with defined values."""
        memory = run.window.memory
        assert memory is not None and run.window.written is not None
        missing = offsets[~run.window.written[offsets].all(axis=1)]
        if missing.size:
            first = 4 * (run.window.base + int(missing[0]))
            origin = memory.origin(first, 4)
            what = memory.why() if origin is None else "memory that holds undefined bits"
            error = UndefinedData(
                f"{self.name}, descriptor {run.number}, sends {missing.size} words of {what}, the first at {first:#x}"
                + ("" if origin is None else f": {origin}")
            )
            begin = 4 * run.window.base
            end = begin + 4 * (run.descriptor.pattern.reach + 1)
            error.sent = (memory, first, begin, end) if origin is None else None
            raise error

    def ddr(self) -> tuple[str, float, float] | None:
        machine = self.array.machine
        if self.tile.kind != "shim":
            return None
        pattern = self.runs[0].descriptor.pattern
        return "read", max(machine.shim_mm2s_word, machine.ddr_run / pattern.run), machine.ddr_read_bytes

    def held_up(self) -> None:
        self.fetch_ahead()

    def leaving(self, first: float, end: float, late: list[tuple[Inlet, int]]) -> None:
        run = self.runs[0]
        starved = int(first) - self.ready_since
        if starved > 0:
            self.starved_cycles += starved
        if self.array.listeners:
            self.array.note(self.name, "sending", first, end)
        if run.left:
            return
        self.unfinished.append(run.number)
        if not late:
            self.later(max(end + self._finish_offset(run.descriptor), first + 1), self._done, run)
            return
        missing = {id(inlet) for inlet, _ in late}
        latest, resets = 0.0, self._resets

        def taken(inlet: Inlet, cycle: float) -> None:
            nonlocal latest
            missing.discard(id(inlet))
            latest = max(latest, cycle)
            if not missing and resets == self._resets:
                self.later(latest, self._done, run)

        for inlet, index in late:
            inlet.when_taken(index, partial(taken, inlet))

    def _finish_offset(self, descriptor: Descriptor) -> int:
        machine = self.array.machine
        if self.tile.kind == "core":
            return machine.core_mm2s_finish
        if self.tile.kind == "memtile":
            return machine.memtile_mm2s_finish if descriptor.pattern.steps[0] == 1 else machine.memtile_strided_finish
        return 0

    def _done(self, run: Run) -> None:
        self.unfinished.remove(run.number)
        self.finished(run.descriptor, run.task)

    def sent(self, count: int, cycles: float) -> None:
        self.words += count
        self.busy_cycles += round(cycles)
        self.ready_since = self.clock.cycle
        runs = self.runs
        if runs[0].left:
            return
        runs.popleft()
        if runs:
            self.outlet.free_at += self.array.machine.next_descriptor
        elif self.parked:
            self.parked = False
            self.run_ended()

    # diagnosis

    def starved(self) -> bool:
        return bool(self.runs) and bool(self.outlet.blocked_on)

    def waits_for(self) -> tuple[Wait, ...]:
        if not self.runs:
            return super().waits_for()
        moved, length = self.progress()
        return tuple(
            Wait(
                self.name,
                wait.kind,
                wait.on,
                f"{length - moved} of {length} words to go; {wait.text.removeprefix(self.name + ' ')}",
                wait.peers,
            )
            for wait in self.outlet.waits_for()
        )
