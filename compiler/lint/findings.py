"""Findings: what was found, how bad it is, where, and what helps.  README.md explains every kind at length."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Kind:
    """severity: the usual one.  source: where the rule stands.  remedy: what helps."""

    severity: str
    source: str
    remedy: str


_HAZARDS = "facts/schedule/aie2_hazards.md section"
_TABLES = "compiler/target/aie2/itineraries.py"

KINDS: dict[str, Kind] = {
    "undefined-read": Kind("error", f"{_HAZARDS} 2", "write the register, and let it land before the read"),
    "early-read": Kind("note", f"{_HAZARDS} 2", "move the reader later where it means the new value"),
    "late-read": Kind("note", f"{_HAZARDS} 2", "move the writer later where the reader means the old value"),
    "landing-order": Kind("note", f"{_HAZARDS} 2", "issue the later writer after the earlier value has landed"),
    "late-argument": Kind("warning", f"{_HAZARDS} 2, 5", "let what is passed land before the other side reads it"),
    "double-landing": Kind("error", f"{_HAZARDS} 2", "move one of the two by a bundle"),
    "unit-conflict": Kind("error", f"{_TABLES}; {_HAZARDS} 4", "move one of the two by a bundle"),
    "subword-window": Kind("error", f"{_HAZARDS} 3", "keep 7 bundles between a sub-word store and the next access"),
    "misaligned-access": Kind("error", f"{_HAZARDS} 3", "align the data, or the pointer, to what is accessed"),
    "outside-memory": Kind("warning", "facts/platform/device_npu1.md", "let the pointer stay in 0x40000 to 0x7ffff"),
    "memory-order": Kind("warning", f"{_HAZARDS} 3", "put the second access further from the store"),
    "lock-distance": Kind("error", f"{_HAZARDS} 7", "keep the distance between locks, streams and memory accesses"),
    "delay-slot-branch": Kind("error", f"{_HAZARDS} 5", "move the second branch behind the 5 delay slots of the first"),
    "delay-slot-loop-register": Kind("error", f"{_HAZARDS} 5", "write LS, LE and LC outside delay slots"),
    "target-misaligned": Kind("error", f"{_HAZARDS} 5", "align the target to 16 bytes by widening earlier bundles"),
    "target-outside": Kind("error", f"{_HAZARDS} 5", "branch to an address inside the program"),
    "target-inside-bundle": Kind("error", f"{_HAZARDS} 5", "branch to the first byte of a bundle"),
    "return-misaligned": Kind("error", f"{_HAZARDS} 5", "align the end of the delay slots by widening bundles"),
    "runs-off-end": Kind("error", f"{_HAZARDS} 5", "end the program with a branch, or with `done` and an endless loop"),
    "undecodable": Kind(
        "error",
        "facts/isa/README.md",
        "repair the code, or branch elsewhere; other generations' code (AIE1, AIE2P) is not read",
    ),
    "loop-bounds-misaligned": Kind("error", f"{_HAZARDS} 6", "align LS and LE to 16 bytes by widening earlier bundles"),
    "loop-bounds": Kind("error", f"{_HAZARDS} 6", "let LS and LE be addresses of bundles of the program"),
    "loop-end-size": Kind("error", f"{_HAZARDS} 6", "widen the last bundle of the loop to 16 bytes"),
    "loop-setup": Kind("error", f"{_HAZARDS} 6", "write LS, LE and LC at least 7 bundles and 112 bytes before LE"),
    "loop-setup-bytes": Kind("note", f"{_HAZARDS} 6", "widen bundles: the open toolchain asks for 112 bytes to LE"),
    "loop-register-in-body": Kind("error", f"{_HAZARDS} 6", "write LS, LE and LC outside the loop: loops do not nest"),
    "loop-lock": Kind("note", f"{_HAZARDS} 6", "hardware loops with locks are rare: an ordinary loop is safe"),
    "loop-branch": Kind("error", f"{_HAZARDS} 6", "let the delay slots of the branch end before LE"),
    "loop-subword": Kind("error", f"{_HAZARDS} 6", "keep sub-word stores 7 bundles from the end of the loop"),
    "loop-count": Kind("warning", f"{_HAZARDS} 6", "branch around a loop that shall not run"),
    "indirect-target": Kind("note", f"{_HAZARDS} 5", "what lies behind it is taken for unknown"),
    "stack-overlap": Kind(
        "error", "facts/silicon/silicon.md section 12", "give the stack more room in front of buffers"
    ),
    "unpublished": Kind("warning", "compiler/target/aie2/isa_observed.py", "use the form of another slot: paddb [sp]"),
    "spare-encoding": Kind("note", "facts/isa/README.md", "encode the bundle again for the canonical form"),
}
"""Every kind of finding.  A finding can be milder than its kind's severity, and says why."""


@dataclass(frozen=True)
class Finding:
    """One finding: `address` is where it shows, `other` the second place it concerns, `path` the addresses of the
    bundles from `other` to `address` on the way on which it happens.  accessed: (first byte, byte behind the last) of
    what it says is accessed, all there may be; empty where that is not known."""

    kind: str
    severity: str
    address: int
    message: str
    other: int | None = None
    path: tuple[int, ...] = ()
    accessed: tuple[tuple[int, int], ...] = ()

    @property
    def remedy(self) -> str:
        return KINDS[self.kind].remedy


@dataclass
class Findings:
    """Findings as they come, each place and kind once."""

    found: dict[tuple[str, int, int | None, str], Finding] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        address: int,
        message: str,
        other: int | None = None,
        path: tuple[int, ...] = (),
        severity: str | None = None,
        accessed: tuple[tuple[int, int], ...] = (),
    ) -> None:
        key = (kind, address, other, message)
        if key not in self.found:
            level = severity or KINDS[kind].severity
            self.found[key] = Finding(kind, level, address, message, other, path, accessed)

    def ordered(self) -> tuple[Finding, ...]:
        """By severity, then address."""
        return in_order(self.found.values())


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By severity, then address."""
    return tuple(sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.address, f.kind, f.other or 0)))
