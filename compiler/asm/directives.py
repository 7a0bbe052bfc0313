"""The directives of the assembly language, and the reading of a whole text.

Each directive is one function of `_Reader` state and its arguments, listed in `DIRECTIVES`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from npuc.compiler.asm.expressions import NAME, AssemblyError, Expression, named, parse_expression
from npuc.compiler.asm.source import (
    Align,
    At,
    Data,
    Fixup,
    Item,
    Label,
    Source,
    SourceBundle,
    SourceProgram,
    SourceSection,
    Statement,
    SymbolAttributes,
    Values,
    read_bundle,
    statements,
)
from npuc.compiler.diagnostics import Place

LAST_RELOCATION = 255  # a record has 8 bits for the type; not all types are in target/aie2/relocations.py
LARGEST_DATA = 1 << 18  # bytes a directive may reserve: all data memory a core sees


class Argument(NamedTuple):
    """One of the arguments between commas, and the column it begins at."""

    text: str
    column: int


class _Reader:
    """Where a text has been read to: the program and section that statements go to."""

    def __init__(self, file: str) -> None:
        self.source = Source(file, ())
        self.programs = [SourceProgram()]
        self.exact = False
        self.section: SourceSection | None = None

    @property
    def program(self) -> SourceProgram:
        return self.programs[-1]

    def enter(self, name: str, is_code: bool, writable: bool, zeros: bool = False) -> SourceSection:
        self.section = self.program.sections.setdefault(name, SourceSection(name, is_code, writable, zeros))
        return self.section

    def add(self, item: Item) -> None:
        section = self.section or self.enter(".text", True, False)
        holds = any(item.contents) if isinstance(item, Data) else not isinstance(item, (Label, Align))
        if section.zeros and holds:
            raise AssemblyError(f"section {section.name} holds zeros only", remedy="use .zero, or another section")
        section.items.append(item)

    def attributes(self, name: str) -> SymbolAttributes:
        return self.program.attributes.setdefault(name, SymbolAttributes())


def read_source(text: str, file: str = "<asm>") -> Source:
    """Everything a text says.  Raises AssemblyError naming file, line and column."""
    reader = _Reader(file)
    for statement in statements(text):
        try:
            _read_statement(reader, statement)
        except AssemblyError as error:
            if error.place is not None:
                raise
            place = Place(file, statement.line, statement.column + error.offset)
            raise AssemblyError(error.message, place=place, remedy=error.remedy) from None
    first = reader.programs[0]
    empty = not (first.sections or first.equates or first.attributes or first.entry)
    return Source(file, tuple(reader.programs[1:] if empty and len(reader.programs) > 1 else reader.programs))


def _read_statement(reader: _Reader, statement: Statement) -> None:
    for label, column in statement.labels:
        try:
            name = named(label)
        except AssemblyError as error:
            raise error.at(column - statement.column) from None
        _define(reader, name, At(statement.line, column))
        reader.add(Label(name, At(statement.line, column), reader.exact))
    text = statement.text
    if not text:
        return
    if text[0] == ".":
        data = _plain_bytes(text)
        if data is None:
            _read_directive(reader, statement)
        else:
            reader.add(data)
    elif "=" in text and (assigned := re.match(rf"({NAME})\s*=", text)):
        value = text[assigned.end() :].lstrip()
        argument = Argument(value, statement.column + len(text) - len(value))
        _with_columns(reader, statement, lambda: _equate(reader, named(assigned[1]), argument, statement))
    else:
        section = reader.section or reader.enter(".text", True, False)
        if not section.is_code:
            raise AssemblyError(f"section {section.name} holds data", remedy="instructions go to .text")
        at = At(statement.line, statement.column)
        section.items.append(SourceBundle(read_bundle(text), text, at, reader.exact))


@lru_cache(maxsize=1 << 14)
def _plain_bytes(text: str) -> Data | None:
    """What `.byte` with plain numbers stands for, as disassembly of unknown code is full of; None for all else."""
    if not text.startswith(".byte 0x"):
        return None
    try:
        return Data(bytes([int(number, 16) for number in text[6:].split(",")]))
    except ValueError:
        return None


def _define(reader: _Reader, name: str, at: At) -> None:
    if name == ".":
        raise reader.source.error(at, ". is the address of a statement, and no name to give")
    before = reader.program.labels.get(name)
    if before is None and name in reader.program.equates:
        before = reader.program.equates[name][1]
    if before is not None:
        raise reader.source.error(at, f"{name} is defined twice", remedy=f"the first is in line {before.line}")
    reader.program.labels[name] = at


_ARGUMENT = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^",])*')


def _read_directive(reader: _Reader, statement: Statement) -> None:
    name = statement.text.split(None, 1)[0]
    function = DIRECTIVES.get(name)
    if function is None:
        import difflib

        near = difflib.get_close_matches(name, DIRECTIVES, 3)
        raise AssemblyError(f"no directive {name}", remedy=f"there is {', '.join(near)}" if near else None)
    arguments = _arguments(statement, len(name))
    _with_columns(reader, statement, lambda: function(reader, arguments, statement))


def _arguments(statement: Statement, start: int) -> list[Argument]:
    """What stands between commas from `start` of the statement on; commas in quotes do not count."""
    text = statement.text
    found: list[Argument] = []
    while text[start:].strip() or found:
        match = _ARGUMENT.match(text, start)
        assert match is not None
        lead = len(match[0]) - len(match[0].lstrip())
        found.append(Argument(match[0].strip(), statement.column + start + lead))
        if match.end() >= len(text):
            break
        if text[match.end()] != ",":
            raise AssemblyError("a quote is not closed").at(match.end())
        start = match.end() + 1
    return found


def _with_columns(reader: _Reader, statement: Statement, action: Callable[[], None]) -> None:
    """Do it; the offset of an error about an argument is its column, not counted from the statement."""
    try:
        action()
    except AssemblyError as error:
        if error.place is None and error.offset:
            raise reader.source.error(At(statement.line, error.offset), error.message, error.remedy) from None
        raise


# --- arguments ----------------------------------------------------------------------------------------------------
def _count(arguments: Sequence[Argument], least: int, most: int | None, form: str) -> None:
    if len(arguments) < least or (most is not None and len(arguments) > most):
        raise AssemblyError(f"{len(arguments)} arguments", remedy=f"it is written {form}")


def _expression(argument: Argument) -> Expression:
    try:
        return parse_expression(argument.text)
    except AssemblyError as error:
        raise error.at(argument.column) from None


def _number(argument: Argument, lowest: int, highest: int, step: int = 1) -> int:
    expression = _expression(argument)
    if expression.symbols or not lowest <= expression.constant <= highest or expression.constant % step:
        what = f"a number from {lowest} to {highest}" + (f" in steps of {step}" if step > 1 else "")
        raise AssemblyError(f"{argument.text} is not {what}").at(argument.column)
    return expression.constant


_ESCAPE = re.compile(rb'\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|([abfnrtv\\"\']))')
_ESCAPED = {b"a": 7, b"b": 8, b"f": 12, b"n": 10, b"r": 13, b"t": 9, b"v": 11, b"\\": 92, b'"': 34, b"'": 39}


def _string(argument: Argument) -> bytes:
    text = argument.text
    if not re.fullmatch(r'"(?:[^"\\]|\\.)*"', text):
        raise AssemblyError(f"{text or 'nothing'} is no string", remedy='as "text"').at(argument.column)
    body = text[1:-1].encode()
    if b"\\" in _ESCAPE.sub(b"", body):
        raise AssemblyError(f"{text}: unknown escape", remedy='\\n \\t \\r \\\\ \\" \\x41 \\101').at(argument.column)

    def byte(match: re.Match[bytes]) -> bytes:
        hexadecimal, octal, letter = match.groups()
        value = int(hexadecimal, 16) if hexadecimal else int(octal, 8) & 0xFF if octal else _ESCAPED[letter]
        return bytes([value])

    return _ESCAPE.sub(byte, body)


def _name(argument: Argument) -> str:
    if not re.fullmatch(NAME, argument.text):
        raise AssemblyError(f"{argument.text or 'nothing'} is no name").at(argument.column)
    try:
        return named(argument.text)
    except AssemblyError as error:
        raise error.at(argument.column) from None


# --- data ---------------------------------------------------------------------------------------------------------
def _integers(size: int) -> Callable[[_Reader, list[Argument], Statement], None]:
    lowest, highest = -(1 << 8 * size - 1), (1 << 8 * size) - 1

    def directive(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
        expressions = [(_expression(argument), At(statement.line, argument.column)) for argument in arguments]
        for (expression, at), argument in zip(expressions, arguments, strict=True):
            if not lowest <= expression.constant <= highest:
                message = f"{argument.text} does not fit {size} bytes"
                raise reader.source.error(at, message, f"{lowest} to {highest}")
        if any(expression.symbols for expression, _ in expressions):
            reader.add(Values(size, tuple(expressions)))
        else:
            ones = (1 << 8 * size) - 1
            reader.add(Data(b"".join((e.constant & ones).to_bytes(size, "little") for e, _ in expressions)))

    return directive


def _floats(code: str) -> Callable[[_Reader, list[Argument], Statement], None]:
    def directive(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
        contents = b""
        for argument in arguments:
            try:
                word = struct.unpack("<I", struct.pack("<f", float(argument.text)))[0]
            except (ValueError, OverflowError):
                raise AssemblyError(f"{argument.text} is no fp32 number").at(argument.column) from None
            if code == "e":  # bf16: the high half, rounded to nearest even
                nan = word & 0x7FFFFFFF > 0x7F800000
                contents += (word >> 16 | 0x40 if nan else word + 0x7FFF + (word >> 16 & 1) >> 16).to_bytes(2, "little")
            else:
                contents += word.to_bytes(4, "little")
        reader.add(Data(contents))

    return directive


def _ascii(end: bytes) -> Callable[[_Reader, list[Argument], Statement], None]:
    def directive(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
        reader.add(Data(b"".join(_string(argument) + end for argument in arguments)))

    return directive


def _zero(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
    _count(arguments, 1, 2, ".zero BYTES[, FILL]")
    fill = _number(arguments[1], -128, 255) if len(arguments) > 1 else 0
    reader.add(Data(bytes([fill & 0xFF]) * _number(arguments[0], 0, LARGEST_DATA)))


def _align(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
    _count(arguments, 1, 2, f"{statement.text.split()[0]} NUMBER[, FILL]")
    if statement.text.startswith(".p2align"):
        number = 1 << _number(arguments[0], 0, 16)
    else:
        number = _number(arguments[0], 1, 1 << 16)
    if number & (number - 1):
        raise AssemblyError(f"{number} is no power of two").at(arguments[0].column)
    reader.add(Align(number, _number(arguments[1], -128, 255) & 0xFF if len(arguments) > 1 else 0))


# --- sections and programs ----------------------------------------------------------------------------------------
def _section(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
    _count(arguments, 1, 3, '.section NAME[, "flags"[, ADDRESS]], flags a w x and n (zeros only)')
    name = _name(arguments[0])
    is_text = name == ".text" or name.startswith(".text.")
    flags = "ax" if is_text else "awn" if name.startswith(".bss") else "a" if name.startswith(".rodata") else "aw"
    if len(arguments) > 1:
        flags = _string(arguments[1]).decode("ascii", "replace")
        if set(flags) - set("awxn"):
            raise AssemblyError(f"flags {flags!r}", remedy="a w x and n (zeros only)").at(arguments[1].column)
    section = reader.enter(name, "x" in flags, "w" in flags, "n" in flags)
    if len(arguments) > 2:
        section.address = _number(arguments[2], 0, (1 << 20) - 1)


def _shorthand(name: str) -> Callable[[_Reader, list[Argument], Statement], None]:
    def directive(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
        _section(reader, [Argument(name, statement.column), *arguments], statement)

    return directive


def _core(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
    _count(arguments, 2, 3, ".core COLUMN, ROW[, PDI]")
    column, row = _number(arguments[0], 0, 127), _number(arguments[1], 0, 31)
    pdi = _number(arguments[2], 0, 9999) if len(arguments) > 2 else None
    if any((p.core, p.pdi) == ((column, row), pdi) for p in reader.programs):
        raise AssemblyError(f"core {column},{row} has its program already").at(arguments[0].column)
    reader.programs.append(SourceProgram((column, row), pdi))
    reader.section = None


def _layout(exact: bool) -> Callable[[_Reader, list[Argument], Statement], None]:
    def directive(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
        _count(arguments, 0, 0, statement.text.split()[0])
        reader.exact = exact

    return directive


def _entry(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
    _count(arguments, 1, 1, ".entry ADDRESS")
    reader.program.entry = _expression(arguments[0]), At(statement.line, arguments[0].column)


# --- symbols ------------------------------------------------------------------------------------------------------
def _equate(reader: _Reader, name: str, value: Argument, statement: Statement) -> None:
    at = At(statement.line, statement.column)
    _define(reader, name, at)
    del reader.program.labels[name]
    reader.program.equates[name] = _expression(value), At(statement.line, value.column)


def _set(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
    _count(arguments, 2, 2, ".set NAME, VALUE")
    _equate(reader, _name(arguments[0]), arguments[1], statement)


def _binding(binding: str) -> Callable[[_Reader, list[Argument], Statement], None]:
    def directive(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
        _count(arguments, 1, None, f".{binding} NAME, ...")
        for argument in arguments:
            reader.attributes(_name(argument)).binding = binding

    return directive


def _type(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
    _count(arguments, 2, 2, ".type NAME, function|object|label")
    kind = {"func": "function", "notype": "label"}.get(word := arguments[1].text.lstrip("@%").lower(), word)
    if kind not in ("function", "object", "label"):
        raise AssemblyError(f"no type {word}", remedy="function, object or label").at(arguments[1].column)
    reader.attributes(_name(arguments[0])).kind = kind


def _size(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
    _count(arguments, 2, 2, ".size NAME, BYTES")
    expression = _expression(arguments[1])
    reader.attributes(_name(arguments[0])).size = expression, At(statement.line, arguments[1].column)


def _reloc(reader: _Reader, arguments: list[Argument], statement: Statement) -> None:
    _count(arguments, 3, 3, ".reloc OFFSET, R_AIE2_number, SYMBOL+addend")
    match = re.fullmatch(r"R_AIE2_(\d{1,3})", arguments[1].text)
    if match is None or int(match[1]) > LAST_RELOCATION:
        remedy = f"R_AIE2_0 to R_AIE2_{LAST_RELOCATION}"
        raise AssemblyError(f"no relocation {arguments[1].text}", remedy=remedy).at(arguments[1].column)
    section = reader.section or reader.enter(".text", True, False)
    expression, at = _expression(arguments[2]), At(statement.line, arguments[2].column)
    if len(expression.symbols) != 1 or expression.symbols[0][0] < 0:
        raise AssemblyError("a relocation is against one symbol").at(arguments[2].column)
    section.fixups.append(Fixup(_number(arguments[0], 0, LARGEST_DATA), int(match[1]), expression, at))


DIRECTIVES: dict[str, Callable[[_Reader, list[Argument], Statement], None]] = {
    ".text": _shorthand(".text"), ".data": _shorthand(".data"), ".rodata": _shorthand(".rodata"),
    ".bss": _shorthand(".bss"), ".section": _section, ".core": _core, ".exact": _layout(True), ".widen": _layout(False),
    ".entry": _entry,
    ".byte": _integers(1), ".short": _integers(2), ".half": _integers(2), ".2byte": _integers(2),
    ".word": _integers(4), ".long": _integers(4), ".int": _integers(4), ".4byte": _integers(4),
    ".quad": _integers(8), ".8byte": _integers(8), ".float": _floats("f"), ".bfloat16": _floats("e"),
    ".ascii": _ascii(b""), ".asciz": _ascii(b"\0"), ".string": _ascii(b"\0"),
    ".zero": _zero, ".space": _zero, ".skip": _zero, ".align": _align, ".balign": _align, ".p2align": _align,
    ".global": _binding("global"), ".globl": _binding("global"), ".weak": _binding("weak"), ".local": _binding("local"),
    ".set": _set, ".equ": _set, ".type": _type, ".size": _size, ".reloc": _reloc,
}  # fmt: skip
