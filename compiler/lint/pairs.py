"""What goes wrong between two bundles that issue a number of bundles apart, or inside one (distance 0).

All of it follows from the two bundles and the distance; what depends on the way between them is added in `hazards.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from npuc.compiler.lint.effects import LOCK_UNIT, PART_FIELD, SUBWORD_UNIT, UNIT_FIELD, Effects, Step, cycles
from npuc.compiler.target.aie2.instructions import Memory
from npuc.compiler.target.aie2.registers import file
from npuc.compiler.target.aie2.schedule import (
    STICKY_FLAGS,
    Access,
    Timing,
    Unit,
    memory_distance,
    read_after_write,
    write_after_read,
)

# A core may stand still for a lock from stage 2 and goes on by stage 8 (facts/schedule/aie2_hazards.md section 7).
LOCK_STALL, LOCK_RESUME = 2, 8
# The distances before a release are stated to be cautious.  Bundles by which compiled code that is public stays below
# them: 2 (st 2 before rel, st.s16 8), behind stores that convert 3 (vst.conv 3).
RELEASED_EARLY, RELEASED_EARLY_CONVERTED = 2, 3
STORE_STAGE = 5
STORE_SLOT = "st"


class Meeting(NamedTuple):
    """What happens when two bundles meet; `severity` None is that of the kind.

    same_address: it does only when the two access one address.  registers: it does unless a bundle in between gives a
    newer value of all of them.  older_pointer, newer_pointer: it does unless this register, by which that bundle
    accesses memory, leads to the core's own stack.
    """

    kind: str
    text: str
    severity: str | None = None
    same_address: bool = False
    registers: tuple[str, ...] = ()
    older_pointer: str | None = None
    newer_pointer: str | None = None


def _name(step: Step) -> str:
    return step.decoded.instruction.mnemonic


@lru_cache(maxsize=1 << 16)
def meetings(older: Effects, newer: Effects, distance: int) -> tuple[Meeting, ...]:
    """Errors and warnings between two bundles, `older` issued `distance` bundles before `newer`; 0: one bundle."""
    if distance >= older.reach and distance:
        return ()
    found: list[Meeting] = []
    units = distance * UNIT_FIELD
    if distance == 0:
        found += _within(newer)
    else:
        uses = older.uses >> units
        if uses & (newer.uses | newer.avoids) or (older.avoids >> units) & newer.uses:
            found += _units(older.steps, newer.steps, distance)
        if (older.landings >> distance * PART_FIELD) & newer.landings:
            found += _landings(older, newer, distance)
    if older.has_memory and newer.has_memory:
        found += _memory(older.steps, newer.steps, distance)
    if (older.has_lock and newer.has_memory) or (older.has_memory and newer.has_lock):
        found += _lock_distances(older.steps, newer.steps, distance)
    return tuple(dict.fromkeys(found))


def _within(bundle: Effects) -> list[Meeting]:
    """Conflicts between the instructions of one bundle."""
    found = _landings(bundle, bundle, 0)
    for i, step in enumerate(bundle.steps):
        for other in bundle.steps[:i]:
            found += _units((other,), (step,), 0)
    return found


# units


def _units(older: tuple[Step, ...], newer: tuple[Step, ...], distance: int) -> list[Meeting]:
    found = []
    for first in older:
        for second in newer:
            for a in first.timing.units:
                for b in second.timing.units:
                    if a.unit == b.unit and _collide(a, b, distance):
                        found.append(_unit_meeting(first, a, second, b, distance))
    return found


def _collide(a: Unit, b: Unit, distance: int) -> bool:
    if a.kind == b.kind and (a.kind == "avoid" or (a.shared_register and a.shared_register == b.shared_register)):
        return False
    return any(stage - distance in cycles(b) for stage in cycles(a))


def _apart(distance: int) -> str:
    return "in one bundle" if distance == 0 else f"{distance} bundle{'s' if distance > 1 else ''} apart"


def _unit_meeting(first: Step, a: Unit, second: Step, b: Unit, distance: int) -> Meeting:
    names = f"{_name(first)} and {_name(second)} {_apart(distance)}"
    if a.unit == LOCK_UNIT:
        return Meeting("lock-distance", f"{names} use the lock interface at once")
    if a.unit == SUBWORD_UNIT:
        return _subword_meeting(first, second, names)
    severity = None
    text = f"{names} need {a.unit.partition('.')[0]} in one cycle"
    if _seen_in_vendor_code(first, a, second, b):
        severity, text = "warning", f"{text}, by the published tables; vendor compilers do it"
    return Meeting("unit-conflict", text, severity)


def _subword_meeting(first: Step, second: Step, names: str) -> Meeting:
    """Loads of other words are found in the window in vendor code, stores and further sub-word stores are not."""
    text = f"{names}: the sub-word store is still under way"
    if second.timing.memory is not None and second.timing.memory.kind == "load":
        return Meeting("subword-window", text, "warning")
    return Meeting("subword-window", text)


def _seen_in_vendor_code(first: Step, a: Unit, second: Step, b: Unit) -> bool:
    """Kinds of collisions that occur in programs of vendor compilers, so they are no errors:

    * a write of an r and of an s register (6 programs of the 4x4 overlays),
    * a constant into an r register in the cycle in which a sub-word store reads its data (10 Riallto programs),
    * two reads of accumulators of which one is by the slot of stores, as `vsrs.s16.s32 wh9, cm2, s3; vmov wh9, amhl8`
      (the 1x4 and 5x4 overlays of 2023, and later ones),
    * the two halves of an accumulator shifted in one bundle: `vsrs.s16.s32 wl7, bml2, s0; vsrsm.s16.s32 wl3, bmh2, s0`
      (one overlay for speech).
    """
    slots = {first.decoded.instruction.slot, second.decoded.instruction.slot}
    port = a.unit.partition(".")[0]
    if port == "CM_RM_PORT":
        return STORE_SLOT in slots and len(slots) == 2
    if port == "UPPER_SRS":
        return slots == {STORE_SLOT, "mv"} and a.stage == b.stage
    if port == "RS_WM_PORT":
        one, two = _files_at(first, a.stage), _files_at(second, b.stage)
        return bool(one) and bool(two) and one.isdisjoint(two)
    return port == "R_WA_PORT" and first.is_subword_store != second.is_subword_store


def _files_at(step: Step, stage: int) -> set[str]:
    return {file(access.register) for access in step.timing.writes if access.stage == stage} & {"r", "s"}


# registers


class _Together(NamedTuple):
    """Two instructions, and the accesses of one register in which they meet."""

    first: Step
    second: Step
    accesses: list[tuple[Access, Access]]

    @property
    def registers(self) -> str:
        return " ".join(dict.fromkeys(access.register for access, _ in self.accesses))


_Side = Callable[[Timing], tuple[Access, ...]]
_writes: _Side = attrgetter("writes")
_reads: _Side = attrgetter("reads")


def _meet(
    older: Effects, of_older: _Side, newer: Effects, of_newer: _Side, when: Callable[[Access, Access], bool]
) -> Iterator[_Together]:
    """The instructions of two bundles with accesses of one register for which `when` holds."""
    for first in older.steps:
        for second in newer.steps:
            found = [
                (a, b)
                for a in of_older(first.timing)
                for b in of_newer(second.timing)
                if a.register == b.register and first is not second and when(a, b)
            ]
            if found:
                yield _Together(first, second, found)


def _landings(older: Effects, newer: Effects, distance: int) -> list[Meeting]:
    def at_once(a: Access, b: Access) -> bool:
        return a.stage - distance == b.stage and a.register not in STICKY_FLAGS

    return [
        Meeting("double-landing", f"{_names(both, distance)} both write {both.registers} in one cycle")
        for both in _meet(older, _writes, newer, _writes, at_once)
        if distance or older.steps.index(both.first) < newer.steps.index(both.second)
    ]


def _names(both: _Together, distance: int) -> str:
    return f"{_name(both.first)} and {_name(both.second)} {_apart(distance)}"


@lru_cache(maxsize=1 << 16)
def timing_notes(older: Effects, newer: Effects, distance: int) -> tuple[Meeting, ...]:
    """Reads of old values, late reads of new ones, and writes that land out of order."""
    if distance >= older.reach:
        return ()
    found: list[Meeting] = []
    pending = older.pending[distance]
    if pending & newer.early_reads or (newer.late_reads and pending):
        found += _early_reads(older, newer, distance)
    if older.late_reads:
        found += _late_reads(older, newer, distance)
    if pending & newer.written:
        found += _landing_order(older, newer, distance)
    return tuple(dict.fromkeys(found))


def _early_reads(older: Effects, newer: Effects, distance: int) -> list[Meeting]:
    found = []
    for both in _meet(older, _writes, newer, _reads, lambda w, r: needed(w, r) > distance):
        least = max(needed(write, read) for write, read in both.accesses)
        text = (
            f"{_name(both.second)} reads {both.registers} {_apart(distance)} from {_name(both.first)}, whose value is "
            f"there after {least}: it gets the old one"
        )
        found.append(Meeting("early-read", text, registers=tuple(both.registers.split())))
    return found


def needed(write: Access, read: Access) -> int:
    """Least distance from the writer to a reader of its value; very small when they have no register in common."""
    if write.register != read.register:
        return -99
    return read_after_write(write.stage, write.bypass, read.stage, read.bypass)


def _late_reads(older: Effects, newer: Effects, distance: int) -> list[Meeting]:
    def overwritten(read: Access, write: Access) -> bool:
        return write_after_read(read.stage, read.bypass, write.stage, write.bypass) > distance

    return [
        Meeting(
            "late-read",
            f"{_name(both.second)} writes {both.registers} before {_name(both.first)}, {_apart(distance)}, reads it",
        )
        for both in _meet(older, _reads, newer, _writes, overwritten)
    ]


def _landing_order(older: Effects, newer: Effects, distance: int) -> list[Meeting]:
    def overtaken(a: Access, b: Access) -> bool:
        return a.stage - distance > b.stage and a.register not in STICKY_FLAGS

    return [
        Meeting(
            "landing-order",
            f"{_name(both.first)} {_apart(distance)} earlier writes {both.registers} after {_name(both.second)} does",
        )
        for both in _meet(older, _writes, newer, _writes, overtaken)
    ]


# memory


def _memory(older: tuple[Step, ...], newer: tuple[Step, ...], distance: int) -> list[Meeting]:
    """Accesses of one address out of order; `hazards.py` tells whether it is one address."""
    found = []
    for first in older:
        for second in newer:
            a, b = first.timing.memory, second.timing.memory
            if first is second or a is None or b is None or a.bus or b.bus or a.kind == "load":
                continue
            least = memory_distance(a, b)
            if distance == 0 and a.stages[-1] == b.stages[0]:
                text = f"{_name(second)} and {_name(first)} access the same bytes in one cycle"
                found.append(Meeting("memory-order", text, None, True))
            elif distance and least is not None and distance < least:
                text = f"{_name(second)} {_apart(distance)} accesses what {_name(first)} stores: {least} are needed"
                found.append(Meeting("memory-order", text, None, True))
    return found


def before_lock(memory: Memory) -> int:
    """Least distance from a memory access to a lock, release or `done` (facts/schedule/aie2_hazards.md section 7)."""
    return memory.stages[-1] - LOCK_STALL + 1


def after_lock(memory: Memory) -> int:
    """Least distance from a lock to a memory access."""
    return LOCK_RESUME - memory.stages[0] + 1


def _lock_distances(older: tuple[Step, ...], newer: tuple[Step, ...], distance: int) -> list[Meeting]:
    found = []
    for first in older:
        for second in newer:
            least = _lock_distance(first, second)
            if first is not second and distance < least:
                text = f"{_name(first)} and {_name(second)} {_apart(distance)}: {least} are needed"
                severity = _lock_severity(first, second, least - distance)
                pointers = (first.pointer, None) if second.orders_memory else (None, second.pointer)
                found.append(Meeting("lock-distance", text, severity, False, (), *pointers))
    return found


def _lock_distance(first: Step, second: Step) -> int:
    if second.orders_memory and _is_shared_access(first):
        assert first.timing.memory is not None
        return before_lock(first.timing.memory)
    if first.is_lock and _is_shared_access(second):
        assert second.timing.memory is not None
        return after_lock(second.timing.memory)
    return 0


def _is_shared_access(step: Step) -> bool:
    """An access that a lock may guard: not one of the register bus, nor of the stack, which is the core's own."""
    memory = step.timing.memory
    return memory is not None and not memory.bus and not step.is_stack_access


def _lock_severity(first: Step, second: Step, missing: int) -> str | None:
    """A release must wait for the accesses before it, and accesses for the acquire before them.  Vendor code keeps the
    distances there, but for scalar loads, which read memory that no lock guards; the other two orders are the open
    toolchain's caution.  missing: bundles; before a release, as many as public compiled code does without are a
    warning."""
    if second.orders_memory:
        unguarded = _is_scalar_load(first) or missing <= _released_early(first)
        return "warning" if second.acquires or second.is_lock and unguarded else None
    return None if first.acquires and not _is_scalar_load(second) else "warning"


def _is_scalar_load(step: Step) -> bool:
    return not step.decoded.instruction.may_store and not _name(step).startswith("v")


def _released_early(access: Step) -> int:
    """By how many bundles compiled code releases a lock earlier behind an access."""
    memory = access.timing.memory
    if memory is None or memory.kind == "load":
        return 0
    converts = memory.kind == "store" and memory.stages[-1] > STORE_STAGE
    return RELEASED_EARLY_CONVERTED if converts else RELEASED_EARLY
