"""Constants that reach a place: values of loop registers, and targets of jumps through pointer registers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from npuc.compiler.lint.builder import Builder
from npuc.compiler.lint.effects import PART_BIT, Step
from npuc.compiler.lint.flow import Code, Flow, Node

_ADDRESS_BITS = 0xFFFFF
FARTHEST = 4096
"""Nodes looked at before a question is given up."""
KEPT_BY_CALLEES = frozenset(("p6", "p7", *(f"r{number}" for number in range(16, 24))))
"""facts/schedule/aie2_hazards.md section 8."""


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
    ends = {
        w.value
        for n in builder.loop_writers
        for w in loop_writes(builder.code, builder.flow.nodes[n])
        if w.register == "le"
    }
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


Before = Callable[[int], "Iterable[int] | None"]
"""The nodes that may issue right before a node; None: nobody knows."""


def constants(flow: Flow, number: int, register: str, before: Before) -> set[int] | None:
    """Constants that a read of a register in stage 1 at a node may see; None: it may see others too."""
    part = 1 << PART_BIT[register]
    found: set[int] = set()
    seen: set[int] = set()
    work = [(number, 0)]
    while work:
        at, distance = work.pop()
        if distance:
            if at in seen:
                continue
            seen.add(at)
            if flow.nodes[at].effects.written & part:
                unlinked = flow.code.is_unlinked(flow.nodes[at].bundle)
                value = None if unlinked else _landed(flow.nodes[at].effects.steps, register, distance)
                if value is None:
                    return None
                found.add(value & _ADDRESS_BITS)
                continue
        earlier = before(at)
        if earlier is None or at in flow.unknown or at in flow.at_reset or len(seen) > FARTHEST:
            return None
        work += [(node, distance + 1) for node in earlier]
    return found


def _landed(steps: tuple[Step, ...], register: str, distance: int) -> int | None:
    for step in steps:
        for access in step.timing.writes:
            if access.register == register:
                return written_constant(step) if access.stage <= distance else None
    return None


def jump_targets(builder: Builder, number: int, register: str) -> set[int] | None:
    """Where the jump through a register leads that ends at node `number`, as far as the graph has grown; None: nobody
    knows.  Calls are not followed for registers that callees do not keep."""

    def before(node: int) -> Iterable[int] | None:
        if register not in KEPT_BY_CALLEES and any(builder.calls_over(call, node) for call in builder.near[node]):
            return None
        return builder.near[node]

    return constants(builder.flow, builder.flow.nodes[number].branch, register, before)
