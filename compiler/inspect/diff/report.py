"""What a comparison found, as plain data: a Report holds sections, a section its differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

CHANGED, ADDED, REMOVED, REORDERED = "changed", "added", "removed", "reordered"
IDENTICAL, DERIVED = "identical", "derived"


@dataclass(frozen=True)
class Difference:
    """One difference.

    place: what differs, by its full name, e.g. `core(0,2).DMA_BD3_5 Lock_Acq_Value` or `attention.scale`.
    change: 'changed', 'added', 'removed' or 'reordered'.  before, after: JSON values; None on the side without one.
    note: what a reader should know besides.  derived: it follows from other differences (a length, offset, checksum or
    hash that is right in both files).  lines: a text diff, each line beginning with ' ', '-', '+' or '@'.
    """

    place: str
    change: str = CHANGED
    before: Any = None
    after: Any = None
    note: str = ""
    derived: bool = False
    lines: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """place, change, before, after; note, derived and lines where they say something."""
        told: dict[str, Any] = {"place": self.place, "change": self.change, "before": self.before, "after": self.after}
        more = {"note": self.note, "derived": self.derived, "lines": list(self.lines)}
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
        """'identical', 'changed', 'added', 'removed', 'reordered', or 'derived' when all follows from elsewhere."""
        if self.given_status:
            return self.given_status
        own = [difference for difference in self.differences if not difference.derived]
        if not self.differences:
            return IDENTICAL
        if not own:
            return DERIVED
        return REORDERED if all(difference.change == REORDERED for difference in own) else CHANGED

    @property
    def count(self) -> int:
        """Differences that do not follow from others."""
        return sum(not difference.derived for difference in self.differences)

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
    """A whole comparison.  `identical` is about bytes: not a single one differs."""

    a: Side
    b: Side
    identical: bool
    sections: tuple[Section, ...]

    @property
    def count(self) -> int:
        """Differences that do not follow from others."""
        return sum(section.count for section in self.sections)

    def to_json(self) -> dict[str, Any]:
        """identical, differences (their number), a, b, sections."""
        sides = {name: vars(side) for name, side in (("a", self.a), ("b", self.b))}
        sections = [section.to_json() for section in self.sections]
        return {"identical": self.identical, "differences": self.count, **sides, "sections": sections}


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
    if any(section.count for section in sections):
        return tuple(sections)
    return tuple(
        replace(section, differences=tuple(replace(d, derived=False) for d in section.differences))
        for section in sections
    )
