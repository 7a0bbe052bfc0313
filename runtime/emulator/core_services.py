"""What a core asks of the array, and who answers: locks, the stream switch, the cascade.

Streams. `array.core_port(tile)` gives the `CorePort` of a core tile: the end of its stream switch that the core sees
(master Core 0 is the core's input, slave Core 0 its output; facts/platform/device_npu1.md). `CoreServices` calls it
with the clock at the cycle of the access, at most once a cycle and direction:

* `take()` the next word that has arrived by now, as (word, TLAST), or None;
* `offer(word, last)` puts a word into the switch; False when it has no room now;
* `when_readable(wake)`, `when_writable(wake)`: call `wake` once, when a word can be taken or offered again, with the
  clock at that cycle (a call too many is harmless, one too few lets the core sleep for ever).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from npuc.runtime.emulator.cascade import (
    ACCUMULATOR_CONTROL,
    INPUT_SIDES,
    OPPOSITE,
    CascadeQueue,
    input_side,
    output_side,
)
from npuc.runtime.emulator.core import Core
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.locks import Locks
from npuc.runtime.emulator.suspension import (
    CascadeRead,
    CascadeWrite,
    LockRequest,
    Request,
    StreamAnswer,
    StreamRead,
    StreamWrite,
)
from npuc.runtime.emulator.tile import Tile

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

LOCK_SIDES = ("south", "west", "north", "own")
"""Sixteen lock numbers of core instructions each (facts/platform/device_npu1.md)."""
STALL_KIND = {
    LockRequest: "lock",
    StreamRead: "stream",
    StreamWrite: "stream",
    CascadeRead: "cascade",
    CascadeWrite: "cascade",
}


class CorePort(Protocol):
    """The core's end of the stream switch; see the text of the module."""

    def take(self) -> tuple[int, bool] | None:
        """The next word from the switch with its TLAST, or None."""

    def offer(self, word: int, last: bool) -> bool:
        """Gives a word to the switch; whether it took it."""

    def when_readable(self, wake: Callable[[], None]) -> None:
        """Call `wake` once, when `take` may give a word."""

    def when_writable(self, wake: Callable[[], None]) -> None:
        """Call `wake` once, when `offer` may succeed."""


class CoreServices:
    """Those of the core of `tile`.  neighbour: the core tile on a side, None where there is none."""

    def __init__(self, array: Array, tile: Tile, core: Core, neighbour: Callable[[str], Tile | None]) -> None:
        self.array, self.tile, self.core = array, tile, core
        self._neighbour = neighbour
        self._memory = core.data_memory
        self._places: dict[int, tuple[Locks, int]] = {}  # of the locks that were asked for, by the core's numbers
        self.cascade_inputs = {side: CascadeQueue(array.machine.cascade_hop) for side in INPUT_SIDES}

    def answer(self, request: Request, waker: Callable[[int], Callable[[], None]]) -> int | None:
        """The cycle at which the core goes on after a request that is not for a lock; None when it waits.

        waker: gives a function that has the request answered again, so many cycles after it is called.
        """
        cycle = self.array.clock.cycle
        if isinstance(request, StreamRead):
            port = self.array.core_port(self.tile)
            taken = port.take()
            if taken is None and request.blocking:
                port.when_readable(waker(0))
                return None
            self.core.answer(StreamAnswer(*taken, True) if taken else StreamAnswer(0, False, False))
        elif isinstance(request, StreamWrite):
            port = self.array.core_port(self.tile)
            accepted = port.offer(request.word, request.last)
            if not accepted and request.blocking:
                port.when_writable(waker(0))
                return None
            self.core.answer(accepted)
        elif isinstance(request, CascadeRead):
            queue = self.cascade_inputs[input_side(self.cascade_control())]
            data = queue.take(cycle)
            if data is None:
                arrival = queue.arrival()
                if arrival is None:
                    queue.wait("entry", waker(0))
                else:
                    self.array.clock.at(arrival, self.tile.rank, waker(0))
                return None
            self.core.answer(data)
        else:
            assert isinstance(request, CascadeWrite)
            queue = self._cascade_output()
            if not queue.put(request.data, cycle):
                queue.wait("room", waker(0))
                return None
        return cycle

    # locks

    def answer_lock(self, request: LockRequest, waited: bool, waker: Callable[[int], Callable[[], None]]) -> int | None:
        """The same for a lock. waited: whether the core has waited for it before."""
        machine, value, who = self.array.machine, request.value, self.tile.name
        place = self._places.get(request.number)
        if place is None:
            tile, lock = self.lock_place(request)
            place = self._places[request.number] = tile.locks, lock
        locks, lock = place
        if not -64 <= value <= 63:
            raise EmulationError(
                f"{who} {'acquires' if request.acquire else 'releases'} lock {lock} by "
                f"{value}: a lock value has 7 signed bits, what more means is not known",
                place=f"bundle before {self.core.pc:#x}, cycle {request.cycle}",
            )
        if not request.acquire:
            locks.release(lock, value, who)
        elif locks.try_acquire(lock, value, who):
            self._memory.unguarded = False
        else:
            locks.wait(lock, waker(machine.lock_visible))
            return None
        return self.array.clock.cycle + (machine.lock_resume if waited else machine.lock_stall)

    def lock_place(self, request: LockRequest) -> tuple[Tile, int]:
        """The tile and lock that a request means.  EmulationError for a number beyond 63 or an absent neighbour."""
        if request.number > 63:
            raise EmulationError(
                f"{self.tile.name} uses lock {request.number}: a core numbers its locks 0 to 63",
                place=f"bundle before {self.core.pc:#x}, cycle {request.cycle}",
            )
        side = LOCK_SIDES[request.number >> 4]
        tile = self.tile if side == "own" else self._neighbour(side)
        if tile is None:
            raise EmulationError(
                f"{self.tile.name} uses lock {request.number}, but has no {side} neighbour with locks",
                place=f"bundle before {self.core.pc:#x}, cycle {request.cycle}",
            )
        return tile, request.number & 15

    # cascade

    def cascade_control(self) -> int:
        """Accumulator_Control."""
        return self.tile.plain.get(ACCUMULATOR_CONTROL, 0)

    def _cascade_output(self) -> CascadeQueue:
        side = output_side(self.cascade_control())
        neighbour = self._neighbour(side)
        if neighbour is None or neighbour.core is None:
            raise EmulationError(
                f"{self.tile.name} writes its cascade to the {side}, where no core is",
                remedy="set the direction in Accumulator_Control",
            )
        return neighbour.core.services.cascade_inputs[OPPOSITE[side]]

    # diagnosis

    def stall_name(self, request: Request) -> str:
        """What the core stands still for, in a few words."""
        if isinstance(request, LockRequest):
            tile, lock = self.lock_place(request)
            owner = "" if tile is self.tile else f" of {tile.name}"
            return f"{'acquire' if request.acquire else 'release'} lock {lock}{owner}"
        return f"{STALL_KIND[type(request)]} stall"

    def need(self, request: Request) -> str:
        """What the core waits for, as the end of a sentence."""
        if isinstance(request, LockRequest):
            tile, lock = self.lock_place(request)
            owner = "" if tile is self.tile else f" of {tile.name}"
            return (
                f"to acquire lock {lock}{owner} by {request.value}, which is {tile.locks.values[lock]} (last "
                f"changed by {tile.locks.writers[lock]})"
            )
        if isinstance(request, StreamRead):
            return "for a word on its stream input"
        if isinstance(request, StreamWrite):
            return f"to put {request.word:#x} on its stream output"
        if isinstance(request, CascadeRead):
            return f"for cascade data from the {input_side(self.cascade_control())}"
        return f"for room in the cascade to the {output_side(self.cascade_control())}"
