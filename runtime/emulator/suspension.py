"""Why a core stopped executing bundles and handed control back to the array.

A core runs ahead of the array's clock until it needs something the array owns. Between two suspensions it touches
only its own registers and its own data memory. Cycles are absolute array cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class LockRequest:
    """A lock instruction reached the lock unit and waits for the answer.

    cycle: the cycle of the request (the core stands still from here). number: 0..63 as core instructions number locks
    (0-15 south, 16-31 west, 32-47 north, 48-63 own; facts/platform/device_npu1.md). value: as in the instruction; an
    acquire takes a signed 7-bit value (negative: at least that many, otherwise exactly that many), a release adds it.
    acquire: True for acquire, False for release.
    """

    cycle: int
    number: int
    value: int
    acquire: bool


@dataclass(frozen=True)
class Done:
    """The core executed `done`; it stays so until it is reset. cycle: that of the done bundle."""

    cycle: int


@dataclass(frozen=True)
class Limit:
    """The core reached the limit it was given. cycle: the cycle at which its next bundle issues."""

    cycle: int


Suspension: TypeAlias = "LockRequest | Done | Limit"
