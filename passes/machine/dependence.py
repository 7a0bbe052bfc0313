"""The dependence graph: least distances between operations (facts/schedule/README.md, convention).

Every location counts as one register: what the next pass of a loop writes may not land before this pass has
read.  Edges carry a distance in passes, 0 within a pass and 1 to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from npuc.compiler.target.aie2.schedule import memory_distance, read_after_write, write_after_read, write_after_write
from npuc.passes.machine.nodes import DONE_DISTANCE, LOCK_DISTANCE, Node


@dataclass
class Graph:
    """edges: (from, to, passes) -> least bundles from issue to issue; flows: those edges that carry a register value,
    (from, to, passes) -> locations."""

    size: int
    edges: dict[tuple[int, int, int], int] = field(default_factory=dict)
    flows: dict[tuple[int, int, int], set[str]] = field(default_factory=dict)

    def add(self, source: int, target: int, passes: int, latency: int) -> None:
        if source == target and passes == 0:
            return
        key = (source, target, passes)
        if latency > self.edges.get(key, -1000):
            self.edges[key] = latency


@dataclass
class _Location:
    """The latest writer of a location and its readers since: (operation, stage, bypass)."""

    writer: tuple[int, int, str | None] | None = None
    readers: list[tuple[int, int, str | None]] = field(default_factory=list)


def dependences(nodes: Sequence[Node], *, cyclic: bool = False, first: int = 0) -> Graph:
    """The graph of operations in program order.

    cyclic: the operations are a loop body, edges to the next pass are wanted too.
    first: only edges into operations from this number on are wanted; earlier ones are placed already.
    """
    graph = Graph(len(nodes))
    _register_edges(graph, nodes, cyclic, first)
    _effect_edges(graph, nodes, cyclic, first)
    return graph


def _register_edges(graph: Graph, nodes: Sequence[Node], cyclic: bool, first: int) -> None:
    count = len(nodes)
    state: dict[str, _Location] = {}
    for i in range(count * (2 if cyclic else 1)):
        node = nodes[i % count]
        for location, stage, bypass in node.reads:
            at = state.setdefault(location, _Location())
            if at.writer is not None:
                w, w_stage, w_bypass = at.writer
                _connect(graph, count, w, i, read_after_write(w_stage, w_bypass, stage, bypass), first)
                if i // count != w // count or i < count:
                    key = (w % count, i % count, i // count - w // count)
                    graph.flows.setdefault(key, set()).add(location)
            at.readers.append((i, stage, bypass))
        for location, stage, bypass in node.writes:
            at = state.setdefault(location, _Location())
            if at.writer is not None and at.writer[0] != i:
                _connect(graph, count, at.writer[0], i, write_after_write(at.writer[1], stage), first)
            for r, r_stage, r_bypass in at.readers:
                _connect(graph, count, r, i, write_after_read(r_stage, r_bypass, stage, bypass), first)
            at.writer = (i, stage, bypass)
            at.readers = []


def _connect(graph: Graph, count: int, source: int, target: int, latency: int, first: int) -> None:
    """Edges inside the second copy repeat those inside the first."""
    passes = target // count - source // count
    if target >= first and (passes or target < count):
        graph.add(source % count, target % count, passes, latency)


def _effect_edges(graph: Graph, nodes: Sequence[Node], cyclic: bool, first: int) -> None:
    """Order of memory, locks and other effects."""
    acting = [i for i, n in enumerate(nodes) if n.memory is not None or n.effect is not None]
    for position, j in enumerate(acting):
        if j >= first:
            for i in acting[:position]:
                latency = _effect_distance(nodes[i], nodes[j], False)
                if latency is not None:
                    graph.add(i, j, 0, latency)
    if cyclic:
        for i in acting:
            for j in acting:
                latency = _effect_distance(nodes[i], nodes[j], True)
                if latency is not None:
                    graph.add(i, j, 1, latency)


def _effect_distance(a: Node, b: Node, carried: bool) -> int | None:
    """Least distance from a to b, the later in program order; None when they need no order."""
    if a.is_barrier or b.is_barrier:
        return max(a.reach, DONE_DISTANCE if b.effect == "done" else 1)
    if a.is_lock and b.is_lock:
        return LOCK_DISTANCE
    if a.is_lock:
        return b.after_lock
    if b.is_lock:
        return a.before_lock
    return _memory_distance(a, b, carried)


def _memory_distance(a: Node, b: Node, carried: bool) -> int | None:
    if a.memory is None or b.memory is None or a.memory.bus != b.memory.bus:
        return None
    x, y = a.op.memory, b.op.memory
    if x.region != y.region and x.region is not None and y.region is not None:
        return None
    if carried and x.region == y.region and not (x.carried and y.carried):
        return None
    distance = memory_distance(a.memory, b.memory)
    # A load may even follow a late store's issue; facts/schedule/aie2_hazards.md section 3 advises 0.
    return None if distance is None else max(distance, 0)
