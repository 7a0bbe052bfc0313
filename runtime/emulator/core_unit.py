"""A core in its tile: when it runs, and when what it asks of the array (`core_services.py`) is answered.

A core runs ahead of the clock until it suspends (`suspension.py`); its request is served by an event at the request's
cycle, in the order of the tiles inside a cycle. Memory that cores share is guarded by locks, so a core may run ahead in
its own memory between two requests; an access outside it takes place when the clock is there. Once a neighbour has
accessed a tile's memory, its own core runs ahead by SHARED_SLICE cycles at most, so that a program that polls memory
without a lock sees a change that late at worst. Behind the next lock that it acquires, which guards what was accessed,
it runs ahead by as much as no neighbour has come since.

Events. `array.core_event(tile, number)` is called at the cycle in which the core executes `event #number`. The
timer that `mov l, cntr` reads counts from `core.timer_origin`, an array cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator import core_registers
from npuc.runtime.emulator.cascade import STEPS
from npuc.runtime.emulator.core import Core
from npuc.runtime.emulator.core_debug import CoreDebug
from npuc.runtime.emulator.core_services import LOCK_SIDES, STALL_KIND, CoreServices
from npuc.runtime.emulator.errors import EmulationError, UndefinedData
from npuc.runtime.emulator.stack import overwritten
from npuc.runtime.emulator.suspension import (
    CascadeRead,
    CascadeWrite,
    Done,
    Halt,
    LockRequest,
    Request,
    SharedAccess,
    StreamRead,
    StreamWrite,
    Suspension,
)
from npuc.runtime.emulator.tile import Tile
from npuc.runtime.emulator.tile_bus import TileBus

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

SLICE = 50_000  # cycles a core may run ahead of the clock
SHARED_SLICE = 64  # the same, when a neighbour has just accessed its memory
# Core_Status bits (facts/platform/device_npu1.md): lock stall S, W, N, E (own), streams, cascade, done.
_LOCK_STALL = {"south": 6, "west": 7, "north": 8, "own": 9}
_STALL_BITS = {StreamRead: 10, StreamWrite: 12, CascadeRead: 14, CascadeWrite: 15}
_HALT_BIT, _DONE_BIT = 16, 20


class CoreUnit:
    """Runs its core ahead to its next request and serves it at that cycle.

    stall_lock, stall_stream, stall_cascade: cycles the core stood still for each.
    """

    def __init__(self, array: Array, tile: Tile) -> None:
        assert tile.memory is not None
        self.array, self.tile, self._memory = array, tile, tile.memory
        self.program = bytearray(geometry.PROGRAM_MEMORY_SIZE)
        self._loaded = bytearray(geometry.PROGRAM_MEMORY_SIZE)  # 1 where the image or the sequence has written
        place = array.first_column + tile.column, tile.row
        self.core: Core = array.core_class(self.program, tile.memory, array.strict, tile.name, place)
        self.core.bus = TileBus(array, tile)
        self.control = geometry.CORE_CONTROL_RESET
        self.waiting: Request | None = None
        self.running = False
        self.done_at: int | None = None
        self.stalls = {"lock": 0, "stream": 0, "cascade": 0}
        self.services = CoreServices(array, tile, self.core, self.neighbour)
        self.debug = CoreDebug(self)
        self.due: int | None = None  # the cycle of the run to come
        self._generation = 0

    @property
    def stall_lock(self) -> int:
        return self.stalls["lock"]

    @property
    def stall_stream(self) -> int:
        return self.stalls["stream"]

    @property
    def stall_cascade(self) -> int:
        return self.stalls["cascade"]

    def stalls_until(self, cycle: int) -> dict[str, int]:
        """Cycles the core stood still for each reason, what it waits for at `cycle` included."""
        stalls = dict(self.stalls)
        if self.waiting is not None and self.waiting.cycle < cycle:
            stalls[STALL_KIND[type(self.waiting)]] += cycle - self.waiting.cycle
        return stalls

    def stall_under_way(self) -> tuple[str, int] | None:
        """What the core waits for now, as stall_name, and since which cycle."""
        if self.waiting is None or self.waiting.cycle > self.array.clock.cycle:
            return None
        return self.services.stall_name(self.waiting), self.waiting.cycle

    # control

    def load_program(self, start: int, data: bytes) -> None:
        """Bytes of the program memory are written, from `start` on."""
        self.program[start : start + len(data)] = data
        self._loaded[start : start + len(data)] = b"\1" * len(data)
        self.core.program_changed()

    def _check_start(self) -> None:
        """A core that has a program, but not where it starts, runs through whatever its memory holds there."""
        pc = self.core.pc
        if any(self._loaded) and pc < len(self._loaded) and not self._loaded[pc]:
            first, last = self._loaded.find(1), self._loaded.rfind(1)
            raise EmulationError(
                f"{self.tile.name} starts at {pc:#x}, where nothing was loaded: "
                f"its program lies in {first:#x}..{last:#x}"
            )

    def write_control(self, value: int) -> None:
        """Core_Control: bit 0 enable, bit 1 reset."""
        enabled = self.control & geometry.CORE_CONTROL_ENABLE
        self.control = value
        if value & geometry.CORE_CONTROL_RESET:
            self._generation += 1
            self.core.reset()
            self.running, self.waiting, self.done_at, self.due = False, None, None, None
            self.debug.halted = False
        elif value & geometry.CORE_CONTROL_ENABLE and not self.running:
            self._check_start()
            self.running = True
            self._connect()
            self.array.note(self.tile.name, "start", self.array.clock.cycle + 1)
            self._schedule(self.array.clock.cycle + 1)
        elif value & geometry.CORE_CONTROL_ENABLE and not enabled and self.waiting is not None:
            self._serve(self._generation, True)
        elif not value & geometry.CORE_CONTROL_ENABLE and self.running and self.ahead():
            raise EmulationError(
                f"{self.tile.name} is disabled while it runs, which is not modelled",
                remedy="reset the core, or disable it while it waits",
            )

    def _connect(self) -> None:
        """The neighbours' data memories, those that exist: core tiles only (facts/platform/device_npu1.md)."""
        for side in ("south", "west", "north"):
            neighbour = self.neighbour(side)
            if neighbour is not None and neighbour.memory is not None:
                self.core.neighbours[side] = neighbour.memory
        sides = {side: self.neighbour(side) for side in ("south", "west", "north")} | {"own": self.tile}
        self.core.overwritten = partial(overwritten, {side: tile for side, tile in sides.items() if tile is not None})

    def neighbour(self, side: str) -> Tile | None:
        """The core tile on that side, None where there is none."""
        across, up = STEPS[side]
        tile = self.array.tiles.get((self.tile.column + across, self.tile.row + up))
        return tile if tile is not None and tile.kind == "core" else None

    def ahead(self) -> bool:
        """Whether the core's state may be that of a later cycle than the clock's."""
        if self.debug.halted:
            return False
        return self.running and (self.waiting is None or self.waiting.cycle > self.array.clock.cycle)

    def status(self) -> int:
        """Core_Status now. Stalls of the memory and of the processor bus are not shown."""
        cycle, word = self.array.clock.cycle, self.control & 3
        request = self.waiting
        if request is not None and request.cycle <= cycle:
            word |= 1 << (
                _LOCK_STALL[LOCK_SIDES[request.number >> 4]]
                if isinstance(request, LockRequest)
                else _STALL_BITS[type(request)]
            )
        return word | self.debug.halted << _HALT_BIT | (self.done_at is not None) << _DONE_BIT

    def read_register(self, offset: int) -> int | None:
        """A register of the core by its offset in the tile, or None where there is none.

        Raises EmulationError while the core runs ahead of the clock.
        """
        if not core_registers.FIRST <= offset <= core_registers.LAST:
            return None
        self._check_still()
        return self.core.pc if offset == geometry.CORE_PC else core_registers.read(self.core.registers, offset)

    def write_register(self, offset: int, value: int) -> bool:
        """Sets a register of the core; False where there is none. Raises EmulationError as read_register does."""
        if not core_registers.FIRST <= offset <= core_registers.LAST:
            return False
        self._check_still()
        if offset == geometry.CORE_PC:
            self.core.pc = value & 0xFFFFF
            return True
        return core_registers.write(self.core.registers, offset, value)

    def _check_still(self) -> None:
        if self.ahead():
            raise EmulationError(
                f"the registers of {self.tile.name} are accessed while it runs, which is not modelled",
                remedy="access them while the core waits, is done or is not enabled",
            )

    # running

    def _schedule(self, cycle: int) -> None:
        generation = self._generation
        self.due = cycle
        self.array.clock.at(cycle, self.tile.rank, self._run, generation)

    def _run(self, generation: int) -> None:
        if generation != self._generation:
            return
        self.due = None
        if self.core.runs_long:
            self._others_ahead()
        self._run_from(self.array.clock.cycle)

    def _run_from(self, cycle: int) -> None:
        """Lets the core run from a cycle on, which may lie ahead of the clock."""
        core = self.core
        limit = cycle + (SLICE if self._memory.shared is None else self._slice(cycle))
        while True:
            try:
                suspension = core.run(cycle, limit)
            except EmulationError:
                self._check_reports()  # what strict mode found before is more likely the cause
                raise
            if core.reports or core.warnings or core.events:
                self._pass_on()
            if not isinstance(suspension, SharedAccess) or suspension.registers:
                break
            due = self.array.clock.next_cycle()
            if due is not None and due <= suspension.cycle:
                break
            cycle = suspension.cycle  # nothing else happens until then
        self._suspend(suspension)

    def _slice(self, cycle: int) -> int:
        """How many cycles the core may run ahead, from a cycle on."""
        memory = self._memory
        if memory.shared is None:
            return SLICE
        alone = 0 if memory.unguarded else cycle - memory.shared
        return min(max(alone, SHARED_SLICE), SLICE)

    def _others_ahead(self) -> None:
        """Lets other cores whose turn is to come start on other threads, when their runs are worth it."""
        for tile in self.array.tiles.values():
            other = tile.core
            if other is not None and other.due is not None and other.core.runs_long:
                other.core.run_ahead(other.due, other.due + other._slice(other.due))

    def _pass_on(self) -> None:
        """What the run left for the array: findings, warnings, events."""
        self._check_reports()
        for warning in self.core.warnings:
            self.array.warn(f"{self.tile.name}, bundle {warning.address:#x}: {warning.text}")
        self.core.warnings.clear()
        self._pass_events()

    def _check_reports(self) -> None:
        if self.array.strict and self.core.reports:
            report = self.core.reports[0]
            raise (UndefinedData if report.undefined else EmulationError)(
                report.text,
                place=f"{self.tile.name}, bundle {report.address:#x}, cycle {report.cycle}",
                details=[r.text for r in self.core.reports],
            )

    def _pass_events(self) -> None:
        """Event instructions reach the array at their cycle."""
        for cycle, number in self.core.events:
            self.array.clock.at(cycle, self.tile.rank, partial(self.array.core_event, self.tile, number))
        self.core.events.clear()

    def carry_on(self, suspension: Suspension) -> None:
        """Go on from here in place of what was scheduled, after somebody else ran the core to this suspension."""
        self.due = None
        self._generation += 1
        self._pass_on()
        self._suspend(suspension)

    def _suspend(self, suspension: Suspension) -> None:
        generation, at, rank = self._generation, self.array.clock.at, self.tile.rank
        if type(suspension) in STALL_KIND:
            self.waiting = suspension  # type: ignore[assignment]
            at(suspension.cycle, rank, self._serve, generation, False)
        elif isinstance(suspension, Done):
            at(suspension.cycle, rank, self._finish, generation)
        elif isinstance(suspension, Halt):
            at(suspension.cycle, rank, self._halt, generation)
        else:
            self._schedule(suspension.cycle)

    def _halt(self, generation: int) -> None:
        if generation == self._generation:
            self.debug.halt()

    def go_on(self) -> None:
        """Run from the next cycle on, after a halt."""
        self._schedule(self.array.clock.cycle + 1)

    def _finish(self, generation: int) -> None:
        if generation == self._generation:
            self.running, self.done_at = False, self.array.clock.cycle
            self.array.note(self.tile.name, "done", self.done_at)

    def _serve(self, generation: int, waited: bool) -> None:
        """Answers the request, or goes on waiting for what it needs."""
        request = self.waiting
        if generation != self._generation or request is None or not self.control & geometry.CORE_CONTROL_ENABLE:
            return
        if type(request) is LockRequest:
            resume = self.services.answer_lock(request, waited, self._waker)
        else:
            resume = self.services.answer(request, self._waker)
        if resume is None:
            return
        self.waiting = None
        array, stalled = self.array, resume - request.cycle
        self.stalls[STALL_KIND[type(request)]] += stalled
        if array.listeners and stalled > array.machine.lock_stall:
            array.note(self.tile.name, self.services.stall_name(request), request.cycle, resume)
        array.progress += 1
        if self.core.runs_long:
            self._schedule(resume)  # until then others start on other threads
        else:
            self._run_from(resume)

    def _waker(self, delay: int) -> Callable[[], None]:
        """A function that serves the present request again, `delay` cycles after it is called."""
        generation = self._generation

        def wake() -> None:
            self.array.clock.at(self.array.clock.cycle + delay, self.tile.rank, self._serve, generation, True)

        return wake

    # diagnosis

    def describe(self) -> str | None:
        """What the core waits for; None when it runs or is off."""
        request = self.waiting
        if self.debug.halted:
            return f"{self.tile.name} at {self.core.pc:#x}: is halted by its debug registers"
        if request is None:
            return None
        return f"{self.tile.name} at {self.core.pc:#x}: waits {self.services.need(request)}"
