"""Turns what happens in an array into a trace: spans of cores, channels and the sequence, levels of locks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.controller import SEQUENCE
from npuc.runtime.trace import (
    CONTROLLER_PROCESS,
    FIRST_TILE_PROCESS,
    LOCKS_THREAD,
    MOST_EVENTS,
    Level,
    Span,
    Trace,
)

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array, Note
    from npuc.runtime.emulator.tile import Tile

CORE_THREAD, S2MM_THREAD, MM2S_THREAD = 1, 10, 20
# Of what the array notes about channels, the moments; they go with spans of the same end.
MOMENTS = ("descriptor finished", "task finished")


class Recorder:
    """Listens to one array while it runs.  kernel: what core spans are called."""

    def __init__(self, array: Array, kernel: str) -> None:
        self.array, self.kernel = array, kernel
        self.spans: list[Span] = []
        self.levels: list[Level] = []
        self.dropped = 0
        self._began = 0
        self._places: dict[str, tuple[int, int]] = {SEQUENCE: (CONTROLLER_PROCESS, 1)}
        self._computing: dict[str, float] = {}  # core -> since when
        self._open: dict[str, Span] = {}  # the span of a unit that may still grow
        for tile in array.tiles.values():
            process = _process(tile)
            self._places[tile.name] = (process, CORE_THREAD)
            for (direction, number), channel in tile.channels.items():
                self._places[channel.name] = (process, (S2MM_THREAD if direction == "s2mm" else MM2S_THREAD) + number)

    # listening

    def start(self) -> None:
        """Begin: cores that run are in their program from now on."""
        now = self._began = self.array.clock.cycle
        self.array.listeners.append(self.heard)
        for tile in self.array.tiles.values():
            tile.locks.changed = self._level
            if tile.core is not None and tile.core.running and tile.core.waiting is None:
                self._computing[tile.name] = now

    def stop(self) -> None:
        """End: close what is open."""
        now = self.array.clock.cycle
        self.array.listeners.remove(self.heard)
        for tile in self.array.tiles.values():
            tile.locks.changed = None
            if tile.core is None:
                continue
            if tile.core.waiting is not None and tile.core.waiting.cycle <= now:
                self._stall(tile.name, tile.core.stall_name(tile.core.waiting), tile.core.waiting.cycle, now)
            elif tile.core.running:
                self._compute(tile.name, tile.core.done_at or now)
        for span in self._open.values():
            self._keep(span)
        self._open.clear()

    def heard(self, note: Note) -> None:
        """One thing the array tells."""
        if note.what in MOMENTS or note.unit not in self._places:
            return
        process, thread = self._places[note.unit]
        if thread == CORE_THREAD and process != CONTROLLER_PROCESS:
            if note.what == "start":
                self._computing[note.unit] = note.start
            elif note.what == "done":
                self._compute(note.unit, note.end)
                self._computing.pop(note.unit, None)
            else:
                self._stall(note.unit, note.what, note.start, note.end)
            return
        category = "sequence" if process == CONTROLLER_PROCESS else "dma"
        self._add(note.unit, Span(process, thread, note.what, category, note.start, note.end))

    def _stall(self, core: str, what: str, start: float, end: float) -> None:
        self._compute(core, start)
        process, thread = self._places[core]
        self._add(core, Span(process, thread, what, "stall", start, end))
        self._computing[core] = end

    def _compute(self, core: str, until: float) -> None:
        since = self._computing.get(core)
        if since is not None and until > since:
            process, thread = self._places[core]
            self._add(core, Span(process, thread, self.kernel, "core", since, until))

    def _add(self, unit: str, span: Span) -> None:
        """Keep a span; one that goes on where the unit's last ended, doing the same, makes that longer."""
        if span.start < self._began:  # a wait from before
            span = replace(span, start=self._began)
        last = self._open.get(unit)
        if last is not None:
            if last.name == span.name and last.category != "sequence" and span.start <= last.end:
                self._open[unit] = replace(last, end=max(last.end, span.end))
                return
            if span.start < last.end:  # spans of a thread do not overlap; the later begins where the former ended
                span = replace(span, start=last.end, end=max(last.end, span.end))
            self._keep(last)
        self._open[unit] = span

    def _keep(self, span: Span) -> None:
        if len(self.spans) + len(self.levels) < MOST_EVENTS:
            self.spans.append(span)
        else:
            self.dropped += 1

    def _level(self, tile: str, lock: int, value: int) -> None:
        if len(self.spans) + len(self.levels) < MOST_EVENTS:
            process = self._places[tile][0]
            self.levels.append(Level(process, f"lock {lock}", self.array.clock.cycle, value))
        else:
            self.dropped += 1

    # the result

    def trace(self) -> Trace:
        """What was recorded, with names of the processes and threads that occur."""
        used = {(span.process, span.thread) for span in self.spans} | {
            (level.process, LOCKS_THREAD) for level in self.levels
        }
        processes = {CONTROLLER_PROCESS: SEQUENCE} | {_process(tile): tile.name for tile in self.array.tiles.values()}
        names = {place: _thread_name(unit) for unit, place in self._places.items()}
        threads = {place: names.get(place, "locks") for place in used}
        kept = {process: processes[process] for process, _ in used}
        return Trace(self.array.machine.clock_hz, kept, threads, tuple(self.spans), tuple(self.levels), self.dropped)


def _process(tile: Tile) -> int:
    return FIRST_TILE_PROCESS + tile.column * geometry.ROWS + tile.row


def _thread_name(unit: str) -> str:
    if unit == SEQUENCE:
        return "operations"
    return unit.partition(" of ")[0] if " of " in unit else "core"
