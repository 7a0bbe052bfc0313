"""Between machine code and instructions: slot words, bundles, programs.

Operand values stand in the order of `Instruction.operands`: register names, and immediates in units of their value.
Rules: facts/isa/README.md (decoding order, canonical register encodings, bundle sizes).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple, cast

from npuc.compiler.diagnostics import InputError
from npuc.compiler.target.aie2.formats import FORMATS, NOPS, SIZE_BY_BYTE, SLOTS, Format
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, OBSERVED, Field, Instruction, Operand
from npuc.compiler.target.aie2.registers import REGISTER_CLASSES

Operands = tuple[str | int, ...]
_CACHED_WORDS = 1 << 16


class EncodeError(InputError):
    """An operand, or a set of slots, that no machine code stands for; `operand` is its name."""

    operand: str | None = None


class DecodeError(InputError):
    """Bytes that are no bundle, or a word that is no instruction."""


class Decoded(NamedTuple):
    """One instruction with its operands; `canonical` when encoding it again gives the same word."""

    instruction: Instruction
    operands: Operands
    canonical: bool = True


class Bundle(NamedTuple):
    """What issues together.  `slots` holds every slot of the format, nops included, in printing order.

    Bundles with the same bytes share their slots: do not change them.
    """

    address: int
    size: int
    format: Format
    slots: Mapping[str, Decoded]

    @property
    def canonical(self) -> bool:
        """Whether encoding the bundle again gives the same bytes."""
        return all(decoded.canonical for decoded in self.slots.values())

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
        try:
            word |= _place(operand, _operand_field(instruction, operand, value, named))
        except EncodeError as error:
            error.operand = operand.name
            raise
    return word


def _operand_field(instruction: Instruction, operand: Operand, value: str | int, named: dict[str, str | int]) -> int:
    """What an operand's field holds; `named` has the operands up to it."""
    if operand.kind == "fixed_register":
        if value != operand.register:
            raise EncodeError(f"{instruction.name}: operand {operand.name} is always {operand.register}")
        return 0
    if operand.tied_to is not None and value != named[operand.tied_to]:
        raise EncodeError(f"{instruction.name}: operands {operand.name} and {operand.tied_to} must be the same")
    if operand.kind == "register":
        return _register_field(instruction, operand, value)
    return _immediate_field(instruction, operand, value)


_Reader = Callable[[int], "str | int | None"]
"""Slot word -> operand value, None when the field names no register."""


def _field_reader(fields: tuple[Field, ...]) -> Callable[[int], int]:
    if len(fields) == 1:
        _, lsb, bits = fields[0]
        ones = (1 << bits) - 1
        return lambda word: word >> lsb & ones
    pieces = tuple((slot_lsb, (1 << bits) - 1, operand_lsb) for operand_lsb, slot_lsb, bits in fields)
    return lambda word: sum((word >> slot_lsb & ones) << operand_lsb for slot_lsb, ones, operand_lsb in pieces)


def _reader(operand: Operand, canonical: bool) -> _Reader:
    if operand.kind == "fixed_register":
        register = operand.register
        return lambda word: register
    field = _field_reader(operand.fields)
    if operand.kind == "register":
        registers = REGISTER_CLASSES[operand.register_class or ""]
        named = registers.encodings if canonical else {**registers.decode_only, **registers.encodings}
        return lambda word: named.get(field(word))
    step, span = operand.step, 1 << operand.width
    first_negative = 0 if operand.negative_only else span >> 1 if operand.signed else span
    return lambda word: (value if (value := field(word)) < first_negative else value - span) * step


class _Candidate(NamedTuple):
    """An instruction of a slot with the readers of its operands: encodings the assembler writes, and all others."""

    instruction: Instruction
    canonical: tuple[_Reader, ...]
    lenient: tuple[_Reader, ...]


_Group = tuple[int, dict[int, tuple[_Candidate, ...]]]
"""Instructions that fix the same bits (the mask), by these bits."""


@cache
def _slot_groups(slot: str) -> tuple[int, dict[int, tuple[_Group, ...]]]:
    """Bits that every instruction of the slot fixes, and by their value the groups that remain."""
    members = [i for i in INSTRUCTIONS.values() if i.slot == slot]
    common = functools.reduce(operator.and_, (i.mask for i in members))
    found: dict[int, dict[int, dict[int, tuple[_Candidate, ...]]]] = {}
    for i in members:
        readers = (tuple(_reader(o, canonical) for o in i.operands) for canonical in (True, False))
        by_value = found.setdefault(i.value & common, {}).setdefault(i.mask, {})
        by_value[i.value] = (*by_value.get(i.value, ()), _Candidate(i, *readers))
    return common, {bits: tuple(groups.items()) for bits, groups in found.items()}


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
    common, groups = _slot_groups(slot)
    fitting = [c for mask, by_value in groups.get(word & common, ()) for c in by_value.get(word & mask, ())]
    if len(fitting) > 1:
        fitting.sort(key=lambda candidate: candidate.instruction.rank)
    for canonical in (True, False):
        for instruction, *readers in fitting:
            values = tuple([read(word) for read in readers[not canonical]])
            if None not in values:
                return Decoded(instruction, cast(Operands, values), canonical and not word & instruction.unconstrained)
    raise DecodeError(f"slot {slot}: word 0x{word:x} is no instruction")


def decode_observed(slot: str, word: int) -> Decoded:
    """The instruction a slot word stands for, OBSERVED ones included.  Raises DecodeError."""
    try:
        return decode_slot(slot, word)
    except DecodeError:
        for instruction in OBSERVED.values():
            if instruction.slot == slot and word & instruction.mask == instruction.value:
                values = tuple([_reader(operand, True)(word) for operand in instruction.operands])
                if None not in values:
                    return Decoded(instruction, cast(Operands, values), not word & instruction.unconstrained)
        raise


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


def choose_format(slots: Iterable[str], size: int | None = None) -> Format:
    """The shortest format that holds the slots, or the one of exactly `size` bytes.  Raises EncodeError."""
    formats = _formats_holding(frozenset(slots))
    for form in formats:
        if size is None or form.size == size:
            return form
    what = " ".join(slots) or "no instruction"
    if not formats:
        raise EncodeError(f"slots {what} cannot issue in one bundle")
    sizes = " ".join(str(form.size) for form in formats)
    raise EncodeError(f"no bundle of {size} bytes holds {what}", remedy=f"sizes are {sizes}")


def encode_bundle(slots: Mapping[str, Sequence], size: int | None = None) -> bytes:
    """Machine code of a bundle: the shortest that holds the slots, or exactly `size` bytes.

    slots: slot -> (instruction, operands).  Slots of the format that are not given are filled with nops; nops that are
    given are slots like any other.  Raises EncodeError when no format fits.
    """
    form = choose_format(slots, size)
    bundle = form.value
    for slot, lsb, _ in form.places:
        if slot in slots:
            instruction, operands = slots[slot][:2]
            if instruction.slot != slot:
                raise EncodeError(f"{instruction.name} issues in slot {instruction.slot}, not {slot}")
            bundle |= encode_slot(instruction, operands) << lsb
        else:
            bundle |= _nop_word(slot) << lsb
    return bundle.to_bytes(form.size, "little")


class _Contents(NamedTuple):
    """What the bytes of a bundle stand for, wherever it lies."""

    size: int
    format: Format
    slots: dict[str, Decoded]


@cache
def _formats_of_size(size: int) -> tuple[int, dict[int, tuple[Format, ...]]]:
    """Bits that every format of the size fixes, and by their value the formats."""
    forms = [form for form in FORMATS if form.size == size]
    common = functools.reduce(operator.and_, (form.mask for form in forms))
    found: dict[int, tuple[Format, ...]] = {}
    for form in forms:
        found[form.value & common] = (*found.get(form.value & common, ()), form)
    return common, found


def _contents(code: bytes, address: int, decode: Callable[[str, int], Decoded] = decode_slot) -> _Contents:
    size = len(code)
    word = int.from_bytes(code, "little")
    common, forms = _formats_of_size(size)
    for form in forms.get(word & common, ()):
        if word & form.mask == form.value:
            break
    else:
        raise DecodeError(
            f"bundle at 0x{address:x}: no format of {size} bytes has these fixed bits: 0x{word:0{2 * size}x}"
        )
    try:
        slots = {slot: decode(slot, (word >> lsb) & ((1 << bits) - 1)) for slot, lsb, bits in form.places}
    except DecodeError as error:
        raise DecodeError(f"bundle at 0x{address:x} ({form.name}): {error.message}") from None
    return _Contents(size, form, slots)


_known: dict[bytes, _Contents] = {}


def decode_bundle(data: bytes | bytearray | memoryview, offset: int = 0, address: int | None = None) -> Bundle:
    """The bundle at `offset` of `data`; its address is `offset` unless given.

    Raises DecodeError naming the address.
    """
    if address is None:
        address = offset
    if not 0 <= offset < len(data):
        raise DecodeError(f"no code at 0x{address:x}")
    size = SIZE_BY_BYTE[data[offset]]
    code = bytes(data[offset : offset + size])
    found = _known.get(code)
    if found is None:
        if len(code) < size:
            raise DecodeError(f"bundle at 0x{address:x} is cut off: {len(code)} of {size} bytes")
        if len(_known) >= _CACHED_WORDS:
            _known.clear()
        found = _known[code] = _contents(code, address)
    return Bundle(address, *found)


def decode_observed_bundle(data: bytes, offset: int, address: int) -> Bundle:
    """The same with the instructions that only vendor code shows (OBSERVED).  Raises DecodeError naming the address."""
    try:
        return decode_bundle(data, offset, address)
    except DecodeError:
        code = bytes(data[offset : offset + SIZE_BY_BYTE[data[offset]]]) if 0 <= offset < len(data) else b""
        if len(code) < 2 or len(code) < SIZE_BY_BYTE[code[0]]:
            raise
        return Bundle(address, *_contents(code, address, decode_observed))


def decode_program(data: bytes | bytearray | memoryview, base: int = 0) -> tuple[Bundle, ...]:
    """All bundles of a code image that lies at `base`.  Raises DecodeError at the first that does not decode."""
    bundles = []
    offset = 0
    while offset < len(data):
        bundles.append(decode_bundle(data, offset, base + offset))
        offset += bundles[-1].size
    return tuple(bundles)


class Undecodable(NamedTuple):
    """Bytes that are no bundle: as many as their first nibble announces, or as are left."""

    address: int
    data: bytes
    reason: str

    @property
    def size(self) -> int:
        return len(self.data)


def decode_sweep(data: bytes | bytearray | memoryview, base: int = 0) -> tuple[Bundle | Undecodable, ...]:
    """Everything in a code image in order, also what does not decode: no byte is lost, and nothing raises."""
    data = bytes(data)
    found: list[Bundle | Undecodable] = []
    offset = 0
    while offset < len(data):
        item: Bundle | Undecodable
        try:
            item = decode_bundle(data, offset, base + offset)
        except DecodeError as error:
            item = Undecodable(base + offset, data[offset : offset + SIZE_BY_BYTE[data[offset]]], error.message)
        found.append(item)
        offset += item.size
    return tuple(found)
