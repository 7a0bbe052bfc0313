"""Performance counters: the cycles of an event, or those from one event to another.

A counter whose start and stop event are the same counts the cycles in which the event is there; otherwise it counts
from the cycle of the start event up to the one of the stop event, again and again (facts/platform/device_npu1.md,
"Events, trace, counters"; how public designs use it). A reset event sets it to 0. Values are computed when a counter is
read, from what happened until then; an event without a source here is named when a counter that needs it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from npuc.compiler.target.npu1.register_fields import register_fields
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.event_network import known_broadcasts
from npuc.runtime.emulator.tile import Tile

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array, Note

CONTROL = re.compile(r"Performance_(?:Control|Ctrl)\d$")
VALUE = re.compile(r"Performance_Counter(\d)$")
GENERATE = re.compile(r"Event_Generate$")
_FIELD = re.compile(r"Cnt(\d)_(Start|Stop|Reset)_Event")
_NONE, _TRUE = 0, 1
# Event numbers per module, facts/platform/events_aie2.json. By what the array notes of a core or channel.
_CORE = {"stream stall": 24, "cascade stall": 25, "acquire": 26}
INSTRUCTIONS = (33, 34, 68, 69)  # event #0 to #3: instr_event_0, instr_event_1, instr_warning, instr_error
_FINISHED = {
    "memory": {"descriptor finished": 23, "task finished": 27},
    "memtile": {"descriptor finished": 25, "task finished": 29},
    "shim": {"descriptor finished": 18, "task finished": 22},
}
# As long as they last.  A memory tile's are those of the channels that DMA_Event_Channel_Selection names.
_LASTING = {
    "memory": {"lock stall": 31, "memory backpressure": 39},
    "memtile": {"lock stall": 33, "memory backpressure": 41},
    "shim": {"lock stall": 26, "memory backpressure": 34},
}
_CHANNELS = {("s2mm", 0): 0, ("s2mm", 1): 1, ("mm2s", 0): 2, ("mm2s", 1): 3}
_USER = {"core": range(124, 128), "memory": range(124, 128), "memtile": range(159, 161), "shim": range(126, 128)}
_KNOWN = {module: {_NONE, _TRUE, *users, *known_broadcasts(module)} for module, users in _USER.items()}
_KNOWN["core"] |= {*_CORE.values(), *INSTRUCTIONS}
for _module, _events in _FINISHED.items():
    _KNOWN[_module] |= {first + place for first in _events.values() for place in _CHANNELS.values()}
for _module, _events in _LASTING.items():
    _KNOWN[_module] |= {_events["lock stall"] + place for place in _CHANNELS.values()}
    _KNOWN[_module] |= {_events["memory backpressure"] + place for place in (0, 1)}  # of receiving channels
SELECTION = 0xA06A0  # DMA_Event_Channel_Selection, registers_aie2.json: three bits each for S2MM 0, 1, MM2S 0, 1

Span = tuple[float, float]  # from, up to


def module_of(kind: str, offset: int) -> str:
    """The module of a tile that a register belongs to: 'core', 'memory', 'memtile' or 'shim'."""
    return "memory" if kind == "core" and offset < 0x20000 else kind


@dataclass
class _Counter:
    """value: at cycle `since`. events: numbers of start, stop and reset. unknown: an event that was counted before and
    has no source here."""

    value: int = 0
    since: int = 0
    unknown: int | None = None
    events: dict[str, int] = field(default_factory=lambda: {"Start": _NONE, "Stop": _NONE, "Reset": _NONE})


class Counters:
    """All performance counters of an array; `events` of a module happen through `happened` and the array's notes."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self._counters: dict[tuple[str, str, int], _Counter] = {}
        self._spans: dict[tuple[str, str, int], list[Span]] = {}
        self._units: dict[str, tuple[Tile, tuple[str, int] | None]] = {}  # name -> tile, channel (None: the core)

    # registers

    def write_control(self, tile: Tile, offset: int, value: int) -> None:
        """A write of one of the control registers: what is counted changes from now on."""
        module = module_of(tile.kind, offset)
        for each in register_fields(tile.kind, offset):
            match = _FIELD.fullmatch(each.name)
            if match is None:
                continue
            event = value >> each.lsb & ((1 << each.msb - each.lsb + 1) - 1)
            key = (tile.name, module, int(match[1]))
            counter = self._counters.setdefault(key, _Counter())
            if counter.events[match[2]] != event:
                counter.unknown = counter.unknown or self._sourceless(module, counter)
                if counter.unknown is None:
                    counter.value = self._count(tile, key, counter)
                counter.since = self.array.clock.cycle
                counter.events[match[2]] = event
                self.listen()

    def write_value(self, tile: Tile, offset: int, index: int, value: int) -> None:
        """Sets a counter."""
        counter = self._counters.setdefault((tile.name, module_of(tile.kind, offset), index), _Counter())
        counter.value, counter.since, counter.unknown = value, self.array.clock.cycle, None

    def read_value(self, tile: Tile, offset: int, index: int, who: str) -> int:
        """A counter now.  EmulationError when it counts an event that has no source here."""
        key = (tile.name, module_of(tile.kind, offset), index)
        counter = self._counters.get(key)
        if counter is None:
            return 0
        unknown = counter.unknown or self._sourceless(key[1], counter)
        if unknown is not None:
            raise EmulationError(
                f"{who} reads performance counter {index} of {tile.name}, {key[1]} module, which "
                f"counts event {unknown}: not modelled"
            )
        return self._count(tile, key, counter) & 0xFFFFFFFF

    # events

    def happened(self, tile: Tile, module: str, event: int) -> None:
        """An event of a module in the present cycle."""
        cycle = self.array.clock.cycle
        self._spans.setdefault((tile.name, module, event), []).append((cycle, cycle + 1))

    def listen(self) -> None:
        """From now on what cores and channels do is recorded as events."""
        if self._heard not in self.array.listeners:
            self.array.listeners.append(self._heard)
            for tile in self.array.tiles.values():
                self._units[tile.name] = tile, None
                for place, channel in tile.channels.items():
                    self._units[channel.name] = tile, place

    def _heard(self, note: Note) -> None:
        tile, channel = self._units.get(note.unit, (None, None))
        if tile is None:
            return
        if channel is None:
            event = _CORE.get(note.what) or _CORE.get(note.what.partition(" ")[0])
            if event is not None:
                self._spans.setdefault((tile.name, "core", event), []).append((note.start, note.end))
            return
        module = "memory" if tile.kind == "core" else tile.kind
        for place in self._places(tile, channel):
            first = _FINISHED[module].get(note.what)
            if first is not None:
                self.array.event_network.happened(tile, module, first + place)
            first = _LASTING[module].get(note.what)
            if first is not None:
                self._spans.setdefault((tile.name, module, first + place), []).append((note.start, note.end))

    @staticmethod
    def _places(tile: Tile, channel: tuple[str, int]) -> list[int]:
        """The places of a channel among the four that have events."""
        if tile.kind != "memtile":
            return [_CHANNELS[channel]]
        selected = tile.plain.get(SELECTION, 0)
        return [
            place for (direction, _), place in _CHANNELS.items() if channel == (direction, selected >> 8 * place & 7)
        ]

    # counting

    @staticmethod
    def _sourceless(module: str, counter: _Counter) -> int | None:
        """An event that the counter needs and that has no source."""
        if counter.events["Start"] == _NONE:
            return None
        return next((event for event in counter.events.values() if event not in _KNOWN[module]), None)

    def _count(self, tile: Tile, key: tuple[str, str, int], counter: _Counter) -> int:
        now, module = self.array.clock.cycle, key[1]
        start, stop, reset = (counter.events[each] for each in ("Start", "Stop", "Reset"))
        if start == _NONE:
            return counter.value
        resets = [first for first, _ in self._of(tile, module, reset) if counter.since <= first < now]
        since, value = (max(resets), 0) if resets else (counter.since, counter.value)
        spans = self._of(tile, module, start)
        running = list(spans) if start == stop else _between(spans, self._of(tile, module, stop), counter.since)
        return value + int(sum(max(0, min(last, now) - max(first, since)) for first, last in running))

    def _of(self, tile: Tile, module: str, event: int) -> list[Span]:
        """When the event was there, what goes on now included."""
        if event == _TRUE:
            return [(0, float("inf"))]
        spans = list(self._spans.get((tile.name, module, event), ()))
        stalled = tile.core.stall_under_way() if tile.core is not None and module == "core" else None
        if stalled is not None and _CORE.get(stalled[0].partition(" ")[0], _CORE.get(stalled[0])) == event:
            spans.append((stalled[1], self.array.clock.cycle))
        return spans


def _between(starts: list[Span], stops: list[Span], since: int) -> list[Span]:
    """From every start event to the next stop event; both from `since` on."""
    edges = sorted(
        [(max(first, since), 0) for first, last in starts if last > since]
        + [(max(first, since), 1) for first, last in stops if last > since]
    )
    return list(_pairs(iter(edges)))


def _pairs(edges: Iterator[tuple[float, int]]) -> Iterator[Span]:
    begun: float | None = None
    for cycle, is_stop in edges:
        if is_stop and begun is not None:
            yield begun, cycle
            begun = None
        elif not is_stop and begun is None:
            begun = cycle
    if begun is not None:
        yield begun, float("inf")


def has_source(module: str, event: int) -> bool:
    """Whether something here makes the event happen."""
    return event in _KNOWN[module]
