"""Programs for the linter's tests, written bundle by bundle with every size explicit.

One bundle a line: `label: {size} instruction; instruction`.  Bundles have 16 bytes unless a size is given, so
everything is aligned unless a test wants it otherwise; `#label` and `#label+8` are addresses; `nop 3` stands for three
empty bundles.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from npuc.compiler.asm.codec import encode_bundle
from npuc.compiler.asm.programs import CoreProgram
from npuc.compiler.asm.text import parse_bundle
from npuc.compiler.lint.findings import Finding
from npuc.compiler.lint.lint import lint_program

_LINE = re.compile(r"(?P<labels>(?:\w+:\s*)*)(?:\{(?P<size>\d+)\})?\s*(?P<text>.*)")


@dataclass(frozen=True)
class Assembled:
    """Code, and the addresses of its labels."""

    code: bytes
    labels: dict[str, int]


def assemble(text: str) -> Assembled:
    """The program a text stands for, at address 0."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = _pass(lines, {})
    return _pass(lines, first.labels)


def _pass(lines: list[str], known: dict[str, int]) -> Assembled:
    code, labels = bytearray(), {}
    for line in lines:
        match = _LINE.fullmatch(line)
        assert match is not None, line
        for label in re.findall(r"\w+", match["labels"]):
            labels[label] = len(code)
        for bundle in _bundles(match["text"], known):
            code += encode_bundle(parse_bundle(bundle) if bundle else {}, int(match["size"] or 16))
    return Assembled(bytes(code), labels)


def _bundles(text: str, known: dict[str, int]) -> list[str]:
    empty = re.fullmatch(r"nop(?: (\d+))?", text)
    if empty:
        return [""] * int(empty[1] or 1)
    if not text:
        return []
    return [re.sub(r"#([A-Za-z]\w*)(\+\d+)?", lambda m: f"#{known.get(m[1], 0) + int(m[2] or 0):#x}", text)]


def lint(code: bytes, notes: bool = True, called: bool = False) -> tuple[Finding, ...]:
    """Findings of a core program that starts at 0."""
    return lint_program(CoreProgram(None, None, 0, code), notes, called).findings
