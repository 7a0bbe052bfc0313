"""A report as text: summary first, then every section's differences."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from npuc.compiler.inspect.diff.report import ADDED, REMOVED, REORDERED, Difference, Report, Section
from npuc.compiler.inspect.diff.tiles import tiles_name
from npuc.compiler.plain_text import printable

_TILE = re.compile(r"(core|memtile|shim)\((\d+),(\d+)\)(\..*)")
_LONGEST_VALUE = 160
_MOST_LINES = 40
_MOST_SECTIONS = 24  # in the summary


def value_text(value: Any) -> str:
    """A value in one line, long ones cut."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}... ({len(text)} characters)"


def difference_text(difference: Difference) -> str:
    """One line: place, what happened, note."""
    note = f" ({difference.note})" if difference.note else ""
    before, after = value_text(difference.before), value_text(difference.after)
    if difference.change == REORDERED:
        return f"{difference.place}: reordered, {difference.before} -> {difference.after}{note}"
    if difference.change in (ADDED, REMOVED):
        what = (
            ""
            if difference.change == ADDED and difference.after is None
            else (f" {after if difference.change == ADDED else before}")
        )
        return f"{difference.place}: {difference.change}{what}{note}"
    if difference.before is None and difference.after is None and difference.note:
        return f"{difference.place}: {difference.note}"
    return f"{difference.place}: {before} -> {after}{note}"


def gathered(differences: Sequence[Difference]) -> list[Difference]:
    """The same difference in several tiles as one, its place naming them all; order is that of the first."""
    groups: dict[Any, list[tuple[int, int]]] = {}
    firsts: dict[Any, Difference] = {}
    for number, difference in enumerate(differences):
        match = _TILE.fullmatch(difference.place)
        key: Any = number
        if match is not None and not difference.lines and difference.change != REORDERED:
            key = (match[1], match[4], repr(replace(difference, place="")))
            groups.setdefault(key, []).append((int(match[2]), int(match[3])))
        firsts.setdefault(key, difference)
    result = []
    for key, difference in firsts.items():
        if key in groups:
            kind, rest, _ = key
            difference = replace(difference, place=tiles_name(kind, sorted(set(groups[key]))) + rest)
        result.append(difference)
    return result


def counted(number: int, what: str) -> str:
    """`1 difference`, `2 differences`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def summary(report: Report) -> Iterator[str]:
    """The lines that come first."""
    a, b = report.a, report.b
    ignored = f"{' and '.join(report.ignored)} ignored: {counted(report.left_out, 'difference')}"
    if report.identical and report.left_out:
        yield f"{a.file} and {b.file} are identical but for what is ignored ({ignored})"
        return
    if report.identical:
        yield f"{a.file} and {b.file} are identical: {a.format}, {a.bytes:,} bytes, sha256 {a.sha256[:16]}..."
        return
    changed = [section for section in report.sections if section.count]
    follow = sum(d.derived and not d.ignored for section in report.sections for d in section.differences)
    more = f"; {follow} more {'follows' if follow == 1 else 'follow'} from {'it' if report.count == 1 else 'them'}"
    sections = f"{len(changed)} of {counted(len(report.sections), 'section')}"
    more = (more if follow else "") + (f"; {ignored}" if report.left_out else "")
    yield f"{a.file} and {b.file} differ: {counted(report.count, 'difference')} in {sections}{more}"
    for name, side in (("a", a), ("b", b)):
        yield f"  {name}  {side.format}, {side.bytes:,} bytes, sha256 {side.sha256[:16]}..."
    shown = changed if len(changed) <= _MOST_SECTIONS else changed[: _MOST_SECTIONS - 1]
    width = max((len(section.name) for section in shown), default=0)
    for section in shown:
        status = "" if section.status == "changed" else f", {section.status}"
        note = f" ({section.note})" if section.note else ""
        yield f"  {section.name:<{width}}  {counted(section.count, 'difference')}{status}{note}"
    if len(shown) < len(changed):
        rest = sum(section.count for section in changed[len(shown) :])
        yield f"  ... {len(changed) - len(shown)} more sections, {counted(rest, 'difference')}"


def render(report: Report, limit: int = 20) -> str:
    """Summary, then at most `limit` differences of every section (0: all of them, and all their lines)."""
    lines = list(summary(report))
    for section in report.sections:
        if section.count:
            lines += ["", section.name, *_section(section, limit)]
    told = [(section, d) for section in report.sections for d in section.differences]
    if report.left_out:
        lines += ["", f"ignored: {'; '.join(f'{section.name}: {d.place}' for section, d in told if d.ignored)}"]
    follow = [f"{section.name}: {d.place}" for section, d in told if d.derived and not d.ignored]
    if follow and not report.identical:
        shown = follow if limit == 0 else follow[:limit]
        more = f", {len(follow) - len(shown):,} more" if len(shown) < len(follow) else ""
        lines += ["", f"follows from these: {'; '.join(shown)}{more}"]
    return "\n".join(map(printable, lines)) + "\n"


def _section(section: Section, limit: int) -> Iterator[str]:
    differences = gathered([difference for difference in section.differences if difference.counts])
    shown = differences if limit == 0 else differences[:limit]
    for difference in shown:
        yield f"  {difference_text(difference)}"
        lines = difference.lines if limit == 0 else difference.lines[:_MOST_LINES]
        yield from (f"    {line}" for line in lines)
        if len(lines) < len(difference.lines):
            yield f"    ... {len(difference.lines) - len(lines):,} more lines"
    if len(shown) < len(differences):
        yield f"  ... {len(differences) - len(shown):,} more (--limit 0 shows all)"
