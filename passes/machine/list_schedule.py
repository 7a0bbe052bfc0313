"""List scheduling of straight code into what is already placed: critical path first, exact distances."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from npuc.passes.machine.dependence import Graph, dependences
from npuc.passes.machine.ir import Reg
from npuc.passes.machine.nodes import Choice, Node, locations
from npuc.passes.machine.reservation import ReservationTable


class Placed(NamedTuple):
    """An operation carried out by `choice` in the bundle at `position`."""

    node: Node
    choice: Choice
    position: int


def heights(graph: Graph, weights: Sequence[int]) -> list[int]:
    """Longest way from each operation to the end, within one pass; weights: an operation's own time to land."""
    result = list(weights)
    for (source, target, passes), latency in sorted(graph.edges.items(), reverse=True):
        if not passes:  # edges of a pass lead forward, so targets are final when their sources come up
            result[source] = max(result[source], latency + result[target])
    return result


def list_schedule(
    nodes: Sequence[Node],
    table: ReservationTable,
    *,
    before: Sequence[Placed] = (),
    floor: int = 0,
    in_order: bool = False,
) -> list[Placed]:
    """Positions >= floor for `nodes`, which follow `before` in program order; `table` is filled.

    in_order: take operations as they were written instead of by critical path, which keeps fewer values alive.
    """
    offset = len(before)
    graph = dependences([*(p.node for p in before), *nodes], first=offset)
    successors: list[list[tuple[int, int]]] = [[] for _ in nodes]
    waiting = [0] * len(nodes)
    earliest = [floor] * len(nodes)
    for (source, target, _), latency in graph.edges.items():
        if source < offset:
            earliest[target - offset] = max(earliest[target - offset], before[source].position + latency)
        else:
            successors[source - offset].append((target - offset, latency))
            waiting[target - offset] += 1
    height = heights(graph, [0] * offset + [n.reach for n in nodes])[offset:]
    ready = [(0 if in_order else -height[i], i) for i, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    placed: dict[int, Placed] = {}
    while ready:
        _, i = heapq.heappop(ready)
        position, choice = earliest[i], table.pick(nodes[i], earliest[i])
        while choice is None:
            position += 1
            choice = table.pick(nodes[i], position)
        table.take(i, choice, position)
        placed[i] = Placed(nodes[i], choice, position)
        for target, latency in successors[i]:
            earliest[target] = max(earliest[target], position + latency)
            waiting[target] -= 1
            if not waiting[target]:
                heapq.heappush(ready, (0 if in_order else -height[target], target))
    _sink(nodes, placed, successors, table)
    return [placed[i] for i in range(len(nodes))]


def _sink(
    nodes: Sequence[Node], placed: dict[int, Placed], successors: list[list[tuple[int, int]]], table: ReservationTable
) -> None:
    """Moves what only makes values, from nothing, from what the region does not change or from scalars (which then come
    down as well), to its first user.

    The length stays; constants and loads hold their registers no longer than they must.
    """
    written = {location for node in nodes for location, _, _ in node.writes}
    written -= {
        at for node in nodes for o in node.op.operands if isinstance(o, Reg) and o.file == "r" for at in locations(o)
    }
    for i in sorted(placed, key=lambda i: -placed[i].position):
        node, choice, position = placed[i]
        stores = node.memory is not None and "store" in node.memory.kind
        if stores or node.effect is not None or not successors[i] or any(at in written for at, _, _ in node.reads):
            continue
        latest = min(placed[target].position - latency for target, latency in successors[i])
        table.release(i, choice, position)
        for later in range(latest, position, -1):
            other = table.pick(node, later)
            if other is not None:
                position, choice = later, other
                break
        table.take(i, choice, position)
        placed[i] = Placed(node, choice, position)
