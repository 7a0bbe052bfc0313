"""The control port of a tile: control packets come in, responses and task tokens go out.

A control packet is a header, a control word and data (device_npu1.md, "Stream switch"): address[19:0], beats - 1
[21:20], operation[23:22], response id[28:24].
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.descriptor import Packet
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.streams import Inlet, Outlet, Segment, Supply, slave_of
from npuc.runtime.emulator.tile import Tile

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

WRITE, READ = 0, 1
UNLIMITED = 1 << 62
RANK = 15  # after the channels of the tile


class ControlPort(Inlet, Supply):
    """Takes control packets, a word a cycle, and carries each out when its last word has come."""

    def __init__(self, array: Array, tile: Tile) -> None:
        super().__init__(array, tile, f"the control port of {tile.name}")
        self.open_until = UNLIMITED
        self.packets: deque[tuple[np.ndarray, str | None]] = deque()  # to be sent
        self._sent = 0  # words of the first of them
        self._words: list[int] = []
        self.outlet = Outlet(array, tile, slave_of(tile.kind, "ctrl"), self.name, tile.rank + RANK, self)

    # packets that come in

    def receive(self, segment: Segment) -> None:
        if segment.token is not None:
            raise EmulationError(f"the task token of {segment.token} arrives at {self.name}")
        self._words += segment.words.tolist()
        if segment.last:
            words, self._words = self._words, []
            clock = self.array.clock
            clock.at(math.floor(segment.arrived) + 1, self.tile.rank + RANK, lambda: self.execute(words))

    def execute(self, words: list[int]) -> None:
        """Carry out one packet, header first.  EmulationError for a malformed one."""
        who = f"a control packet to {self.tile.name}"
        if len(words) < 2:
            raise EmulationError(
                f"{who} has {len(words)} words; it needs a header and a control word",
                remedy="keep the packet header at the master that leads to the control port",
            )
        control = words[1]
        beats, operation, response = (control >> 20 & 3) + 1, control >> 22 & 3, control >> 24 & 31
        address = geometry.tile_address(self.tile.column, self.tile.row, control & 0xFFFFF)
        if operation == WRITE:
            if len(words) != 2 + beats:
                raise EmulationError(f"{who} writes {beats} words and carries {len(words) - 2}")
            self.array.registers.write_block(address, tuple(words[2:]), who)
        elif operation == READ:
            values = [self.array.registers.read(address + 4 * i, who) for i in range(beats)]
            self.send([self.array.header(Packet(response, 0, 0), self.tile), *values])
        else:
            raise EmulationError(
                f"{who} has operation {operation}, which is not modelled: public sources do not say "
                "how it differs from a write"
            )
        self.array.progress += 1

    def unfinished(self) -> int:
        """Words of a packet that is not whole yet, and of those that have still to leave."""
        return len(self._words) + sum(len(words) for words, _ in self.packets) - self._sent

    def contents(self) -> Hashable:
        """The words that lie in the port."""
        packets = tuple((words.tobytes(), token) for words, token in self.packets)
        return tuple(self._words), packets, self._sent, self.tail

    # packets that go out

    def send(self, words: list[int], token: str | None = None) -> None:
        """Send a packet; token: the channel whose task token it is."""
        self.packets.append((np.array(words, dtype=np.uint32), token))
        self.outlet.pump()

    def offer(self) -> int:
        return len(self.packets[0][0]) - self._sent if self.packets else 0

    def peek(self) -> int:
        return int(self.packets[0][0][self._sent])

    def take(self, count: int) -> np.ndarray:
        words, self.token = self.packets[0]
        taken = words[self._sent : self._sent + count]
        self._sent += count
        self.tail = self._sent == len(words)
        if self.tail:
            self.packets.popleft()
            self._sent = 0
        return taken


class ControllerPort(Inlet):
    """Where task tokens leave the array for the controller."""

    def __init__(self, array: Array, tile: Tile) -> None:
        super().__init__(array, tile, f"the controller's port of {tile.name}")
        self.open_until = UNLIMITED

    def receive(self, segment: Segment) -> None:
        token = segment.token
        if token is None:
            raise EmulationError(f"words that are no task token reach {self.name}")
        if segment.last:
            clock = self.array.clock
            clock.at(math.floor(segment.arrived), self.tile.rank + RANK, lambda: self.array.token_arrived(token))
