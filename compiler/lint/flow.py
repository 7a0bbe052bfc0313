"""The control-flow graph of a core program: bundles, and which may issue right after which.

A node is a bundle together with the branch in whose delay slots it is issued, so that code which is jumped into and
also runs as delay slots is two nodes.  Calls lead into the callee and return to the caller they came from.  What cannot
be told (a jump through a register that is no constant, a call of code that is not there) ends or begins in the unknown:
no finding is derived across it, and whatever follows it takes every register for written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from npuc.compiler.asm.codec import Bundle
from npuc.compiler.lint.effects import Effects, Step

LINE = 16
"""Alignment of branch targets, LS and LE; size of the bundle at LE (facts/schedule/aie2_hazards.md sections 5, 6)."""


class Edge(NamedTuple):
    """From where a node is reached.  kind: flow, loop (LE to LS), call (into a callee) or return (from a callee's last
    delay slot); `call` is the node of the last delay slot of the call for these two."""

    node: int
    kind: str
    call: int = -1


Calls = tuple[int, ...]
"""Nodes of calls (their last delay slots) that are under way, the innermost last."""


class Node(NamedTuple):
    """A bundle in a context: `branch` is the node whose delay slot number `slot` it is, or -1 and 0."""

    address: int
    bundle: Bundle
    effects: Effects
    branch: int
    slot: int

    @property
    def end(self) -> int:
        return self.address + self.bundle.size


class Transfer(NamedTuple):
    """What a branch does, told from its line in the instruction table."""

    target: int | None
    register: str | None
    is_call: bool
    is_return: bool
    is_conditional: bool


@dataclass(frozen=True)
class Code:
    """What is looked at.  entries: addresses where execution may begin with unknown registers (functions); reset: where
    the core starts, None when it is not known.  unlinked: offsets of bytes that a linker will fill in."""

    base: int
    code: bytes
    reset: int | None = None
    entries: tuple[int, ...] = ()
    unlinked: frozenset[int] = frozenset()

    @property
    def end(self) -> int:
        return self.base + len(self.code)

    def is_unlinked(self, bundle: Bundle) -> bool:
        """Whether a field of the bundle is still to be filled in."""
        return bool(self.unlinked) and not self.unlinked.isdisjoint(range(bundle.address, bundle.address + bundle.size))


@dataclass
class Flow:
    """The graph.  unknown: nodes before which anything may have run; at_reset: nodes at which the core starts.
    history: by node, the (node, distance) of all bundles of which something is still under way when it issues.
    unreached: addresses that no known path leads to.  doubtful: those
    of them that do not look like code to their end."""

    code: Code
    nodes: list[Node] = field(default_factory=list)
    predecessors: list[list[Edge]] = field(default_factory=list)
    successors: list[list[int]] = field(default_factory=list)
    unknown: set[int] = field(default_factory=set)
    at_reset: set[int] = field(default_factory=set)
    history: list[list[tuple[int, int]]] = field(default_factory=list)
    unreached: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)

    def record_history(self) -> None:
        """Fill in `history`."""
        depth = max((node.effects.reach for node in self.nodes), default=0)
        reach = [node.effects.reach for node in self.nodes]
        self.history = [
            [
                (before, distance)
                for distance, level in enumerate(self.levels(number, depth), 1)
                for before in level
                if reach[before] >= distance
            ]
            for number in range(len(self.nodes))
        ]

    def levels(self, start: int, depth: int) -> Iterator[list[int]]:
        """The nodes that may issue 1, 2, ... depth bundles before `start`, a return matched with its call."""
        predecessors = self.predecessors
        while depth and len(predecessors[start]) == 1 and predecessors[start][0].kind in ("flow", "loop"):
            start = predecessors[start][0].node
            yield [start]
            depth -= 1
        frontier: list[tuple[int, Calls]] = [(start, ())]
        for _ in range(depth):
            before = {(edge.node, onto): None for node, calls in frontier for edge, onto in self.before(node, calls)}
            if not before:
                return
            frontier = list(before)
            yield [node for node, _ in frontier] if len(frontier) == 1 else list(dict.fromkeys(n for n, _ in frontier))

    def before(self, number: int, calls: Calls) -> Iterator[tuple[Edge, Calls]]:
        """The edges to a node, a return matched with its call.  calls: those that the way behind the node has come back
        from, the innermost last; given with each edge as they are in front of it."""
        for edge in self.predecessors[number]:
            if edge.kind == "return":
                yield edge, (*calls, edge.call)
            elif edge.kind == "call" and calls:
                if calls[-1] == edge.call:
                    yield edge, calls[:-1]
            else:
                yield edge, calls

    def way(self, first: int, last: int, distance: int) -> tuple[int, ...]:
        """The nodes of one way from node `first` to node `last` that takes `distance` bundles, both included."""
        trail: list[dict[tuple[int, Calls], tuple[int, Calls] | None]] = [{(last, ()): None}]
        for _ in range(distance):
            before: dict[tuple[int, Calls], tuple[int, Calls] | None] = {}
            for node, calls in trail[-1]:
                for edge, onto in self.before(node, calls):
                    before.setdefault((edge.node, onto), (node, calls))
            trail.append(before)
        at = next((key for key in trail[-1] if key[0] == first), None)
        found = []
        for level in reversed(trail):
            if at is None:
                break
            found.append(at[0])
            at = level[at]
        return tuple(found)


def transfer(step: Step) -> Transfer:
    """What a branch instruction does."""
    instruction, operands = step.decoded.instruction, step.decoded.operands
    target = register = None
    conditional = False
    for operand, value in zip(instruction.operands, operands, strict=True):
        if isinstance(value, int):
            target = value
        elif operand.register_class == "eP":
            register = value
        else:
            conditional = True
    is_return = "lr" in instruction.implicit_uses
    return Transfer(target, register, "lr" in instruction.implicit_defs, is_return, conditional)
