"""Who waits for what: the units of an array that stand still, and what could set them going.

A unit is the controller, a core or a DMA channel.  It waits for resources: a lock's value, words or room on a stream, a
task token, a register's value.  A resource has providers, the units that could give it.  `why` follows these edges from
the controller to where they end, the root cause, or close, a circular wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import takewhile
from typing import Any

from npuc.compiler.target.npu1 import geometry

# Why a unit that is asked for something does not give it.
WAITING, IDLE, FINISHED, OFF, LOOPING, RUNNING = "waiting", "idle", "finished", "off", "looping", "running"
HELD = "words_waiting"  # in the state of a receiver without a task: what has come for it
SPENT = "given_by_sequence"  # in the state of a resource: the sequence has given it, and it is used up


@dataclass(frozen=True)
class Resource:
    """kind: 'lock', 'words', 'room', 'token' or 'register'.

    text: what is wanted of it and how it stands, as it continues "waits ".  state: the same as values.
    providers: names of the units that could give it.  missing: why nothing can, where there is no provider.
    """

    kind: str
    text: str
    state: Mapping[str, Any]
    providers: tuple[str, ...] = ()
    missing: str | None = None


@dataclass(frozen=True)
class Unit:
    """kind: 'controller', 'core' or 'dma'.  tile: (column, row), None for the controller.

    place: where in its program, descriptor or sequence it stands.  text: for a unit that does not wait, why it gives
    nothing.  state: values for programs to read.
    """

    name: str
    kind: str
    tile: tuple[int, int] | None
    status: str
    place: str = ""
    text: str = ""
    waits: tuple[Resource, ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """Name, place and what it waits for or why it does nothing."""
        where = f"{self.name} {self.place}".rstrip()
        if self.status == WAITING:
            return f"{where}: waits " + " and ".join(resource.text for resource in self.waits)
        return f"{where}: {self.text}"

    @property
    def dead_end(self) -> str:
        """The line of a unit that nothing can set going: words have come for it, or nothing gives what it waits for.

        What only waits for words that nobody sends is none: an image may have ways that a sequence does not use.
        """
        if self.status == IDLE and self.state.get(HELD):
            return self.line
        for resource in self.waits if self.status == WAITING and self.kind != "controller" else ():
            unused = resource.kind == "words" and self.kind == "dma" and not self.state.get("moved")
            if resource.missing and not resource.state.get(SPENT) and not unused:
                return f"{self.line}; {resource.missing}"
        return ""


@dataclass(frozen=True)
class Diagnosis:
    """Why a run cannot proceed.

    root: the cause, one line.  chain: from the controller to the root, each waiting for the next.  units: all that wait
    or loop.  notes: what else stands out.
    """

    cycle: int
    root: str
    chain: tuple[str, ...]
    units: tuple[Unit, ...]
    notes: tuple[str, ...] = ()

    def details(self) -> list[str]:
        """Further lines below the message: the chain, the notes, every other unit."""
        others = [unit.line for unit in self.units if unit.line not in self.chain]
        return [*self.chain, *self.notes, *others]

    def to_json(self) -> dict[str, Any]:
        return {
            "cycle": self.cycle,
            "root": self.root,
            "chain": list(self.chain),
            "notes": list(self.notes),
            "units": [asdict(unit) for unit in self.units],
        }


@dataclass(frozen=True)
class Cause:
    """Where following the waits ends.  circular: it closes; the chain then ends with the unit it returns to.

    path: names of the units of the chain.  spent: the host has given all it was asked for.  beside: a circular wait of
    others that the chain could have led to.
    """

    root: str
    chain: tuple[str, ...]
    circular: bool
    path: tuple[str, ...] = ()
    spent: bool = False
    beside: str = ""


def dead_ends(units: Mapping[str, Unit], cause: Cause) -> list[Unit]:
    """Units beside the chain that nothing can set going."""
    return [unit for unit in units.values() if unit.name not in cause.path and unit.dead_end]


def why(units: Mapping[str, Unit], start: str) -> Cause:
    """The chain of waits from a unit to its root.  An end is preferred to a circle, the first found to later ones."""
    circles: list[Cause] = []
    seen: set[str] = set()

    def follow(name: str, path: tuple[str, ...]) -> Cause | None:
        unit = units[name]
        lines = tuple(units[step].line for step in path)
        if name in path:
            loop = [units[step].line for step in path[path.index(name) :]]
            circles.append(Cause("circular wait: " + "; ".join(loop), lines, True, path))
            return None
        if unit.status != WAITING:
            return Cause(unit.line, (*lines, unit.line), False, (*path, name))
        if name in seen:
            return None
        seen.add(name)
        for resource in unit.waits:
            if not resource.providers:
                root = f"{unit.line}; {resource.missing}" if resource.missing else unit.line
                return Cause(root, (*lines, unit.line), False, (*path, name))
        for resource in unit.waits:
            for provider in resource.providers:
                found = follow(provider, (*path, name))
                if found is not None:
                    return found
        return None

    found = follow(start, ())
    if found is None:
        return circles[0]
    cause = _at_the_half_done(units, found)
    if not cause.spent:
        return cause
    circles.clear()
    for name in _not_followed(units, found.path):
        other = follow(name, ())
        if other is not None and other.path[-1] not in found.path:
            return replace(cause, beside=_at_the_half_done(units, other).root)
        if other is not None and (rooted := _at_the_half_done(units, other)).root != other.root:
            return replace(cause, beside=rooted.root)
    return replace(cause, beside=circles[0].root) if circles else cause


def _not_followed(units: Mapping[str, Unit], path: tuple[str, ...]) -> list[str]:
    """Other providers of what the units of a path wait for, any of which may be the root."""
    names = [name for step in path for resource in units[step].waits for name in resource.providers]
    return [name for name in dict.fromkeys(names) if name not in path]


def _at_the_half_done(units: Mapping[str, Unit], cause: Cause) -> Cause:
    """A sender that has no more to send, or a core that has done all it was asked to, is no root by itself.

    The root lies with the first receiver behind it that is left half done.  Where others between the two are between
    descriptors, what was sent has gone through, and that receiver's descriptor is longer than what was sent. A core
    that takes words from its stream or cascade is such a receiver; nobody knows how many it still wants, nor which of
    several that hand words on to each other lost some.
    """
    last = units[cause.path[-1]]
    if last.kind == "port" and len(cause.path) > 1:
        return replace(cause, root=f"{units[cause.path[-2]].line}; {last.line}")
    spent = any(resource.state.get(SPENT) for resource in last.waits)
    if not spent and (last.status != IDLE or not last.state.get("tasks_done") or last.state.get(HELD)):
        return cause
    spent = spent or last.tile is not None and last.tile[1] == geometry.SHIM_ROW
    for place in reversed(range(len(cause.path) - 1)):
        unit = units[cause.path[place]]
        if _takes_words(unit):
            cores = list(takewhile(_takes_words, (units[name] for name in reversed(cause.path[: place + 1]))))
            lines = [each.line for each in reversed(cores)] + [last.line]
            lines += _first_receiver(units, cause.path[: place + 1 - len(cores)])
            return replace(cause, root="; ".join(lines), spent=spent)
        moved, length = unit.state.get("moved", 0), unit.state.get("length", 0)
        if unit.status == WAITING and unit.state.get("direction") == "s2mm" and 0 < moved < length:
            if place == len(cause.path) - 2:
                root = f"{unit.line}; {last.line}"
            else:
                source = units[cause.path[place + 1]]
                sent = source.state.get("length")
                pieces = f", which sends {sent} a descriptor" if sent and sent != length else ""
                root = (
                    f"the descriptor of {unit.name} is longer than what is sent: {moved} of {length} words have come "
                    f"from {source.name}{pieces}, no channel before it is half done, and {last.line}"
                )
                root += "".join(f"; {text}" for text in _losses(units, cause.path))
            return replace(cause, root=root, spent=spent)
    lines = [cause.root, *_first_receiver(units, cause.path), *_losses(units, cause.path)]
    return replace(cause, root="; ".join(lines), spent=spent)


def _first_receiver(units: Mapping[str, Unit], path: tuple[str, ...]) -> list[str]:
    """The line of a path's first receiver, that of the host as a rule: it may expect too much."""
    return [units[name].line for name in path[:-1] if units[name].state.get("direction") == "s2mm"][:1]


def _takes_words(unit: Unit) -> bool:
    """Whether a core waits for its stream or cascade."""
    return unit.status == WAITING and unit.kind == "core" and any(r.kind in ("words", "cascade") for r in unit.waits)


def _lost_between(units: Mapping[str, Unit], path: tuple[str, ...]) -> Iterator[tuple[tuple[int, int], str]]:
    """Where a sender waits for a lock that receivers alone release: what they took and it did not send."""
    for name in reversed(path):
        sender = units[name]
        if sender.kind != "dma" or sender.tile is None or sender.state.get("direction") != "mm2s":
            continue
        for resource in sender.waits:
            givers = [units[each] for each in resource.providers]
            if resource.kind != "lock" or not givers or any(each.state.get("direction") != "s2mm" for each in givers):
                continue
            takers = [
                unit for unit in units.values() if unit.tile == sender.tile and _given_by(unit, resource.providers)
            ]
            taken, sent = (sum(each.state["words"] for each in side) for side in (givers, takers))
            if sent < taken:
                who = " and ".join(each.name for each in takers)
                what = f"{sender.line}; {who} sent {sent} of the {taken} words that "
                yield sender.tile, what + " and ".join(each.name for each in givers) + " took"


def _given_by(unit: Unit, givers: tuple[str, ...]) -> bool:
    return any(resource.kind == "lock" and set(resource.providers) & set(givers) for resource in unit.waits)


def _losses(units: Mapping[str, Unit], path: tuple[str, ...]) -> Iterator[str]:
    """Tiles of a chain that have sent fewer words than they took, from the host on.  A core that sends none may hand on
    what it computes in memory."""
    between = dict(_lost_between(units, path))
    account = Account(
        (unit.tile, unit.state["direction"], unit.state["words"]) for unit in units.values() if unit.kind == "dma"
    )
    for tile in dict.fromkeys(units[name].tile for name in reversed(path)):
        if tile in between:
            yield between[tile]
        if tile is not None and (lost := account.line(tile, less=True)):
            yield lost


class Account:
    """Words that tiles took and sent.

    A memory tile that fills the one beside it, which only sends, counts together with that.
    """

    def __init__(self, moved: Iterable[tuple[tuple[int, int] | None, str, int]]) -> None:
        self._words: dict[tuple[int, int], list[int]] = {}
        for tile, direction, words in moved:
            if tile is not None and tile[1] != geometry.SHIM_ROW:
                self._words.setdefault(tile, [0, 0])[direction == "mm2s"] += words

    def line(self, tile: tuple[int, int], *, less: bool) -> str:
        """What a tile took and sent, where it sent fewer words (less), or more; empty where it does not."""
        tiles = self._together(tile)
        taken, sent = (sum(self._words.get(each, (0, 0))[way] for each in tiles) for way in (0, 1))
        passes_on = tile[1] == geometry.MEMTILE_ROW or sent > 0
        if not taken or not (passes_on and sent < taken if less else sent > taken):
            return ""
        names = " and ".join(f"{geometry.tile_kind(row)}({column},{row})" for column, row in tiles)
        return f"{names} {'have' if len(tiles) > 1 else 'has'} taken {taken} words and sent {sent}"

    def _together(self, tile: tuple[int, int]) -> list[tuple[int, int]]:
        column, row = tile
        if row == geometry.MEMTILE_ROW:
            mine = self._words.get(tile, (0, 0))
            for other in ((column - 1, row), (column + 1, row)):
                theirs = self._words.get(other, (0, 0))
                if not any(mine[way] and theirs[way] for way in (0, 1)) and any(mine) and any(theirs):
                    return sorted((tile, other))
        return [tile]
