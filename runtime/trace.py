"""A timeline of an emulated run in the trace-event format that Perfetto and Chrome open.

One process a tile, one thread a unit of it (core, DMA channels), counters for its locks and fifos; one process for the
runtime sequence, one for DDR.  On a core's thread slices nest: the kernel, its phases, in them what it waits for.
Times are emulated: cycles at the modelled clock, in microseconds as the format wants them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from npuc.compiler.files import write_bytes

MOST_EVENTS = 500_000  # some 150 bytes each in the file; what comes after is counted, not kept
CONTROLLER_PROCESS, DDR_PROCESS, FIRST_TILE_PROCESS = 1, 2, 10
LOCKS_THREAD = 40


@dataclass(frozen=True, slots=True)
class Span:
    """A unit did something from cycle `start` until `end`.  process, thread: as the format numbers them.

    category: `sequence`, `dma`, of cores `core` (the program runs), `stall` (it stands still), `phase` (a part of the
    program, which lies over both of these).
    """

    process: int
    thread: int
    name: str
    category: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Level:
    """A counter has a new value."""

    process: int
    name: str
    cycle: float
    value: float


@dataclass(frozen=True, repr=False)
class Trace:
    """A recorded timeline.  processes, threads: their names.  dropped: events beyond MOST_EVENTS."""

    clock_hz: int
    processes: dict[int, str]
    threads: dict[tuple[int, int], str]
    spans: tuple[Span, ...]
    levels: tuple[Level, ...]
    dropped: int = 0

    def __repr__(self) -> str:
        return f"<npuc.Trace of {len(self.threads)} units, {len(self.spans) + len(self.levels):,} events>"

    def to_json(self) -> dict[str, Any]:
        """The trace-event file's content."""
        return {**self._about(), "traceEvents": list(self.events())}

    def _about(self) -> dict[str, Any]:
        other = {"emulated": True, "clock_hz": self.clock_hz, "dropped_events": self.dropped}
        return {"displayTimeUnit": "ns", "otherData": other}

    def events(self) -> Iterator[dict[str, Any]]:
        """Names of processes and threads, then what happened in the order of its start, outer slices first."""
        for process, name in sorted(self.processes.items()):
            yield _named("process_name", process, 0, {"name": name})
            yield _named("process_sort_index", process, 0, {"sort_index": process})
        for (process, thread), name in sorted(self.threads.items()):
            yield _named("thread_name", process, thread, {"name": name})
            yield _named("thread_sort_index", process, thread, {"sort_index": thread})
        nested = [span for span in self.spans if span.category != "core"] + self._whole()
        timed: list[Span | Level] = [*nested, *self.levels]
        for each in sorted(timed, key=_by_start):
            yield self._complete(each) if isinstance(each, Span) else self._counter(each)

    def _whole(self) -> list[Span]:
        """Of each core, from where its program runs until it ends: what it does and waits for, joined."""
        units: dict[tuple[int, int], list[Span]] = {}
        for span in self.spans:
            if span.category in ("core", "stall"):
                units.setdefault((span.process, span.thread), []).append(span)
        found: list[Span] = []
        for spans in units.values():
            name = next((span.name for span in spans if span.category == "core"), "")
            whole: Span | None = None
            for span in sorted(spans, key=_by_start):
                if whole is not None and span.start <= whole.end:
                    whole = replace(whole, end=max(whole.end, span.end))
                    continue
                found += [whole] if whole is not None else []
                whole = replace(span, name=name or span.name, category="core")
            found += [whole] if whole is not None else []
        return found

    def _microseconds(self, cycles: float) -> float:
        return round(cycles * 1e6 / self.clock_hz, 6)

    def _complete(self, span: Span) -> dict[str, Any]:
        start = self._microseconds(span.start)
        return {
            "name": span.name, "cat": span.category, "ph": "X", "pid": span.process, "tid": span.thread, "ts": start,
            "dur": round(self._microseconds(span.end) - start, 6),
            "args": {"cycle": span.start, "cycles": span.end - span.start},
        }  # fmt: skip

    def _counter(self, level: Level) -> dict[str, Any]:
        return {
            "name": level.name,
            "cat": "ddr" if level.process == DDR_PROCESS else "level",
            "ph": "C",
            "pid": level.process,
            "tid": LOCKS_THREAD,
            "ts": self._microseconds(level.cycle),
            "args": {"value": level.value},
        }

    def write(self, path: str) -> None:
        """The file, whole or not at all. Raises InputError when it cannot be written."""
        about = json.dumps(self._about(), separators=(",", ":"))[1:-1]
        lines = ",\n".join(json.dumps(event, separators=(",", ":")) for event in self.events())
        write_bytes(path, f'{{{about},"traceEvents":[\n{lines}\n]}}\n'.encode())


def _by_start(each: Span | Level) -> tuple[float, float]:
    return (each.start, -each.end) if isinstance(each, Span) else (each.cycle, 0)


def _named(what: str, process: int, thread: int, arguments: dict[str, Any]) -> dict[str, Any]:
    # The category is that of Chrome's own metadata: some readers take every event to have one.
    return {"name": what, "cat": "__metadata", "ph": "M", "pid": process, "tid": thread, "ts": 0, "args": arguments}
