"""MM2S channels: they read a descriptor's words from memory and send them into the switches.

A descriptor counts as done when its last word is taken at the far end.  Where the way is free that is known while the
words enter, and measured: some cycles before the last of them has left (timing.py, `*_mm2s_finish`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from npuc.runtime.emulator.descriptor import Descriptor, header
from npuc.runtime.emulator.dma import Channel, Task
from npuc.runtime.emulator.streams import Inlet, Outlet, Supply
from npuc.runtime.emulator.switches import source_slave
from npuc.runtime.emulator.tile import Tile
from npuc.runtime.emulator.waits import Wait

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

ENTRY_WORDS = 4  # words of a fetched 16-byte entry


class Sender(Channel, Supply):
    """An MM2S channel and the supply of its outlet."""

    direction = "mm2s"

    def __init__(self, array: Array, tile: Tile, number: int) -> None:
        super().__init__(array, tile, number)
        self.outlet = Outlet(array, tile, lambda: source_slave(tile, number), self.name, self.rank, self)
        self.position = 0
        self.header: int | None = None
        self.in_packet = False  # a descriptor without TLAST went before
        self.ready_since = 0
        self.unfinished: list[int] = []  # descriptors sent, not yet done

    @property
    def busy(self) -> bool:
        return self.task is not None or bool(self.unfinished)

    def first_word_delay(self) -> int:
        return self.array.machine.shim_mm2s_first if self.tile.kind == "shim" else 0

    def reset(self) -> None:
        super().reset()
        self.unfinished.clear()
        self.in_packet, self.header = False, None
        self.outlet.reset()

    def begin(self) -> None:
        descriptor = self.descriptor
        assert descriptor is not None
        self.position = 0
        self.header = None
        if descriptor.packet is not None and not self.in_packet:
            self.header = header(descriptor.packet, self.tile.column, self.tile.row)
        super().begin()

    def proceed(self) -> None:
        self.ready_since = self.array.clock.cycle
        self.outlet.pump()

    def starved(self) -> bool:
        return self.granted and bool(self.outlet.blocked_on)

    # the supply of the outlet

    def offer(self) -> int:
        if not self.granted or self.paused or self.descriptor is None:
            return 0
        return self.descriptor.pattern.length - self.position + (self.header is not None)

    def peek(self) -> int:
        return self.header if self.header is not None else int(self._read(1)[0])

    def take(self, count: int) -> np.ndarray:
        if self.header is None:
            words = self._read(count)
            self.position += count
            return words
        words = np.empty(count, dtype=np.uint32)
        words[0], self.header = self.header, None
        words[1:] = self._read(count - 1)
        self.position += count - 1
        return words

    def _read(self, count: int) -> np.ndarray:
        assert self.descriptor is not None and self.window is not None
        pattern, window = self.descriptor.pattern, self.window
        if pattern.linear:
            start = window.base + self.position
            return window.words[start : start + count].copy()
        offsets = pattern.offsets(self.position, count)
        words = window.words[window.base + offsets]
        if pattern.pads:
            words[offsets < 0] = 0
        return words

    def ends_packet(self) -> bool:
        assert self.descriptor is not None
        return self.descriptor.tlast and self.position == self.descriptor.pattern.length

    def ddr(self) -> tuple[str, float, float] | None:
        machine = self.array.machine
        return ("read", machine.shim_mm2s_word, machine.ddr_read_bytes) if self.tile.kind == "shim" else None

    def leaving(self, first: float, end: float, ends: list[tuple[Inlet, int]] | None) -> None:
        descriptor, bd = self.descriptor, self.number_running
        assert descriptor is not None and bd is not None
        self.starved_cycles += max(0, int(first) - self.ready_since)
        self.array.note(self.name, "sending", first, end)
        if self.position < descriptor.pattern.length:
            return
        task = self.task if self.ends_task() else None
        self.unfinished.append(bd)
        if ends is None:
            done = max(end + self._finish_offset(descriptor), first + 1)
            self.later(done, lambda: self._done(bd, descriptor, task))
            return
        missing = {id(inlet) for inlet, _ in ends}
        latest = 0.0

        def taken(inlet: Inlet, cycle: float) -> None:
            nonlocal latest
            missing.discard(id(inlet))
            latest = max(latest, cycle)
            if not missing:
                self.later(latest, lambda: self._done(bd, descriptor, task))

        for inlet, index in ends:
            inlet.when_taken(index, partial(taken, inlet))

    def _finish_offset(self, descriptor: Descriptor) -> int:
        machine = self.array.machine
        if self.tile.kind == "core":
            return machine.core_mm2s_finish
        if self.tile.kind == "memtile":
            return machine.memtile_mm2s_finish if descriptor.pattern.steps[0] == 1 else machine.memtile_strided_finish
        return 0

    def _done(self, bd: int, descriptor: Descriptor, task: Task | None) -> None:
        self.unfinished.remove(bd)
        self.finished(descriptor, task)

    def sent(self, count: int, cycles: float) -> None:
        assert self.descriptor is not None
        self.words += count
        self.busy_cycles += round(cycles)
        self.ready_since = self.array.clock.cycle
        if self.position == self.descriptor.pattern.length:
            self.in_packet = not self.descriptor.tlast
            self.run_ended()

    # diagnosis

    def waits_for(self) -> tuple[Wait, ...]:
        waits = super().waits_for()
        if waits or not self.granted or self.descriptor is None:
            return waits
        length = self.descriptor.pattern.length
        return tuple(
            Wait(self.name, wait.kind, wait.on, f"{length - self.position} of {length} words to go; "
                 f"{wait.text.removeprefix(self.name + ' ')}", wait.peers)
            for wait in self.outlet.waits_for())
