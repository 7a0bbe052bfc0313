"""When instructions read, write and occupy what, and the distances that follow (facts/schedule).

The pipeline is exposed: no interlock protects a register.  A distance counts bundles from the issue of one instruction
to the issue of another; stages count from 1, the stage of issue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from npuc.compiler.target.aie2.instructions import Instruction, Memory, rows
from npuc.compiler.target.aie2.itineraries import TABLE, VARIANTS
from npuc.compiler.target.aie2.registers import file, parts

DELAY_SLOTS = 5
"""Bundles after every control transfer that are always executed (facts/schedule/aie2_hazards.md section 5)."""

STICKY_FLAGS: frozenset[str] = frozenset(
    ("srCompr_uf", "srSparse_of", "srF2FFlags", "srF2IFlags", "srFPFlags", "srSRS_of", "srUPS_of")
)
"""Status registers that only accumulate: writes of them need no order (facts/schedule/aie2_hazards.md section 2)."""


class Access(NamedTuple):
    """A part of a register read or written in a stage, with the bypass that may forward it."""

    register: str
    stage: int
    bypass: str | None


class OperandAccess(NamedTuple):
    """The same by operand: `operand` is its name, or the register for fixed and implicit ones; `role` is the name of
    its place in the itinerary class."""

    operand: str
    role: str
    registers: tuple[str, ...]
    writes: bool
    stage: int
    bypass: str | None


class Unit(NamedTuple):
    """A unit taken from `stage` for `length` cycles.

    kind `use` excludes every other user, `avoid` only excludes `use`.  Two users of the same `shared_register` in one
    cycle do not collide.
    """

    unit: str
    stage: int
    length: int
    kind: str
    shared_register: str | None


class Timing(NamedTuple):
    """What one instruction with its registers does, stage by stage; `last_effect` is the last stage of all."""

    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    units: tuple[Unit, ...]
    memory: Memory | None
    last_effect: int


# ---- the tables, read


class _Place(NamedTuple):
    """An operand place of an itinerary class."""

    role: str
    writes: bool
    stage: int
    bypass: str | None
    implicit: bool


class _UnitRule(NamedTuple):
    """A unit of an itinerary class; only_if: (place, files of its register); halves_of: place of an accumulator."""

    unit: Unit
    only_if: tuple[int, frozenset[str]] | None
    halves_of: int | None


class ItineraryClass(NamedTuple):
    """One line of `itineraries.TABLE`."""

    places: tuple[_Place, ...]
    units: tuple[_UnitRule, ...]
    last_effect: int


def _place(token: str) -> _Place:
    implicit = token.startswith("*")
    text, _, bypass = token.lstrip("*").partition(":")
    writes = ">" in text
    role, _, stage = text.partition(">" if writes else "<")
    return _Place(role, writes, int(stage), bypass or None, implicit)


def _unit_rule(token: str, index: Mapping[str, int]) -> _UnitRule:
    text, _, half = token.partition("/")
    text, _, condition = text.partition("?")
    name, _, when = text.lstrip("!").partition("@")
    stage, _, length = when.partition("*")
    kind = "avoid" if text.startswith("!") else "use"
    role, _, files = condition.partition("=")
    return _UnitRule(
        Unit(name, int(stage), int(length or 1), kind, None),
        (index[role], frozenset(files.split(","))) if condition else None,
        index[half] if half else None,
    )


@lru_cache(maxsize=1)
def _class_lines() -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in rows(TABLE)}


@cache
def itinerary_class(name: str) -> ItineraryClass:
    """The class of that name."""
    operands, units, access, _ = _class_lines()[name]
    places = tuple(_place(token) for token in operands.split())
    index = {place.role: i for i, place in reversed(list(enumerate(places))) if not place.implicit}
    rules = tuple(_unit_rule(token, index) for token in units.split())
    last = max(
        [1]
        + [place.stage for place in places]
        + [rule.unit.stage + rule.unit.length - 1 for rule in rules]
        + [int(stage) for stage in access.partition("@")[2].split(" ")[0].split(",") if stage]
    )
    return ItineraryClass(places, rules, last)


class _Variant(NamedTuple):
    """Another class, for instructions whose operands at these places are registers of these files."""

    conditions: tuple[tuple[int, frozenset[str]], ...]
    instead: str


@lru_cache(maxsize=1)
def _variants() -> dict[str, tuple[_Variant, ...]]:
    found: dict[str, tuple[_Variant, ...]] = {}
    for name, conditions, instead in rows(VARIANTS):
        roles = [place.role for place in itinerary_class(name).places]
        wanted = (condition.split("=") for condition in conditions.split())
        when = tuple((roles.index(role), frozenset(files.split(","))) for role, files in wanted)
        found[name] = (*found.get(name, ()), _Variant(when, instead))
    return found


# ---- one instruction with its registers


def operand_registers(instruction: Instruction, operands: Sequence[str | int]) -> dict[str, str]:
    """Operand values in their order -> operand name -> register, as `timing` takes it; immediates are left out."""
    return {o.name: v for o, v in zip(instruction.operands, operands, strict=True) if isinstance(v, str)}


class _Binding(NamedTuple):
    """The place of an itinerary class that an operand or a fixed register takes."""

    name: str
    part: str
    operand: str | None
    three_dimensional: bool


@cache
def _bindings(instruction: Instruction) -> tuple[_Binding, ...]:
    named = {o.name: o for o in instruction.operands}
    found = []
    for text in instruction.bindings:
        name, _, part = text.partition(".")
        operand = named.get(name)
        if operand is not None and operand.kind == "immediate":
            found.append(_Binding("", "", None, False))
        else:
            three = operand is not None and operand.register_class == "eDS"
            found.append(_Binding(name, part, name if operand else None, three))
    return tuple(found)


def _bound(binding: _Binding, registers: Mapping[str, str]) -> str | None:
    if binding.operand is None:
        return binding.name or None
    return registers[binding.operand]


def _bound_parts(binding: _Binding, register: str) -> tuple[str, ...]:
    """The parts a place reads or writes: counters alone for `.dc`, both tuples d<n>, d<n+4> for the 3D forms."""
    if not binding.part and not binding.three_dimensional:
        return parts(register)
    number = int(register[1:])
    if binding.part == "dc":
        return (f"dc{number}",)
    if binding.part == "dc_hi":
        return (f"dc{number + 4}",)
    return parts(register) + parts(f"d{number + 4}")


def itinerary_name(instruction: Instruction, registers: Mapping[str, str]) -> str:
    """The itinerary class, which depends on register files for some instructions."""
    variants = _variants().get(instruction.itinerary)
    if variants:
        bound = [_bound(binding, registers) for binding in _bindings(instruction)]
        for variant in variants:
            if all(file(bound[place] or "") in files for place, files in variant.conditions):
                return variant.instead
    return instruction.itinerary


def operand_accesses(instruction: Instruction, registers: Mapping[str, str]) -> tuple[OperandAccess, ...]:
    """Every read and write by operand: explicit ones in the order of the itinerary class, then implicit ones.

    registers: operand name -> register.  Raises KeyError when a register operand has none.
    """
    places = itinerary_class(itinerary_name(instruction, registers)).places
    found = []
    for binding, place in zip(_bindings(instruction), places, strict=False):
        register = _bound(binding, registers)
        if register is not None:
            taken = _bound_parts(binding, register)
            found.append(OperandAccess(binding.name, place.role, taken, place.writes, place.stage, place.bypass))
    for implicit in instruction.implicit:
        writes = implicit.direction == "out"
        stage = implicit.stage or next(
            p.stage for p in places if p.implicit and p.role == implicit.register and p.writes == writes
        )
        name = implicit.register
        found.append(OperandAccess(name, name, (name,), writes, stage, None))
    return tuple(found)


_HALVES = {"bml": "l", "amll": "l", "amlh": "l", "bmh": "h", "amhl": "h", "amhh": "h"}


def _units(instruction: Instruction, registers: Mapping[str, str], rules: tuple[_UnitRule, ...]) -> list[Unit]:
    """The units taken, with what compiled code showed to be allowed (facts/schedule/README.md, relaxations)."""
    bound = [_bound(binding, registers) for binding in _bindings(instruction)]
    found = []
    for unit, only_if, halves_of in rules:
        if only_if and file(bound[only_if[0]] or "") not in only_if[1]:
            continue
        if halves_of is None:
            found.append(unit)
            continue
        shared = bound[halves_of] or ""
        for half in _HALVES.get(file(shared), "lh"):
            found.append(unit._replace(unit=f"{unit.unit}.{half}", shared_register=shared))
    return found


def _timing(instruction: Instruction, registers: Mapping[str, str]) -> Timing:
    chosen = itinerary_class(itinerary_name(instruction, registers))
    reads: list[Access] = []
    writes: list[Access] = []
    for access in operand_accesses(instruction, registers):
        into = writes if access.writes else reads
        into.extend(Access(part, access.stage, access.bypass) for part in access.registers)
    units = _units(instruction, registers, chosen.units)
    last = max([chosen.last_effect, *(i.stage for i in instruction.implicit)])
    return Timing(tuple(reads), tuple(writes), tuple(units), instruction.memory, last)


_CACHED = 1 << 16
_timings: dict[tuple[object, ...], Timing] = {}


def timing(instruction: Instruction, registers: Mapping[str, str]) -> Timing:
    """Reads, writes, units and memory stages of an instruction with its registers.

    registers: operand name -> register, physical or virtual (`bml17`): the letters decide variants and parts.
    Immediates and fixed registers may be left out.  Raises KeyError when a register operand has none.
    """
    key = (instruction, *(registers[o.name] for o in instruction.operands if o.kind == "register"))
    found = _timings.get(key)
    if found is None:
        if len(_timings) >= _CACHED:
            _timings.clear()
        found = _timings[key] = _timing(instruction, registers)
    return found


# ---- distances in bundles (facts/schedule/README.md, convention)


def read_after_write(
    write_stage: int, write_bypass: str | None, read_stage: int, read_bypass: str | None = None
) -> int:
    """Least distance from a writer to a reader of the new value: D - b - U + 1.

    b is 1 when result and input are on the same bypass.  A closer reader gets the old value.  0: even a reader in the
    same bundle gets the new one; negative: even one that many bundles earlier does.
    """
    bypassed = write_bypass is not None and write_bypass == read_bypass
    return write_stage - bypassed - read_stage + 1


def write_after_read(
    read_stage: int, read_bypass: str | None, write_stage: int, write_bypass: str | None = None
) -> int:
    """Least distance from a reader of the old value to the writer of the new one: U - (D - b)."""
    return 1 - read_after_write(write_stage, write_bypass, read_stage, read_bypass)


def write_after_write(first_stage: int, second_stage: int) -> int:
    """Least distance from one writer to the next whose value is to stay: D1 - D2 + 1.

    Sticky flags are exempt.  The two must never land in the same cycle, whichever is to stay.
    """
    return first_stage - second_stage + 1


def memory_distance(first: Memory, second: Memory) -> int | None:
    """Least distance between two accesses to one address: last(A) - first(B) + 1; None: two loads need none."""
    if first.kind == second.kind == "load":
        return None
    return first.stages[-1] - second.stages[0] + 1
