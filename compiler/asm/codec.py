"""Between machine code and instructions: slot words, bundles, programs.

Operand values stand in the order of `Instruction.operands`: register names, and immediates in units of their value.
Rules: facts/isa/README.md (decoding order, canonical register encodings, bundle sizes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from npuc.compiler.diagnostics import InputError
from npuc.compiler.target.aie2.formats import FORMATS, NOPS, SLOTS, Format, bundle_size
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, Instruction, Operand
from npuc.compiler.target.aie2.registers import REGISTER_CLASSES

Operands = tuple[str | int, ...]
_CACHED_WORDS = 1 << 16


class EncodeError(InputError):
    """An operand, or a set of slots, that no machine code stands for."""


class DecodeError(InputError):
    """Bytes that are no bundle, or a word that is no instruction."""


class Decoded(NamedTuple):
    """One instruction with its operands; `canonical` when encoding it again gives the same word."""

    instruction: Instruction
    operands: Operands
    canonical: bool = True


@dataclass(frozen=True)
class Bundle:
    """What issues together.  `slots` holds every slot of the format, nops included, in printing order."""

    address: int
    size: int
    format: Format
    slots: dict[str, Decoded]

    @property
    def instructions(self) -> tuple[Decoded, ...]:
        """The instructions that do something, in printing order."""
        return tuple(d for d in self.slots.values() if not d.instruction.is_nop)


# ---- slot words


def _immediate_field(instruction: Instruction, operand: Operand, value: str | int) -> int:
    if not isinstance(value, int):
        raise EncodeError(f"{instruction.name}: operand {operand.name} is an immediate, not {value!r}")
    if not operand.minimum <= value <= operand.maximum or value % operand.step:
        steps = f" in steps of {operand.step}" if operand.step > 1 else ""
        raise EncodeError(
            f"{instruction.name}: immediate {operand.name} = {value} does not fit its {operand.width} bits",
            remedy=f"{operand.minimum} to {operand.maximum}{steps}",
        )
    return (value // operand.step) & ((1 << operand.width) - 1)


def _register_field(instruction: Instruction, operand: Operand, value: str | int) -> int:
    registers = REGISTER_CLASSES[operand.register_class or ""].values
    field = registers.get(value) if isinstance(value, str) else None
    if field is None:
        some = " ".join(list(registers)[:8]) + (" ..." if len(registers) > 8 else "")
        raise EncodeError(
            f"{instruction.name}: operand {operand.name} ({operand.register_class}, {operand.width} bits) cannot be "
            f"{value}",
            remedy=f"it takes {some}",
        )
    return field


def _place(operand: Operand, field: int) -> int:
    return sum(((field >> piece.operand_lsb) & ((1 << piece.bits) - 1)) << piece.slot_lsb for piece in operand.fields)


def encode_slot(instruction: Instruction, operands: Sequence[str | int]) -> int:
    """The slot word.  Raises EncodeError naming the operand and what it takes."""
    if len(operands) != len(instruction.operands):
        raise EncodeError(
            f"{instruction.name}: {len(operands)} operands, not {len(instruction.operands)}", remedy=instruction.syntax
        )
    word = instruction.value
    named: dict[str, str | int] = {}
    for operand, value in zip(instruction.operands, operands, strict=True):
        named[operand.name] = value
        if operand.kind == "fixed_register":
            if value != operand.register:
                raise EncodeError(f"{instruction.name}: operand {operand.name} is always {operand.register}")
        elif operand.tied_to is not None:
            if value != named[operand.tied_to]:
                raise EncodeError(f"{instruction.name}: operands {operand.name} and {operand.tied_to} must be the same")
        elif operand.kind == "register":
            word |= _place(operand, _register_field(instruction, operand, value))
        else:
            word |= _place(operand, _immediate_field(instruction, operand, value))
    return word


class _Candidates(NamedTuple):
    """The instructions of a slot that fix the same bits, by these bits."""

    mask: int
    by_value: dict[int, tuple[Instruction, ...]]


@cache
def _slot_candidates(slot: str) -> tuple[_Candidates, ...]:
    groups: dict[int, dict[int, tuple[Instruction, ...]]] = {}
    for i in INSTRUCTIONS.values():
        if i.slot == slot:
            by_value = groups.setdefault(i.mask, {})
            by_value[i.value] = (*by_value.get(i.value, ()), i)
    return tuple(_Candidates(mask, by_value) for mask, by_value in groups.items())


def _operand_value(operand: Operand, word: int, canonical: bool) -> str | int | None:
    if operand.kind == "fixed_register":
        return operand.register
    field = 0
    for piece in operand.fields:
        field |= ((word >> piece.slot_lsb) & ((1 << piece.bits) - 1)) << piece.operand_lsb
    if operand.kind == "register":
        registers = REGISTER_CLASSES[operand.register_class or ""]
        register = registers.encodings.get(field)
        return register if register or canonical else registers.decode_only.get(field)
    if operand.negative_only or (operand.signed and field >> (operand.width - 1)):
        field -= 1 << operand.width
    return field * operand.step


def _operand_values(instruction: Instruction, word: int, canonical: bool) -> Operands | None:
    values: list[str | int] = []
    for operand in instruction.operands:
        value = _operand_value(operand, word, canonical)
        if value is None:
            return None
        values.append(value)
    return tuple(values)


_decoded: dict[str, dict[int, Decoded]] = {slot: {} for slot in SLOTS}


def decode_slot(slot: str, word: int) -> Decoded:
    """The instruction a slot word stands for.  Raises DecodeError when there is none."""
    cache = _decoded[slot]
    found = cache.get(word)
    if found is None:
        if len(cache) >= _CACHED_WORDS:
            cache.clear()
        found = cache[word] = _decode_slot(slot, word)
    return found


def _decode_slot(slot: str, word: int) -> Decoded:
    fitting = [i for mask, by_value in _slot_candidates(slot) for i in by_value.get(word & mask, ())]
    fitting.sort(key=lambda i: i.rank)
    for canonical in (True, False):
        for instruction in fitting:
            values = _operand_values(instruction, word, canonical)
            if values is not None:
                return Decoded(instruction, values, canonical and not word & instruction.unconstrained)
    raise DecodeError(f"slot {slot}: word 0x{word:x} is no instruction")


# ---- bundles


@cache
def _formats_holding(slots: frozenset[str]) -> tuple[Format, ...]:
    """The formats with these slots, one a size and the shortest first; of two of a size the one with least to fill."""
    unknown = slots - SLOTS.keys()
    if unknown:
        raise EncodeError(f"no slot {' '.join(sorted(unknown))}", remedy=f"slots are {' '.join(SLOTS)}")
    holding = sorted((form for form in FORMATS if slots <= form.slots), key=lambda form: (form.size, len(form.slots)))
    best: dict[int, Format] = {}
    for form in holding:
        best.setdefault(form.size, form)
    return tuple(best.values())


def bundle_sizes(slots: Iterable[str]) -> tuple[int, ...]:
    """The sizes in bytes, ascending, a bundle with these slots can have; empty when they cannot issue together."""
    return tuple(form.size for form in _formats_holding(frozenset(slots)))


@cache
def _nop_word(slot: str) -> int:
    return INSTRUCTIONS[NOPS[slot]].value


def encode_bundle(slots: Mapping[str, Sequence], size: int | None = None) -> bytes:
    """Machine code of a bundle: the shortest that holds the slots, or exactly `size` bytes.

    slots: slot -> (instruction, operands).  Slots of the format that are not given are filled with nops; nops that are
    given are slots like any other.  Raises EncodeError when no format fits.
    """
    formats = _formats_holding(frozenset(slots))
    chosen = [form for form in formats if size is None or form.size == size]
    if not chosen:
        what = " ".join(slots) or "no instruction"
        if not formats:
            raise EncodeError(f"slots {what} cannot issue in one bundle")
        sizes = " ".join(str(form.size) for form in formats)
        raise EncodeError(f"no bundle of {size} bytes holds {what}", remedy=f"sizes are {sizes}")
    bundle = chosen[0].value
    for slot, lsb, _ in chosen[0].places:
        if slot in slots:
            instruction, operands = slots[slot][:2]
            if instruction.slot != slot:
                raise EncodeError(f"{instruction.name} issues in slot {instruction.slot}, not {slot}")
            bundle |= encode_slot(instruction, operands) << lsb
        else:
            bundle |= _nop_word(slot) << lsb
    return bundle.to_bytes(chosen[0].size, "little")


@cache
def _formats_of_size(size: int) -> tuple[Format, ...]:
    return tuple(form for form in FORMATS if form.size == size)


def decode_bundle(data: bytes | bytearray | memoryview, offset: int = 0, address: int | None = None) -> Bundle:
    """The bundle at `offset` of `data`; its address is `offset` unless given.

    Raises DecodeError naming the address.
    """
    address = offset if address is None else address
    if not 0 <= offset < len(data):
        raise DecodeError(f"no code at 0x{address:x}")
    size = bundle_size(data[offset])
    if offset + size > len(data):
        raise DecodeError(f"bundle at 0x{address:x} is cut off: {len(data) - offset} of {size} bytes")
    word = int.from_bytes(data[offset : offset + size], "little")
    for form in _formats_of_size(size):
        if word & form.mask == form.value:
            break
    else:
        raise DecodeError(
            f"bundle at 0x{address:x}: no format of {size} bytes has these fixed bits: 0x{word:0{2 * size}x}"
        )
    try:
        slots = {slot: decode_slot(slot, (word >> lsb) & ((1 << bits) - 1)) for slot, lsb, bits in form.places}
    except DecodeError as error:
        raise DecodeError(f"bundle at 0x{address:x} ({form.name}): {error.message}") from None
    return Bundle(address, size, form, slots)


def decode_program(data: bytes | bytearray | memoryview, base: int = 0) -> tuple[Bundle, ...]:
    """All bundles of a code image that lies at `base`.  Raises DecodeError at the first that does not decode."""
    bundles = []
    offset = 0
    while offset < len(data):
        bundles.append(decode_bundle(data, offset, base + offset))
        offset += bundles[-1].size
    return tuple(bundles)
