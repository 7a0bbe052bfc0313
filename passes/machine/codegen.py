"""Machine-level program -> the bytes of one core's program memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from npuc.compiler.diagnostics import InternalError, ResourceError
from npuc.passes.machine.accumulator_halves import choose_halves
from npuc.passes.machine.bundle_packing import pack
from npuc.passes.machine.emission import Choices, Emission, Emitter
from npuc.passes.machine.ir import Program, Reg
from npuc.passes.machine.layout import bundle_addresses
from npuc.passes.machine.liveness import analyse
from npuc.passes.machine.modulo_schedule import ModuloSchedule
from npuc.passes.machine.register_allocation import AllocationFailed, allocate

PROGRAM_MEMORY = 16384  # bytes (facts/schedule/aie2_timing_hw.md)
_RESCHEDULES = 32
_HALVES_GIVEN_UP = 6  # registers freed one by one, then all


@dataclass(frozen=True)
class CoreProgram:
    """Machine code loaded at 0.  bundles: (address, size, comment); symbols: (address, name)."""

    code: bytes
    bundles: list[tuple[int, int, str]]
    symbols: tuple[tuple[int, str], ...]
    hardware_loops: int
    statistics: dict[str, Any]

    @property
    def lines(self) -> tuple[tuple[int, str], ...]:
        """Where the bundles come from, (address, text), each up to the next."""
        found: list[tuple[int, str]] = []
        for address, _, comment in self.bundles:
            if comment and (not found or found[-1][1] != comment):
                found.append((address, comment))
        return tuple(found)

    @cached_property
    def listing(self) -> str:
        """Assembly text: npuc asm takes it, behind `.exact`, to the same code."""
        from npuc.compiler.asm import disassembler, programs

        whole = programs.CoreProgram(None, None, 0, self.code, symbols=self.symbols, lines=self.lines)
        return disassembler.program_text(whole)


def generate(program: Program) -> CoreProgram:
    """Schedule, allocate registers, encode.  The result is the same for the same program.

    Raises ResourceError for a program that does not fit the registers or the program memory, InternalError
    for one that is not well formed.
    """
    emission, registers, attempts = _schedule(program)
    _end_on_a_line(emission)
    addresses = bundle_addresses(emission)
    if addresses[-1] > PROGRAM_MEMORY:
        largest = max(emission.loops, key=lambda loop: loop.schedule.stages * loop.schedule.interval, default=None)
        raise ResourceError(
            f"{program.name}: program of {addresses[-1]} bytes does not fit the {PROGRAM_MEMORY} of program memory",
            remedy=f"unroll less or limit the stages of loop {largest.name}" if largest else None,
        )
    code, bundles = pack(emission, registers, addresses)
    symbols = tuple(sorted({(addresses[position], name) for position, name in emission.symbols}))
    looped = [loop for loop in emission.loops if loop.looped]
    return CoreProgram(code, bundles, symbols, len(looped), _statistics(emission, addresses, attempts))


def _end_on_a_line(emission: Emission) -> None:
    """Program loads are multiples of 16 bytes: the last bundles are widened, so that nothing but code is loaded."""
    if not emission.bundles or emission.bundles[-1]:
        emission.bundles.append({})
    emission.aligned.add(len(emission.bundles))


def _schedule(program: Program) -> tuple[Emission, dict[Reg, str], int]:
    """Schedules until the registers suffice: the loop where too many are alive gets a longer interval."""
    least: dict[str, int] = {}
    in_order = False
    halves = choose_halves(program)
    given_up = 0
    cache: dict[tuple[str, int, str], ModuloSchedule] = {}
    for attempt in range(_RESCHEDULES):
        emission = Emitter(Choices(least, in_order, halves), cache).run(program)
        live = analyse(emission.trace)
        if live.never_written:
            raise InternalError(f"{program.name}: read but never written: {_names(live.never_written)}")
        try:
            nodes = (node for _, node in emission.trace.operations)
            return emission, allocate(nodes, live, halves), attempt + 1
        except AllocationFailed as failed:
            failure = failed
        spans = [*emission.trace.loops, *emission.trace.overlaps]
        loop = next((name for name, first, last in spans if first <= failure.cycle <= last), None)
        if failure.reg.file in ("bm", "cm") and halves:
            given_up += 1
            halves = {reg: h for reg, h in halves.items() if reg is not failure.reg and given_up < _HALVES_GIVEN_UP}
        elif loop is not None:
            interval = next(record.schedule.interval for record in emission.loops if record.name == loop)
            least = {**least, loop: interval + max(1, interval // 24)}
        elif not in_order:
            in_order = True
        else:
            break
    where = f"in loop {loop}" if loop else "in straight code"
    raise ResourceError(
        f"{program.name}: {failure.wanted} registers of file {failure.reg.file} wanted at once {where}, "
        f"{failure.limit} exist (no place for {failure.reg})",
        remedy="use smaller tiles",
    )


def _names(locations: list[str]) -> str:
    return " ".join(sorted({name.rpartition(".")[0] if name.startswith("%") else name for name in locations}))


def _statistics(emission: Emission, addresses: list[int], attempts: int) -> dict[str, Any]:
    loops = []
    for record in emission.loops:
        schedule = record.schedule
        loops.append(
            {
                "name": record.name,
                "trip_count": record.count,
                "interval": schedule.interval,
                "resource_bound": schedule.resource_bound,
                "resource": schedule.resource,
                "recurrence_bound": schedule.recurrence_bound,
                "stages": schedule.stages,
                "operations": len(schedule.times),
                "bundles": record.last - record.first,
                "bytes": addresses[record.last] - addresses[record.first],
                "hardware_loop": record.looped,
            }
        )
    return {"bundles": len(emission.bundles), "bytes": addresses[-1], "attempts": attempts, "loops": loops}
