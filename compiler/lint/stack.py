"""How far the stack may grow over the call graph, and whether that is into a buffer of a descriptor.

A stack starts where a constant is written to sp and grows upwards (facts/schedule/aie2_hazards.md section 3); what lies
above its end is overwritten without notice.  Frames of functions whose calls are not known are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from npuc.compiler.emit.buffers import DescriptorBuffer
from npuc.compiler.lint.constants import written_constant
from npuc.compiler.lint.effects import Step
from npuc.compiler.lint.findings import Finding, Findings
from npuc.compiler.lint.flow import Flow
from npuc.compiler.lint.ways import Ways
from npuc.compiler.target.npu1 import geometry

_WINDOW = geometry.CORE_MEMORY_SIZE
MOST_STEPS = 64
"""Times that a place is passed with a higher stack before growth counts as one without end."""


class Peak(NamedTuple):
    """The stack grows `depth` bytes above where it is counted from, at node `node`, by way of the nodes `calls`."""

    depth: int
    node: int
    calls: tuple[int, ...] = ()


class Stack(NamedTuple):
    """A stack lies at start .. end - 1 when it is deepest; path: addresses of bundles on the way to there."""

    start: int
    end: int
    path: tuple[int, ...]


def find_stacks(flow: Flow) -> tuple[Stack, ...]:
    """All stacks of a program, by where they are set up."""
    walk: _Walk | None = None
    found = []
    for number, first in _starts(flow):
        walk = walk or _Walk(flow)
        peak = walk.peak_behind(number)
        path = tuple(flow.nodes[n].address for n in (number, *peak.calls, peak.node))
        found.append(Stack(first, first + peak.depth, path))
    return tuple(found)


def overlaps(stacks: tuple[Stack, ...], buffers: tuple[DescriptorBuffer, ...]) -> tuple[Finding, ...]:
    """Stacks that may run into buffers of descriptors, or out of data memory."""
    findings = Findings()
    for start, end, path in stacks:
        text = f"the stack begins at {start:#x} and may grow to {end:#x}"
        limit = start - start % _WINDOW + _WINDOW
        told = [f"{text}, beyond data memory, which ends at {limit:#x}"] if end > limit else []
        told += [
            f"{text}: descriptor {buffer.descriptor} has {buffer.start:#x} to {buffer.end - 1:#x}"
            for buffer in buffers
            if buffer.start < end and start < buffer.end
        ]
        for line in told:
            findings.add("stack-overlap", path[-1], line, None, path)
    return findings.ordered()


def _starts(flow: Flow) -> Iterator[tuple[int, int]]:
    """(node, address) where a constant is written to sp."""
    for number, node in enumerate(flow.nodes):
        for step in _moves(flow, number):
            value = written_constant(step)
            if value is not None and node.address not in flow.doubtful:
                yield number, value & 0xFFFFF


def _moves(flow: Flow, number: int) -> list[Step]:
    """What writes sp in a bundle."""
    return [s for s in flow.nodes[number].effects.steps if any(w.register == "sp" for w in s.timing.writes)]


def growth(step: Step) -> int | None:
    """By how much a step moves sp; None when that is not known."""
    if step.decoded.instruction.itinerary != "II_PADD":
        return None
    return next((value for value in step.decoded.operands if isinstance(value, int)), None)


class _Walk:
    """The highest stack behind nodes, each function looked at once."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.ways = Ways(flow)
        self.functions: dict[int, Peak] = {}
        self.open: set[int] = set()

    def function(self, entry: int) -> Peak:
        """How far a function grows the stack, with what it calls; a call of itself counts once."""
        if entry in self.functions:
            return self.functions[entry]
        if entry in self.open:
            return Peak(0, entry)
        self.open.add(entry)
        found = self._peak(entry, {entry: 0})
        self.open.discard(entry)
        self.functions[entry] = found
        return found

    def peak_behind(self, number: int) -> Peak:
        """The highest stack behind a node that sets it."""
        return self._peak(number, {after: 0 for after in self.ways.onward[number]})

    def _peak(self, start: int, heights: dict[int, int]) -> Peak:
        """heights: by node, how far sp is above its start when the node issues."""
        best = Peak(0, start)
        passed: dict[int, int] = {}
        work = list(heights)
        while work:
            number = work.pop()
            height: int | None = heights[number]
            for step in _moves(self.flow, number):
                grown = growth(step)
                height = None if grown is None or height is None else height + grown
            if height is None:
                continue
            best = max(best, Peak(height, number), key=lambda peak: peak.depth)
            for entry in self.ways.callees[number]:
                inner = self.function(entry)
                if height + inner.depth > best.depth:
                    best = Peak(height + inner.depth, inner.node, (number, *inner.calls))
            for after in self.ways.onward[number]:
                passed[after] = passed.get(after, 0) + 1
                if height > heights.get(after, -1) and passed[after] <= MOST_STEPS:
                    heights[after] = height
                    work.append(after)
        return best
