"""What one bundle does, stage by stage, in a form in which two bundles are compared with a few operations on integers.

Sets of (stage, unit) and (stage, register part) are integers, one field a stage: shifting an older bundle's set down by
`distance` fields puts it beside that of a bundle issued `distance` later.  Everything comes from the tables of
`target/aie2`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from npuc.compiler.asm.codec import Bundle, Decoded
from npuc.compiler.target.aie2.registers import CONTROL, REGISTERS, STATUS, TILE_COUNTER, parts
from npuc.compiler.target.aie2.schedule import STICKY_FLAGS, Access, Timing, Unit, operand_registers, timing

LOOP_REGISTERS = ("ls", "le", "lc")
SUBWORD_UNIT = "PART_WORD_STORE"
LOCK_UNIT = "SEMAPHORE"

_PARTS = tuple(sorted({part for register in REGISTERS for part in parts(register)}))
PART_BIT = {part: index for index, part in enumerate(_PARTS)}
PART_FIELD = len(_PARTS)
UNIT_FIELD = 64
_unit_bits: dict[str, int] = {}

ALL_PARTS = (1 << PART_FIELD) - 1


def mask_of(registers: tuple[str, ...]) -> int:
    """The set of parts of these registers."""
    return sum(1 << PART_BIT[part] for register in registers for part in parts(register))


DEFINED_AT_RESET = mask_of((*CONTROL, *STATUS, *LOOP_REGISTERS, "CORE_ID", TILE_COUNTER))
"""What has a known value when a core leaves reset (facts/semantics/convert.md section 1)."""


def _unit_bit(unit: str) -> int:
    bit = _unit_bits.setdefault(unit, len(_unit_bits))
    assert bit < UNIT_FIELD
    return bit


class Step(NamedTuple):
    """One instruction of a bundle with its timing."""

    decoded: Decoded
    timing: Timing

    @property
    def is_lock(self) -> bool:
        return self.decoded.instruction.side_effect == "lock"

    @property
    def orders_memory(self) -> bool:
        """Acquires, releases or ends the program: memory accesses keep clear of it."""
        return self.decoded.instruction.side_effect in ("lock", "done")

    @property
    def acquires(self) -> bool:
        return self.is_lock and self.decoded.instruction.mnemonic.startswith("acq")

    @property
    def is_stack_access(self) -> bool:
        return "[sp," in self.decoded.instruction.syntax

    @property
    def pointer(self) -> str | None:
        """The register that an access to memory goes through; None for none, and where there are several."""
        if self.is_stack_access:
            return "sp"
        operands = zip(self.decoded.instruction.operands, self.decoded.operands, strict=True)
        found = [str(value) for operand, value in operands if operand.register_class == "eP"]
        return found[0] if len(found) == 1 else None

    @property
    def is_subword_store(self) -> bool:
        """Reads a word, and writes it back some stages later (facts/schedule/aie2_hazards.md section 3)."""
        return self.timing.memory is not None and self.timing.memory.kind == "load+store"

    @property
    def is_copy(self) -> bool:
        """Passes a register's value on as it is: what is undefined stays undefined, and no harm is done yet."""
        instruction, operands = self.decoded.instruction, self.decoded.operands
        if instruction.itinerary.startswith(("II_MOV", "II_VMOV")):
            return instruction.side_effect is None and all(isinstance(value, str) for value in operands)
        return instruction.itinerary in ("II_ADD", "II_ADD_NC") and operands[-1] == 0

    @property
    def is_insert(self) -> bool:
        """Replaces a lane of a vector: code builds vectors this way, and begins with one that nothing has written."""
        return self.decoded.instruction.itinerary.startswith(("II_VINSERT", "II_VPUSH"))

    @property
    def is_permute(self) -> bool:
        """Takes lanes from two vectors, by a mode that may leave one of them out."""
        return self.decoded.instruction.itinerary.startswith(("II_VSHUFFLE", "II_VSHIFT", "II_VSEL"))

    def sources(self, write: Access) -> tuple[Access, ...]:
        """The reads without which a written value is undefined: what a copy copies, part by part where their numbers
        agree, and what an instruction updates in place.  Nothing for other results, which count as defined."""
        reads, writes = self.timing.reads, self.timing.writes
        if self.is_copy:
            at = writes.index(write)
            return reads[at : at + 1] if len(reads) == len(writes) else reads
        if self.is_insert:
            return ()
        return tuple(read for read in reads if read.register == write.register)


@dataclass(frozen=True, eq=False)
class Effects:
    """What the instructions of a bundle do; `reach`: from this distance on nothing of it meets a later bundle."""

    steps: tuple[Step, ...]
    branch: Step | None
    uses: int
    avoids: int
    landings: int
    reach: int

    @cached_property
    def has_memory(self) -> bool:
        return any(step.timing.memory is not None and not step.timing.memory.bus for step in self.steps)

    @cached_property
    def has_lock(self) -> bool:
        return any(step.orders_memory for step in self.steps)

    @cached_property
    def early_reads(self) -> int:
        """Parts read in stage 1."""
        return _mask(access for step in self.steps for access in step.timing.reads if access.stage == 1)

    @cached_property
    def late_reads(self) -> tuple[Access, ...]:
        return tuple(access for step in self.steps for access in step.timing.reads if access.stage > 1)

    @cached_property
    def written(self) -> int:
        """Parts written in any stage."""
        return _mask(access for step in self.steps for access in step.timing.writes)

    @cached_property
    def pending(self) -> tuple[int, ...]:
        """By distance: the parts whose new value is not there yet for a reader in stage 1 without bypass."""
        writes = [access for step in self.steps for access in step.timing.writes]
        return tuple(_mask(a for a in writes if a.stage > distance) for distance in range(self.reach + 1))

    @cached_property
    def arrivals(self) -> tuple[int, ...]:
        """By distance: the parts whose new value is there for the first time, and is defined whatever was read."""
        writes = [write for step in self.steps for write in step.timing.writes if not step.sources(write)]
        return tuple(_mask(a for a in writes if a.stage == distance) for distance in range(self.reach + 1))

    @cached_property
    def passing(self) -> tuple[tuple[Access, tuple[Access, ...]], ...]:
        """The other writes, with the reads that decide whether they are defined."""
        found = ((write, step.sources(write)) for step in self.steps for write in step.timing.writes)
        return tuple((write, sources) for write, sources in found if sources)

    @cached_property
    def loop_registers(self) -> tuple[str, ...]:
        """The loop registers it writes."""
        return tuple(a.register for s in self.steps for a in s.timing.writes if a.register in LOOP_REGISTERS)


def _mask(accesses: Iterable[Access]) -> int:
    found = 0
    for access in accesses:
        found |= 1 << PART_BIT[access.register]
    return found


def cycles(unit: Unit) -> range:
    """Stages in which a unit is taken."""
    return range(unit.stage, unit.stage + unit.length)


def _unit_set(steps: tuple[Step, ...], kind: str) -> int:
    found = 0
    for step in steps:
        for unit in step.timing.units:
            if unit.kind == kind:
                for stage in cycles(unit):
                    found |= 1 << ((stage - 1) * UNIT_FIELD + _unit_bit(unit.unit))
    return found


def _reach(steps: tuple[Step, ...]) -> int:
    found = [0]
    for step in steps:
        found += [access.stage for access in step.timing.writes]
        found += [access.stage - 1 for access in step.timing.reads]
        found += [unit.stage + unit.length - 1 for unit in step.timing.units]
        if step.timing.memory is not None:
            found.append(step.timing.memory.stages[-1])
        if step.orders_memory:
            found.append(step.timing.last_effect)
    return max(found)


@lru_cache(maxsize=1 << 15)
def _effects(instructions: tuple[Decoded, ...]) -> Effects:
    steps = tuple(Step(d, timing(d.instruction, operand_registers(d.instruction, d.operands))) for d in instructions)
    landings = 0
    for step in steps:
        for access in step.timing.writes:
            if access.register not in STICKY_FLAGS:
                landings |= 1 << ((access.stage - 1) * PART_FIELD + PART_BIT[access.register])
    branch = next((step for step in steps if step.decoded.instruction.has_delay_slots), None)
    return Effects(steps, branch, _unit_set(steps, "use"), _unit_set(steps, "avoid"), landings, _reach(steps))


def effects(bundle: Bundle) -> Effects:
    """What a bundle does.  Equal bundles share one object."""
    return _effects(bundle.instructions)
