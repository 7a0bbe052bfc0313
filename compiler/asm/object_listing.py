"""From relocatable objects to assembly text: the symbols stand where relocations patch them in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from npuc.compiler.asm.codec import Bundle, Undecodable, decode_sweep
from npuc.compiler.asm.disassembler import data_lines, line_text
from npuc.compiler.asm.expressions import quoted
from npuc.compiler.asm.objects import value_in_place
from npuc.compiler.asm.text import format_instruction
from npuc.compiler.emit.elf_object import ObjectFile, ObjectSymbol, Relocation, Section
from npuc.compiler.plain_text import one_line
from npuc.compiler.target.aie2.relocations import DATA_WORD, RELOCATIONS, relocation_type

CODE_ALIGNMENT = 16


def disassemble_object(file: ObjectFile, name: str = "") -> str:
    """The text of an object, which assembles to the same sections, symbols and relocations."""
    names = _unique_names(file)
    used = {relocation.symbol for section in file.sections for relocation in section.relocations}
    symbols: dict[int | None, list[ObjectSymbol]] = {}
    for symbol in names:
        if symbol.kind != "other" and (symbol.kind != "section" or symbol in used):
            symbols.setdefault(symbol.section, []).append(symbol)
    parts = [f"// {one_line(name)}: object\n.exact\n" if name else ".exact\n"]
    taken: set[str] = set()
    for number, section in enumerate(file.sections):
        title, count = section.name or "unnamed", 0
        while quoted(title) in taken:
            count += 1
            title = f"{section.name}.{count}"
        taken.add(quoted(title))
        parts.append("\n".join(_section_lines(number, title, section, symbols.get(number, []), names)) + "\n")
    loose = [s for s in symbols.get(None, []) if s.name]
    lines = [f".set {quoted(names[s])}, 0x{s.value:x}" for s in loose if s.defined]
    lines += [line for s in loose for line in _attributes(s, names[s])]
    return "\n".join(parts + (["\n".join(lines) + "\n"] if lines else []))


def _unique_names(file: ObjectFile) -> dict[ObjectSymbol, str]:
    """Names of the symbols; local ones of one name get a number, a section's own symbol is a label at its start."""
    names: dict[ObjectSymbol, str] = {}
    taken: set[str] = set()
    for symbol in sorted(file.symbols, key=lambda s: s.binding == "local"):
        if symbol not in names:
            plain = f".L{symbol.name}" if symbol.kind == "section" else symbol.name or ".Lunnamed"
            name, count = plain, 0
            while quoted(name) in taken:
                count += 1
                name = f"{plain}.{count}"
            taken.add(quoted(name))
            names[symbol] = name
    return names


def _attributes(symbol: ObjectSymbol, name: str) -> list[str]:
    implied = "global" if not symbol.defined else "local"
    lines = [f".{symbol.binding} {quoted(name)}"] if symbol.binding != implied else []
    if symbol.kind in ("function", "object"):
        lines.append(f".type {quoted(name)}, {symbol.kind}")
    if symbol.size and symbol.defined:
        lines.append(f".size {quoted(name)}, {symbol.size}")
    return lines


def _section_lines(
    number: int, title: str, section: Section, here: list[ObjectSymbol], names: dict[ObjectSymbol, str]
) -> list[str]:
    flags = "a" + "w" * section.writable + "x" * section.is_code + "n" * section.zeros
    lines = [f'.section {quoted(title)}, "{flags}"']
    if section.alignment > (CODE_ALIGNMENT if section.is_code else 1):
        lines.append(f".align {section.alignment}")
    for symbol in here:
        lines += _attributes(symbol, names[symbol])
    relocations: _Relocations = {}
    for relocation in section.relocations:
        relocations.setdefault(relocation.offset, []).append(relocation)
    write = _code_lines if section.is_code else _data_lines
    body, starts = write(section, relocations, _labels(here, names), names)
    inside = [s for s in here if s.value not in starts]
    if inside:
        base = f".Lsection{number}"
        lines.append(f"{base}:")
        lines += [f".set {quoted(names[s])}, {base}+0x{s.value:x}" for s in inside]
    return lines + body


def _labels(symbols: Sequence[ObjectSymbol], names: dict[ObjectSymbol, str]) -> dict[int, list[str]]:
    labels: dict[int, list[str]] = {}
    for symbol in symbols:
        labels.setdefault(symbol.value, []).append(f"{quoted(names[symbol])}:")
    return labels


def _expression(relocation: Relocation, names: dict[ObjectSymbol, str]) -> str:
    addend = f"{relocation.addend:+d}" if relocation.addend else ""
    return f"{quoted(names[relocation.symbol])}{addend}"


def _directive(relocation: Relocation, names: dict[ObjectSymbol, str]) -> str:
    return f"  .reloc {relocation.offset}, R_AIE2_{relocation.type}, {_expression(relocation, names)}"


_Relocations = dict[int, list[Relocation]]


def _code_lines(
    section: Section, relocations: _Relocations, labels: dict[int, list[str]], names: dict[ObjectSymbol, str]
) -> tuple[list[str], set[int]]:
    """The lines of a code section, and the offsets at which labels could stand."""
    lines: list[str] = []
    starts: set[int] = set()
    for item in decode_sweep(section.data):
        starts.add(item.address)
        lines += labels.get(item.address, [])
        text, left = _patched(item, section, relocations.pop(item.address, []), names)
        lines.append(f"0{item.address:04x}:  {text}")
        lines += [_directive(relocation, names) for relocation in left]
    lines += [_directive(relocation, names) for rest in relocations.values() for relocation in rest]
    end = len(section.data)
    lines += labels.get(end, []) if end not in starts else []
    return lines, starts | {end}


def _patched(
    item: Bundle | Undecodable, section: Section, relocations: list[Relocation], names: dict[ObjectSymbol, str]
) -> tuple[str, list[Relocation]]:
    """The text of a bundle with symbols in place of what is patched, and the relocations it cannot say."""
    if isinstance(item, Undecodable) or not item.canonical or not relocations:
        return line_text(item, section.data, 0, {}), relocations
    left = list(relocations)
    texts, said = [], []
    for slot, decoded in item.slots.items():
        operands = list(decoded.operands)
        for position, operand in enumerate(decoded.instruction.operands):
            kind = relocation_type(item.format, slot, operand) if operand.kind == "immediate" else None
            for relocation in left if kind is not None else ():
                assert kind is not None
                fits = relocation.type == kind.number and relocation.symbol in names
                if fits and operands[position] == value_in_place(relocation.symbol, relocation.addend, kind):
                    operands[position] = f"#{_expression(relocation, names)}"
                    left.remove(relocation)
                    said.append(f"{RELOCATIONS[relocation.type].name} {quoted(names[relocation.symbol])}")
                    break
        texts.append(format_instruction(decoded.instruction, tuple(operands)))
    return "; ".join(texts) + (f"  // {', '.join(said)}" if said else ""), left


def _data_lines(
    section: Section, relocations: _Relocations, labels: dict[int, list[str]], names: dict[ObjectSymbol, str]
) -> tuple[list[str], set[int]]:
    """The lines of a data section, and the offsets of its labels."""
    lines: list[str] = []
    data, at = section.data, 0
    marks = sorted({*labels, *relocations, len(data)})
    words = {
        offset: found[0]
        for offset, found in relocations.items()
        if len(found) == 1
        and found[0].type == DATA_WORD.number
        and marks[bisect_right(marks, offset)] >= offset + DATA_WORD.size  # nothing begins inside
        and data[offset : offset + 4]
        == value_in_place(found[0].symbol, found[0].addend, DATA_WORD).to_bytes(4, "little")
    }
    stops = sorted({*labels, *words, *(offset + 4 for offset in words), len(data)})
    for stop in (stop for stop in stops if stop <= len(data)):
        lines += _data(data[at:stop], section.zeros)
        at = max(at, stop)
        lines += labels.get(stop, [])
        if stop in words:
            lines.append(f"  .word {_expression(words[stop], names)}")
            at = stop + 4
    rest = [r for offset, found in relocations.items() if offset not in words for r in found]
    return lines + [_directive(relocation, names) for relocation in rest], {*(x for x in labels if x <= len(data))}


def _data(data: bytes, zeros: bool) -> list[str]:
    return ([f"  .zero {len(data)}"] if data else []) if zeros else data_lines(data)
