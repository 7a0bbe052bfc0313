"""When locations hold values that are still wanted, cycle by cycle, and which therefore cannot share a register.

A value occupies its location from the landing of its write to its last read.  A cycle has four points: what
lands for this cycle; reads; writes a bypass shows a cycle early; reads by bypass, and what lands as the region ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from npuc.passes.machine.emission import Trace


@dataclass
class _Cycle:
    """Bit sets of locations with something to do in one cycle, in order of the points."""

    land: int = 0
    read: int = 0
    bypassed: int = 0
    bypass_read: int = 0
    land_last: int = 0


@dataclass
class Liveness:
    """names: location of each bit.  live: bits wanted at the start of each cycle (after its landings).
    conflicts: per bit, the bits it may not share a register with.  never_written: read, but written nowhere."""

    names: list[str]
    live: list[int]
    conflicts: list[int]
    never_written: list[str]
    bits: dict[str, int] = field(default_factory=dict)

    def peak(self, chosen: int, among: int) -> tuple[int, int]:
        """Most bits of `chosen` live at once while one of `among` is, and the first cycle where they are."""
        counts = [(live & chosen).bit_count() if live & among else 0 for live in self.live]
        most = max(counts, default=0)
        return most, counts.index(most) if counts else 0


def analyse(trace: Trace) -> Liveness:
    """Liveness over the trace of a scheduled program."""
    names: dict[str, int] = {}
    cycles = _cycles(trace, names)
    written = 0
    read = 0
    for cycle in cycles:
        written |= cycle.land | cycle.bypassed | cycle.land_last
        read |= cycle.read | cycle.bypass_read
    into = _solve(trace, cycles)
    found = Liveness(list(names), [], [0] * len(names), [], names)
    found.never_written = [n for n, bit in names.items() if n.startswith("%") and (read & ~written) >> bit & 1]
    _conflicts(trace, cycles, into, found)
    return found


def _cycles(trace: Trace, names: dict[str, int]) -> list[_Cycle]:
    cycles = [_Cycle() for _ in range(trace.length + 1)]
    region_end = _region_ends(_ends(trace), trace.length)
    pending: dict[tuple[int, str], str] = {}
    for at, node in trace.operations:
        for location, stage, bypass in node.writes:
            bit = 1 << names.setdefault(location, len(names))
            end = region_end[at]
            if at + stage > end:
                cycles[end].land_last |= bit
            elif bypass:
                cycles[at + stage - 1].bypassed |= bit
                pending[at + stage - 1, location] = bypass
            else:
                cycles[at + stage].land |= bit
    for at, node in trace.operations:
        for location, stage, bypass in node.reads:
            bit = 1 << names.setdefault(location, len(names))
            cycle = at + stage - 1
            if bypass and pending.get((cycle, location), bypass) == bypass:
                cycles[cycle].bypass_read |= bit
            else:
                cycles[cycle].read |= bit
    return cycles


def _ends(trace: Trace) -> list[int]:
    """Last cycles before a branch takes effect or other ways join: what lands there must not seem to land behind.

    The way back of a hardware loop is none of these: it is taken with results in flight.
    """
    inside = {last for _, _, last in trace.loops}
    branches = {last: targets for last, targets in trace.jumps.items() if last not in inside}
    joins = {target - 1 for targets in branches.values() for target in targets if target}
    return sorted({*trace.dead_ends, *branches, *joins})


def _region_ends(ends: list[int], length: int) -> list[int]:
    """For each cycle, the last cycle of its region."""
    result: list[int] = []
    for end in [*ends, length]:
        result += [end] * (end + 1 - len(result))
    return result


def _solve(trace: Trace, cycles: list[_Cycle]) -> list[int]:
    """Bits live before the landings of each cycle."""
    into = [0] * (len(cycles) + 1)
    changed = True
    while changed:
        changed = False
        for at in range(len(cycles) - 1, -1, -1):
            value = _before(cycles[at], _after(trace, into, at))
            if value != into[at]:
                into[at] = value
                changed = True
    return into


def _after(trace: Trace, into: list[int], at: int) -> int:
    value = 0 if at in trace.dead_ends else into[at + 1]
    for target in trace.jumps.get(at, ()):
        value |= into[target]
    return value


def _before(cycle: _Cycle, after: int) -> int:
    value = (after & ~cycle.land_last) | cycle.bypass_read
    return ((value & ~cycle.bypassed) | cycle.read) & ~cycle.land


def _conflicts(trace: Trace, cycles: list[_Cycle], into: list[int], found: Liveness) -> None:
    """A write conflicts with all that is live where it lands; two that land together conflict as well."""
    still_landing = 0
    for at, cycle in enumerate(cycles):
        after = _after(trace, into, at)
        middle = (after & ~cycle.land_last) | cycle.bypass_read
        start = (middle & ~cycle.bypassed) | cycle.read
        found.live.append(start)
        _define(found, cycle.land | still_landing, start | cycle.land | still_landing)
        _define(found, cycle.bypassed, middle | cycle.bypassed)
        _define(found, cycle.land_last, after | cycle.land_last)
        still_landing = cycle.bypassed
    _symmetric(found.conflicts)


def _define(found: Liveness, written: int, live: int) -> None:
    for bit in set_bits(written):
        found.conflicts[bit] |= live


def _symmetric(conflicts: list[int]) -> None:
    for bit, others in enumerate(list(conflicts)):
        conflicts[bit] &= ~(1 << bit)
        for other in set_bits(others):
            if other != bit:
                conflicts[other] |= 1 << bit


def set_bits(mask: int) -> Iterator[int]:
    """Numbers of the bits that are set, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
