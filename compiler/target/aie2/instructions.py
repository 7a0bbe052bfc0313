"""The instructions of an AIE2 core: one line each in the tables `isa_*.py`, read here (facts/isa, facts/schedule).

Columns of a table:

* instruction: its name, unique in the whole set.  The slot is the table's.
* syntax: how it is written, `$name` standing for an operand.
* operands: class of each `$name` in turn, behind `>` (written), `<` (read) or `~` (read and written): a register class
  of `registers.py`, or a kind of immediate of `immediates.py`.  `=r29` is a register no bits are spent on;
  `eCM=dst` shares the field of operand `dst`.
* bits: the slot word from its most significant bit: fixed bits, `a` the first operand, `b` the second, ...; `-` is
  written 0 and not looked at.
* itinerary: class in `itineraries.py`, and the operand (or fixed register) that takes each of its places. `mod.dc` and
  `mod.dc_hi` are the counters of a two- and three-dimensional modifier.
* implicit: registers written (`>`) and read (`<`) without being named; `@` gives the stage where the class does not.

Several instructions fit one word when only the validity of a register number tells them apart: lines stand in decoding
order, and the first that fits wins (`rank`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from npuc.compiler.target.aie2 import (
    isa_alu,
    isa_lda,
    isa_ldb,
    isa_lng,
    isa_mv,
    isa_nop,
    isa_observed,
    isa_st,
    isa_vec,
)
from npuc.compiler.target.aie2.formats import NOPS
from npuc.compiler.target.aie2.immediates import IMMEDIATES
from npuc.compiler.target.aie2.itineraries import TABLE as ITINERARY_TABLE

TABLES: dict[str, str] = {
    "alu": isa_alu.TABLE,
    "lda": isa_lda.TABLE,
    "ldb": isa_ldb.TABLE,
    "lng": isa_lng.TABLE,
    "mv": isa_mv.TABLE,
    "nop": isa_nop.TABLE,
    "st": isa_st.TABLE,
    "vec": isa_vec.TABLE,
}

_DIRECTIONS = {">": "out", "<": "in", "~": "inout"}


class Field(NamedTuple):
    """Bits [operand_lsb, operand_lsb + bits) of an operand lie at slot_lsb of the slot word."""

    operand_lsb: int
    slot_lsb: int
    bits: int


class Memory(NamedTuple):
    """An access to data memory, or to the register bus of the tile (`bus`): kind `load`, `store` or `load+store`, and
    the stages in which it happens."""

    kind: str
    stages: tuple[int, ...]
    bus: bool = False


class Implicit(NamedTuple):
    """A register used without being named; stage 0: the itinerary class tells."""

    register: str
    direction: str
    stage: int


@dataclass(frozen=True, eq=False, slots=True)
class Operand:
    """One `$name` of the syntax.  kind: register, immediate or fixed_register; the other fields follow from it."""

    name: str
    direction: str
    kind: str
    width: int
    fields: tuple[Field, ...] = ()
    register_class: str | None = None
    tied_to: str | None = None
    register: str | None = None
    immediate_kind: str | None = None
    signed: bool = False
    step: int = 1
    minimum: int = 0
    maximum: int = 0
    negative_only: bool = False
    style: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Instruction:
    """One slot instruction.  `bindings` are the operands in the order of the itinerary class; `side_effect` names what
    it acts on outside registers and memory: lock, stream, cascade, done, event or timer."""

    name: str
    mnemonic: str
    syntax: str
    slot: str
    mask: int
    value: int
    unconstrained: int
    rank: int
    operands: tuple[Operand, ...]
    implicit: tuple[Implicit, ...]
    implicit_defs: tuple[str, ...]
    implicit_uses: tuple[str, ...]
    itinerary: str
    bindings: tuple[str, ...]
    may_load: bool
    may_store: bool
    has_delay_slots: bool
    post_modify: bool
    memory: Memory | None
    literal_registers: tuple[tuple[str, str], ...]
    side_effect: str | None

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _by_name, (self.name,)  # one object an instruction, also across processes

    @property
    def is_nop(self) -> bool:
        return self.name == NOPS[self.slot]


def _by_name(name: str) -> Instruction:
    return INSTRUCTIONS.get(name) or OBSERVED[name]


def rows(table: str) -> list[list[str]]:
    """The columns of each line of a table, without its heading."""
    return [[c.strip() for c in line.split("|")] for line in table.splitlines() if line and line[0] != "#"]


class _Effects(NamedTuple):
    """What all instructions of an itinerary class have in common."""

    places: str
    memory: Memory | None
    branch: bool
    side_effect: str | None


def _effects() -> dict[str, _Effects]:
    found = {}
    for name, places, _, access, effect in rows(ITINERARY_TABLE):
        kind, _, when = access.partition("@")
        stages, _, where = when.partition(" ")
        memory = Memory(kind, tuple(map(int, stages.split(","))), where == "bus") if kind else None
        branch = effect == "branch"
        found[name] = _Effects(places, memory, branch, None if branch else effect or None)
    return found


@cache
def _fields(bits: str) -> dict[str, tuple[Field, ...]]:
    """Operand letter -> its pieces, lowest first."""
    pieces: dict[str, list[Field]] = {}
    taken: dict[str, int] = {}
    for run in re.finditer(r"([a-z])\1*", bits[::-1]):
        letter, length = run[1], len(run[0])
        pieces.setdefault(letter, []).append(Field(taken.get(letter, 0), run.start(), length))
        taken[letter] = taken.get(letter, 0) + length
    return {letter: tuple(found) for letter, found in pieces.items()}


@cache
def _operand(name: str, token: str, fields: tuple[Field, ...]) -> Operand:
    direction, (kind, _, other) = _DIRECTIONS[token[0]], token[1:].partition("=")
    if not kind:
        return Operand(name, direction, "fixed_register", 0, register=other)
    width = sum(field.bits for field in fields)
    immediate = IMMEDIATES.get(kind)
    if immediate is None:
        return Operand(name, direction, "register", width, fields, kind, other or None)
    assert immediate.width == width, (name, token)
    return Operand(
        name,
        direction,
        "immediate",
        width,
        fields,
        immediate_kind=kind,
        signed=immediate.signed,
        step=immediate.step,
        minimum=immediate.minimum,
        maximum=immediate.maximum,
        negative_only=immediate.negative_only,
        style=immediate.style,
    )


def _operands(syntax: str, tokens: list[str], bits: str) -> tuple[Operand, ...]:
    names = re.findall(r"\$(\w+)", syntax)
    fields = _fields(bits)
    letters = dict(zip(names, "abcdefgh", strict=False))
    operands = []
    for name, token in zip(names, tokens, strict=True):
        other = token.partition("=")[2]  # an earlier operand, or the register of a fixed one
        letter = letters[other if other in letters else name]
        operands.append(_operand(name, token, fields.get(letter, ())))
    return tuple(operands)


@cache
def _implicit(column: str) -> tuple[Implicit, ...]:
    found = []
    for token in column.split():
        register, _, stage = token[1:].partition("@")
        found.append(Implicit(register, _DIRECTIONS[token[0]], int(stage or 0)))
    return tuple(found)


def _literals(bindings: tuple[str, ...], operands: tuple[Operand, ...], places: str) -> tuple[tuple[str, str], ...]:
    """Registers spelled in the syntax: the bindings that are no operand."""
    named = {o.name for o in operands} | {o.register for o in operands}
    found: dict[str, str] = {}
    for binding, place in zip(bindings, places.split(), strict=False):
        if binding not in named and "." not in binding:
            direction = "out" if ">" in place else "in"
            found[binding] = direction if found.get(binding, direction) == direction else "inout"
    return tuple(found.items())


_ONES = str.maketrans("01-abcdefgh", "010" + "0" * 8)
_FIXED = str.maketrans("01-abcdefgh", "110" + "0" * 8)
_LOOSE = str.maketrans("01-abcdefgh", "001" + "0" * 8)


def _instruction(slot: str, rank: int, row: list[str], effects: dict[str, _Effects]) -> Instruction:
    name, syntax, tokens, bits, schedule, implicit_column = row
    itinerary, _, bound = schedule[:-1].partition("(")
    effect = effects[itinerary]
    operands = _operands(syntax, tokens.split(), bits)
    bindings = tuple(bound.split(", ")) if bound else ()
    implicit = _implicit(implicit_column)
    memory = effect.memory
    return Instruction(
        name=name,
        mnemonic=syntax.partition(" ")[0],
        syntax=syntax,
        slot=slot,
        mask=int(bits.translate(_FIXED), 2),
        value=int(bits.translate(_ONES), 2),
        unconstrained=int(bits.translate(_LOOSE), 2),
        rank=rank,
        operands=operands,
        implicit=implicit,
        implicit_defs=tuple(i.register for i in implicit if i.direction == "out"),
        implicit_uses=tuple(i.register for i in implicit if i.direction == "in"),
        itinerary=itinerary,
        bindings=bindings,
        may_load=memory is not None and "load" in memory.kind,
        may_store=memory is not None and "store" in memory.kind,
        has_delay_slots=effect.branch,
        post_modify=any(o.direction == "inout" and o.register_class == "eP" for o in operands),
        memory=memory,
        literal_registers=_literals(bindings, operands, effect.places),
        side_effect=effect.side_effect,
    )


def _read(tables: dict[str, str]) -> dict[str, Instruction]:
    effects = _effects()
    found = {}
    for slot, table in tables.items():
        for rank, row in enumerate(rows(table)):
            instruction = _instruction(slot, rank, row, effects)
            assert instruction.name not in found, instruction.name
            found[instruction.name] = instruction
    return found


INSTRUCTIONS: dict[str, Instruction] = _read(TABLES)
"""Name -> instruction, all 607."""

OBSERVED: dict[str, Instruction] = _read(isa_observed.TABLES)
"""Name -> instruction of `isa_observed`, which are none of INSTRUCTIONS."""
