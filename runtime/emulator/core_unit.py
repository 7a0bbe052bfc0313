"""A core in its tile: when it runs, waits for locks and is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.core import Core
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.suspension import Done, LockRequest
from npuc.runtime.emulator.tile import Tile

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

SLICE = 50_000  # cycles a core may run ahead of the clock


class CoreUnit:
    """Runs its core ahead to the next lock request and answers it at that cycle."""

    def __init__(self, array: Array, tile: Tile) -> None:
        assert tile.memory is not None
        self.array, self.tile = array, tile
        self.program = bytearray(geometry.PROGRAM_MEMORY_SIZE)
        self.core = Core(self.program, tile.memory, array.strict, tile.name)
        self.control = geometry.CORE_CONTROL_RESET
        self.waiting: LockRequest | None = None
        self.running = False
        self.stall_lock = 0
        self._generation = 0

    def write_control(self, value: int) -> None:
        """Core_Control: bit 0 enable, bit 1 reset."""
        self.control = value
        if value & geometry.CORE_CONTROL_RESET:
            self._generation += 1
            self.core.reset()
            self.running, self.waiting = False, None
        elif value & geometry.CORE_CONTROL_ENABLE and not self.running:
            self.running = True
            self._schedule(self.array.clock.cycle + 1)
        elif not value & geometry.CORE_CONTROL_ENABLE and self.running:
            raise EmulationError(f"{self.tile.name} is disabled while it runs, which is not modelled",
                                 remedy="reset the core")

    def _schedule(self, cycle: int) -> None:
        generation = self._generation
        self.array.clock.at(cycle, self.tile.rank, lambda: self._run(generation))

    def _run(self, generation: int) -> None:
        if generation != self._generation:
            return
        cycle = self.array.clock.cycle
        suspension = self.core.run(cycle, cycle + SLICE)
        if self.array.strict and self.core.reports:
            report = self.core.reports[0]
            raise EmulationError(report.text, place=f"{self.tile.name}, bundle {report.address:#x}, "
                                 f"cycle {report.cycle}", details=[r.text for r in self.core.reports])
        if isinstance(suspension, LockRequest):
            self.waiting = suspension
            self.array.clock.at(suspension.cycle, self.tile.rank, lambda: self._lock(generation, False))
        elif isinstance(suspension, Done):
            self.running = False
        else:
            self._schedule(suspension.cycle)

    def _lock(self, generation: int, waited: bool) -> None:
        request = self.waiting
        if generation != self._generation or request is None:
            return
        lock = request.number - geometry.CORE_LOCK_OWN
        if lock < 0:
            raise EmulationError(f"{self.tile.name} uses lock {request.number}, which is a neighbour's: not modelled")
        cycle, machine = self.array.clock.cycle, self.array.machine
        value = request.value
        if request.acquire:
            if not self.tile.locks.try_acquire(lock, value, self.tile.name):
                self.tile.locks.wait(lock, lambda: self._wake(generation))
                return
        else:
            self.tile.locks.release(lock, value, self.tile.name)
        resume = cycle + (machine.lock_resume if waited else machine.lock_stall)
        self.waiting = None
        self.stall_lock += resume - request.cycle
        self.array.progress += 1
        self._schedule(resume)

    def _wake(self, generation: int) -> None:
        cycle = self.array.clock.cycle + self.array.machine.lock_visible
        self.array.clock.at(cycle, self.tile.rank, lambda: self._lock(generation, True))

    def describe(self) -> str | None:
        """What the core waits for; None when it runs or is off."""
        if self.waiting is None:
            return None
        lock = self.waiting.number - geometry.CORE_LOCK_OWN
        locks = self.tile.locks
        return (f"{self.tile.name} at {self.core.pc:#x}: waits to acquire lock {lock} by {self.waiting.value}, which "
                f"is {locks.values[lock]} (last changed by {locks.writers[lock]})")
