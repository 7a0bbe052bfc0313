"""Why a core stopped executing bundles and handed control back to the array.

A core runs ahead of the array's clock until it needs something the array owns. Between two suspensions it touches
only its own registers and its own data memory. Cycles are absolute array cycles; the core stands still from the cycle
of the suspension until it is run again. A request (`Request`) is answered with `Core.answer` before that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from npuc.runtime.emulator.semantics.definedness import PartialBytes


@dataclass(slots=True)
class LockRequest:
    """A lock instruction reached the lock unit and waits for it. No answer is needed.

    cycle: the cycle of the request. number: 0..63 as core instructions number locks (0-15 south, 16-31 west, 32-47
    north, 48-63 own; facts/platform/device_npu1.md). value: as in the instruction; an acquire takes a signed 7-bit
    value (negative: at least that many, otherwise exactly that many), a release adds it. acquire: True for acquire,
    False for release.
    """

    cycle: int
    number: int
    value: int
    acquire: bool


@dataclass(frozen=True)
class StreamRead:
    """A word is wanted from the core's stream input. Answer: (word, last, success) as `StreamAnswer`.

    blocking: the core waits for the word; otherwise it goes on without one (success False).
    """

    cycle: int
    blocking: bool


@dataclass(frozen=True)
class StreamWrite:
    """A word is offered to the core's stream output, `last` with TLAST. Answer: whether it was accepted.

    blocking: the core waits until it is.
    """

    cycle: int
    word: int
    last: bool
    blocking: bool


@dataclass(frozen=True)
class StreamAnswer:
    """What a stream read got. Without success, word and last are 0 and False."""

    word: int
    last: bool
    success: bool


@dataclass(frozen=True)
class CascadeRead:
    """512 bits are wanted from the cascade input. Answer: 64 bytes, in strict mode perhaps with undefined bits."""

    cycle: int


@dataclass(frozen=True)
class CascadeWrite:
    """512 bits (64 bytes) are offered to the cascade output. No answer is needed."""

    cycle: int
    data: bytes | PartialBytes


@dataclass(frozen=True)
class SharedAccess:
    """In the cycle named, the core touches what others may change: a neighbour's memory or its tile's registers.

    It must be run again exactly at that cycle, in the order of the tiles inside a cycle. No answer is needed.
    registers: whether it is registers.
    """

    cycle: int
    registers: bool


@dataclass(frozen=True)
class Done:
    """The core executed `done`; it stays so until it is reset. cycle: that of the done bundle."""

    cycle: int


@dataclass(frozen=True)
class Halt:
    """A breakpoint, or a halt from outside: the bundle at the program counter has not issued. cycle: when it would."""

    cycle: int


@dataclass(frozen=True)
class Limit:
    """The core reached the limit it was given. cycle: the cycle at which its next bundle issues."""

    cycle: int


Request: TypeAlias = "LockRequest | StreamRead | StreamWrite | CascadeRead | CascadeWrite"
Suspension: TypeAlias = "Request | SharedAccess | Done | Halt | Limit"
