"""Assembly text of bundles and programs, and back.

A bundle is one line: its instructions in the order of its format, nops included, joined by `; `.  The text is that of
the reference disassembler (facts/isa/README.md); white space and order are free when reading.  In a program a name and
a colon on a line of their own is a label, `#name` an immediate that is its address; a number and a colon before a
bundle is what `format_program` prints as its address, and not looked at; `//` begins a comment.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from npuc.compiler.asm.codec import Bundle, EncodeError, Operands, bundle_sizes, encode_bundle, encode_slot
from npuc.compiler.diagnostics import InputError, Place
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, Instruction, Operand


class AssemblyError(InputError):
    """Text that is no instruction or no bundle."""


# ---- writing


def _immediate_text(operand: Operand, value: int) -> str:
    if operand.style == "decimal":
        return f"#{value}"
    return f"#{'-' if value < 0 else ''}0x{abs(value):x}"


def format_instruction(instruction: Instruction, operands: Sequence[str | int]) -> str:
    """One instruction as the assembler writes it."""
    text = {
        o.name: _immediate_text(o, v) if isinstance(v, int) else v
        for o, v in zip(instruction.operands, operands, strict=True)
    }
    return re.sub(r"\$(\w+)", lambda m: text[m[1]], instruction.syntax)


def format_bundle(bundle: Bundle) -> str:
    """One line: the instructions of all slots of the bundle's format, nops included."""
    return "; ".join(format_instruction(d.instruction, d.operands) for d in bundle.slots.values())


def format_program(bundles: Iterable[Bundle], labels: Mapping[int, str] | None = None) -> str:
    """One line a bundle, behind its address; labels (by address) stand on lines of their own."""
    lines = []
    for bundle in bundles:
        if labels and bundle.address in labels:
            lines.append(f"{labels[bundle.address]}:")
        lines.append(f"{bundle.address:6x}:  {format_bundle(bundle)}")
    return "\n".join(lines) + "\n"


# ---- reading

_TOKEN = re.compile(r"[\[\],]|[^\s\[\],]+")
_LABEL = re.compile(r"([A-Za-z_.][\w.$]*)\s*:")
_ADDRESS = re.compile(r"(?:0x)?[0-9a-fA-F]+:\s")


@cache
def _syntaxes() -> dict[str, list[tuple[Instruction, list[str]]]]:
    """Mnemonic -> its instructions with the tokens of their syntax."""
    found: dict[str, list[tuple[Instruction, list[str]]]] = {}
    for instruction in INSTRUCTIONS.values():
        found.setdefault(instruction.mnemonic, []).append((instruction, _TOKEN.findall(instruction.syntax)))
    return found


def _immediate(text: str, labels: Mapping[str, int]) -> int | None:
    if not text.startswith("#"):
        return None
    try:
        return int(text[1:], 0)
    except ValueError:
        pass
    if text[1:] not in labels:
        raise AssemblyError(f"{text} is neither a number nor the address of a label")
    return labels[text[1:]]


def _operands(
    instruction: Instruction, syntax: list[str], tokens: list[str], labels: Mapping[str, int]
) -> Operands | None:
    """Operand values when the text has the form of this syntax."""
    if len(syntax) != len(tokens):
        return None
    texts = [token for form, token in zip(syntax, tokens, strict=True) if form.startswith("$")]
    if any(form != token for form, token in zip(syntax, tokens, strict=True) if not form.startswith("$")):
        return None
    values: list[str | int] = []
    for operand, text in zip(instruction.operands, texts, strict=True):
        value = _immediate(text, labels)
        if (value is None) == (operand.kind == "immediate"):
            return None
        values.append(text if value is None else value)
    return tuple(values)


def parse_instruction(text: str, labels: Mapping[str, int] | None = None) -> tuple[Instruction, Operands]:
    """The instruction and its operands.  Raises AssemblyError or EncodeError saying what would fit."""
    tokens = _TOKEN.findall(text)
    if not tokens:
        raise AssemblyError("an instruction is missing", remedy="an empty slot is written nopa, nopb, nops, nopx, ...")
    candidates = _syntaxes().get(tokens[0])
    if candidates is None:
        near = difflib.get_close_matches(tokens[0], _syntaxes(), 3)
        raise AssemblyError(f"no instruction {tokens[0]}", remedy=f"there is {', '.join(near)}" if near else None)
    refused: list[EncodeError] = []
    for instruction, syntax in candidates:
        operands = _operands(instruction, syntax, tokens, labels or {})
        if operands is not None:
            try:
                encode_slot(instruction, operands)
                return instruction, operands
            except EncodeError as error:
                refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    forms = " or ".join(instruction.syntax for instruction, _ in candidates[:4])
    raise AssemblyError(f"operands do not fit: {text.strip()}", remedy=f"it is written {forms}")


def parse_bundle(text: str, labels: Mapping[str, int] | None = None) -> dict[str, tuple[Instruction, Operands]]:
    """Slot -> instruction and operands, as `encode_bundle` takes them; nops in the text are kept, they set the format.

    Raises AssemblyError when the text is no bundle, EncodeError when an operand does not fit.
    """
    slots: dict[str, tuple[Instruction, Operands]] = {}
    for part in text.split(";"):
        instruction, operands = parse_instruction(part, labels)
        if instruction.slot in slots:
            other = slots[instruction.slot][0].mnemonic
            raise AssemblyError(f"{other} and {instruction.mnemonic} both need slot {instruction.slot}")
        slots[instruction.slot] = instruction, operands
    if not bundle_sizes(slots):
        raise AssemblyError(f"slots {' '.join(slots)} cannot issue in one bundle")
    return slots


@dataclass(frozen=True)
class Assembly:
    """An assembled program: its code, label addresses, and (address, line of the text) of every bundle."""

    code: bytes
    labels: dict[str, int]
    lines: tuple[tuple[int, int], ...]


def _statements(text: str) -> Iterable[tuple[int, str]]:
    """(line number, statement) of the lines that hold one."""
    for number, line in enumerate(text.splitlines(), 1):
        statement = line.partition("//")[0].strip()
        if statement:
            yield number, statement


def _without_address(statement: str) -> str:
    address = _ADDRESS.match(statement)
    return statement[address.end() :] if address else statement


def assemble(text: str, file: str = "<asm>", base: int = 0) -> Assembly:
    """The program a text stands for, at address `base`.  Raises InputErrors that name file and line."""
    statements = list(_statements(text))
    # Sizes do not depend on what labels stand for, so the first pass takes them all for address 0.
    names = {m[1]: 0 for _, statement in statements if (m := _LABEL.fullmatch(statement))}
    labels = _pass(statements, names, file, base).labels
    return _pass(statements, labels, file, base)


def _pass(statements: list[tuple[int, str]], known: Mapping[str, int], file: str, base: int) -> Assembly:
    code = bytearray()
    labels: dict[str, int] = {}
    lines = []
    for number, statement in statements:
        label = _LABEL.fullmatch(statement)
        try:
            if label is None:
                bundle = encode_bundle(parse_bundle(_without_address(statement), known))
                lines.append((base + len(code), number))
                code += bundle
            elif label[1] in labels:
                raise AssemblyError(f"label {label[1]} stands twice")
            else:
                labels[label[1]] = base + len(code)
        except InputError as error:
            raise type(error)(error.message, place=Place(file, number), remedy=error.remedy) from None
    return Assembly(bytes(code), labels, tuple(lines))
