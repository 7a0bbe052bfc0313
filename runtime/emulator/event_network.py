"""Events of the modules of tiles: broadcast through the array, reset of timers, status registers.

A module is the core's or the memory's half of a core tile, a memory tile, or a shim.  An event reaches, besides the
counters: its bit in the status registers; the module's timer, if Timer_Control names it; the broadcasts that name it
in Event_BroadcastN.  A broadcast floods the partition from tile to tile where the block registers do not stop it, and
is an event of every module it reaches.  Times are measured: events.broadcast_skew of facts/silicon/calibration.json.
Switch B of shims and memory tiles, groups, combinations and edges of events are not modelled.
"""

from __future__ import annotations

import heapq
import re
from functools import partial
from typing import TYPE_CHECKING

from npuc.runtime.emulator.tile import Tile

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

PER_COLUMN, PER_ROW, MEMORY_AFTER_CORE = 4, 2, 2  # H: events.broadcast_skew
BROADCASTS = 16
BROADCAST = re.compile(r"Event_Broadcast(\d+)(?:_A)?$")
BLOCK = re.compile(r"Event_Broadcast_(?:[AB]_)?Block_(South|West|North|East)_(Set|Clr|Value)$")
STATUS = re.compile(r"Event_Status(\d)$")
# Event number of broadcast 0 and offset of Timer_Control: facts/platform/events_aie2.json, registers_aie2.json.
FIRST_BROADCAST = {"core": 107, "memory": 107, "memtile": 142, "shim": 110}
TIMER_CONTROL = {"core": 0x34000, "memory": 0x14000, "memtile": 0x94000, "shim": 0x34000}
RESET_EVENT_LSB = 8
TRUE = 1
STEPS = {"South": (0, -1, PER_ROW), "West": (-1, 0, PER_COLUMN), "North": (0, 1, PER_ROW), "East": (1, 0, PER_COLUMN)}

Node = tuple[Tile, str]  # a tile and one of its modules


def modules_of(kind: str) -> tuple[str, ...]:
    """The modules of a tile; the first is the one that its neighbours are joined to."""
    return ("core", "memory") if kind == "core" else (kind,)


def timer_reset_event(tile: Tile, module: str) -> int:
    """The event that resets the module's timer, 0 for none."""
    return tile.plain.get(TIMER_CONTROL[module], 0) >> RESET_EVENT_LSB & 0xFF


class EventNetwork:
    """Events of all modules of an array."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self._broadcasts: dict[tuple[str, str], dict[int, set[int]]] = {}  # module -> event -> broadcasts
        self._blocked: dict[tuple[str, str, str], int] = {}  # tile, register without its last part, side
        self._status: dict[tuple[str, str], int] = {}

    # registers

    def write(self, tile: Tile, module: str, name: str, value: int) -> None:
        """A write of one of the registers named above (others: nothing happens)."""
        if (match := BROADCAST.match(name)) is not None:
            self._name_broadcast(tile, module, int(match[1]), value)
        elif (match := BLOCK.match(name)) is not None:
            key = (tile.name, module, name.rpartition("_")[0])
            blocked = self._blocked.get(key, 0)
            self._blocked[key] = blocked | value if match[2] == "Set" else blocked & ~value
        elif (match := STATUS.match(name)) is not None:
            self.array.counters.listen()
            key_ = (tile.name, module)
            self._status[key_] = self._status.get(key_, 0) & ~(value << 32 * int(match[1]))

    def _name_broadcast(self, tile: Tile, module: str, number: int, event: int) -> None:
        named = self._broadcasts.setdefault((tile.name, module), {})
        for numbers in named.values():
            numbers.discard(number)
        if event:
            named.setdefault(event, set()).add(number)
            self.array.counters.listen()

    def read(self, tile: Tile, module: str, name: str) -> int | None:
        """What a status or block register shows; None for another."""
        if (match := STATUS.match(name)) is not None:
            bits = self._status.get((tile.name, module), 0) | 1 << TRUE
            return bits >> 32 * int(match[1]) & 0xFFFFFFFF
        if (match := BLOCK.match(name)) is not None:
            return self._blocked.get((tile.name, module, name.rpartition("_")[0]), 0) if match[2] == "Value" else 0
        return None

    # events

    def happened(self, tile: Tile, module: str, event: int) -> None:
        """An event of a module in the present cycle."""
        self.array.counters.happened(tile, module, event)
        key = (tile.name, module)
        self._status[key] = self._status.get(key, 0) | 1 << event
        if event and timer_reset_event(tile, module) == event:
            self.reset_timer(tile, module)
        for number in self._broadcasts.get(key, {}).get(event, ()):
            self._broadcast((tile, module), number)

    def reset_timer(self, tile: Tile, module: str) -> None:
        """The module's timer is 0 in this cycle."""
        now = tile.timer_origins[TIMER_CONTROL[module]] = self.array.clock.cycle
        if tile.core is not None and module == "core":
            tile.core.core.timer_origin = now

    def _broadcast(self, source: Node, number: int) -> None:
        now = self.array.clock.cycle
        for (tile, module), delay in self._reached(source, number):
            event = FIRST_BROADCAST[module] + number
            self.array.clock.at(now + delay, tile.rank, partial(self.happened, tile, module, event))

    def _reached(self, source: Node, number: int) -> list[tuple[Node, int]]:
        """Every module that the broadcast reaches, with the cycles it takes."""
        found: dict[tuple[str, str], int] = {}
        nodes: list[tuple[Node, int]] = []
        queue: list[tuple[int, int, Node]] = [(0, 0, source)]
        count = 0
        while queue:
            delay, _, node = heapq.heappop(queue)
            key = (node[0].name, node[1])
            if key in found:
                continue
            found[key] = delay
            nodes.append((node, delay))
            for other, cycles in self._next(node, number):
                count += 1
                heapq.heappush(queue, (delay + cycles, count, other))
        return nodes

    def _next(self, node: Node, number: int) -> list[tuple[Node, int]]:
        tile, module = node
        others: list[tuple[Node, int]] = []
        modules = modules_of(tile.kind)
        if len(modules) > 1:
            others.append(((tile, modules[1 - modules.index(module)]), MEMORY_AFTER_CORE))
        if module != modules[0]:
            return others
        switch = "" if tile.kind == "core" else "A_"
        for side, (across, up, cycles) in STEPS.items():
            blocked = self._blocked.get((tile.name, module, f"Event_Broadcast_{switch}Block_{side}"), 0)
            neighbour = self.array.tiles.get((tile.column + across, tile.row + up))
            if neighbour is not None and not blocked >> number & 1:
                others.append(((neighbour, modules_of(neighbour.kind)[0]), cycles))
        return others


def known_broadcasts(module: str) -> range:
    """Event numbers of the broadcasts."""
    return range(FIRST_BROADCAST[module], FIRST_BROADCAST[module] + BROADCASTS)
