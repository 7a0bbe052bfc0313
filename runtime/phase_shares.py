"""How long cores were in each phase of their programs, and what of that they waited."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from npuc.runtime.trace import Span, Trace


@dataclass(frozen=True)
class PhaseShare:
    """cycles, waiting: the mean of the cores that have phases."""

    name: str
    cycles: float
    waiting: float


def phase_shares(trace: Trace) -> list[PhaseShare]:
    """The longest first; none where programs have no known phases."""
    units: dict[tuple[int, int], list[Span]] = {}
    for span in trace.spans:
        if span.category in ("phase", "stall"):
            units.setdefault((span.process, span.thread), []).append(span)
    cycles: dict[str, float] = {}
    waiting: dict[str, float] = {}
    cores = 0
    for spans in units.values():
        phases = [span for span in spans if span.category == "phase"]
        cores += bool(phases)
        for phase in phases:
            cycles[phase.name] = cycles.get(phase.name, 0.0) + phase.end - phase.start
        for name, length in _waits(phases, [span for span in spans if span.category == "stall"]):
            waiting[name] = waiting.get(name, 0.0) + length
    found = [PhaseShare(name, count / cores, waiting.get(name, 0.0) / cores) for name, count in cycles.items()]
    return sorted(found, key=lambda share: (-share.cycles, share.name))


def _waits(phases: Iterable[Span], stalls: Iterable[Span]) -> Iterable[tuple[str, float]]:
    """Phase and length of each wait of one core; waits lie inside phases."""
    left = iter(sorted(phases, key=lambda span: span.start))
    phase = next(left, None)
    for stall in sorted(stalls, key=lambda span: span.start):
        while phase is not None and phase.end <= stall.start:
            phase = next(left, None)
        if phase is not None and phase.start <= stall.start:
            yield phase.name, stall.end - stall.start
