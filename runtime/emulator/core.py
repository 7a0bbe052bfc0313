"""A core of the array: interprets bundles with the exposed pipeline of AIE2, cycle by cycle.

Time inside a core is pipeline time: it stands still while the core is frozen (bank conflict, lock), so relative timing
is kept (facts/schedule/aie2_hazards.md). In each cycle

1. late readers and memory accesses of earlier bundles take place, then the bundle at the program counter issues;
   all of them see the registers as the previous cycle left them, with the bypasses of `register_file.py`;
2. stores of the cycle write memory, so a load in the same cycle sees the old bytes (hardware: undefined; strict mode
   reports it);
3. results that land in this cycle are written, visible from the next one on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from npuc.compiler.asm.codec import Bundle, DecodeError, decode_bundle
from npuc.compiler.target.aie2.schedule import DELAY_SLOTS
from npuc.runtime.emulator.actions import WHEEL, compile_action
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.register_file import LC, LE, LS, RegisterFile
from npuc.runtime.emulator.semantics import NUMPY, Effect
from npuc.runtime.emulator.semantics.multiply import SIGNS
from npuc.runtime.emulator.suspension import Done, Limit, LockRequest, Suspension

PROGRAM_BYTES = 16384
OWN_MEMORY = 0x70000
# The 64 KiB windows of the data address space, by address bits 16 and up (facts/platform/device_npu1.md).
_WINDOWS = {4: "south", 5: "west", 6: "north"}


@dataclass(frozen=True)
class Report:
    """What strict mode found: byte address of the bundle, array cycle, one line of text."""

    address: int
    cycle: int
    text: str


class _Issue(NamedTuple):
    """A bundle made ready: the address after it, the actions of its instructions, whether it multiplies."""

    following: int
    actions: tuple[Callable[[int], None], ...]
    multiplies: bool


def _multiplies(bundle: Bundle) -> bool:
    vector = bundle.slots.get("vec")
    return vector is not None and SIGNS.get(vector.instruction.mnemonic.removesuffix(".f"), (0, 0, 0))[1] != 0


class Core:
    """One core with its program memory and registers.

    program_memory: 16,384 bytes, read when a bundle first issues; call `program_changed` after writing to it.
    data_memory: the tile's own, seen by the program at 0x70000..0x7ffff. strict: collect `reports`.
    Counters: `bundles` issued, `mac_bundles` of them with a multiply-accumulate, `stall_memory` cycles lost to banks.
    """

    def __init__(self, program_memory: bytearray, data_memory: DataMemory, strict: bool = False,
                 name: str = "core") -> None:
        self.program_memory = program_memory
        self.data_memory = data_memory
        self.strict = strict
        self.name = name
        self.lanes = NUMPY
        self.registers = RegisterFile()
        self.reports: list[Report] = []
        self.late: list[list[Any]] = [[] for _ in range(WHEEL)]
        self.scalar_landings: list[list[Any]] = [[] for _ in range(WHEEL)]
        self.vector_landings: list[list[Any]] = [[] for _ in range(WHEEL)]
        self.bypass_landings: list[list[Any]] = [[] for _ in range(WHEEL)]
        self.defined_landings: list[list[Any]] = [[] for _ in range(WHEEL)]
        self.stores: list[Any] = []
        self.accesses: list[tuple[int, int]] = []
        self._issues: dict[int, _Issue] = {}
        self._bytes = data_memory.data
        self._reported: set[tuple[int, str]] = set()
        self.accessing = 0  # address of the bundle whose load takes place, for reports
        self.reset()

    # state

    def reset(self) -> None:
        """Registers zero, program counter 0, pipeline empty, counters zero; memories keep their bytes."""
        self.registers.reset()
        self.pc = 0
        self.cycle = 0
        self.bundles = self.mac_bundles = self.stall_memory = 0
        self.finished = False
        self._time = 0
        self._branch_delay = 0
        self._branch_target = 0
        self._lock: tuple[int, int, int] | None = None
        for wheel in (self.late, self.scalar_landings, self.vector_landings, self.bypass_landings,
                      self.defined_landings):
            for entries in wheel:
                entries.clear()
        self.stores.clear()
        self.accesses.clear()

    def program_changed(self) -> None:
        """Forgets decoded bundles; to be called after a write to program memory."""
        self._issues.clear()

    def report(self, address: int, text: str) -> None:
        """Notes a finding of strict mode, once per place and text."""
        if (address, text) not in self._reported:
            self._reported.add((address, text))
            self.reports.append(Report(address, self.cycle, text))

    # bundles

    def _decode(self, pc: int) -> Bundle:
        if not 0 <= pc < len(self.program_memory):
            raise EmulationError(f"program counter {pc:#x} is outside program memory")
        try:
            return decode_bundle(self.program_memory, pc)
        except DecodeError as error:
            code = bytes(self.program_memory[pc:pc + 16]).hex()
            raise EmulationError(f"no bundle decodes at {pc:#x} ({error.message}); bytes {code}") from None

    def _prepare(self, pc: int) -> _Issue:
        bundle = self._decode(pc)
        actions = (compile_action(self, each.instruction, each.operands, pc, (pc, position))
                   for position, each in enumerate(bundle.instructions))
        issue = _Issue(pc + bundle.size, tuple(each for each in actions if each), _multiplies(bundle))
        self._issues[pc] = issue
        return issue

    def return_address(self, pc: int) -> int:
        """The address of the bundle after the delay slots of a call at pc."""
        for _ in range(1 + DELAY_SLOTS):
            pc += self._decode(pc).size
        return pc

    # what actions ask of the core

    @staticmethod
    def effect_function(effect: Effect, operands: Mapping[str, Any]) -> Callable[..., Any]:
        """What computes the effect of an instruction with these operands."""
        return effect.function

    def branch(self, taken: int, target: int) -> None:
        """A control transfer issues."""
        if self._branch_delay and (taken or self.strict):
            raise EmulationError("a control transfer in the delay slots of another: its effect is not known")
        if taken:
            if target & 15:
                raise EmulationError(f"the target {target:#x} of a control transfer is not 16-byte aligned")
            self._branch_delay = DELAY_SLOTS + 1
            self._branch_target = target

    def request_lock(self, acquire: int, number: int, value: int, enabled: int) -> None:
        """A lock instruction issues; it meets the lock unit in stage 2 (facts/schedule/aie2_hazards.md section 7)."""
        if enabled:
            self._lock = (acquire, number, value)

    def finish(self) -> None:
        """`done` issues."""
        self.finished = True

    def check_defined(self, parts: tuple[str, ...], pc: int) -> None:
        """Strict: reports parts that are read and were never written."""
        unwritten = [part for part in parts if part not in self.registers.defined]
        if unwritten:
            self.report(pc, f"reads {' '.join(unwritten)}, never written")

    def _offset(self, address: int, size: int) -> int:
        """The offset in the own data memory of an aligned access."""
        offset = address - OWN_MEMORY
        if not 0 <= offset < 0x10000:
            window = _WINDOWS.get(address >> 16)
            raise EmulationError(
                f"access to {address:#x}: the data memory of the {window} neighbour is not modelled" if window else
                f"access to {address:#x}, which is no data memory")
        if offset & (size - 1):
            raise EmulationError(f"access to {size} bytes at {address:#x} is not aligned: what it does is not known")
        self.accesses.append((offset, size))
        return offset

    def _loaded(self, offset: int, size: int) -> None:
        written = getattr(self.data_memory, "written", None)
        if written is not None and not written[offset:offset + size].all():
            where = f"{size} bytes at {OWN_MEMORY + offset:#x}"
            self.report(self.accessing, f"loads {where}, memory never written")

    def load(self, address: int, size: int) -> np.ndarray:
        """A vector from data memory."""
        offset = self._offset(address, size)
        if self.strict:
            self._loaded(offset, size)
        return self._bytes[offset:offset + size].copy()

    def load_word(self, address: int, size: int) -> int:
        """1, 2 or 4 bytes from data memory as an unsigned number."""
        offset = self._offset(address, size)
        if self.strict:
            self._loaded(offset, size)
        return int.from_bytes(self._bytes[offset:offset + size].tobytes(), "little")

    def load_around(self, address: int, size: int) -> int:
        """The aligned word that holds 1 or 2 bytes, for a sub-word store."""
        if address & (size - 1):
            raise EmulationError(f"access to {size} bytes at {address:#x} is not aligned: what it does is not known")
        offset = self._offset(address & 0xFFFFC, 4)
        return int.from_bytes(self._bytes[offset:offset + 4].tobytes(), "little")

    @staticmethod
    def merge(word: int, address: int, size: int, value: int) -> int:
        """The word with the addressed 1 or 2 bytes replaced."""
        shift = 8 * (address & 3)
        mask = ((1 << 8 * size) - 1) << shift
        return (word & ~mask) | ((value << shift) & mask)

    def gather(self, addresses: list[int]) -> np.ndarray:
        """Four fetches of 8 bytes. What lies past the end of a 16-byte half is not known: zeros, strict reports it."""
        result = np.zeros(32, dtype=np.uint8)
        for lane, address in enumerate(addresses):
            start = address & 15
            offset = self._offset(address & 0xFFFF0, 16)
            piece = self._bytes[offset + start:offset + min(start + 8, 16)]
            if self.strict and start > 8:
                self.report(self.accessing, f"a gather at {address & 0xFFFFF:#x} reads past the end of a 16-byte half")
            result[8 * lane:8 * lane + piece.size] = piece
        return result

    # a cycle's end

    def _store(self) -> None:
        """Writes the stores of this cycle."""
        loads = list(self.accesses)
        for address, size, value, pc in self.stores:
            offset = self._offset(address, size)
            if self.strict:
                if any(first < offset + size and offset < first + count for first, count in loads):
                    self.report(pc, f"a load and this store meet at {address:#x} in one cycle")
                written = getattr(self.data_memory, "written", None)
                if written is not None:
                    written[offset:offset + size] = True
            if isinstance(value, int):
                self._bytes[offset:offset + size] = np.frombuffer((value & ((1 << 8 * size) - 1)).to_bytes(
                    size, "little"), dtype=np.uint8)
            else:
                self._bytes[offset:offset + size] = value
        self.stores.clear()

    def _bank_stall(self) -> int:
        """Cycles the core stands still: accesses of one cycle that want the same bank go one after the other.

        Physical bank of an address: 2 * ((address >> 14) & 3) + ((address >> 4) & 1); 256 bits take both of a pair
        (facts/schedule/aie2_timing_hw.md).
        """
        waiting = [1 << (2 * (offset >> 14)) << ((offset >> 4) & 1) if size <= 16 else 3 << (2 * (offset >> 14))
                   for offset, size in self.accesses]
        rounds = -1
        while waiting:
            taken, losers = 0, []
            for banks in waiting:
                if taken & banks:
                    losers.append(banks)
                taken |= banks if not taken & banks else 0
            waiting = losers
            rounds += 1
        return rounds

    def _land_defined(self, slot: int) -> None:
        landed: set[str] = set()
        for parts, pc in self.defined_landings[slot]:
            twice = landed.intersection(parts)
            if twice:
                self.report(pc, f"two writes of {' '.join(sorted(twice))} land in the same cycle")
            landed.update(parts)
        self.defined_landings[slot].clear()
        self.registers.defined.update(landed)

    def _end_cycle(self, slot: int) -> int:
        """Memory and registers at the end of a cycle; the stall cycles it costs."""
        if self.stores:
            self._store()
        stall = 0
        if self.accesses:
            if len(self.accesses) > 1:
                stall = self._bank_stall()
            self.accesses.clear()
        entries = self.scalar_landings[slot]
        if entries:
            scalar = self.registers.scalar
            for index, value in entries:
                scalar[index] = value
            entries.clear()
        for wheel in (self.vector_landings, self.bypass_landings):
            entries = wheel[slot]
            if entries:
                for place, value in entries:
                    place[...] = value
                entries.clear()
        if self.strict:
            self._land_defined(slot)
        return stall

    # running

    def run(self, cycle: int, limit: int) -> Suspension:
        """Executes bundles from array cycle `cycle` on until the core needs the array, or the limit is reached.

        Raises EmulationError, with the core, its cycle and program counter, for what cannot be executed.
        """
        if self.finished:
            return Done(self.cycle)
        self.cycle = cycle
        try:
            with np.errstate(all="ignore"):
                return self._run(limit)
        except EmulationError as error:
            if error.place is not None:
                raise
            raise EmulationError(error.message, place=f"{self.name}, bundle {self.pc:#x}, cycle {self.cycle}",
                                 details=error.details, remedy=error.remedy) from None

    def _run(self, limit: int) -> Suspension:
        step = self._step
        while self.cycle < limit:
            suspension = step()
            if suspension is not None:
                return suspension
        return Limit(self.cycle)

    def _step(self) -> LockRequest | Done | None:
        """One bundle; the suspension when it asks for one."""
        late, registers = self.late, self.registers.scalar
        pc, time = self.pc, self._time
        slot = time & (WHEEL - 1)
        if late[slot]:
            for stage, values in late[slot]:
                stage(time, *values)
            late[slot].clear()
        issue = self._issues.get(pc) or self._prepare(pc)
        for action in issue.actions:
            action(time)
        stall = self._end_cycle(slot)
        self.bundles += 1
        self.mac_bundles += issue.multiplies
        self._time = time + 1
        self.stall_memory += stall
        self.cycle += 1 + stall
        self.pc = issue.following
        if pc == registers[LE] and registers[LC] > 0:
            registers[LC] -= 1
            if registers[LC]:
                self.pc = registers[LS]
        if self._branch_delay:
            self._branch_delay -= 1
            if not self._branch_delay:
                self.pc = self._branch_target
        if self._lock:
            acquire, number, value = self._lock
            self._lock = None
            return LockRequest(self.cycle, number, value, bool(acquire))
        return self._drain() if self.finished else None

    def _drain(self) -> Done:
        """Lets what is under way at `done` reach memory and registers."""
        issued = self.cycle - 1
        for _ in range(WHEEL):
            slot = self._time & (WHEEL - 1)
            for stage, values in self.late[slot]:
                stage(self._time, *values)
            self.late[slot].clear()
            self._end_cycle(slot)
            self._time += 1
        self.cycle = issued
        return Done(issued)
