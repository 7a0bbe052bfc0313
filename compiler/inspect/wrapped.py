"""Data as lines for people: none longer than WIDTH where there are blanks to break at."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

WIDTH, SHORT = 110, 90
MOST_LINES = 12
"""Lines of a text that is shown; JSON output has all."""


def compact(value: Any) -> str:
    """A JSON value in one line: `heads 4, head_dim 64`, `[1, 4, 256, 64]`."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_inner(inner)}" for name, inner in value.items()) or "nothing"
    if isinstance(value, list):
        return f"[{', '.join(_inner(inner) for inner in value)}]"
    if value is None:
        return "none"
    if isinstance(value, str) and value and not any(c in value for c in ' ,[]{}"'):
        return value
    return json.dumps(value, ensure_ascii=False)


def _inner(value: Any) -> str:
    return f"{{{compact(value)}}}" if isinstance(value, dict) else compact(value)


def named(name: str, value: Any) -> Iterator[str]:
    """Lines of a named value, of any length: one where that is short, else its parts below the name."""
    if isinstance(value, str) and "\n" in value:
        yield f"{name}:"
        yield from _text(value)
        return
    line = f"{name}: {compact(value) if isinstance(value, (dict, list)) else json.dumps(value, ensure_ascii=False)}"
    if len(line) <= SHORT or not isinstance(value, (dict, list)) or not value:
        yield line
        return
    yield f"{name}:"
    if isinstance(value, dict):
        yield from (f"  {inner}" for inner in _members(value))
    elif any(isinstance(element, (dict, list)) for element in value):
        yield from (f"  - {compact(element)}" for element in value)
    else:
        yield f"  {', '.join(map(compact, value))}"


def _members(value: dict[str, Any]) -> Iterator[str]:
    """Values of a dictionary: those that are plain together, the others each by itself."""
    plain = {name: inner for name, inner in value.items() if not isinstance(inner, (dict, list)) or _is_short(inner)}
    if plain:
        yield compact(plain)
    for name, inner in value.items():
        if name not in plain:
            yield from named(name, inner)


def _is_short(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 4 and not any(isinstance(v, (dict, list)) for v in value)


def _text(value: str) -> Iterator[str]:
    lines = value.rstrip("\n").split("\n")
    yield from (f"  | {line}" for line in lines[:MOST_LINES])
    if len(lines) > MOST_LINES:
        yield f"  ... {len(lines) - MOST_LINES} more lines, which --json has"


def folded(line: str) -> list[str]:
    """A line broken at blanks, what follows further right; a line that is short stays as it is."""
    if len(line) <= WIDTH:
        return [line]
    lead = line[: len(line) - len(line.lstrip())]
    further = f"{lead}    "
    return textwrap.wrap(
        line.strip(),
        WIDTH,
        initial_indent=lead,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )
