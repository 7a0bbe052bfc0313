"""Makes a trace of what happens in an array: slices of cores, channels, the sequence; levels of locks, fifos, DDR."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.controller import SEQUENCE
from npuc.runtime.emulator.streams import DDR
from npuc.runtime.trace import (
    CONTROLLER_PROCESS,
    DDR_PROCESS,
    FIRST_TILE_PROCESS,
    LOCKS_THREAD,
    MOST_EVENTS,
    Level,
    Span,
    Trace,
)
from npuc.runtime.trace_names import Names, Phases

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array, Note
    from npuc.runtime.emulator.tile import Tile

CORE_THREAD, S2MM_THREAD, MM2S_THREAD = 1, 10, 20
# Of what the array notes about channels, the moments; they go with spans of the same end.
ACQUIRE = re.compile(r"acquire lock (\d+)")  # of a core's own tile, as `CoreServices.stall_name` has it
MOMENTS = ("descriptor finished", "task finished")
NARROWEST, MOST_INTERVALS = 64, 2048  # cycles and number of the intervals over which bytes of DDR are averaged


class Recorder:
    """Listens to one array while it runs.  names: of the kernel, its phases and locks."""

    def __init__(self, array: Array, names: Names) -> None:
        self.array, self.names = array, names
        self.spans: list[Span] = []
        self.levels: list[Level] = []
        self.dropped = 0
        self._began = 0
        self._places: dict[str, tuple[int, int]] = {SEQUENCE: (CONTROLLER_PROCESS, 1)}
        self._computing: dict[str, float] = {}  # core -> since when
        self._open: dict[str, Span] = {}  # the span of a unit that may still grow
        self._phases: dict[str, tuple[str, float]] = {}  # core -> its phase and since when
        self._ddr = {direction: Rate() for direction in ("read", "write")}
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
            tile.locks.changed = partial(self._level, tile.kind)
            phases = self.names.phases.get((tile.column, tile.row))
            if tile.core is None:
                continue
            if phases is not None:
                tile.core.core.watch(phases.watched, partial(self._passing, tile.name, phases))
            if not tile.core.running:
                continue
            if phases is not None:
                self._phases[tile.name] = phases.at(tile.core.core.pc), now
            if tile.core.waiting is None:
                self._computing[tile.name] = now

    def stop(self) -> None:
        """End: close what is open."""
        now = self.array.clock.cycle
        self.array.listeners.remove(self.heard)
        for tile in self.array.tiles.values():
            tile.locks.changed = None
            if tile.core is None:
                continue
            tile.core.core.watch(frozenset(), None)
            if tile.core.waiting is not None and tile.core.waiting.cycle <= now:
                self._stall(tile.name, tile.core.services.stall_name(tile.core.waiting), tile.core.waiting.cycle, now)
            elif tile.core.running:
                self._compute(tile.name, tile.core.done_at or now)
            self._phase(tile.name, "", now)
        for span in self._open.values():
            self._keep(span)
        self._open.clear()
        # A run that fails leaves cores ahead of the clock.
        self.spans = [
            replace(span, end=now) if span.category == "phase" and span.end > now else span
            for span in self.spans
            if span.category != "phase" or span.start < now
        ]
        for direction, rate in self._ddr.items():
            for cycle, value in rate.steps():
                self.levels.append(Level(DDR_PROCESS, f"{direction}, bytes a cycle", self._began + cycle, value))

    def heard(self, note: Note) -> None:
        """One thing the array tells."""
        if note.unit == DDR:
            self._ddr[note.what].add(note.start - self._began, note.end - self._began, note.size)
        if note.what in MOMENTS or note.unit not in self._places:
            return
        process, thread = self._places[note.unit]
        if thread == CORE_THREAD and process != CONTROLLER_PROCESS:
            if note.what == "start":
                self._computing[note.unit] = note.start
            elif note.what == "done":
                self._compute(note.unit, note.end)
                self._phase(note.unit, "", note.end)
                self._computing.pop(note.unit, None)
            else:
                self._stall(note.unit, note.what, note.start, note.end)
            return
        category = "sequence" if process == CONTROLLER_PROCESS else "dma"
        self._add(note.unit, Span(process, thread, note.what, category, note.start, note.end))

    def _stall(self, core: str, what: str, start: float, end: float) -> None:
        self._compute(core, start)
        process, thread = self._places[core]
        acquired = ACQUIRE.fullmatch(what)
        named = self.names.wait("core", int(acquired[1])) if acquired else None
        self._add(core, Span(process, thread, named or what, "stall", start, end))
        self._computing[core] = end

    def _compute(self, core: str, until: float) -> None:
        since = self._computing.get(core)
        if since is not None and until > since:
            process, thread = self._places[core]
            self._add(core, Span(process, thread, self.names.kernel, "core", since, until))

    def _passing(self, core: str, phases: Phases, cycle: int, address: int) -> None:
        """A core, maybe ahead of the clock, comes to a bundle."""
        name = phases.at(address)
        if name != self._phases.get(core, ("", 0))[0]:
            self._phase(core, name, cycle)

    def _phase(self, core: str, name: str, cycle: float) -> None:
        """A core's phase ends, and another begins."""
        former, since = self._phases.pop(core, ("", 0))
        if former and cycle > since:
            process, thread = self._places[core]
            self._keep(Span(process, thread, former, "phase", since, cycle))
        self._phases[core] = name, cycle

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

    def _level(self, kind: str, tile: str, lock: int, value: int) -> None:
        found = [(self.names.level(kind, lock), value)]
        fifo = self.names.fifo(kind, lock)
        if fifo is not None:
            found.append((f"fifo {fifo[0]}, buffers in use", fifo[1] - value))
        for name, level in found:
            if len(self.spans) + len(self.levels) < MOST_EVENTS:
                self.levels.append(Level(self._places[tile][0], name, self.array.clock.cycle, level))
            else:
                self.dropped += 1

    # the result

    def trace(self) -> Trace:
        """What was recorded, with names of the processes and threads that occur."""
        used = {(span.process, span.thread) for span in self.spans} | {
            (level.process, LOCKS_THREAD) for level in self.levels
        }
        processes = {CONTROLLER_PROCESS: SEQUENCE, DDR_PROCESS: DDR}
        processes |= {_process(tile): tile.name for tile in self.array.tiles.values()}
        names = {place: _thread_name(unit) for unit, place in self._places.items()}
        threads = {place: names.get(place, "levels") for place in used}
        kept = {process: processes[process] for process, _ in used}
        return Trace(self.array.machine.clock_hz, kept, threads, tuple(self.spans), tuple(self.levels), self.dropped)


class Rate:
    """Bytes a cycle over intervals of one width, which grows with the run so that there are not too many."""

    def __init__(self) -> None:
        self.width = NARROWEST
        self._bytes: list[float] = []

    def add(self, start: float, end: float, size: int) -> None:
        """size bytes moved evenly from cycle `start` until `end`."""
        while end >= self.width * MOST_INTERVALS:
            self.width *= 2
            self._bytes = [sum(self._bytes[place : place + 2]) for place in range(0, len(self._bytes), 2)]
        first, last = int(start // self.width), int(end // self.width)
        self._bytes += [0.0] * (last + 1 - len(self._bytes))
        for place in range(first, last + 1):
            inside = min(end, (place + 1) * self.width) - max(start, place * self.width)
            self._bytes[place] += size * inside / (end - start)

    def steps(self) -> list[tuple[int, float]]:
        """(cycle, bytes a cycle from there on), where it changes; 0 in the end."""
        found: list[tuple[int, float]] = []
        for place, moved in enumerate([*self._bytes, 0.0] if self._bytes else []):
            value = round(moved / self.width, 3)
            if value != (found[-1][1] if found else 0):
                found.append((place * self.width, value))
        return found


def _process(tile: Tile) -> int:
    return FIRST_TILE_PROCESS + tile.column * geometry.ROWS + tile.row


def _thread_name(unit: str) -> str:
    if unit == SEQUENCE:
        return "operations"
    return unit.partition(" of ")[0] if " of " in unit else "core"
