"""Sums of numbers and symbols, as immediates, data and `.set` take them: `#loop+0x10`, `table-4`, `end-start`."""

from __future__ import annotations

import re
from typing import NamedTuple

from npuc.compiler.diagnostics import InputError

NAME = r'[A-Za-z_.$][\w.$]*|"[^"\n]+"'
_TERM = re.compile(rf"\s*([+-]?)\s*(0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+(?![\w.$])|{NAME})\s*")


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


def quoted(name: str) -> str:
    """A symbol's name as it is written: in quotes when it is no plain word."""
    return name if _PLAIN.fullmatch(name) else '"' + re.sub(r'["\n;\\]', "?", name) + '"'


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
            symbols.append((sign, term.strip('"')))
        at = match.end()
    return Expression(constant, tuple(symbols))
