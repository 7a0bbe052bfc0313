"""What strict mode adds to a core: undefined bits go through the registers, and what they decide is reported.

Registers and memory hold bits that were never defined. They may be copied, saved, restored and computed with: the
result says which of its bits depend on them (`semantics/definedness.py`). A report is made where such a bit decides
something that cannot be taken back: an address, a branch, a hardware loop, a lock, a mode, a word that leaves by a
stream or to a register of the tile. Memory keeps them by byte; a DMA channel refuses to send one (`dma_send.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from npuc.compiler.target.aie2 import registers as target
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.register_file import LC, LE, LS, SCALAR_INDEX, TrackedFile, TrackedPlace
from npuc.runtime.emulator.semantics import NUMPY, Effect
from npuc.runtime.emulator.semantics.definedness import DefinedLanes, Origin, Partial, Undecided
from npuc.runtime.emulator.stack import growth

if TYPE_CHECKING:
    import numpy as np

DEFINED = DefinedLanes(NUMPY)
PART_WORD_WINDOW = 112
"""Bytes of a hardware loop up to which sub-word stores in its last bundle are lost: 107 of 109 at 96, at 112 none of 4
in one measurement and 16 of 20 in another (facts/schedule/aie2_hazards.md section 6)."""
_NAMES = {index: name for name, index in SCALAR_INDEX.items()}


@dataclass(frozen=True)
class Report:
    """What strict mode found: byte address of the bundle, array cycle, one line of text; undefined: bits that were
    never defined decide something."""

    address: int
    cycle: int
    text: str
    undefined: bool = False


def loses_part_words(start: int, end: int) -> bool:
    """Whether hardware loses sub-word stores in the last bundle of a hardware loop of these bytes."""
    return end - start <= PART_WORD_WINDOW


def _undefined_parts(register: str, undefined: np.ndarray) -> str:
    """The smallest parts of a vector register that have undefined bits."""
    parts = target.parts(register)
    size = undefined.size // len(parts)
    return " ".join(part for i, part in enumerate(parts) if undefined[i * size : (i + 1) * size].any())


def settled(value: Any, origin: Origin | None) -> Any:
    """A result without undefined bits as what it is; a Partial with the reason it lacks."""
    if isinstance(value, tuple):
        return tuple(settled(each, origin) for each in value)
    if isinstance(value, list):
        return [settled(each, origin) for each in value]
    if not isinstance(value, Partial):
        return value
    undefined = value.undefined
    if not (undefined if isinstance(undefined, int) else undefined.any()):
        return value.value
    value.origin = value.origin or origin
    return value


class StrictChecks:
    """Findings of one core; the parts of `Core` that only strict mode uses."""

    name: str
    cycle: int
    pc: int
    registers: TrackedFile
    stack: int  # sp in the cycle before
    origins_kept = True
    """Whether what has undefined bits without a known origin was never written."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self._reported: set[tuple[int, str]] = set()
        # What a stack that takes these bytes overwrites, in words; the array says it.
        self.overwritten: Callable[[int, int], str | None] = lambda first, end: None

    def report(self, address: int, text: str, undefined: bool = False) -> None:
        """Notes a finding of strict mode, once per place and text."""
        if (address, text) not in self._reported:
            self._reported.add((address, text))
            self.reports.append(Report(address, self.cycle, text, undefined))

    # reads

    def scalar(self, index: int, pc: int) -> Any:
        """A scalar register, read by the bundle at pc."""
        value = self.registers.get(index)
        if isinstance(value, Partial) and value.origin is None:
            value.origin = Origin(self.name, pc, f"reads {_NAMES[index]}, {self._why()}")
        return value

    def vector(self, place: TrackedPlace, register: str, pc: int) -> Any:
        """A vector register, read by the bundle at pc."""
        value = place.copy()
        if isinstance(value, Partial) and value.origin is None:
            parts = _undefined_parts(register, value.undefined)
            value.origin = Origin(self.name, pc, f"reads {parts}, {self._why()}")
        return value

    def _why(self) -> str:
        return "never written" if self.origins_kept else "undefined"

    # decisions

    def certain(self, value: Any, what: str, pc: int) -> Any:
        """The value, which decides `what` for the bundle at pc: reported where bits of it are undefined."""
        if not isinstance(value, Partial):
            return value
        if value.undefined if isinstance(value.undefined, int) else value.undefined.any():
            origin = value.origin
            if origin is None:
                self.report(pc, f"{what} depends on bits that were never defined", True)
            elif (origin.core, origin.address) == (self.name, pc):
                self.report(pc, f"{origin.text}: {what} depends on it", True)
            else:
                self.report(pc, f"{what} depends on what was never defined: {origin}", True)
        return value.value

    def certain_all(self, addresses: list[Any], pc: int) -> list[Any]:
        """The addresses of a gather."""
        return [self.certain(address, "the address of an access", pc) for address in addresses]

    def tracked_effect(self, effect: Effect, pc: int) -> Callable[..., Any]:
        """The effect on values with undefined bits; where one decides on a mode the value that is there does."""
        function = effect.function

        def compute(_: Any, *arguments: Any) -> Any:
            partial = [each for each in arguments if isinstance(each, Partial)]
            if not partial and not effect.unknown:
                return function(NUMPY, *arguments)
            if not partial:
                origin = Origin(self.name, pc, "gives bits that no fact sheet tells")
                return settled(function(DEFINED, *arguments), origin)
            try:
                return settled(function(DEFINED, *arguments), partial[0].origin)
            except Undecided as problem:
                value = Partial(problem.value.value, problem.value.undefined, problem.value.origin or partial[0].origin)
                self.certain(value, problem.what, pc)
                plain = [each.value if isinstance(each, Partial) else each for each in arguments]
                return function(DEFINED, *plain)

        return compute

    # writes

    def report_landings(self, entries: list[tuple[tuple[str, ...], int]]) -> None:
        """Results of one cycle: reported where two are for one register."""
        landed: set[str] = set()
        for parts, pc in entries:
            twice = landed.intersection(parts)
            if twice:
                self.report(pc, f"two writes of {' '.join(sorted(twice))} land in the same cycle")
            landed.update(parts)
        entries.clear()

    def land_scalars(self, entries: list[tuple[int, Any]]) -> None:
        """Results of one cycle reach the scalar registers."""
        for index, value in entries:
            if index == LE:
                value = self.certain(value, "where a hardware loop ends", self.pc)
            self.registers.set(index, value)
        entries.clear()

    def stack_moved(self, now: int) -> None:
        """sp has another value than in the cycle before."""
        first, end = growth(self.stack, now)
        self.stack = now
        text = self.overwritten(first, end) if end > first else None
        if text is not None:
            self.report(self.pc, text)

    def check_loop_end(self, pc: int, following: int, part_word: bool) -> None:
        """The last bundle of a hardware loop has issued; part_word: it stores less than a word."""
        count = self.certain(self.scalar(LC, pc), "how often a hardware loop runs", pc)
        if count > 1:
            start = self.certain(self.scalar(LS, pc), "where a hardware loop starts", pc)
            if part_word and loses_part_words(start, following):
                self.report(
                    pc,
                    f"a sub-word store in the last bundle of a hardware loop of {following - start} bytes is lost at "
                    "the jump back (facts/schedule/aie2_hazards.md section 6)",
                )

    # memory

    def stored(self, memory: DataMemory, offset: int, size: int, value: Any, pc: int) -> Any:
        """Marks the bytes of a store as defined or not; what is to be stored."""
        assert memory.written is not None
        if not isinstance(value, Partial):
            memory.written[offset : offset + size] = True
            return value
        undefined = value.undefined
        if isinstance(undefined, int):
            bits = [undefined >> 8 * i & 0xFF for i in range(size)]
        else:
            bits = undefined.tolist()
        for i, each in enumerate(bits):
            memory.written[offset + i] = not each
            if each:
                memory.origins[(offset + i) & ~3] = value.origin or Origin(self.name, pc, "stores undefined bits")
        return value.value
