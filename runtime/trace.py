"""A timeline of an emulated run in the trace-event format that Perfetto and Chrome open.

One process a tile, one thread a unit of it (core, DMA channels), counters for its locks, one process for the runtime
sequence.  Times are emulated: cycles at the modelled clock, in microseconds as the format wants them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from npuc.compiler.files import write_bytes

MOST_EVENTS = 1_000_000  # some 150 bytes each in the file; what comes after is counted, not kept
CONTROLLER_PROCESS, FIRST_TILE_PROCESS = 1, 10
LOCKS_THREAD = 40


@dataclass(frozen=True)
class Span:
    """A unit did something from cycle `start` until `end`.  process, thread: as the format numbers them."""

    process: int
    thread: int
    name: str
    category: str
    start: float
    end: float
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Level:
    """A counter has a new value."""

    process: int
    name: str
    cycle: float
    value: int


@dataclass(frozen=True)
class Trace:
    """A recorded timeline.  processes, threads: their names.  dropped: events beyond MOST_EVENTS."""

    clock_hz: int
    processes: dict[int, str]
    threads: dict[tuple[int, int], str]
    spans: tuple[Span, ...]
    levels: tuple[Level, ...]
    dropped: int = 0

    def to_json(self) -> dict[str, Any]:
        """The trace-event file's content; complete events in the order of their start."""
        events: list[dict[str, Any]] = []
        for process, name in sorted(self.processes.items()):
            events.append(_named("process_name", process, 0, {"name": name}))
            events.append(_named("process_sort_index", process, 0, {"sort_index": process}))
        for (process, thread), name in sorted(self.threads.items()):
            events.append(_named("thread_name", process, thread, {"name": name}))
            events.append(_named("thread_sort_index", process, thread, {"sort_index": thread}))
        timed = [self._complete(span) for span in self.spans] + [self._counter(level) for level in self.levels]
        events += sorted(timed, key=lambda event: event["ts"])
        other = {"emulated": True, "clock_hz": self.clock_hz, "dropped_events": self.dropped}
        return {"displayTimeUnit": "ns", "otherData": other, "traceEvents": events}

    def _microseconds(self, cycles: float) -> float:
        return round(cycles * 1e6 / self.clock_hz, 6)

    def _complete(self, span: Span) -> dict[str, Any]:
        start = self._microseconds(span.start)
        return {
            "name": span.name, "cat": span.category, "ph": "X", "pid": span.process, "tid": span.thread, "ts": start,
            "dur": round(self._microseconds(span.end) - start, 6),
            "args": {"cycle": span.start, "cycles": span.end - span.start, **span.arguments},
        }  # fmt: skip

    def _counter(self, level: Level) -> dict[str, Any]:
        return {"name": level.name, "cat": "lock", "ph": "C", "pid": level.process, "tid": LOCKS_THREAD,
                "ts": self._microseconds(level.cycle), "args": {"value": level.value}}

    def write(self, path: str) -> None:
        """The file, whole or not at all. Raises InputError when it cannot be written."""
        write_bytes(path, json.dumps(self.to_json(), separators=(",", ":")).encode())


def _named(what: str, process: int, thread: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "ts": 0, "args": arguments}

