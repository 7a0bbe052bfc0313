"""From assembly text to programs at fixed addresses.

    assembly = assemble(text)
    assembly.code, assembly.symbols, assembly.data

Sections without an address follow each other: code from program address 0, data from the core's own memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from npuc.compiler.asm.codec import EncodeError, choose_format, encode_bundle
from npuc.compiler.asm.directives import read_source
from npuc.compiler.asm.expressions import Expression
from npuc.compiler.asm.placing import Placed, code_targets, place_section
from npuc.compiler.asm.programs import CoreProgram
from npuc.compiler.asm.source import At, Source, SourceBundle, SourceProgram
from npuc.compiler.asm.text import operand_offset, refusal
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit.elf import CoreImage, DataSegment, Symbol
from npuc.compiler.target.aie2.relocations import DATA_WORD, RELOCATIONS, RelocationType, relocation_type
from npuc.compiler.target.npu1.geometry import CORE_VIEW, CORE_VIEW_OWN, PROGRAM_MEMORY_SIZE


class Patch(NamedTuple):
    """What a value goes into: the bundle or data at `offset` of a section, and the relocation type that fits there."""

    offset: int
    kind: RelocationType | None


Resolve = Callable[[Expression, At, int, Patch], int]
"""Value of an expression, given where it stands in the text, the address it stands at, and what it goes into."""

NOWHERE = Patch(0, None)
LARGEST_ADDRESS = (1 << 20) - 1  # of the core's own view (facts/platform/pdi_cdo.md section 4)


@dataclass(frozen=True)
class AssembledProgram:
    """One program.  code: from `base` on, zeros between sections.  symbols: name -> address or value.

    lines: (address, line of the text) of every bundle.  core, pdi: as `.core` names them.
    """

    code: bytes
    base: int
    symbols: dict[str, int]
    data: tuple[DataSegment, ...]
    entry: int
    lines: tuple[tuple[int, int], ...]
    code_symbols: tuple[Symbol, ...]
    core: tuple[int, int] | None = None
    pdi: int | None = None

    @property
    def image(self) -> CoreImage:
        """What the writer of executables takes.  Raises InputError when it does not fit program memory."""
        program = bytes(self.base) + self.code
        if len(program) > PROGRAM_MEMORY_SIZE:
            raise InputError(f"program of {len(program)} bytes does not fit the {PROGRAM_MEMORY_SIZE} of a core")
        return CoreImage(program, self.entry, self.code_symbols, self.data)

    def core_program(self, file: str) -> CoreProgram:
        """As `read_programs` gives the programs of binaries; lines are `file:number`."""
        column, row = self.core or (None, None)
        return CoreProgram(
            column,
            row,
            self.base,
            self.code,
            self.entry,
            tuple(sorted((s.address, s.name) for s in self.code_symbols if s.kind != "object")),
            tuple((address, f"{file}:{line}") for address, line in self.lines),
            source=file,
            pdi=self.pdi,
            data=self.data,
        )


@dataclass(frozen=True)
class Assembly:
    """All programs of a text; `code`, `symbols` and the other properties are those of the only one."""

    programs: tuple[AssembledProgram, ...]

    @property
    def program(self) -> AssembledProgram:
        """The only program.  Raises InputError when there are several."""
        if len(self.programs) != 1:
            raise InputError(f"the text holds {len(self.programs)} programs, not one", remedy="choose a core")
        return self.programs[0]

    @property
    def code(self) -> bytes:
        return self.program.code

    @property
    def symbols(self) -> dict[str, int]:
        return self.program.symbols

    @property
    def data(self) -> tuple[DataSegment, ...]:
        return self.program.data

    @property
    def lines(self) -> tuple[tuple[int, int], ...]:
        return self.program.lines


def assemble(text: str, file: str = "<asm>", base: int = 0) -> Assembly:
    """The programs a text stands for; code without an address begins at `base`, a multiple of 16.

    Raises AssemblyError naming file, line and column, also for symbols that are not defined.
    """
    return assemble_source(read_source(text, file), base)


def assemble_source(source: Source, base: int = 0) -> Assembly:
    """The same of a text that was read already."""
    return Assembly(tuple(_assemble(source, program, base) for program in source.programs))


def _assemble(source: Source, program: SourceProgram, base: int) -> AssembledProgram:
    placed = place(source, program)
    addresses = _addresses(placed, base)
    symbols = symbol_values(source, program, placed, addresses)
    for part, address in zip(placed, addresses, strict=True):
        fill_in(source, part, address, resolver(source, symbols))
        _apply_relocations(source, part, resolver(source, symbols))
    code, first = _code_image(placed, addresses)
    data = _data_segments(placed, addresses)
    entry = first
    if program.entry is not None:
        expression, at = program.entry
        entry = source.check(at, "entry", resolver(source, symbols)(expression, at, 0, NOWHERE), 0, LARGEST_ADDRESS)
    lines = tuple(
        (address + offset, bundle.at.line)
        for part, address in zip(placed, addresses, strict=True)
        for offset, _, bundle in part.bundles
    )
    names = _symbols(source, program, placed, addresses, symbols)
    return AssembledProgram(code, first, symbols, data, entry, lines, names, program.core, program.pdi)


def _apply_relocations(source: Source, part: Placed, resolve: Resolve) -> None:
    """Do what `.reloc` asks for, as a linker would."""
    for fixup in part.section.fixups:
        value = resolve(fixup.expression, fixup.at, fixup.offset, NOWHERE)
        kind = RELOCATIONS.get(fixup.number)
        if kind is None:
            message = f"what relocation {fixup.number} patches is not known"
            raise source.error(fixup.at, message, "assemble to an object")
        field = part.data[fixup.offset : fixup.offset + kind.size]
        if len(field) < kind.size:
            raise source.error(fixup.at, f"{kind.name} at {fixup.offset} leaves the section")
        if not -(1 << kind.width - 1) <= value < 1 << kind.width:
            message = f"{fixup.expression} = {value} does not fit the {kind.width} bits of {kind.name}"
            raise source.error(fixup.at, message)
        patched = kind.write(int.from_bytes(field, "little"), value)
        part.data[fixup.offset : fixup.offset + kind.size] = patched.to_bytes(kind.size, "little")


def place(source: Source, program: SourceProgram) -> list[Placed]:
    """All sections, each from offset 0."""
    targets = code_targets(program)
    return [place_section(source, section, targets) for section in program.sections.values()]


def _addresses(placed: Sequence[Placed], base: int) -> list[int]:
    """An address for each section, the one it asks for or the next free one."""
    free = {True: base, False: CORE_VIEW_OWN}
    found = []
    for part in placed:
        is_code = part.section.is_code
        address = part.section.address
        if address is None:
            address = free[is_code] + -free[is_code] % part.alignment
        found.append(address)
        free[is_code] = max(free[is_code], address + len(part.data))
    return found


def _code_image(placed: Sequence[Placed], addresses: Sequence[int]) -> tuple[bytes, int]:
    """Bytes and first address of all code, zero between sections."""
    parts = [(a, bytes(p.data)) for p, a in zip(placed, addresses, strict=True) if p.section.is_code and p.data]
    if not parts:
        return b"", 0
    parts.sort(key=lambda part: part[0])
    first, image = parts[0][0], bytearray()
    for address, data in parts:
        if address < first + len(image):
            raise InputError(f"code sections overlap at program address {address:#x}")
        image += bytes(address - first - len(image)) + data
    return bytes(image), first


def _data_segments(placed: Sequence[Placed], addresses: Sequence[int]) -> tuple[DataSegment, ...]:
    """All data, in the order of the text.  Raises InputError where it leaves the core's view or overlaps."""
    parts = [(a, p) for p, a in zip(placed, addresses, strict=True) if not p.section.is_code and p.data]
    end = 0
    for address, part in sorted(parts, key=lambda part: part[0]):
        what = f"section {part.section.name} of {len(part.data)} bytes at {address:#x}"
        if not CORE_VIEW.start <= address <= address + len(part.data) <= CORE_VIEW.stop:
            remedy = f"data lies from {CORE_VIEW.start:#x} to {CORE_VIEW.stop:#x}"
            raise InputError(f"{what} leaves the memories that a core sees", remedy=remedy)
        if address < end:
            raise InputError(f"{what} overlaps another")
        end = address + len(part.data)
    return tuple(DataSegment(address, bytes(part.data)) for address, part in parts)


# --- symbols ------------------------------------------------------------------------------------------------------
def symbol_values(
    source: Source, program: SourceProgram, placed: Sequence[Placed], addresses: Sequence[int]
) -> dict[str, int]:
    """Labels and equates.  Raises AssemblyError for an equate that depends on itself or on nothing defined."""
    known = {
        name: address + offset
        for part, address in zip(placed, addresses, strict=True)
        for name, offset in part.labels.items()
    }
    pending: dict[str, At] = {}

    def value(name: str, at: At) -> int:
        if name in known:
            return known[name]
        if name not in program.equates:
            raise undefined(source, at, name, known)
        if name in pending:
            raise source.error(pending[name], f"{name} is defined by itself")
        expression, where = program.equates[name]
        pending[name] = where
        known[name] = expression.constant + sum(sign * value(other, where) for sign, other in expression.symbols)
        return known[name]

    for name, (_, at) in program.equates.items():
        try:
            value(name, at)
        except RecursionError:
            raise source.error(at, f"{name} is defined through too many others") from None
    return known


def undefined(source: Source, at: At, name: str, known: dict[str, int]) -> Exception:
    """The error for a name that nothing defines."""
    import difflib

    near = difflib.get_close_matches(name, known, 3)
    return source.error(at, f"{name} is not defined", f"there is {', '.join(near)}" if near else None)


def resolver(source: Source, symbols: dict[str, int]) -> Resolve:
    """Values of expressions where every symbol has to be known."""

    def resolve(expression: Expression, at: At, address: int, _: Patch) -> int:
        total = expression.constant
        for sign, name in expression.symbols:
            value = address if name == "." else symbols.get(name)
            if value is None:
                raise undefined(source, at, name, symbols)
            total += sign * value
        return total

    return resolve


def _symbols(
    source: Source,
    program: SourceProgram,
    placed: Sequence[Placed],
    addresses: Sequence[int],
    symbols: dict[str, int],
) -> tuple[Symbol, ...]:
    """The symbol table of an executable: labels, and names that `.type` calls something."""
    in_data = {name for part in placed if not part.section.is_code for name in part.labels}
    labels = {name for part in placed for name in part.labels}
    found = []
    for name, value in symbols.items():
        about = program.attributes.get(name)
        if name not in labels and (about is None or about.kind is None):
            continue
        kind = (about.kind if about else None) or ("object" if name in in_data else "label")
        size = 0
        if about and about.size:
            expression, at = about.size
            size = resolver(source, symbols)(expression, at, value, NOWHERE)
            source.check(at, "size", size, 0, LARGEST_ADDRESS)
        found.append(Symbol(value & 0xFFFFFFFF, name, size, kind))
    return tuple(sorted(found, key=lambda symbol: (symbol.address, symbol.name)))


# --- bundles and data that name symbols ---------------------------------------------------------------------------
def fill_in(source: Source, part: Placed, address: int, resolve: Resolve) -> None:
    """Encode what waited for symbols; `address` is the section's.  Raises AssemblyError where a value does not fit."""
    for offset, size, bundle in part.bundles:
        if bundle.parsed.references:
            part.data[offset : offset + size] = _encode(source, bundle, offset, size, address, resolve)
    for offset, values in part.values:
        kind = DATA_WORD if values.size == DATA_WORD.size else None
        lowest, highest = -(1 << 8 * values.size - 1), (1 << 8 * values.size) - 1
        for i, (expression, at) in enumerate(values.expressions):
            where = offset + i * values.size
            value = resolve(expression, at, address + where, Patch(where, kind))
            if not lowest <= value <= highest:
                raise source.error(at, f"{expression} = {value} does not fit {values.size} bytes")
            part.data[where : where + values.size] = (value & highest).to_bytes(values.size, "little")


def _encode(source: Source, bundle: SourceBundle, offset: int, size: int, address: int, resolve: Resolve) -> bytes:
    form = choose_format(bundle.parsed.slots, size)
    slots: dict[str, tuple] = {}
    for slot, (instruction, values) in bundle.parsed.slots.items():
        numbers = list(values)
        for i, value in enumerate(values):
            if isinstance(value, Expression):
                patch = Patch(offset, relocation_type(form, slot, instruction.operands[i]))
                numbers[i] = resolve(value, _place_of(bundle, slot, i), address + offset, patch)
        slots[slot] = instruction, tuple(numbers)
    try:
        return encode_bundle(slots, size)
    except EncodeError as error:
        slot = next(s for s, (i, _) in slots.items() if error.message.startswith(f"{i.name}:"))
        names = [o.name for o in slots[slot][0].operands]
        at = _place_of(bundle, slot, names.index(error.operand) if error.operand in names else 0)
        raise source.error(at, refusal(slots[slot][0], error), error.remedy) from None


def _place_of(bundle: SourceBundle, slot: str, operand: int) -> At:
    """Where in the text an operand of a bundle stands."""
    offset = 0
    for part, (name, (instruction, _)) in zip(bundle.text.split(";"), bundle.parsed.slots.items(), strict=False):
        if name == slot:
            offset += operand_offset(part, instruction, instruction.operands[operand].name)
            break
        offset += len(part) + 1
    return At(bundle.at.line, bundle.at.column + offset)
