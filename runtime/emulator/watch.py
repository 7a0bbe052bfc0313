"""Runs a sequence, and sees, without a timeout, that it has come to a stop: nothing is due, or all that is due cannot
change anything."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop
from typing import TYPE_CHECKING

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1.geometry import split_address, tile_kind
from npuc.compiler.target.npu1.registers import offset_name
from npuc.runtime.apart import check
from npuc.runtime.emulator.controller import RANK
from npuc.runtime.emulator.diagnosis import diagnose
from npuc.runtime.emulator.errors import Deadlock
from npuc.runtime.emulator.loops import find_loop
from npuc.runtime.emulator.recurrence import Recurrence

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array
    from npuc.runtime.emulator.controller import Controller
    from npuc.runtime.emulator.core_unit import CoreUnit

# Cycles in which nothing but cores computing happened, before they are looked at for a loop; doubled after each look.
QUIET = 50_000
_LOOK_UP = 15  # every so many events, less one, the run looks whether it is to stop
_CHANGE_BY_THEMSELVES = ("Timer_", "Performance_C")


class Watch:
    """Runs events, and looks at the array after each."""

    def __init__(self, array: Array, controller: Controller) -> None:
        self.array, self.controller = array, controller
        self._computing = {tile.rank for tile in array.tiles.values() if tile.core is not None}
        self._recurrence = Recurrence(array, controller)

    def run(self, last: int | None) -> bool:
        """Run events until the sequence has ended; False: the next one lies behind the cycle `last`.

        Raises Deadlock when nothing that is due can change what the controller waits for.  Cores that compute, whose
        state does not come back, may take as long as they like.
        """
        array, controller, recurrence, computing = self.array, self.controller, self._recurrence, self._computing
        clock, queue = array.clock, array.clock.queue
        progress, quiet_since, patience, tokens = array.progress, clock.cycle, QUIET, array.tokens_arrived
        due, anchored = recurrence.due, recurrence.rank
        events = waited = 0  # waited: those of the sequence's present wait
        while not controller.finished:
            if not events & _LOOK_UP:
                check()
            events += 1
            if not queue:
                raise deadlock(array, controller, {})
            if last is not None and queue[0][0] > last:
                return False
            cycle, rank, _, action, arguments = heappop(queue)
            clock.cycle, clock.rank = cycle, rank  # as Clock.step
            action(*arguments)
            if array.tokens_arrived != tokens:
                tokens = array.tokens_arrived
                controller.token_arrived()
            polling = rank == RANK and controller.polling
            if polling and clock.pending_ranks() == {RANK} and not self._polls_what_changes():
                raise deadlock(array, controller, {})
            if not (rank in computing or polling) or array.progress != progress:
                progress, quiet_since, patience = array.progress, cycle, QUIET
            elif cycle - quiet_since > patience:
                patience *= 2
                self._look_for_loops()
            if controller.waiting is None:
                if waited:
                    recurrence.forget()
                    due, anchored, waited = recurrence.due, recurrence.rank, 0
                continue
            waited += 1
            if waited < due and rank != anchored:
                continue
            found = recurrence.look(waited)
            due, anchored = recurrence.due, recurrence.rank
            if found is not None and not (polling and self._polls_what_changes()):
                raise deadlock(array, controller, found.movers)
        return True

    def _polls_what_changes(self) -> bool:
        operation = self.controller.operations[self.controller.position]
        assert isinstance(operation, (txn.MaskPoll, txn.MaskPollBusy))
        _, row, offset = split_address(operation.address)
        return offset_name(tile_kind(row), offset).startswith(_CHANGE_BY_THEMSELVES)

    def _look_for_loops(self) -> None:
        array = self.array
        may_be_due = self._computing | ({RANK} if self.controller.polling else set())
        if array.clock.pending_ranks() - may_be_due:
            return
        loops = {}
        cores = computing(array)
        for unit in cores:
            loop = find_loop(unit, len(cores) == 1)
            if loop is None:
                return
            loops[unit.tile.name] = loop
        if loops:
            raise deadlock(array, self.controller, loops)


def computing(array: Array) -> list[CoreUnit]:
    """Cores that execute bundles."""
    return [
        tile.core
        for tile in array.tiles.values()
        if tile.core is not None and tile.core.running and tile.core.waiting is None and not tile.core.debug.halted
    ]


def deadlock(array: Array, controller: Controller, loops: Mapping[str, str]) -> Deadlock:
    """The error for an array in which nothing moves, with its diagnosis.  Raises that of a sender without a way."""
    for outlet in array.stuck:
        if outlet.no_way is not None:
            raise outlet.no_way
    found = diagnose(array, controller, loops)
    waits = f"{controller.who} waits for {controller.waiting or 'nothing'}"
    message = found.root if found.root.startswith(controller.name) else f"{waits}; {found.root}"
    return Deadlock(
        message,
        place=f"cycle {array.clock.cycle}",
        details=found.details(),
        diagnosis=found,
        remedy="npuc run --json shows the whole chain of waits",
    )
