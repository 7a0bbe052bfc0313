"""The code blocks of Markdown pages, and what is needed to run them.

A fence's words say what it is: `console` has commands behind `$ ` and what they print below (`...` stands for anything,
within a line or for lines; `; exit N` at a command's end is the exit code it must have), `python` is run with the names
of the page's earlier ones (`requires=MODULE` skips it where that is not there), `mlir` and `asm` with `title="FILE"`
are files. Others are text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.M | re.S)
EXIT = re.compile(r"; exit (\d+)$")


@dataclass(frozen=True)
class Block:
    """kind: the fence's first word. line: of the fence in its page. title, requires: of its other words, or ''."""

    kind: str
    text: str
    line: int
    title: str
    requires: str


@dataclass(frozen=True)
class Command:
    """words: without `$ `. expected: the lines below it, joined. code: the exit code it must have."""

    words: tuple[str, ...]
    expected: str
    code: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in FENCE.finditer(text):
        options = dict(word.split("=", 1) for word in shlex.split(match[2]) if "=" in word)
        line = text.count("\n", 0, match.start()) + 1
        yield Block(match[1], match[3], line, options.get("title", ""), options.get("requires", ""))


def commands(block: Block) -> list[Command]:
    """Those of a console block."""
    found: list[Command] = []
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        line, _, expected = part.partition("\n")
        match = EXIT.search(line)
        words = shlex.split(line[: match.start()] if match else line)
        found.append(Command(tuple(words), expected.rstrip("\n"), int(match[1]) if match else 0))
    return found


def agrees(expected: str, printed: str) -> bool:
    """Whether what was printed is what a page says; nothing is said where a page shows nothing."""
    if not expected:
        return True
    lines = expected.split("\n")
    pattern = ""
    for index, line in enumerate(lines):
        if line == "...":
            pattern += r"(?:[^\n]*\n)*"
        else:
            pattern += "[^\n]*".join(re.escape(piece) for piece in line.split("...")) + r"\n"
            if index == len(lines) - 1:
                pattern += r"\Z"
    return re.match(pattern, printed.rstrip("\n") + "\n") is not None
