"""Constants that reach a place: values of loop registers, and targets of jumps through pointer registers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from npuc.compiler.lint.builder import Builder
from npuc.compiler.lint.effects import PART_BIT, Step
from npuc.compiler.lint.flow import Code, Node

_ADDRESS_BITS = 0xFFFFF
_FARTHEST = 4096
"""Nodes looked at before a constant is given up."""


class LoopWrite(NamedTuple):
    """A write of a loop register; value None when it is no constant."""

    register: str
    value: int | None


def written_constant(step: Step) -> int | None:
    """The value of an instruction that writes a constant into its only result."""
    values = [value for value in step.decoded.operands if isinstance(value, int)]
    reads = step.timing.reads
    if len(values) != 1 or reads or not step.decoded.instruction.itinerary.startswith("II_MOV"):
        return None
    return values[0]


def loop_writes(code: Code, node: Node) -> Iterator[LoopWrite]:
    """The writes of loop registers in a bundle."""
    unlinked = code.is_unlinked(node.bundle)
    for step in node.effects.steps:
        for access in step.timing.writes:
            if access.register in node.effects.loop_registers:
                yield LoopWrite(access.register, None if unlinked else written_constant(step))


def loop_ends(builder: Builder) -> set[tuple[int, int]]:
    """(node of a bundle at LE, address LS): the ways back of the hardware loops that are set up on some path."""
    writers = [n for n, node in enumerate(builder.flow.nodes) if node.effects.loop_registers]
    ends = {w.value for n in writers for w in loop_writes(builder.code, builder.flow.nodes[n]) if w.register == "le"}
    found: set[tuple[int, int]] = set()
    for end in ends:
        if end is not None:
            for number in builder.at(end & _ADDRESS_BITS):
                found.update((number, start) for start in _starts(builder, number, end))
    return found


def _starts(builder: Builder, number: int, end: int) -> set[int]:
    """Values of LS that reach a node together with `end` in LE."""
    nodes = builder.flow.nodes
    found: set[int] = set()
    seen: set[tuple[int, int | None, bool]] = set()
    work: list[tuple[int, int | None, bool]] = [(before, None, False) for before in builder.near[number]]
    while work:
        state = work.pop()
        if state in seen:
            continue
        seen.add(state)
        at, start, has_end = state
        if nodes[at].effects.loop_registers:
            for write in loop_writes(builder.code, nodes[at]):
                if write.register == "ls" and start is None:
                    start = -1 if write.value is None else write.value & _ADDRESS_BITS
                elif write.register == "le" and not has_end:
                    has_end = True
                    if write.value != end:
                        start = -1
        if start is not None and start < 0:
            continue
        if start is not None and has_end:
            found.add(start)
        else:
            work += [(before, start, has_end) for before in builder.near[at]]
    return found


def jump_targets(builder: Builder, number: int, register: str) -> set[int] | None:
    """Constants that reach the register of the jump that ends at node `number`; None: others do too."""
    flow = builder.flow
    part = 1 << PART_BIT[register]
    found: set[int] = set()
    seen: set[int] = set()
    work = [(before, 1) for before in builder.near[flow.nodes[number].branch]]
    if flow.nodes[number].branch in flow.unknown | flow.at_reset:
        return None
    while work:
        at, distance = work.pop()
        if at in seen:
            continue
        seen.add(at)
        if len(seen) > _FARTHEST:
            return None
        effects = flow.nodes[at].effects
        if effects.written & part:
            value = _landed(effects.steps, register, distance)
            if value is None:
                return None
            found.add(value & _ADDRESS_BITS)
        elif at in flow.unknown or at in flow.at_reset:
            return None
        else:
            work += [(before, distance + 1) for before in builder.near[at]]
    return found or None


def _landed(steps: tuple[Step, ...], register: str, distance: int) -> int | None:
    for step in steps:
        for access in step.timing.writes:
            if access.register == register:
                return written_constant(step) if access.stage <= distance else None
    return None
