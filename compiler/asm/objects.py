"""From assembly text to relocatable objects.

A field that names a symbol gets a relocation, except where the value is fixed: equates, differences inside a section,
and everything in sections that have an address, as those of `.core` programs do.  The field itself holds what the
symbol's offset in its section gives where that fits, and 0 for symbols of elsewhere; RELA records do not look at it.
"""

from __future__ import annotations

from npuc.compiler.asm.assembler import Patch, Resolve, fill_in, place
from npuc.compiler.asm.directives import read_source
from npuc.compiler.asm.expressions import Expression
from npuc.compiler.asm.source import At, Source, SourceProgram, SymbolAttributes
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit.elf_object import ObjectFile, ObjectSymbol, Relocation, Section
from npuc.compiler.target.aie2.relocations import DATA_WORD, RelocationType

_LARGEST = 0xFFFFFFFF


def assemble_object(text: str, file: str = "<asm>") -> ObjectFile:
    """The object a text stands for: sections of `.core` programs are named `NAME.core_COLUMN_ROW`, with `.pdi_N` too.

    Raises AssemblyError naming file, line and column; symbols that nothing defines are left to the linker.
    """
    return object_of(read_source(text, file))


def object_of(source: Source) -> ObjectFile:
    """The same of a text that was read already."""
    sections: list[Section] = []
    symbols: list[ObjectSymbol] = []
    for program in source.programs:
        try:
            more, names = _Object(source, program, len(sections)).build()
        except RecursionError:
            raise InputError("a symbol is defined through too many others", place=source.file) from None
        sections += more
        symbols += names
    return ObjectFile(tuple(sections), tuple(dict.fromkeys(symbols)))


def value_in_place(symbol: ObjectSymbol, addend: int, kind: RelocationType) -> int:
    """What a field that a relocation patches holds before linking."""
    value = symbol.value + addend
    limit = 1 << kind.width - (kind is not DATA_WORD)
    return value if symbol.section is not None and 0 <= value < limit else 0


class _Object:
    """One program on its way into an object whose first `first` sections are others'."""

    def __init__(self, source: Source, program: SourceProgram, first: int) -> None:
        self.source, self.program, self.first = source, program, first
        self.placed = place(source, program)
        fixed = program.core is not None
        # Sections with an address are not moved: what is in them is a number.
        self.addresses = [0 if p.section.address is None and fixed else p.section.address for p in self.placed]
        self.homes = {name: i for i, part in enumerate(self.placed) for name in part.labels}
        self.symbols: dict[str, ObjectSymbol] = {}
        self.pending: set[str] = set()
        self.sizes: dict[str, int] = {}
        sizes = {name: self._constant(about.size) for name, about in program.attributes.items() if about.size}
        self.sizes = sizes
        self.symbols.clear()  # made anew, with their sizes

    def build(self) -> tuple[list[Section], list[ObjectSymbol]]:
        suffix = ""
        if self.program.core is not None:
            column, row = self.program.core
            suffix = ("" if self.program.pdi is None else f".pdi_{self.program.pdi}") + f".core_{column}_{row}"
        for name in [*self.homes, *self.program.equates]:
            self._symbol(name)
        sections = []
        for part, address in zip(self.placed, self.addresses, strict=True):
            relocations: list[Relocation] = []
            fill_in(self.source, part, address or 0, self._resolver(relocations))
            for fixup in part.section.fixups:
                ((_, name),) = fixup.expression.symbols
                if fixup.offset >= len(part.data):
                    raise self.source.error(fixup.at, f"{fixup.offset} is outside the section")
                symbol = self._symbol(name)
                self._check_addend(fixup.at, fixup.expression.constant)
                relocations.append(Relocation(fixup.offset, fixup.number, symbol, fixup.expression.constant))
            name, body = part.section.name + suffix, bytes(part.data)
            ordered = tuple(sorted(relocations, key=lambda r: (r.offset, r.type)))
            section = part.section
            sections.append(
                Section(name, body, section.is_code, section.writable, part.alignment, section.zeros, ordered)
            )
        return sections, list(self.symbols.values())

    def _check_addend(self, at: At, addend: int) -> None:
        self.source.check(at, "addend", addend, -(_LARGEST + 1) // 2, _LARGEST // 2)

    def _about(self, name: str) -> SymbolAttributes:
        return self.program.attributes.get(name, SymbolAttributes())

    def _symbol(self, name: str) -> ObjectSymbol:
        """The table entry of a name: a label, an equate, or one that is defined elsewhere."""
        if name in self.symbols:
            return self.symbols[name]
        about = self._about(name)
        size = self.sizes.get(name, 0)
        home = self.homes.get(name)
        if home is not None:
            part = self.placed[home]
            kind = about.kind or ("label" if part.section.is_code else "object")
            found = ObjectSymbol(name, self.first + home, part.labels[name], size, kind, about.binding)
        elif name in self.program.equates:
            found = self._equate(name, about, size)
        else:
            binding = "weak" if about.binding == "weak" else "global"
            found = ObjectSymbol(name, None, 0, 0, about.kind or "label", binding, False)
        self.symbols[name] = found
        return found

    def _equate(self, name: str, about: SymbolAttributes, size: int) -> ObjectSymbol:
        expression, at = self.program.equates[name]
        if name in self.pending:
            raise self.source.error(at, f"{name} is defined by itself")
        self.pending.add(name)
        constant, symbol = self._reduce(expression, at, None)
        self.pending.discard(name)
        kind = about.kind or "label"
        if symbol is None:
            return ObjectSymbol(name, None, constant & 0xFFFFFFFF, size, kind, about.binding)
        if not symbol.defined:
            raise self.source.error(at, f"{name} stands for {symbol.name}, which is not defined here")
        value = self.source.check(at, f"{name}: offset", symbol.value + constant, 0, _LARGEST)
        return ObjectSymbol(name, symbol.section, value, size, kind, about.binding)

    def _constant(self, value: tuple[Expression, At]) -> int:
        constant, symbol = self._reduce(*value, None)
        if symbol is not None:
            raise self.source.error(value[1], f"{value[0]} is no number")
        return self.source.check(value[1], "size", constant, 0, _LARGEST)

    def _reduce(self, expression: Expression, at: At, here: int | None) -> tuple[int, ObjectSymbol | None]:
        """A number, or a number and the one symbol it counts from; here: address of the statement, for `.`."""
        constant = expression.constant
        moving: list[tuple[int, ObjectSymbol]] = []
        for sign, name in expression.symbols:
            if name == ".":
                if here is None:
                    raise self.source.error(at, ". stands for no address here", "write a label")
                constant += sign * here
                continue
            symbol = self._symbol(name)
            address = self._fixed(symbol)
            if address is not None:
                constant += sign * (address + symbol.value)
                continue
            partner = next((m for m in moving if m[0] == -sign and self._same_place(m[1], symbol)), None)
            if partner is not None:
                moving.remove(partner)
                constant += sign * (symbol.value - partner[1].value)
            else:
                moving.append((sign, symbol))
        if not moving:
            return constant, None
        if len(moving) > 1 or moving[0][0] < 0:
            raise self.source.error(at, f"{expression} is not one symbol and a number", "no relocation says that")
        return constant, moving[0][1]

    def _fixed(self, symbol: ObjectSymbol) -> int | None:
        """The address that a symbol's value counts from, where it is known."""
        if symbol.section is None:
            return 0 if symbol.defined else None
        return self.addresses[symbol.section - self.first]

    @staticmethod
    def _same_place(one: ObjectSymbol, other: ObjectSymbol) -> bool:
        return one == other or (one.section is not None and one.section == other.section)

    def _resolver(self, relocations: list[Relocation]) -> Resolve:
        def resolve(expression: Expression, at: At, address: int, patch: Patch) -> int:
            constant, symbol = self._reduce(expression, at, address)
            if symbol is None:
                return constant
            if patch.kind is None:
                raise self.source.error(at, f"{symbol.name} is known when linking only, and no relocation fits here")
            self._check_addend(at, constant)
            relocations.append(Relocation(patch.offset, patch.kind.number, symbol, constant))
            return value_in_place(symbol, constant, patch.kind)

        return resolve
