"""Findings: what was looked at, what is there, what shows it, and what would help."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Way = Literal["amdxdna", "xrt"]

BOTH: tuple[Way, ...] = ("amdxdna", "xrt")
"""The ways to an NPU: the driver's own interface, and XRT's Python module (which needs the driver too)."""


@dataclass(frozen=True)
class Finding:
    """name: the subject. ok: whether it is as needed. finding: what is there. remedy: what would help.

    evidence: the lines and files that show it. blocks: the ways to the NPU that do not work for it; a finding that is
    not ok and blocks none is a warning.
    """

    name: str
    ok: bool
    finding: str
    remedy: str | None = None
    evidence: tuple[str, ...] = ()
    blocks: tuple[Way, ...] = ()

    @property
    def severity(self) -> str:
        return "ok" if self.ok else "blocking" if self.blocks else "warning"


def good(name: str, finding: str, *evidence: str) -> Finding:
    return Finding(name, True, finding, evidence=evidence)


def blocking(
    name: str, finding: str, remedy: str, evidence: Iterable[str] = (), blocks: tuple[Way, ...] = BOTH
) -> Finding:
    return Finding(name, False, finding, remedy, tuple(evidence), blocks)


def warning(name: str, finding: str, remedy: str, evidence: Iterable[str] = ()) -> Finding:
    return Finding(name, False, finding, remedy, tuple(evidence))
