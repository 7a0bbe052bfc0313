"""The emulated device: boots an array image, runs runtime sequences, reports what they took.

It is given the bytes that hardware is given and nothing else (array image, sequence, buffers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from npuc.compiler.diagnostics import InputError, Place
from npuc.compiler.emit import cdo, txn
from npuc.compiler.emit.pdi import read_pdi
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.array import Array
from npuc.runtime.emulator.controller import Controller
from npuc.runtime.emulator.diagnosis import diagnose, reason
from npuc.runtime.emulator.early_loads import explain
from npuc.runtime.emulator.errors import CycleLimit, EmulationError, UndefinedData
from npuc.runtime.emulator.leftovers import Leftover, explained, gains, left_over, settle
from npuc.runtime.emulator.recorder import Recorder
from npuc.runtime.emulator.stacks import stack_notes
from npuc.runtime.emulator.timing import PHOENIX, MachineTable
from npuc.runtime.emulator.unwritten import name_writers
from npuc.runtime.emulator.watch import Watch
from npuc.runtime.statistics import CoreStatistics
from npuc.runtime.trace import Trace
from npuc.runtime.trace_names import Names

TOLD = 2  # what is left elsewhere that the line of an error tells beside the first


@dataclass(frozen=True)
class RunStatistics:
    """cycles: from the sequence's first operation to its last completion.

    dma: one entry a channel that moved: words, tasks, and cycles in which words passed (busy), in which it waited for
    the stream (starved) and for locks (stall_lock).
    """

    cycles: int
    cores: tuple[CoreStatistics, ...]
    dma: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]
    trace: Trace | None = None


class Device:
    """A partition of `columns` columns.  State persists between runs of one loaded image."""

    def __init__(
        self, columns: int, machine: MachineTable = PHOENIX, strict: bool = False, engine: str | None = None
    ) -> None:
        if not 0 < columns <= geometry.COLUMNS_PHYSICAL:
            raise InputError(f"the kernel is for {columns} columns, npu1 has {geometry.COLUMNS_PHYSICAL}")
        self.machine = machine
        self._arguments = columns, machine, strict, engine
        self._array = Array(*self._arguments)
        self._images: list[bytes] = []
        self._held_ahead: frozenset[Leftover] | None = None
        self._controller: Controller | None = None

    @property
    def operation(self) -> int | None:
        """The operation of the sequence that the last run came to, by its number; None before the first run."""
        return None if self._controller is None else self._controller.position

    @property
    def cycle(self) -> int:
        """The array's clock; other threads may ask while a run goes on."""
        return self._array.clock.cycle

    def load_pdi(self, pdi: bytes) -> None:
        """Execute the image's register writes.  InputError for a malformed image, EmulationError for what it does."""
        self._images.append(pdi)
        self._held_ahead = None
        self._load(self._array, pdi)

    def _load(self, array: Array, pdi: bytes) -> None:
        registers = array.registers
        for position, command in enumerate(read_pdi(pdi).commands):
            who = f"CDO command {position}"
            if isinstance(command, cdo.Write):
                registers.write(command.address, command.value, who)
            elif isinstance(command, cdo.MaskWrite):
                registers.write(command.address, command.value, who, command.mask)
            elif isinstance(command, cdo.DmaWrite):
                registers.write_block(command.address, command.words, who)
            elif isinstance(command, cdo.MaskPoll):
                raise EmulationError(f"{who} is a poll, which the NPU's loader refuses")

    def run(
        self,
        operations: Sequence[txn.Operation],
        arguments: Sequence[bytearray | memoryview],
        max_cycles: int | None = None,
        record: str | Names | None = None,
    ) -> RunStatistics:
        """Run the sequence on these buffers, which it may change.  record: make a trace and call things so.

        Raises Deadlock when nothing can proceed, CycleLimit beyond max_cycles, EmulationError for misuse; each has the
        trace up to there.
        """
        array = self._array
        array.host.attach(arguments)
        started = array.clock.cycle
        before = self._counters()
        controller = self._controller = Controller(array, operations)
        names = Names(record) if isinstance(record, str) else record
        recorder = Recorder(array, names) if names is not None else None
        if recorder is not None:
            recorder.start()
        controller.start()
        try:
            self._drain(controller, started, max_cycles)
        except (EmulationError, CycleLimit) as error:
            if error.place is None:
                error.place = Place(f"cycle {array.clock.cycle}")
            if isinstance(error, UndefinedData):
                explain(error, array, operations)
                name_writers(error, array, controller)
            if error.diagnosis is None:
                error.details = [*error.details, *stack_notes(array)]
            if recorder is not None:
                recorder.stop()
                error.trace = recorder.trace()
            raise
        array.host.detach(arguments)
        cycles = max(array.last_completion, controller.finished_at) - started
        statistics = self._statistics(before, cycles)
        if recorder is not None:
            recorder.stop()
            statistics = replace(statistics, trace=recorder.trace())
        left = self._left_over()
        if left and array.strict:
            root, chain = reason(array, controller, left[0].unit) or ("", ())
            first = f"the sequence has ended and {left[0].text}" + (f": {root}" if root else "")
            more = [each.text for each in left if each.tile != left[0].tile][:TOLD]
            raise EmulationError(
                "; ".join((first, *more, *gains(array))),
                details=[*(each.text for each in left[1:] if each.text not in more), *chain],
                place=f"cycle {array.clock.cycle}",
                remedy="receive all that is sent, in transfers of that length",
            )
        return replace(statistics, warnings=(*statistics.warnings, *_warnings(left)))

    def _left_over(self) -> list[Leftover]:
        """What the run leaves in the array, apart from what the image holds ahead by itself."""
        if not left_over(self._array):
            return []
        settle(self._array)
        left = left_over(self._array)
        if left and self._held_ahead is None:
            array = Array(*self._arguments)
            for pdi in self._images:
                self._load(array, pdi)
            settle(array)
            self._held_ahead = frozenset(left_over(array))
        return explained(self._array, [each for each in left if each not in (self._held_ahead or ())])

    def _drain(self, controller: Controller, started: int, max_cycles: int | None) -> None:
        last = None if max_cycles is None else started + max_cycles
        if not Watch(self._array, controller).run(last):
            raise CycleLimit(
                f"not finished after {max_cycles} cycles",
                remedy="raise --max-cycles if the kernel needs more",
                diagnosis=diagnose(self._array, controller, {}),
            )

    def _counters(self) -> dict[Any, tuple[int, ...]]:
        counters: dict[Any, tuple[int, ...]] = {}
        for tile in self._array.tiles.values():
            if tile.core is not None:
                core, stalls = tile.core.core, tile.core.stalls_until(self._array.clock.cycle)
                counters[tile.name] = (
                    core.bundles,
                    core.mac_bundles,
                    stalls["lock"],
                    core.stall_memory,
                    stalls["stream"] + stalls["cascade"],
                )
            for key, channel in tile.channels.items():
                counters[tile.name, key] = (
                    channel.words,
                    channel.busy_cycles,
                    channel.starved_cycles,
                    channel.lock_cycles,
                    channel.tasks,
                )
        return counters

    def _statistics(self, before: dict[Any, tuple[int, ...]], cycles: int) -> RunStatistics:
        cores, dma = [], []
        after = self._counters()
        for tile in self._array.tiles.values():
            if tile.core is not None:
                bundles, macs, lock, memory, stream = (
                    b - a for a, b in zip(before[tile.name], after[tile.name], strict=True)
                )
                if bundles:
                    idle = max(0, cycles - bundles - lock - memory - stream)
                    cores.append(CoreStatistics(tile.column, tile.row, bundles, macs, lock, memory, stream, idle))
            for direction, number in tile.channels:
                key = (tile.name, (direction, number))
                words, busy, starved, lock, tasks = (b - a for a, b in zip(before[key], after[key], strict=True))
                if words:
                    dma.append(
                        {
                            "col": tile.column,
                            "row": tile.row,
                            "direction": direction,
                            "channel": number,
                            "words": words,
                            "busy": busy,
                            "starved": starved,
                            "stall_lock": lock,
                            "tasks": tasks,
                        }
                    )
        return RunStatistics(cycles, tuple(cores), tuple(dma), tuple(self._array.warnings))


def _warnings(left: Sequence[Leftover]) -> tuple[str, ...]:
    """One line on what is left; the first of it, and how much more."""
    if not left:
        return ()
    more = f"; {len(left) - 1} more: {', '.join(each.unit for each in left[1:])}" if len(left) > 1 else ""
    return (f"the sequence has ended and {left[0].text}{more}: a later run begins with that",)
