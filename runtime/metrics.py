"""What calls took, counted for whoever watches: snapshots, Prometheus text, OpenTelemetry, a function of one's own.

Counting costs a lock and a few additions a call. Names follow Prometheus' rules: counters end in _total, times are
seconds.
"""

from __future__ import annotations

import bisect
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from npuc.runtime.notices import say_once

Labels: TypeAlias = "tuple[tuple[str, str], ...]"

COUNTERS = {
    "npuc_calls_total": "Calls that were served, by kernel and backend",
    "npuc_failures_total": "Calls that a backend failed, by kernel, backend and reason",
    "npuc_reloads_total": "Kernels loaded anew after a device failed",
    "npuc_fallbacks_total": "Calls that fell back, by kernel, from which backend to which",
    "npuc_cycles_total": "Array cycles of served calls, where the backend counts them",
    "npuc_contexts_given_total": "Times that a resting kernel gave its context to another",
}
SECONDS = "npuc_call_seconds"
SECONDS_HELP = "Time of a served call: measured on the NPU and the host, array cycles at the clock when emulated"
BOUNDS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)  # seconds


@dataclass(frozen=True)
class Event:
    """One thing that was counted: a metric's name, what was added (seconds: the time), and its labels."""

    name: str
    value: float
    labels: Mapping[str, str]


@dataclass
class Histogram:
    """Times: how many in all, their sum, and how many up to each of BOUNDS."""

    count: int = 0
    total: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * len(BOUNDS))

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        for at in range(bisect.bisect_left(BOUNDS, seconds), len(BOUNDS)):
            self.buckets[at] += 1


class Metrics:
    """Counters and times by labels."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, float]] = {name: {} for name in COUNTERS}
        self._seconds: dict[Labels, Histogram] = {}
        self._listeners: list[Callable[[Event], None]] = []

    def count(self, name: str, value: float = 1, /, **labels: str) -> None:
        """Add to a counter."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            of = self._counters[name]
            of[key] = of.get(key, 0) + value
        self._tell(Event(name, value, labels))

    def time(self, seconds: float, **labels: str) -> None:
        """Note the time of a call."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            self._seconds.setdefault(key, Histogram()).add(seconds)
        self._tell(Event(SECONDS, seconds, labels))

    def _tell(self, event: Event) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  who watches breaks no call
                say_once(
                    f"a listener of npuc.metrics raised {type(error).__name__}: {error}", f"listener {id(listener)}"
                )

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Have a function called with every event, in the thread of the call; what is returned ends that.

        What it raises is logged once, and is nothing to the call.
        """
        self._listeners.append(listener)

        def end() -> None:
            with contextlib.suppress(ValueError):  # ended before
                self._listeners.remove(listener)

        return end

    def reset(self) -> None:
        """Forget what was counted."""
        with self._lock:
            for of in self._counters.values():
                of.clear()
            self._seconds.clear()

    def counters(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """(name, labels, value) of every counter."""
        with self._lock:
            found = [(name, dict(key), value) for name, of in self._counters.items() for key, value in of.items()]
        yield from found

    def snapshot(self) -> dict[str, Any]:
        """Everything as JSON values: {name: [{labels, value}]}, times as {labels, count, sum, buckets}."""
        made: dict[str, Any] = {name: [] for name in (*COUNTERS, SECONDS)}
        for name, labels, value in self.counters():
            made[name].append({"labels": labels, "value": value})
        with self._lock:
            for key, times in self._seconds.items():
                buckets = dict(zip(map(str, BOUNDS), times.buckets, strict=True))
                made[SECONDS].append(
                    {"labels": dict(key), "count": times.count, "sum": times.total, "buckets": buckets}
                )
        return made

    def prometheus(self) -> str:
        """Everything in Prometheus' text format, version 0.0.4."""
        lines: list[str] = []
        found = list(self.counters())
        for name, help_ in COUNTERS.items():
            lines += [f"# HELP {name} {help_}", f"# TYPE {name} counter"]
            lines += [f"{name}{_shown(labels)} {_number(value)}" for other, labels, value in found if other == name]
        lines += [f"# HELP {SECONDS} {SECONDS_HELP}", f"# TYPE {SECONDS} histogram"]
        with self._lock:
            times = [(dict(key), one.count, one.total, list(one.buckets)) for key, one in self._seconds.items()]
        for labels, count, total, buckets in times:
            for bound, held in zip(BOUNDS, buckets, strict=True):
                lines.append(f"{SECONDS}_bucket{_shown({**labels, 'le': _number(bound)})} {held}")
            lines.append(f"{SECONDS}_bucket{_shown({**labels, 'le': '+Inf'})} {count}")
            lines += [f"{SECONDS}_sum{_shown(labels)} {total!r}", f"{SECONDS}_count{_shown(labels)} {count}"]
        return "\n".join(lines) + "\n"

    def opentelemetry(self, meter: Any) -> Callable[[], None]:
        """Record into an OpenTelemetry meter from now on, counters and a histogram; what is returned ends that."""
        counters = {name: meter.create_counter(name, description=help_) for name, help_ in COUNTERS.items()}
        histogram = meter.create_histogram(SECONDS, unit="s", description=SECONDS_HELP)

        def record(event: Event) -> None:
            if event.name == SECONDS:
                histogram.record(event.value, attributes=dict(event.labels))
            else:
                counters[event.name].add(event.value, attributes=dict(event.labels))

        return self.listen(record)


def _shown(labels: Mapping[str, str]) -> str:
    """Labels in braces, their values escaped."""
    if not labels:
        return ""
    escaped = {n: v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for n, v in labels.items()}
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


metrics = Metrics()
"""Of this process."""
