"""Sums of numbers and symbols, as immediates, data and `.set` take them: `#loop+0x10`, `table-4`, `end-start`."""

from __future__ import annotations

import re
from typing import NamedTuple

from npuc.compiler.diagnostics import InputError
from npuc.compiler.plain_text import printable

NAME = r'[A-Za-z_.$][\w.$]*|"(?:[^"\\\n]|\\[^\n])+"'
"""A symbol's name as it is written; `named` gives the name itself."""
_TERM = re.compile(rf"\s*([+-]?)\s*(0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+(?![\w.$])|{NAME})\s*")


LONGEST_NAME = 4000  # bytes; ELF readers here take 4,095, and names of sections get that of their core
LONGEST_NUMBER = 80  # characters; more than 64 bits in binary


class AssemblyError(InputError):
    """Text that is no instruction, no bundle or no statement; `offset` counts characters from the start of the text."""

    offset = 0

    def at(self, offset: int) -> AssemblyError:
        """The same error, that many characters further right."""
        self.offset += offset
        return self


class Expression(NamedTuple):
    """constant + the sum of the symbols, each with its sign; `.` is the address of the statement."""

    constant: int
    symbols: tuple[tuple[int, str], ...]

    def __str__(self) -> str:
        text = "".join(("+" if sign > 0 else "-") + quoted(name) for sign, name in self.symbols).removeprefix("+")
        return f"{text}{self.constant:+d}" if self.constant and text else text or str(self.constant)


_PLAIN = re.compile(r"[A-Za-z_.$][\w.$]*", re.ASCII)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
LAST_CHARACTER = 0x10FFFF
_SURROGATES = 0xD800, 0xDFFF


def quoted(name: str) -> str:
    """A symbol's name as it is written: in quotes when it is no plain word, what cannot be shown as escapes."""
    return name if _PLAIN.fullmatch(name) else '"' + printable(re.sub(r'["\\]', r"\\\g<0>", name)) + '"'


def named(text: str) -> str:
    """The name that is written so, in quotes or without.  Raises AssemblyError for an escape that is none, or a name
    that no ELF file takes."""
    name = text if text[:1] != '"' else _ESCAPE.sub(_character, text[1:-1]) if "\\" in text else text[1:-1]
    if len(name) > LONGEST_NAME // 4 and len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
        raise AssemblyError(f"a name of {len(name):,} characters", remedy=f"it may have {LONGEST_NAME:,} bytes")
    return name


def _character(match: re.Match[str]) -> str:
    number = match[1] or match[2] or match[3]
    if number is None and match[4] in _ESCAPED:
        return _ESCAPED[match[4]]
    code = 0 if number is None else int(number, 16)
    if 0 < code < _SURROGATES[0] or _SURROGATES[1] < code <= LAST_CHARACTER:
        return chr(code)
    remedy = '\\" \\\\ \\n \\r \\t \\x41 \\u0041 \\U00000041'
    raise AssemblyError(f"{match[0]}: no character that a name may have", remedy=remedy)


def _named_at(term: str, offset: int) -> str:
    try:
        return named(term)
    except AssemblyError as error:
        raise error.at(offset) from None


def parse_expression(text: str) -> Expression:
    """The expression a text is, whole.  Raises AssemblyError with the offset of what is none."""
    constant, symbols, at = 0, [], 0
    while at < len(text) or not at:
        match = _TERM.match(text, at)
        if match is None or (at and not match[1]):
            raise AssemblyError(
                f"{text.strip() or 'nothing'} is no number or symbol", remedy="sums as 4, -0x10, loop+4, end-start"
            ).at(at)
        sign, term = -1 if match[1] == "-" else 1, match[2]
        if term[0].isdigit():
            if len(term) > LONGEST_NUMBER:
                raise AssemblyError(f"a number of {len(term)} digits").at(match.start(2))
            constant += sign * (int(term, 10) if term.isdecimal() else int(term, 0))
        else:
            symbols.append((sign, _named_at(term, match.start(2))))
        at = match.end()
    return Expression(constant, tuple(symbols))
