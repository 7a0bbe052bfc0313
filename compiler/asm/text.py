"""Assembly text of instructions and bundles, and back.

A bundle is its instructions in the order of its format, nops included, joined by `; `.  The text is that of the
reference disassembler (facts/isa/README.md); white space and order are free when reading, and an immediate may be an
expression of symbols (`#loop+4`).  The whole language is in README.md beside this file.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from npuc.compiler.asm.codec import Bundle, EncodeError, bundle_sizes, encode_slot
from npuc.compiler.asm.expressions import LONGEST_NUMBER, NAME, AssemblyError, Expression, parse_expression
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, Instruction, Operand
from npuc.compiler.target.aie2.registers import REGISTER_CLASSES, file

_CACHED = 1 << 16

# ---- writing


def immediate_text(operand: Operand, value: int) -> str:
    """An immediate as the assembler writes it."""
    if operand.style == "decimal":
        return f"#{value}"
    return f"#{'-' if value < 0 else ''}0x{abs(value):x}"


@lru_cache(maxsize=_CACHED)
def format_instruction(instruction: Instruction, operands: tuple[str | int, ...]) -> str:
    """One instruction as the assembler writes it; an immediate that is text already is taken as it is."""
    text = {
        o.name: immediate_text(o, v) if isinstance(v, int) else v
        for o, v in zip(instruction.operands, operands, strict=True)
    }
    return re.sub(r"\$(\w+)", lambda m: text[m[1]], instruction.syntax)


def format_bundle(bundle: Bundle) -> str:
    """One line: the instructions of all slots of the bundle's format, nops included."""
    return "; ".join([format_instruction(d.instruction, d.operands) for d in bundle.slots.values()])


# ---- reading

Value = str | int | Expression
"""Register, number, or an immediate that symbols have to be known for."""

Slots = dict[str, tuple[Instruction, tuple[Value, ...]]]

_TOKEN = re.compile(rf"#\s*[+-]?(?:{NAME}|\w+)(?:[+-](?:{NAME}|\w+))*|[\[\],]|[^\s\[\],]+")


class _Syntax(NamedTuple):
    """An instruction, the tokens of its syntax, and which of them are operands."""

    instruction: Instruction
    tokens: tuple[str, ...]
    operands: tuple[int, ...]


@cache
def _syntaxes() -> dict[str, tuple[_Syntax, ...]]:
    """Mnemonic -> its instructions."""
    found: dict[str, tuple[_Syntax, ...]] = {}
    for instruction in INSTRUCTIONS.values():
        tokens = tuple(re.findall(r"[\[\],]|[^\s\[\],]+", instruction.syntax))
        operands = tuple(i for i, token in enumerate(tokens) if token[0] == "$")
        syntax = _Syntax(instruction, tokens, operands)
        found[instruction.mnemonic] = (*found.get(instruction.mnemonic, ()), syntax)
    return found


def mnemonics() -> tuple[str, ...]:
    """All mnemonics, sorted."""
    return tuple(sorted(_syntaxes()))


def _fits_form(syntax: _Syntax, tokens: Sequence[str]) -> bool:
    """Whether the text has the tokens of the syntax, with registers and immediates where it has them."""
    if len(tokens) != len(syntax.tokens):
        return False
    for form, token in zip(syntax.tokens, tokens, strict=True):
        if form[0] != "$" and form != token:
            return False
    return all(
        (tokens[place][0] == "#") == (operand.kind == "immediate")
        for place, operand in zip(syntax.operands, syntax.instruction.operands, strict=True)
    )


def _value(token: str) -> Value:
    if token[0] != "#":
        return token
    if len(token) < LONGEST_NUMBER:
        with contextlib.suppress(ValueError):
            return int(token[1:], 0)
    expression = parse_expression(token[1:])
    return expression if expression.symbols else expression.constant


def with_numbers(instruction: Instruction, values: Sequence[Value], known: int | None = None) -> list[str | int]:
    """Operand values with every expression replaced: by `known`, or by a value that always fits."""
    return [
        value if not isinstance(value, Expression) else o.maximum if known is None else known
        for o, value in zip(instruction.operands, values, strict=True)
    ]


@lru_cache(maxsize=_CACHED)
def parse_instruction(text: str) -> tuple[Instruction, tuple[Value, ...]]:
    """The instruction and its operands.

    Raises AssemblyError saying what would fit, with the offset in `text` of the operand at fault.
    """
    found = list(_TOKEN.finditer(text))
    tokens = [match[0] for match in found]
    if not tokens:
        raise AssemblyError("an instruction is missing", remedy="an empty slot is written nopa, nopb, nops, nopx, ...")
    candidates = _syntaxes().get(tokens[0])
    if candidates is None:
        near = difflib.get_close_matches(tokens[0], mnemonics(), 3)
        error = AssemblyError(f"no instruction {tokens[0]}", remedy=f"there is {', '.join(near)}" if near else None)
        raise error.at(found[0].start())
    refused: list[tuple[int, AssemblyError]] = []
    for syntax in candidates:
        if not _fits_form(syntax, tokens):
            continue
        values: list[Value] = []
        for place in syntax.operands:
            try:
                values.append(_value(tokens[place]))
            except AssemblyError as error:
                raise error.at(found[place].start() + 1) from None
        try:
            encode_slot(syntax.instruction, with_numbers(syntax.instruction, values))
            return syntax.instruction, tuple(values)
        except EncodeError as error:
            place = operand_place(syntax, error.operand)
            message = refusal(syntax.instruction, error)
            refused.append((place, AssemblyError(message, remedy=error.remedy).at(found[place].start())))
    if refused:  # the form that went furthest is most likely the one that was meant
        raise max(refused, key=lambda one: one[0])[1]
    raise _wrong_form(text, found, candidates)


def refusal(instruction: Instruction, error: EncodeError) -> str:
    """What the encoder says against an operand, of the mnemonic that the text has."""
    return f"{instruction.mnemonic}: {error.message.removeprefix(f'{instruction.name}: ')}"


def operand_place(syntax: _Syntax, operand: str | None) -> int:
    """Which token of the syntax stands for an operand; 0, the mnemonic, when none does."""
    names = [o.name for o in syntax.instruction.operands]
    return syntax.operands[names.index(operand)] if operand in names else 0


def operand_offset(text: str, instruction: Instruction, operand: str | None) -> int:
    """Where in the text of an instruction one of its operands stands."""
    syntax = next(s for s in _syntaxes()[instruction.mnemonic] if s.instruction is instruction)
    return [match.start() for match in _TOKEN.finditer(text)][operand_place(syntax, operand)]


_MOST_FORMS = 4
_MOST_FILES = 3


def _operand_form(operand: Operand) -> str:
    """What an operand takes, in few letters: `rN`, `wlN/whN`, `#-64..63`, or the register class where it is mixed."""
    if operand.kind == "fixed_register":
        return operand.register or ""
    if operand.kind == "immediate":
        step = f"/{operand.step}" if operand.step > 1 else ""
        return f"#{operand.minimum}..{operand.maximum}{step}"
    registers = REGISTER_CLASSES[operand.register_class or ""].values
    files = list(dict.fromkeys(file(register) for register in registers))
    if len(files) > _MOST_FILES:
        return f"<{operand.register_class}>"
    return "/".join("rN:rN" if letters == "l" else f"{letters}N" for letters in files)


def form_text(instruction: Instruction) -> str:
    """How an instruction is written, with what each operand takes in its place."""
    forms = {operand.name: _operand_form(operand) for operand in instruction.operands}
    return re.sub(r"\$(\w+)", lambda m: forms[m[1]], instruction.syntax)


def _wrong_form(text: str, found: list[re.Match[str]], candidates: Sequence[_Syntax]) -> AssemblyError:
    """No syntax of the mnemonic has this form: points to the first token that the best of them does not have."""
    best = 0
    for syntax in candidates:
        kinds = dict(zip(syntax.operands, syntax.instruction.operands, strict=True))
        same = 0
        for place, (form, match) in enumerate(zip(syntax.tokens, found, strict=False)):
            immediate = place in kinds and kinds[place].kind == "immediate"
            if form != match[0] if place not in kinds else (match[0][0] == "#") != immediate or match[0] in "[],":
                break
            same += 1
        best = max(best, same)
    forms = " or ".join(dict.fromkeys(form_text(syntax.instruction) for syntax in candidates[:_MOST_FORMS]))
    forms += " ..." if len(candidates) > _MOST_FORMS else ""
    offset = found[best].start() if best < len(found) else found[-1].end()
    bare = best < len(found) and re.fullmatch(r"[+-]?\d\w*", found[best][0])
    hint = f"numbers are written #{found[best][0]}; " if bare else ""
    return AssemblyError(f"operands do not fit: {text.strip()}", remedy=f"{hint}it is written {forms}").at(offset)


_PART = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^";]|")*')


def _parts(text: str) -> list[str]:
    """What stands between semicolons; those in quotes do not count."""
    found, at = [], 0
    while True:
        match = _PART.match(text, at)
        assert match is not None
        found.append(match[0])
        if match.end() >= len(text):
            return found
        at = match.end() + 1


def parse_bundle(text: str) -> Slots:
    """Slot -> instruction and operands, as `encode_bundle` takes them; nops in the text are kept, they set the format.

    Raises AssemblyError when the text is no bundle or an operand does not fit.
    """
    slots: Slots = {}
    offset = 0
    for part in text.split(";") if '"' not in text else _parts(text):
        try:
            instruction, operands = parse_instruction(part)
        except AssemblyError as error:
            raise error.at(offset) from None
        if instruction.slot in slots:
            other = slots[instruction.slot][0].mnemonic
            message = f"{other} and {instruction.mnemonic} both need slot {instruction.slot}"
            raise AssemblyError(message).at(offset + len(part) - len(part.lstrip()))
        slots[instruction.slot] = instruction, operands
        offset += len(part) + 1
    if not bundle_sizes(slots):
        raise AssemblyError(f"slots {' '.join(slots)} cannot issue in one bundle", remedy=_together(slots))
    return slots


def _together(slots: Mapping[str, object]) -> str | None:
    return "slot lng takes the place of alu and mv" if "lng" in slots else None
