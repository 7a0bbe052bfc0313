"""Phases of a kernel's core programs from the source lines that its file keeps, and its locks by its plan."""

from __future__ import annotations

from npuc.compiler.asm.programs import CoreProgram, read_programs
from npuc.runtime.kernel_file import KernelFile
from npuc.runtime.trace_names import EMPTY, Names, Phases

BESIDE = ("loop ", "count ", "acquire ", "release ")
"""How parts of a line begin that say what a bundle does beside its phase (passes/machine)."""


def names_of(kernel: KernelFile) -> Names:
    """Of an npuc kernel; its name alone where the file keeps no more (a plain PDI)."""
    images = {p.core: p.code for p in read_programs(kernel.pdi)}
    made: dict[bytes, Phases] = {}
    phases = {}
    for program in read_programs(kernel.xclbin or kernel.pdi):
        core = program.core
        if core is None or not program.lines or not images.get(core, b"").startswith(program.code):
            continue
        if program.code not in made:
            made[program.code] = phases_of(program)
        phases[core] = made[program.code]
    if not kernel.metadata.get("plan"):
        return Names(kernel.name, phases)
    plan = kernel.plan
    tiles = (
        ("core", plan.core_locks, plan.core_lock_initial),
        ("memtile", plan.memtile_locks, plan.memtile_lock_initial),
    )
    locks = {(kind, number): name for kind, numbers, _ in tiles for name, number in numbers.items()}
    depths = {
        (kind, number): initial[name]
        for kind, numbers, initial in tiles
        for name, number in numbers.items()
        if name.endswith(EMPTY) and initial.get(name)
    }
    return Names(kernel.name, phases, locks, depths)


def phases_of(program: CoreProgram) -> Phases:
    """Phases of a program whose lines are known."""
    from npuc.runtime.report.loops import loops_of

    starts: list[int] = []
    names: list[str] = []
    name = ""
    for address, text in program.lines:
        named = [_phase(part) for part in text.split("; ") if not part.startswith(BESIDE)]
        if name not in named and named:
            name = named[0]
            starts.append(address)
            names.append(name)
    # Jumps lead to symbols. Those that only a hardware loop goes back to are left out: control is in their phase.
    turns = {loop.start for loop in loops_of(program)} - set(starts)
    jumps = {address for address, _ in program.symbols} - turns
    return Phases(tuple(starts), tuple(names), frozenset(starts) | jumps)


def _phase(part: str) -> str:
    """`scores: U = K Q^T - reference` is of the phase scores."""
    return part.partition(":")[0].strip()
