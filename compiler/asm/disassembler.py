"""From programs to assembly text that assembles to the same bytes.

One line a bundle behind its address, all slots of its format with their nops; what does not decode, or would come back
in another encoding, stands as `.byte` with the reason beside it.  Direct branch and hardware-loop targets get labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import cast

from npuc.compiler.asm.codec import Bundle, Decoded, Undecodable, decode_sweep
from npuc.compiler.asm.expressions import NAME, quoted
from npuc.compiler.asm.programs import CoreProgram
from npuc.compiler.asm.text import format_bundle, format_instruction
from npuc.compiler.plain_text import one_line
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, Instruction
from npuc.compiler.target.aie2.registers import REGISTER_CLASSES

LOOP_REGISTERS = ("ls", "le")
"""Registers that hold addresses of bundles (facts/schedule/aie2_hazards.md section 6)."""

_BYTES_A_LINE = 16


def disassemble(programs: Sequence[CoreProgram], file: str = "") -> str:
    """The text of programs with a `.core` heading each where their cores are known."""
    count = f"{len(programs)} program" + "s" * (len(programs) != 1)
    parts = [f"// {one_line(file)}: {count}\n.exact\n" if file else ".exact\n"]
    known: dict[tuple[int, bytes, tuple[tuple[int, str], ...]], str] = {}
    for program in programs:
        parts.append(_heading(program))
        key = program.base, program.code, program.symbols
        if program.lines or key not in known:
            known[key] = program_text(program)
        parts.append(known[key])
        if program.data or program.table:
            parts.append(_data_text(program, known[key]))
    return "\n".join(parts)


def _heading(program: CoreProgram) -> str:
    lines = []
    about = f"{one_line(program.source)}, {len(program.code)} bytes"
    if program.core is not None:
        pdi = "" if program.pdi is None else f", {program.pdi}"
        lines.append(f".core {program.column}, {program.row}{pdi}  // {about}")
    else:
        lines.append(f"// {about}")
    place = ".text" if not program.base else f'.section .text, "ax", 0x{program.base:x}'
    lines.append(place)
    if program.entry != program.base:
        lines.append(f".entry 0x{program.entry:x}")
    return "\n".join(lines) + "\n"


# --- labels -------------------------------------------------------------------------------------------------------
@cache
def _pointers() -> dict[Instruction, tuple[int, int | None]]:
    """Instructions that can hold the address of a bundle: position of the immediate, and of the register to look at."""
    found: dict[Instruction, tuple[int, int | None]] = {}
    for instruction in INSTRUCTIONS.values():
        register = None
        for position, operand in enumerate(instruction.operands):
            named = REGISTER_CLASSES[operand.register_class].values if operand.register_class else {}
            if LOOP_REGISTERS[0] in named:
                register = position
            elif operand.immediate_kind == "address":
                found[instruction] = position, None
            elif operand.kind == "immediate" and register is not None:
                found[instruction] = position, register
    return found


def bundle_pointer(decoded: Decoded) -> int | None:
    """Position of the operand that is the address of a bundle: of a direct branch, or set for a hardware loop."""
    place = _pointers().get(decoded.instruction)
    if place is None:
        return None
    position, register = place
    return position if register is None or decoded.operands[register] in LOOP_REGISTERS else None


def code_labels(items: Iterable[Bundle | Undecodable], symbols: Iterable[tuple[int, str]] = ()) -> dict[int, list[str]]:
    """Address of a bundle -> its names: the symbols there, else a made one (`.L` and the address) where code points."""
    pointers = _pointers()
    starts: set[int] = set()
    targets: set[int] = set()
    for item in items:
        starts.add(item.address)
        if isinstance(item, Bundle):
            for decoded in item.slots.values():
                if decoded.instruction in pointers and (position := bundle_pointer(decoded)) is not None:
                    targets.add(cast(int, decoded.operands[position]))
    labels: dict[int, list[str]] = {}
    taken: set[str] = set()
    for address, name in symbols:
        if address in starts and name:
            labels.setdefault(address, []).append(_free(name, taken))
    for target in sorted(starts & targets):
        if target not in labels:
            labels[target] = [_free(f".L{target:x}", taken)]
    return labels


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number behind it when it is taken: symbols of different files may have the same."""
    number, free = 0, name
    while quoted(free) in taken:
        number += 1
        free = f"{name}.{number}"
    taken.add(quoted(free))
    return free


# --- lines --------------------------------------------------------------------------------------------------------
def program_text(program: CoreProgram) -> str:
    """The lines of one program's code: labels, and bundles with the source lines they come from as comments."""
    items = decode_sweep(program.code, program.base)
    labels = code_labels(items, program.symbols)
    names = {address: quoted(found[0]) for address, found in labels.items()}
    sources = dict(program.lines)
    lines = []
    inside = [(address, name) for address, name in program.symbols if name and address not in labels]
    taken = {quoted(name) for found in labels.values() for name in found}
    lines += [f".set {quoted(_free(name, taken))}, 0x{address:x}" for address, name in inside]
    for item in items:
        address = item.address
        if address in labels:
            lines += [f"{quoted(name)}:" for name in labels[address]]
        comment = f"  // {one_line(sources[address])}" if address in sources else ""
        lines.append(f"0{address:04x}:  {line_text(item, program.code, program.base, names)}{comment}")
    return "\n".join(lines) + "\n"


def line_text(item: Bundle | Undecodable, code: bytes, base: int, names: Mapping[int, str]) -> str:
    """A bundle, or `.byte` for bytes that are none or that its text would not give back; names: address -> label."""
    if isinstance(item, Undecodable):
        return f"{byte_directive(item.data)}  // undecodable: {item.reason}"
    if not item.canonical:
        data = code[item.address - base : item.address - base + item.size]
        return f"{byte_directive(data)}  // not canonical: {format_bundle(item)}"
    pointers = _pointers()
    for decoded in item.slots.values():
        if decoded.instruction in pointers:
            return "; ".join([_with_label(d, names) for d in item.slots.values()])
    return format_bundle(item)


def _with_label(decoded: Decoded, names: Mapping[int, str]) -> str:
    position = bundle_pointer(decoded)
    operands = decoded.operands
    value = None if position is None else operands[position]
    name = names.get(value) if isinstance(value, int) else None
    if name is None or position is None:
        return format_instruction(decoded.instruction, operands)
    return format_instruction(decoded.instruction, (*operands[:position], f"#{name}", *operands[position + 1 :]))


def byte_directive(data: bytes) -> str:
    """The bytes as one `.byte` line."""
    return ".byte " + ", ".join(f"0x{byte:02x}" for byte in data)


def data_lines(data: bytes) -> list[str]:
    """Data as lines of words, zeros in one; what is left at the end as bytes."""
    lines = []
    at = 0
    while at < len(data):
        zeros = len(data) - at - len(data[at:].lstrip(b"\0")) & ~3
        if zeros >= _BYTES_A_LINE:
            lines.append(f"  .zero {zeros}")
            at += zeros
            continue
        row = data[at : at + _BYTES_A_LINE]
        words = [f"0x{int.from_bytes(row[i : i + 4], 'little'):08x}" for i in range(0, len(row) & ~3, 4)]
        if words:
            lines.append("  .word " + ", ".join(words))
        if len(row) % 4:
            lines.append("  " + byte_directive(row[len(row) & ~3 :]))
        at += len(row)
    return lines


def _data_text(program: CoreProgram, code: str) -> str:
    """The data sections of an executable with their labels, and what its symbol table says of names."""
    taken = set(_DEFINED.findall(code))
    lines = []
    for number, segment in enumerate(program.data):
        name = ".data" + (f".{number}" if number else "")
        lines.append(f'.section {name}, "aw", 0x{segment.address:x}')
        end = segment.address + len(segment.data)
        inside = [s for s in program.table if s.kind == "object" and s.name and segment.address <= s.address < end]
        at = 0
        for symbol in sorted(inside, key=lambda s: s.address):
            lines += data_lines(segment.data[at : symbol.address - segment.address])
            at = symbol.address - segment.address
            lines.append(f"{quoted(_free(symbol.name, taken))}:")
        lines += data_lines(segment.data[at:])
    seen: dict[str, int] = {}
    for symbol in program.table:
        seen[symbol.name] = seen.get(symbol.name, 0) + 1
    for symbol in program.table:
        name = quoted(symbol.name)
        if name in taken and seen[symbol.name] == 1:  # of several with a name, which is which is not said
            lines += [f".type {name}, {symbol.kind}"] if symbol.kind == "function" else []
            lines += [f".size {name}, {symbol.size}"] if symbol.size else []
    return "\n".join(lines) + "\n"


_DEFINED = re.compile(rf"^({NAME}):", re.M)
