"""What an assembly text says, before anything has an address: programs, their sections, and what stands in them.

The language is described in README.md beside this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from npuc.compiler.asm.codec import bundle_sizes, encode_bundle
from npuc.compiler.asm.expressions import NAME, AssemblyError, Expression
from npuc.compiler.asm.text import Slots, parse_bundle
from npuc.compiler.diagnostics import Place

LINK = "lr"
"""The register that a call leaves its return address in."""


class At(NamedTuple):
    """Where in the text: line and column count from 1."""

    line: int
    column: int


class ParsedBundle(NamedTuple):
    """A bundle's text, read: what it holds, the sizes it may have, and its code when no symbol is in it.

    references: (slot, position of the operand, expression).  calls: it comes back to the bundle after its delay slots.
    """

    slots: Slots
    sizes: tuple[int, ...]
    code: bytes | None
    references: tuple[tuple[str, int, Expression], ...]
    calls: bool


class SourceBundle(NamedTuple):
    """One bundle; exact: it keeps its shortest size and asks for no alignment."""

    parsed: ParsedBundle
    text: str
    at: At
    exact: bool


class Label(NamedTuple):
    name: str
    at: At
    exact: bool


class Data(NamedTuple):
    contents: bytes


class Values(NamedTuple):
    """Numbers of `size` bytes each that depend on symbols."""

    size: int
    expressions: tuple[tuple[Expression, At], ...]


class Align(NamedTuple):
    """Up to a multiple of `bytes`: nops in code, else the byte `fill`."""

    bytes: int
    fill: int


class Fixup(NamedTuple):
    """A relocation that is asked for by number: at `offset` of the section."""

    offset: int
    number: int
    expression: Expression
    at: At


Item = SourceBundle | Label | Data | Values | Align


@dataclass
class SourceSection:
    """A section under construction; address None: wherever a linker puts it."""

    name: str
    is_code: bool
    writable: bool
    zeros: bool = False
    address: int | None = None
    items: list[Item] = field(default_factory=list)
    fixups: list[Fixup] = field(default_factory=list)


@dataclass
class SymbolAttributes:
    """What `.global`, `.weak`, `.type` and `.size` say of a name."""

    binding: str = "local"
    kind: str | None = None
    size: tuple[Expression, At] | None = None


@dataclass
class SourceProgram:
    """One program: of a core where `.core` names one, else the only one of the text."""

    core: tuple[int, int] | None = None
    pdi: int | None = None
    sections: dict[str, SourceSection] = field(default_factory=dict)
    equates: dict[str, tuple[Expression, At]] = field(default_factory=dict)
    attributes: dict[str, SymbolAttributes] = field(default_factory=dict)
    labels: dict[str, At] = field(default_factory=dict)
    entry: tuple[Expression, At] | None = None


@dataclass(frozen=True)
class Source:
    """All programs of a text, in order; `file` names it in messages."""

    file: str
    programs: tuple[SourceProgram, ...]

    def error(self, at: At, message: str, remedy: str | None = None) -> AssemblyError:
        """An error at a place of this text."""
        return AssemblyError(message, place=Place(self.file, at.line, at.column), remedy=remedy)

    def check(self, at: At, what: str, value: int, lowest: int, highest: int) -> int:
        """The value, when it lies between the two; else an error at its place."""
        if not lowest <= value <= highest:
            raise self.error(at, f"{what} {value} does not fit", f"{lowest} to {highest}")
        return value


# --- bundles ------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=1 << 17)
def read_bundle(text: str) -> ParsedBundle:
    """A bundle's text, read.  Raises AssemblyError with the offset of what is wrong."""
    slots = parse_bundle(text)
    references = tuple(
        (slot, position, value)
        for slot, (_, values) in slots.items()
        for position, value in enumerate(values)
        if isinstance(value, Expression)
    )
    if list(slots) == ["nop"]:
        slots = {}  # a line of its own that does nothing, of any size
    sizes = bundle_sizes(slots)
    if len(slots) > 1 and any(instruction.is_nop for instruction, _ in slots.values()):
        sizes = sizes[:1]  # nops among instructions are written to fix the format
    calls = any(i.has_delay_slots and LINK in i.implicit_defs for i, _ in slots.values())
    return ParsedBundle(slots, sizes, None if references else encode_bundle(slots), references, calls)


# --- statements ---------------------------------------------------------------------------------------------------
_LABEL = re.compile(rf"({NAME}):(?=\s|$)")
_ADDRESS = re.compile(r"[0-9][0-9a-fA-F]*:(?=\s|$)|0x[0-9a-fA-F]+:(?=\s|$)")
_QUOTED_OR_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"|//')


class Statement(NamedTuple):
    """A line's labels, as they are written, and what follows them: a directive, a bundle, or nothing; `column` is where
    that begins."""

    line: int
    labels: tuple[tuple[str, int], ...]
    text: str
    column: int


def _without_comment(line: str) -> str:
    if '"' not in line:
        return line[: line.index("//")]
    for match in _QUOTED_OR_COMMENT.finditer(line):
        if match[0] == "//":
            return line[: match.start()]
    return line


def statements(text: str) -> Iterator[Statement]:
    """The statements of a text, one a line; an address in front of a line is not looked at."""
    for number, line in enumerate(text.split("\n"), 1):
        if "//" in line:
            line = _without_comment(line)
        rest = line.lstrip()
        if not rest:
            continue
        labels: tuple[tuple[str, int], ...] = ()
        if rest[0].isdigit() and (address := _ADDRESS.match(rest)):
            rest = rest[address.end() :].lstrip()
        elif ":" in rest:
            while label := _LABEL.match(rest):
                labels = (*labels, (label[1], len(line) - len(rest) + 1))
                rest = rest[label.end() :].lstrip()
        column = len(line) - len(rest) + 1
        rest = rest.rstrip()
        if rest or labels:
            yield Statement(number, labels, rest, column)
