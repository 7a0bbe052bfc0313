"""Schedules of loops that were searched for before: `schedules.json` beside this file ships with the compiler.

A search gives the same schedule whenever it is asked for the same loop, so the book changes how long a compilation
takes, and for loops that are `thorough` how good a schedule they get: these are searched for at length where the book
is written.  A loop's key covers all that the search sees: dependences, units, preferences and limits, not names of
registers, addresses or trip counts.  Whoever changes loops writes the book anew: `attention/write_schedules`; a loop
that is not in it is searched.  What the book gives is checked against the dependences and units before use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import NamedTuple

from npuc.passes.machine.dependence import Graph
from npuc.passes.machine.nodes import Choice, Node
from npuc.passes.machine.reservation import ReservationTable

BOOK = Path(__file__).with_name("schedules.json")
_KEY_DIGITS = 32


class Entry(NamedTuple):
    """A schedule by numbers: issue times, the number of each operation's choice; the bounds it was searched under."""

    interval: int
    times: tuple[int, ...]
    choices: tuple[int, ...]
    resource_bound: int
    resource: str
    recurrence_bound: int


_recorded: ContextVar[dict[str, Entry] | None] = ContextVar("recorded", default=None)


@cache
def book() -> Mapping[str, Entry]:
    """Every shipped schedule by key."""
    entries = json.loads(BOOK.read_text(encoding="utf-8"))
    return {key: Entry(i, tuple(times), tuple(chosen), *bounds) for key, (i, times, chosen, *bounds) in entries.items()}


def write(entries: Mapping[str, Entry], path: Path = BOOK) -> None:
    """A line a schedule, in the order of the keys."""
    lines = (f"{json.dumps(key)}: {json.dumps(entries[key], separators=(',', ':'))}" for key in sorted(entries))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def key(nodes: Sequence[Node], graph: Graph, late: Sequence[bool], limits: Sequence[int]) -> str:
    """late: which operations are better late; limits: of the search."""
    shared: dict[str | None, int] = {None: -1}  # registers in the order in which they appear
    units = [[_numbered(choice, shared) for choice in node.choices] for node in nodes]
    content = (sorted(graph.edges.items()), units, list(late), list(limits))
    return hashlib.sha256(repr(content).encode()).hexdigest()[:_KEY_DIGITS]


def _numbered(choice: Choice, shared: dict[str | None, int]) -> list[tuple[str, int, str, int]]:
    """The choice's claims with the registers of `shared` by number."""
    return [(c.unit, c.cycle, c.kind, shared.setdefault(c.shared, len(shared))) for c in choice.claims]


def find(of: str, nodes: Sequence[Node], graph: Graph) -> Entry | None:
    """The schedule with that key, where the book has it and it is one of this loop."""
    recorded = _recorded.get()
    entry = (book() if recorded is None else recorded).get(of)
    return entry if entry is not None and _is_schedule(entry, nodes, graph) else None


def record(of: str, entry: Entry) -> None:
    """Note a schedule that was searched."""
    recorded = _recorded.get()
    if recorded is not None:
        recorded[of] = entry


def is_written() -> bool:
    """Whether the book is written anew."""
    return _recorded.get() is not None


@contextmanager
def recording() -> Iterator[dict[str, Entry]]:
    """Begin with an empty book, and gather what is searched."""
    recorded: dict[str, Entry] = {}
    token = _recorded.set(recorded)
    try:
        yield recorded
    finally:
        _recorded.reset(token)


def _is_schedule(entry: Entry, nodes: Sequence[Node], graph: Graph) -> bool:
    if not len(entry.times) == len(entry.choices) == len(nodes):
        return False
    times, interval = entry.times, entry.interval
    if any(times[b] - times[a] + interval * passes < least for (a, b, passes), least in graph.edges.items()):
        return False
    if any(not 0 <= chosen < len(node.choices) for chosen, node in zip(entry.choices, nodes, strict=True)):
        return False
    return fits([node.choices[n] for node, n in zip(nodes, entry.choices, strict=True)], times, interval)


def fits(choices: Sequence[Choice], times: Sequence[int], interval: int) -> bool:
    """Whether no unit is taken twice."""
    table = ReservationTable(interval)
    for i, (choice, time) in enumerate(zip(choices, times, strict=True)):
        if not table.free(choice, time):
            return False
        table.take(i, choice, time)
    return True
