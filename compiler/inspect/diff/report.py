"""What a comparison found, as plain data: a Report holds sections, a section its differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

CHANGED, ADDED, REMOVED, REORDERED = "changed", "added", "removed", "reordered"
IDENTICAL, DERIVED, IGNORED = "identical", "derived", "ignored"


@dataclass(frozen=True)
class Difference:
    """One difference.

    place: what differs, by its full name, e.g. `core(0,2).DMA_BD3_5 Lock_Acq_Value` or `attention.scale`.
    change: 'changed', 'added', 'removed' or 'reordered'.  before, after: JSON values; None on the side without one.
    note: what a reader should know besides.  derived: it follows from other differences (a length, offset, checksum or
    hash that is right in both files).  ignored: it was asked not to count.  lines: a text diff, each line beginning
    with ' ', '-', '+' or '@'.
    """

    place: str
    change: str = CHANGED
    before: Any = None
    after: Any = None
    note: str = ""
    derived: bool = False
    lines: tuple[str, ...] = ()
    ignored: bool = False

    @property
    def counts(self) -> bool:
        """Whether it is one that neither follows from others nor is ignored."""
        return not (self.derived or self.ignored)

    def to_json(self) -> dict[str, Any]:
        """place, change, before, after; note, derived, lines and ignored where they say something."""
        told: dict[str, Any] = {"place": self.place, "change": self.change, "before": self.before, "after": self.after}
        more = {"note": self.note, "derived": self.derived, "lines": list(self.lines), "ignored": self.ignored}
        return {**told, **{name: value for name, value in more.items() if value}}


@dataclass(frozen=True)
class Section:
    """A named part of the files with its differences; `status` is given where it is not that of the differences.

    note: what the differences mean together.
    """

    name: str
    differences: tuple[Difference, ...] = ()
    given_status: str = ""
    note: str = ""

    @property
    def status(self) -> str:
        """'identical', 'changed', 'added', 'removed', 'reordered', 'derived' when all follows from elsewhere, or
        'ignored' when that or what is ignored is all there is."""
        if self.given_status:
            return self.given_status
        own = [difference for difference in self.differences if difference.counts]
        if not self.differences:
            return IDENTICAL
        if not own:
            return IGNORED if any(difference.ignored for difference in self.differences) else DERIVED
        return REORDERED if all(difference.change == REORDERED for difference in own) else CHANGED

    @property
    def count(self) -> int:
        """Differences that neither follow from others nor are ignored."""
        return sum(difference.counts for difference in self.differences)

    def to_json(self) -> dict[str, Any]:
        """name, status, differences; note where there is one."""
        told = {"name": self.name, "status": self.status, "differences": [d.to_json() for d in self.differences]}
        return {**told, **({"note": self.note} if self.note else {})}


@dataclass(frozen=True)
class Side:
    """One of the two files: what it is called, its format, size in bytes and SHA-256."""

    file: str
    format: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Report:
    """A whole comparison.  identical: no byte differs but for what is ignored.  ignored: the kinds that were to be."""

    a: Side
    b: Side
    identical: bool
    sections: tuple[Section, ...]
    ignored: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Differences that neither follow from others nor are ignored."""
        return sum(section.count for section in self.sections)

    @property
    def left_out(self) -> int:
        """Differences that are ignored."""
        return sum(difference.ignored for section in self.sections for difference in section.differences)

    def to_json(self) -> dict[str, Any]:
        """identical, differences (their number), ignored (what was to be, and how many were), a, b, sections."""
        sides = {name: vars(side) for name, side in (("a", self.a), ("b", self.b))}
        sections = [section.to_json() for section in self.sections]
        ignored = {"kinds": list(self.ignored), "differences": self.left_out}
        told = {"identical": self.identical, "differences": self.count, "ignored": ignored}
        return {**told, **sides, "sections": sections}


def only_in(first: bool, place: str, what: Any, note: str = "") -> Difference:
    """`place` is in the first file only ('removed') or in the second only ('added')."""
    if first:
        return Difference(place, REMOVED, before=what, note=note)
    return Difference(place, ADDED, after=what, note=note)


def derived(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """The differences, marked as following from others."""
    return tuple(replace(difference, derived=True) for difference in differences)


def with_a_cause(sections: Sequence[Section]) -> tuple[Section, ...]:
    """The sections as they are; but where every difference is derived, none follows from another: all count."""
    if any(difference.ignored or difference.counts for section in sections for difference in section.differences):
        return tuple(sections)
    return tuple(
        replace(section, differences=tuple(replace(d, derived=False) for d in section.differences))
        for section in sections
    )
