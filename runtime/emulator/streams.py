"""Streams: words on their way from a port where they enter the switches to the ends of their route.

Nothing is stepped word by word.  An outlet sends a burst as soon as its supply has words and every end of the way has
room; the burst's words enter one a cycle (DDR: slower), arrive after the latency of the way, and the ends compute from
the arrival times when they took the last one.  What an end may be sent is an index: words before `open_until` are
taken in as they arrive, and as many more as the way itself holds may enter behind them.  That is exact for ends that
take a word a cycle: a word enters when the one that far ahead of it has been taken.

A circuit's way exists for ever.  A packet's way begins with its header, wins the arbiters on it from the source
onward, keeping those it has, and ends with its last word; arbiters serve their slaves in turn.  Where the switches
give no way yet, words wait until a switch register is written (strict mode refuses that at once).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.events import ago
from npuc.runtime.emulator.switches import HeaderNeeded, OpenEnd, Route, Turn
from npuc.runtime.emulator.tile import Tile
from npuc.runtime.emulator.waits import Wait

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

DDR = "DDR"  # the unit of notes about bursts
LONGEST_BURST = 1024  # words; bounds how long a DDR share is held


@dataclass(slots=True)
class Segment:
    """Words that arrive at `first`, `first + period`, ...; last: the final one ends a packet.

    token: the name of the channel whose task token this is, if it is one.
    """

    words: np.ndarray
    first: float
    period: float
    last: bool
    token: str | None = None

    @property
    def arrived(self) -> float:
        """When the final word arrives."""
        return self.first + (len(self.words) - 1) * self.period


class Inlet:
    """An end of streams.  Subclasses take in what arrives and open the way for more."""

    def __init__(self, array: Array, tile: Tile, name: str) -> None:
        self.array, self.tile, self.name = array, tile, name
        self.entered = 0  # words on the way or taken, ever
        self.open_until = 0
        self.opened_at, self.open_before = 0.0, 0  # from when on the last opening holds; `open_until` before it
        self.last_arrival = -1.0
        self.blocked: list[Outlet] = []
        self._marks: list[tuple[int, Callable[[float], None]]] = []

    def ddr(self) -> tuple[str, float, float] | None:
        """Direction, cycles a word and bytes a cycle when the words leave the array here."""
        return None

    def open(self, until: int, at: float) -> None:
        """Words before index `until` are taken as they arrive, the first of the new ones not before `at`."""
        if until <= self.open_until:
            return
        former, self.open_until = self.open_until, until
        self.opened_at, self.open_before = at, former
        if self._marks:
            due = [mark for mark in self._marks if mark[0] <= self.open_until]
            self._marks = [mark for mark in self._marks if mark[0] > self.open_until]
            for index, accepted in due:
                accepted(max(at + index - 1 - former, self.last_arrival - (self.entered - index)))
        if self.blocked:
            blocked, self.blocked = self.blocked, []
            for outlet in blocked:
                outlet.unblock(at)

    def when_taken(self, index: int, accepted: Callable[[float], None]) -> None:
        """Call back with the cycle at which the words before `index` are all taken, once that is known."""
        self._marks.append((index, accepted))

    def marks(self) -> list[int]:
        """Indices of the words after which somebody waits to be called back."""
        return [index for index, _ in self._marks]

    def drop(self) -> None:
        """Forget all that is on the way (a reset); for its senders it has been taken."""
        self.open_until = self.entered
        marks, self._marks = self._marks, []
        for _, accepted in marks:
            accepted(self.array.clock.cycle)

    def receive(self, segment: Segment) -> None:
        """Words are on the way; `entered` counts them already."""
        raise NotImplementedError


class Supply:
    """What gives an outlet its words.

    tail: whether the word taken last carries TLAST.  token: the channel whose task token the words taken last are.
    """

    tail = False
    token: str | None = None

    def offer(self) -> int:
        """Words that can be sent now, all of one packet."""
        raise NotImplementedError

    def peek(self) -> int:
        """The next word."""
        raise NotImplementedError

    def take(self, count: int) -> np.ndarray:
        """The next `count` words of those on offer; they are gone."""
        raise NotImplementedError

    def ddr(self) -> tuple[str, float, float] | None:
        """As that of an inlet, when the words come from DDR."""
        return None

    def leaving(self, first: float, end: float, late: list[tuple[Inlet, int]]) -> None:
        """The words taken last enter from `first` to `end`.

        late: the inlets that do not take them as they arrive, each with the index up to which it will have to.
        """

    def sent(self, count: int, cycles: float) -> None:
        """The words taken last have entered the way, in that many cycles."""

    def held_up(self) -> None:
        """An end has no room for the words on offer."""


class Arbiter:
    """One of a switch's eight: it lets one packet pass at a time and then asks the slaves in turn."""

    def __init__(self) -> None:
        self.holder: Way | None = None
        self.free_at = 0.0  # when the last packet's tail has passed
        self.waiting: dict[int, Outlet] = {}
        self._served = -1

    def take(self, way: Way, slave: int) -> bool:
        if self.holder is None and not any(key != slave for key in self.waiting):
            self.waiting.pop(slave, None)
            self.holder, self._served = way, slave
        elif self.holder is not way:
            self.waiting[slave] = way.outlet
            return False
        return True

    def state(self, now: int) -> Hashable:
        """As values, times counted from now."""
        return self.holder and self.holder.outlet.name, ago(self.free_at, now), tuple(self.waiting), self._served

    def release(self, at: float) -> None:
        self.holder, self.free_at = None, at
        if self.waiting:
            slave = min(self.waiting, key=lambda key: (key <= self._served, key))
            outlet = self.waiting.pop(slave)
            self.holder, self._served = outlet.way, slave
            outlet.pump()


class Way:
    """A route in use by one outlet: a circuit, or one packet.  held: how many of its arbiters it has won."""

    def __init__(self, outlet: Outlet, route: Route, ends: list[tuple[Inlet, int, int, bool]], version: int) -> None:
        self.outlet, self.route, self.ends, self.version = outlet, route, ends, version
        self.held = 0
        self.started = False
        self.not_before = 0.0
        self.circuit = not route.turns
        self.drops_headers = any(end[3] for end in ends)
        self.meets_ddr = outlet.tile.kind == "shim" or any(end[0].tile.kind == "shim" for end in ends)


class Outlet:
    """A port by which words enter the switches: slave() of `tile`."""

    def __init__(
        self, array: Array, tile: Tile, slave: Callable[[], int], name: str, rank: int, supply: Supply
    ) -> None:
        self.array, self.tile, self.slave, self.name, self.rank, self.supply = array, tile, slave, name, rank, supply
        self.clock = array.clock
        self.way: Way | None = None
        self.moving = False
        self.free_at = 0.0
        self.blocked_on: list[Inlet] = []
        self.waits_for_turn: Turn | None = None
        self.no_way: OpenEnd | None = None  # why the words on offer have no way yet
        self._generation = 0

    def reset(self) -> None:
        """Abandon what is on its way in."""
        self._generation += 1
        self.moving = False
        self._end_way(self.array.clock.cycle)
        self._forget_blocks()
        if self.no_way is not None:
            self.no_way = None
            self.array.stuck.remove(self)

    def unblock(self, at: float) -> None:
        """An end takes more words, from `at` on."""
        self._forget_blocks()
        if self.free_at < at:
            self.free_at = at
        self.pump()

    def _forget_blocks(self) -> None:
        for inlet in self.blocked_on:
            if self in inlet.blocked:
                inlet.blocked.remove(self)
        self.blocked_on = []

    def retry(self) -> None:
        """A switch register was written: there may be a way now."""
        self.no_way = None
        self.pump()

    def pump(self) -> None:
        """Send a burst if the supply, the way and its ends allow one."""
        if self.moving or self.blocked_on or self.no_way is not None:
            return
        offered = self.supply.offer()
        if not offered:
            return
        way = self.way
        if way is None or not way.circuit or way.version != self.array.switch_version:
            way = self._claim()
            if way is None:
                return
        room, now, opening = offered, self.clock.cycle, False
        head = not way.started and way.drops_headers  # a header that will be dropped needs no room
        for inlet, _, words, headless in way.ends:
            free = inlet.open_until + words - inlet.entered
            if head and headless:
                free += 1
            if free < room:
                room = free
            if inlet.opened_at > now:
                opening = True
        if room <= 0:
            self._block(way, head)
            return
        if opening:
            room = self._until_opened(way, head, room)
        self._burst(way, room)

    def _block(self, way: Way, head: bool) -> None:
        """Wait for the ends that have no room."""
        self.blocked_on = [
            inlet
            for inlet, _, words, headless in way.ends
            if inlet.open_until + words - inlet.entered + (headless and head) <= 0
        ]
        for inlet in self.blocked_on:
            inlet.blocked.append(self)
        self.supply.held_up()

    def _until_opened(self, way: Way, head: bool, room: int) -> int:
        """Until an opening holds the end takes what it took before: that many words, or later."""
        for inlet, _, words, headless in way.ends:
            if inlet.opened_at > self.clock.cycle:
                before = inlet.open_before + words - inlet.entered + (headless and head)
                if before > 0:
                    room = min(room, before)
                else:
                    self.free_at = max(self.free_at, inlet.opened_at)
        return room

    # the way

    def _claim(self) -> Way | None:
        """The way of the next word; None while it waits for an arbiter."""
        way = self.way
        if way is not None and way.version != self.array.switch_version and not (way.started and way.route.turns):
            self._end_way(self.array.clock.cycle)
        if self.way is None:
            try:
                self.way = self._begin()
            except OpenEnd as error:
                if self.array.strict:
                    raise
                self.no_way = error
                self.array.stuck.append(self)
                return None
        way = self.way
        while way.held < len(way.route.turns):
            turn = way.route.turns[way.held]
            arbiter = self.array.arbiter(turn.tile, turn.arbiter)
            if not arbiter.take(way, turn.slave):
                self.waits_for_turn = turn
                return None
            way.held += 1
            way.not_before = max(way.not_before, arbiter.free_at - turn.latency)
        self.waits_for_turn = None
        return way

    def _begin(self) -> Way:
        slave = self.slave()
        try:
            route = self.array.route(self.tile, slave, self.name, None)
        except HeaderNeeded:
            route = self.array.route(self.tile, slave, self.name, self.supply.peek() & 31)
        ends = []
        for leaf in route.leaves:
            inlet = self.array.inlet(leaf)
            ends.append((inlet, leaf.latency, leaf.words, leaf.headless))
        return Way(self, route, ends, self.array.switch_version)

    def _end_way(self, end: float) -> None:
        way, self.way = self.way, None
        if way is None:
            return
        for turn in way.route.turns[: way.held]:
            self.array.arbiter(turn.tile, turn.arbiter).release(end + turn.latency)
        if way.held < len(way.route.turns):
            turn = way.route.turns[way.held]
            self.array.arbiter(turn.tile, turn.arbiter).waiting.pop(turn.slave, None)

    # bursts

    def _burst(self, way: Way, count: int) -> None:
        ddr = self._ddr(way) if way.meets_ddr else None
        period = 1.0
        if ddr is not None:
            direction, word, total = ddr
            count = min(count, LONGEST_BURST)
            self.array.ddr_users[direction] += 1
            period = max(word, 4 * self.array.ddr_users[direction] / total)
        supply = self.supply
        words = supply.take(count)
        tail, token = supply.tail, supply.token
        first = float(self.clock.cycle)
        if first < self.free_at:
            first = self.free_at
        if first < way.not_before:
            first = way.not_before
        self.free_at = end = first + count * period
        self.moving = True
        head = not way.started and way.drops_headers
        way.started = True
        late: list[tuple[Inlet, int]] = []
        arriving = []
        for inlet, latency, _, headless in way.ends:
            arrival, size, arrived = first + latency, count, words
            if head and headless:
                arrival, size, arrived = first + period + latency, count - 1, words[1:]
                if not size:
                    continue
            if arrival < inlet.last_arrival + 1:
                arrival = inlet.last_arrival + 1
            inlet.last_arrival = arrival + (size - 1) * period
            inlet.entered = entered = inlet.entered + size
            if entered > inlet.open_until:
                late.append((inlet, entered))
            arriving.append((inlet.receive, Segment(arrived, arrival, period, tail, token)))
        if ddr is not None:
            self.array.note(DDR, ddr[0], first, end, 4 * count)
        supply.leaving(first, end, late)
        self.clock.at(math.ceil(end), self.rank, self._arrived, self._generation, count, end - first, tail, ddr)
        for receive, segment in arriving:
            receive(segment)

    def _ddr(self, way: Way) -> tuple[str, float, float] | None:
        ddr = self.supply.ddr()
        if ddr is None:
            for end in way.ends:
                if (ddr := end[0].ddr()) is not None:
                    break
        return ddr

    def _arrived(
        self, generation: int, count: int, cycles: float, tail: bool, ddr: tuple[str, float, float] | None
    ) -> None:
        if ddr is not None:
            self.array.ddr_users[ddr[0]] -= 1
        if generation != self._generation:
            return
        self.moving = False
        if tail:
            way = self.way
            if way is not None and way.route.turns:
                self._end_way(self.free_at)
            elif way is not None:
                way.started = False
        self.supply.sent(count, cycles)
        self.pump()

    # diagnosis

    def waits_for(self) -> tuple[Wait, ...]:
        """Why words that are on offer do not enter."""
        if self.no_way is not None:
            return (Wait(self.name, "way", self.name, f"{self.name} waits for a way: {self.no_way.message}"),)
        if self.waits_for_turn is not None:
            turn = self.waits_for_turn
            holder = self.array.arbiter(turn.tile, turn.arbiter).holder
            name = holder.outlet.name if holder else "nobody"
            return (
                Wait(
                    self.name,
                    "arbiter",
                    f"arbiter {turn.arbiter} of {turn.tile.name}",
                    f"{self.name} waits for arbiter {turn.arbiter} of {turn.tile.name}, which passes a packet of "
                    f"{name}",
                    (name,),
                ),
            )
        return tuple(
            Wait(self.name, "room", inlet.name, f"{self.name} waits until {inlet.name} takes words", (inlet.name,))
            for inlet in self.blocked_on
        )


def slave_of(kind: str, port: str, number: int = 0) -> Callable[[], int]:
    """A fixed slave port, as outlets want it."""
    index = geometry.slave_index(kind, port, number)
    return lambda: index
