"""Literals that MLIR's library does not bear, and their place: long ones are refused before it sees them.

Its parser takes the square of an integer's digits and of a shape's dimensions.
"""

from __future__ import annotations

import re

from npuc.compiler.diagnostics import InputError, Place

MOST = 1000  # digits of an integer, dimensions of a shape
REMEDY = "nothing in attention is that long"

# Digits, and what else shapes are written with, become one byte, so that a long run is found at once.
_RUNS = bytes(ord("0") if byte in b"0123456789?x" else ord(" ") for byte in range(256))
_DECIMAL = re.compile(rb'(?<![\w".])[0-9]{%d}' % (MOST + 1))
_HEXADECIMAL = re.compile(rb'(?<![\w"])0x[0-9a-fA-F]{%d}' % (MOST + 1))
_SHAPE = re.compile(rb"(?:(?:[0-9]{1,20}|\?)x){%d}" % (MOST + 1))
_STRING_OR_COMMENT = re.compile(rb'"(?:[^"\\\n]|\\.)*"?|//[^\n]*')
_ESCAPE = re.compile(rb"\\([0-9A-Fa-f]{2})")


def refuse_long_literals(text: bytes, file: str) -> None:
    """Raises InputError at an integer of more than MOST digits or a shape of more than MOST dimensions."""
    patterns = [(_HEXADECIMAL, "an integer of more than {:,} digits")]
    if b"0" * MOST in text.translate(_RUNS):
        patterns += [
            (_DECIMAL, "an integer of more than {:,} digits"),
            (_SHAPE, "a shape of more than {:,} dimensions"),
        ]
    for pattern, what in patterns:
        for found in pattern.finditer(text):
            if not _in_string_or_comment(text, found.start()):
                raise InputError(what.format(MOST), place=place_at(text, found.start(), file), remedy=REMEDY)


def undecodable_string(text: bytes) -> int | None:
    """Where a string begins whose escapes make it other than UTF-8."""
    for found in _STRING_OR_COMMENT.finditer(text):
        if b"\\" not in found.group() or found.group().startswith(b"//"):
            continue
        try:
            _ESCAPE.sub(lambda m: bytes.fromhex(m[1].decode()), found.group()).decode()
        except UnicodeDecodeError:
            return found.start()
    return None


def place_at(text: bytes, offset: int, file: str) -> Place:
    """file:line:col of a byte; columns count bytes, as MLIR's do."""
    return Place(file, text.count(b"\n", 0, offset) + 1, offset - text.rfind(b"\n", 0, offset))


def _in_string_or_comment(text: bytes, offset: int) -> bool:
    """Neither goes on beyond its line."""
    start = text.rfind(b"\n", 0, offset) + 1
    end = text.find(b"\n", offset)
    line = text[start : len(text) if end < 0 else end]
    return any(m.start() < offset - start < m.end() for m in _STRING_OR_COMMENT.finditer(line))
