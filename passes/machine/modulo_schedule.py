"""Software pipelining: lifetime-sensitive iterative modulo scheduling.

Slack scheduling after Huff ("Lifetime-sensitive modulo scheduling", 1993): the operation with least freedom goes next,
late when that shortens the life of what it writes, early when it ends the life of what it reads; operations in the way
are taken out and placed anew, as in Rau's iterative modulo scheduling (1994).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from npuc.passes.machine import schedule_book
from npuc.passes.machine.dependence import Graph, dependences
from npuc.passes.machine.list_schedule import list_schedule
from npuc.passes.machine.nodes import Choice, Node
from npuc.passes.machine.reservation import ReservationTable
from npuc.passes.machine.schedule_book import Entry, fits

_FAR = -(1 << 20)
_UNPLACED = 1 << 28  # a time beyond all others, on either side


class _Variant(NamedTuple):
    """How to search: stages to start with and to grow by beyond the least, weight of crowded units, a seed for ties."""

    start: int
    more: int
    crowding: float
    seed: int


_VARIANTS = (
    _Variant(0, 0, 0.5, 0),
    _Variant(1, 0, 0.5, 0),
    _Variant(0, 1, 0.5, 0),
    _Variant(0, 2, 0.5, 0),
    _Variant(0, 1, 0.8, 1),
    _Variant(1, 0, 0.8, 2),
    _Variant(0, 2, 0.3, 3),
    _Variant(1, 1, 0.5, 4),
    _Variant(1, 0, 0.3, 5),
    _Variant(0, 1, 0.8, 6),
    _Variant(1, 1, 0.8, 7),
    _Variant(0, 2, 0.5, 8),
)


class _Effort(NamedTuple):
    """How long to search at an interval: variants at least and at most, between these by operations of them all;
    whether on for fewer stages, too."""

    least: int
    most: int
    operations: int
    fewest_stages: bool = False

    def variants(self, operations: int) -> int:
        """How many, for a loop of so many operations."""
        return max(self.least, min(self.most, self.operations // operations))


_ORDINARY = _Effort(2, len(_VARIANTS), 600)
_IN_ORDER = _Effort(len(_VARIANTS), len(_VARIANTS), 0)
_AT_LENGTH = _Effort(len(_VARIANTS), 400, 50_000, True)
_TRIES_PER_OPERATION = 8
_ANY = 1 << 20  # number of stages
_SUBWORD_CLEARANCE = 7  # bundles from a sub-word store to the loop's end (facts/schedule/aie2_hazards.md section 6)


@dataclass(frozen=True)
class ModuloSchedule:
    """Issue times of one pass, from 0; pass k runs k * interval later."""

    interval: int
    times: tuple[int, ...]
    choices: tuple[Choice, ...]
    resource_bound: int
    resource: str
    recurrence_bound: int

    @property
    def stages(self) -> int:
        return max(self.times, default=0) // self.interval + 1


def resource_bound(nodes: Sequence[Node]) -> tuple[int, str]:
    """The least interval the units allow, and the unit that sets it."""
    load: Counter[str] = Counter()
    for node in sorted(nodes, key=lambda n: len(n.choices)):
        used = [_uses(choice) for choice in node.choices]
        load.update(min(used, key=lambda units: max((load[u] + n for u, n in units.items()), default=0)))
    unit = max(load, key=lambda u: (load[u], u), default="")
    return max(1, load[unit]), unit


def _uses(choice: Choice) -> Counter[str]:
    return Counter(c.unit for c in choice.claims if c.kind == "use" and c.shared is None)


def _longest_ways(graph: Graph, interval: int) -> Any | None:
    """Longest distances between all pairs at an interval; None when a recurrence does not fit into it."""
    import numpy as np

    ways = np.full((graph.size, graph.size), _FAR, dtype=np.int32)
    np.fill_diagonal(ways, 0)
    for (source, target, passes), latency in graph.edges.items():
        ways[source, target] = max(ways[source, target], latency - interval * passes)
    for k in range(graph.size):
        column = ways[:, k]
        rows = np.nonzero(column > _FAR // 2)[0]
        np.maximum(ways, column[:, None] + ways[None, k, :], out=ways) if len(rows) > graph.size // 2 else None
        if len(rows) <= graph.size // 2:
            ways[rows] = np.maximum(ways[rows], column[rows][:, None] + ways[None, k, :])
        if (ways.diagonal() > 0).any():
            return None
    return ways


def recurrence_bound(graph: Graph, least: int = 1) -> int:
    """The least interval >= least that all recurrences fit into."""
    low, high = least, least
    while _longest_ways(graph, high) is None:
        low, high = high + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        if _longest_ways(graph, middle) is None:
            low = middle + 1
        else:
            high = middle
    return high


def modulo_schedule(
    nodes: Sequence[Node],
    *,
    minimum: int = 1,
    most_stages: int = _ANY,
    pipelined: bool = True,
    ordered: bool = False,
    thorough: bool = False,
) -> ModuloSchedule:
    """A schedule of the loop body with the smallest interval >= minimum that is found, of at most `most_stages` stages.

    Falls back to passes that do not overlap.  ordered: what the vector unit does stays in order.  thorough: where the
    book is written, the search is one at length.
    """
    graph = dependences(nodes, cyclic=True)
    if ordered:
        _keep_order(graph, [i for i, node in enumerate(nodes) if node.choices[0].instruction.slot == "vec"])
    late = _prefers_late(nodes, graph)
    overlap = pipelined and most_stages > 1 and not any(map(_stores_subword, nodes))
    effort = _IN_ORDER if ordered else _ORDINARY  # a try is short where much has its place
    if thorough and schedule_book.is_written():
        effort = _AT_LENGTH
    if overlap:
        found = _known_or_searched(nodes, graph, late, minimum, _ANY, effort)
        if found.stages <= most_stages:
            return found
    return _known_or_searched(nodes, graph, late, minimum, most_stages if overlap else 1, effort)


def _keep_order(graph: Graph, operations: Sequence[int]) -> None:
    """One after the other, and those of the next pass behind them."""
    for before, after in pairwise(operations):
        graph.add(before, after, 0, 1)
    if operations:
        graph.add(operations[-1], operations[0], 1, 1)


def _known_or_searched(
    nodes: Sequence[Node], graph: Graph, late: Sequence[bool], minimum: int, most_stages: int, effort: _Effort
) -> ModuloSchedule:
    key = schedule_book.key(nodes, graph, late, (minimum, most_stages))
    entry = schedule_book.find(key, nodes, graph)
    if entry is None:
        entry = _search(nodes, graph, late, minimum, most_stages, effort)
        schedule_book.record(key, entry)
    choices = tuple(node.choices[number] for node, number in zip(nodes, entry.choices, strict=True))
    return ModuloSchedule(
        entry.interval, entry.times, choices, entry.resource_bound, entry.resource, entry.recurrence_bound
    )


def _search(
    nodes: Sequence[Node], graph: Graph, late: Sequence[bool], minimum: int, most_stages: int, effort: _Effort
) -> Entry:
    """The least interval at which a variant of the search succeeds."""
    resource, unit = resource_bound(nodes)
    recurrence = recurrence_bound(graph)
    interval, times, choices = _plain_schedule(nodes, graph, minimum)
    if most_stages > 1:
        for shorter in range(max(resource, recurrence, minimum), interval):
            found = _at_interval(nodes, graph, late, shorter, most_stages, effort)
            if found is not None:
                interval, times, choices = shorter, *found
                break
    for time, node in zip(times, nodes, strict=True):
        if _stores_subword(node):
            interval = max(interval, time + 1 + _SUBWORD_CLEARANCE)
    numbers = tuple(node.choices.index(choice) for node, choice in zip(nodes, choices, strict=True))
    return Entry(interval, times, numbers, resource, unit, recurrence)


def _stores_subword(node: Node) -> bool:
    return node.memory is not None and node.memory.kind == "load+store"


def _plain_schedule(
    nodes: Sequence[Node], graph: Graph, minimum: int
) -> tuple[int, tuple[int, ...], tuple[Choice, ...]]:
    """Passes one after the other."""
    placed = list_schedule(nodes, ReservationTable())
    times = [p.position for p in placed]
    interval = max(minimum, max(times, default=0) + 1)
    for (source, target, passes), latency in graph.edges.items():
        if passes:
            interval = max(interval, math.ceil((times[source] + latency - times[target]) / passes))
    while not fits([p.choice for p in placed], times, interval):
        interval += 1
    return interval, tuple(times), tuple(p.choice for p in placed)


def _at_interval(
    nodes: Sequence[Node], graph: Graph, late: Sequence[bool], interval: int, most_stages: int, effort: _Effort
) -> tuple[tuple[int, ...], tuple[Choice, ...]] | None:
    ways = _longest_ways(graph, interval)
    assert ways is not None
    length = int(ways.max(axis=0).max()) + 1
    stages = -(-length // interval)
    fewest = None
    for variant in _variants(effort.variants(len(nodes))):
        if stages + variant.start + variant.more <= most_stages:
            found = _SlackScheduler(nodes, late, interval, ways, stages, variant).run()
            if found is not None:
                if not effort.fewest_stages or max(found[0]) < stages * interval:
                    return found
                fewest = min(fewest or found, found, key=lambda schedule: max(schedule[0]) // interval)
    return fewest


def _variants(count: int) -> Iterator[_Variant]:
    """The chosen ones, and as many others as are wanted."""
    yield from _VARIANTS[:count]
    for seed in range(len(_VARIANTS), count):
        noise = random.Random(seed)
        yield _Variant(noise.choice((0, 1)), noise.choice((0, 1, 2)), noise.choice((0.0, 0.3, 0.5, 0.8, 0.9)), seed)


class _SlackScheduler:
    """One try at one interval; `ways` are the longest distances.

    Times end before a horizon, which moves on, if the variant lets it, when an operation finds no place.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        prefers_late: Sequence[bool],
        interval: int,
        ways: Any,
        stages: int,
        variant: _Variant,
    ) -> None:
        import numpy as np

        self.np = np
        self.nodes, self.interval, self.ways = nodes, interval, ways
        self.ways_to = np.ascontiguousarray(ways.T)
        self.table = ReservationTable(interval)
        self.placed = np.zeros(len(nodes), dtype=bool)
        self.times = np.zeros(len(nodes), dtype=np.int32)
        self.choices: dict[int, Choice] = {}
        self.latest_try: dict[int, int] = {}
        self.base_early = np.maximum(ways.max(axis=0), 0)
        self.base_late = (stages + variant.start) * interval - 1 - np.maximum(ways.max(axis=1), 0)
        self.extension = variant.more * interval
        self.early, self.late = self.base_early.copy(), self.base_late.copy()
        self.prefers_late = prefers_late
        self.haste = _haste(nodes, variant)

    def run(self) -> tuple[tuple[int, ...], tuple[Choice, ...]] | None:
        count = len(self.nodes)
        for _ in range(_TRIES_PER_OPERATION * count + 1):
            if len(self.choices) == count:
                self._tighten()
                times = self.times - self.times.min(initial=_UNPLACED)
                return tuple(times.tolist()), tuple(self.choices[i] for i in range(count))
            i = self._next()
            found = self._place(i)
            if found is None:
                found = self._force(i)
                if found is None:
                    return None
            self._set(i, *found)
        return None

    def _next(self) -> int:
        """The operation with least freedom, crowded units counting double."""
        freedom = (self.late - self.early) * self.haste
        freedom[self.placed] = self.np.inf
        return int(freedom.argmin())

    def _place(self, i: int) -> tuple[int, Choice] | None:
        early, late = int(self.early[i]), int(self.late[i])
        last = min(late, early + self.interval - 1)
        times: range = range(early, last + 1)
        if self.prefers_late[i]:
            times = range(late, max(early, late - self.interval + 1) - 1, -1)
        for time in times:
            choice = self.table.pick(self.nodes[i], time)
            if choice is not None:
                return time, choice
        return None

    def _force(self, i: int) -> tuple[int, Choice] | None:
        """Take out what is in the way of `i`, at a time it was not forced to before."""
        early = int(self.early[i])
        time = max(early, self.latest_try.get(i, early - 1) + 1)
        beyond = time - int(self.base_late[i])
        if 0 < beyond <= self.extension:
            self.extension -= beyond
            self.base_late += beyond
        elif beyond > 0:
            time = int(self.early[i])
        self.latest_try[i] = time
        found: tuple[int, set[int], Choice] | None = None
        for choice in self.nodes[i].choices:
            collisions = self.table.collisions(choice, time)
            if collisions is not None and (found is None or len(collisions) < found[0]):
                found = (len(collisions), collisions, choice)
        if found is None:
            return None
        np, after = self.np, self.times - time
        misplaced = self.placed & ((after < self.ways[i]) | (-after < self.ways_to[i]))
        for j in sorted({*np.flatnonzero(misplaced).tolist(), *found[1]}):
            self.table.release(j, self.choices.pop(j), int(self.times[j]))
            self.placed[j] = False
        self._bounds()
        return time, found[2]

    def _bounds(self) -> None:
        """early, late: what the placed operations leave."""
        np = self.np
        at = np.where(self.placed, self.times, -_UNPLACED)
        self.early = np.maximum(self.base_early, (at + self.ways_to).max(axis=1))
        at = np.where(self.placed, self.times, _UNPLACED)
        self.late = np.minimum(self.base_late, (at - self.ways).min(axis=1))

    def _set(self, i: int, time: int, choice: Choice) -> None:
        np = self.np
        self.table.take(i, choice, time)
        self.times[i], self.placed[i], self.choices[i] = time, True, choice
        np.maximum(self.early, time + self.ways[i], out=self.early)
        np.minimum(self.late, time - self.ways_to[i], out=self.late)

    def _tighten(self) -> None:
        """Move operations, one by one, towards where lifetimes are shorter."""
        np = self.np
        count, times = len(self.nodes), self.times
        for _ in range(2):
            moved = False
            for i in sorted(range(count), key=lambda k: -int(times[k]) if self.prefers_late[k] else int(times[k])):
                others = np.arange(count) != i
                early = max(int(self.base_early[i]), int((times + self.ways[:, i])[others].max(initial=0)))
                late = min(int(self.base_late[i]), int((times - self.ways[i, :])[others].min(initial=1 << 20)))
                now = int(times[i])
                better = range(late, now, -1) if self.prefers_late[i] else range(early, now)
                self.table.release(i, self.choices[i], now)
                for time in better:
                    choice = self.table.pick(self.nodes[i], time)
                    if choice is not None:
                        times[i] = time
                        self.choices[i] = choice
                        moved = True
                        break
                self.table.take(i, self.choices[i], int(times[i]))
            if not moved:
                return


# Weight of a location by the scarcity of its file: parts of vector and accumulator registers above scalars.
_SCARCITY = (("w", 4.0), ("x", 4.0), ("am", 4.0), ("bm", 4.0), ("cm", 4.0), ("p", 3.0))


def _weights(node: Node) -> dict[str, float]:
    """Of each location that the operands of the node name."""
    from npuc.passes.machine.ir import Part, Reg
    from npuc.passes.machine.nodes import locations

    found: dict[str, float] = {}
    for operand in node.op.operands:
        reg = operand.reg if isinstance(operand, Part) else operand
        if isinstance(reg, Reg):
            weight = next((weight for letters, weight in _SCARCITY if reg.file.startswith(letters)), 1.0)
            found.update(dict.fromkeys(locations(reg), weight))
    return found


def _prefers_late(nodes: Sequence[Node], graph: Graph) -> list[bool]:
    """Whether an operation's place sways the life of what it writes more than of what it reads."""
    readers: Counter[tuple[int, str]] = Counter()
    inward: dict[int, list[tuple[int, str]]] = {}
    outward: dict[int, set[str]] = {}
    for (source, target, _), found in graph.flows.items():
        if source != target:
            for location in found:
                readers[source, location] += 1
                inward.setdefault(target, []).append((source, location))
                outward.setdefault(source, set()).add(location)
    result = []
    for i, node in enumerate(nodes):
        weights = _weights(node)
        ends = sum(weights.get(at, 1.0) / readers[source, at] for source, at in sorted(inward.get(i, [])))
        starts = sum(weights.get(at, 1.0) for at in sorted(outward.get(i, set())))
        result.append(starts > ends)
    return result


def _haste(nodes: Sequence[Node], variant: _Variant) -> Any:
    """Factor on the freedom of each operation: less for users of the busiest units."""
    import numpy as np

    load: Counter[str] = Counter()
    for node in nodes:
        load.update(_uses(node.choices[0]))
    most = max(load.values(), default=1)
    shares = [max((load[u] for u in _uses(n.choices[0])), default=0) / most for n in nodes]
    noise = random.Random(variant.seed)
    return np.array(
        [(1.0 - variant.crowding * share) * (1 + 0.4 * noise.random() * (variant.seed > 0)) for share in shares]
    )
