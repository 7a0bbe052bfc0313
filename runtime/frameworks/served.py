"""What served the attention of models, layer by layer."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from npuc.runtime.statistics import RunReport


@dataclass
class LayerStatistics:
    """served: calls by what served them (a backend of npuc, or "torch"). reasons: calls by why npuc did not.

    cycles: of all calls, of the array clock, where a backend counts them. seconds: as in RunReport, of all calls.
    """

    served: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    cycles: int = 0
    seconds: float = 0.0
    emulated: bool = False

    @property
    def calls(self) -> int:
        return sum(self.served.values())

    def add(self, report: RunReport, reason: str | None) -> None:
        self.served[report.backend] += 1
        self.cycles += report.cycles or 0
        self.seconds += report.seconds
        self.emulated = self.emulated or report.emulated
        if reason is not None:
            self.reasons[reason] += 1

    def __str__(self) -> str:
        served = ", ".join(f"{count} by {name}" for name, count in self.served.most_common())
        cycles = f", {self.cycles:,} cycles{' (emulated)' if self.emulated else ''}" if self.cycles else ""
        reasons = "".join(f"; {count}: {reason}" for reason, count in self.reasons.most_common())
        return f"{served or 'no calls'}{cycles}{reasons}"


class Statistics:
    """Calls by layer, in the order in which layers were first called. Calls that name no layer are those of ""."""

    def __init__(self) -> None:
        self.layers: dict[str, LayerStatistics] = {}
        self._turn = threading.Lock()

    @property
    def total(self) -> LayerStatistics:
        whole = LayerStatistics()
        for layer in self.layers.values():
            whole.served += layer.served
            whole.reasons += layer.reasons
            whole.cycles += layer.cycles
            whole.seconds += layer.seconds
            whole.emulated = whole.emulated or layer.emulated
        return whole

    def add(self, layer: str, report: RunReport, reason: str | None) -> None:
        with self._turn:
            self.layers.setdefault(layer, LayerStatistics()).add(report, reason)

    def __str__(self) -> str:
        lines = [f"{name or 'attention'}: {layer}" for name, layer in self.layers.items()]
        return "\n".join([*lines, f"all: {self.total}"] if len(lines) != 1 else lines)

    def __repr__(self) -> str:
        return f"<npuc statistics of {len(self.layers)} layers: {self.total}>"


_collecting: ContextVar[tuple[Statistics, ...]] = ContextVar("npuc_collecting", default=())


@contextlib.contextmanager
def collect() -> Iterator[Statistics]:
    """The statistics of all attention that this thread's models ask npuc for inside the `with`."""
    statistics = Statistics()
    token = _collecting.set((*_collecting.get(), statistics))
    try:
        yield statistics
    finally:
        _collecting.reset(token)


def note(layer: str, report: RunReport, reason: str | None = None) -> None:
    """Count one call for all who collect."""
    for statistics in _collecting.get():
        statistics.add(layer, report, reason)
