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
from typing import Any, NamedTuple

import numpy as np

from npuc.compiler.asm.codec import Bundle, DecodeError, decode_bundle
from npuc.compiler.target.aie2.schedule import DELAY_SLOTS
from npuc.runtime.apart import check
from npuc.runtime.emulator.actions import WHEEL, compile_action
from npuc.runtime.emulator.core_memory import OWN_MEMORY, MemoryAccess
from npuc.runtime.emulator.core_strict import DEFINED, Report, StrictChecks
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.register_file import LC, LE, LS, SP, RegisterFile, TrackedFile
from npuc.runtime.emulator.semantics import NUMPY, Doubt, Effect
from npuc.runtime.emulator.semantics.definedness import Origin, Partial, PartialBytes
from npuc.runtime.emulator.semantics.multiply import SIGNS
from npuc.runtime.emulator.suspension import (
    CascadeRead,
    CascadeWrite,
    Done,
    Halt,
    Limit,
    LockRequest,
    Request,
    SharedAccess,
    StreamAnswer,
    StreamRead,
    StreamWrite,
    Suspension,
)

PROGRAM_BYTES = 16384
_LOOK_UP = 1023  # every so many bundles, less one, the core looks whether it is to stop
_TRANSFER_IN_SLOTS = (
    "a control transfer in the delay slots of another: facts/schedule/aie2_hazards.md section 5 does "
    "not say what it does"
)
__all__ = ["OWN_MEMORY", "PROGRAM_BYTES", "Core", "Report"]


class _Issue(NamedTuple):
    """A bundle made ready: the address after it, the actions of its instructions, whether it multiplies, whether it
    stores less than a word."""

    following: int
    actions: tuple[Callable[[int], None], ...]
    multiplies: bool
    part_word: bool


def multiplies(bundle: Bundle) -> bool:
    vector = bundle.slots.get("vec")
    return vector is not None and SIGNS.get(vector.instruction.mnemonic.removesuffix(".f"), (0, 0, 0))[1] != 0


def stores_part_of_a_word(bundle: Bundle) -> bool:
    memory = [each.instruction.memory for each in bundle.instructions]
    return any(each is not None and each.kind == "load+store" for each in memory)


class Core(StrictChecks, MemoryAccess):
    """One core with its program memory and registers.

    program_memory: 16,384 bytes, read when a bundle first issues; call `program_changed` after writing to it.
    data_memory: the tile's own, seen by the program at 0x70000..0x7ffff. strict: collect `reports`. place: column and
    row of the tile, for packet headers and CORE_ID (row in bits 0-4, column in bits 16-22: UG1583, Core ID).
    Counters: `bundles` issued, `mac_bundles` of them with a multiply-accumulate, `stall_memory` cycles lost to banks.
    """

    def __init__(
        self,
        program_memory: bytearray,
        data_memory: DataMemory,
        strict: bool = False,
        name: str = "core",
        place: tuple[int, int] = (0, 0),
    ) -> None:
        StrictChecks.__init__(self)
        MemoryAccess.__init__(self, data_memory, strict, name)
        self.program_memory = program_memory
        self.lanes: Any = DEFINED if strict else NUMPY
        self.place = place
        self.registers: Any = TrackedFile() if strict else RegisterFile()
        self.events: list[tuple[int, int]] = []  # cycle and number of event instructions, for the array to take
        self.stops: frozenset[int] = frozenset()  # addresses of bundles before which the core halts
        self.halt_next = False  # halt before whatever bundle is next
        self.watched: frozenset[int] = frozenset()
        self.passing: Callable[[int, int], None] | None = None
        self.leaving = False  # the core goes on from the bundle at which it halted
        self.timer_origin = 0  # the array cycle at which the core module's timer was 0
        self.late: list[list[Any]] = [[] for _ in range(WHEEL)]
        self.scalar_landings: list[list[Any]] = [[] for _ in range(WHEEL)]
        self.vector_landings: list[list[Any]] = [[] for _ in range(WHEEL)]
        self.bypass_landings: list[list[Any]] = [[] for _ in range(WHEEL)]
        self.write_landings: list[list[Any]] = [[] for _ in range(WHEEL)]  # strict: which registers, by which bundle
        self.requests: list[Callable[[int], Request]] = []  # made in this cycle, oldest first; each is given its cycle
        self._issues: dict[int, _Issue] = {}
        self.warnings: list[Report] = []  # for the array to take
        self._warned: set[str] = set()
        self.reset()

    # state

    def reset(self) -> None:
        """Registers zero, program counter 0, pipeline empty, counters zero; memories keep their bytes."""
        self.registers.reset()
        self.registers.write("CORE_ID", self.place[0] << 16 | self.place[1])
        self.pc = 0
        self.cycle = 0
        self.bundles = self.mac_bundles = self.stall_memory = 0
        self.finished = False
        self.stack = 0  # strict: sp in the cycle before
        self._time = 0
        self._branch_delay = 0
        self._branch_target = 0
        self._slots_end = -1  # strict: the pipeline time of the last delay slot of the last transfer, taken or not
        self._drained = False
        self._admitted = -1  # the pipeline time whose shared accesses may take place
        self.requests.clear()
        self.shared.clear()
        self.events.clear()
        # What the last requests got, taken by the instructions in the cycle after.
        self.stream = StreamAnswer(0, False, False)
        self.accepted = True
        self.cascade: Any = np.zeros(64, dtype=np.uint8)
        for wheel in (
            self.late,
            self.scalar_landings,
            self.vector_landings,
            self.bypass_landings,
            self.write_landings,
        ):
            for entries in wheel:
                entries.clear()
        self.stores.clear()
        self.accesses.clear()

    def program_changed(self) -> None:
        """Forgets decoded bundles; to be called after a write to program memory."""
        self._issues.clear()

    def warn(self, address: int, kind: str, text: str) -> None:
        """Notes what the machine survives in the bundle at that address, the first of each kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            self.warnings.append(Report(address, self.cycle, text))

    def watch(self, addresses: frozenset[int], passing: Callable[[int, int], None] | None) -> None:
        """From now on `passing(cycle, address)` is called, once at least, when a bundle at one of them issues."""
        self.watched, self.passing = addresses, passing

    # bundles

    def _decode(self, pc: int) -> Bundle:
        if not 0 <= pc < len(self.program_memory):
            raise EmulationError(f"program counter {pc:#x} is outside program memory")
        try:
            return decode_bundle(self.program_memory, pc)
        except DecodeError as error:
            code = bytes(self.program_memory[pc : pc + 16]).hex()
            raise EmulationError(f"no bundle decodes at {pc:#x} ({error.message}); bytes {code}") from None

    def _prepare(self, pc: int) -> _Issue:
        bundle = self._decode(pc)
        actions = (
            compile_action(self, each.instruction, each.operands, pc, (pc, position))
            for position, each in enumerate(bundle.instructions)
        )
        made = tuple(each for each in actions if each)
        issue = _Issue(pc + bundle.size, made, multiplies(bundle), stores_part_of_a_word(bundle))
        self._issues[pc] = issue
        return issue

    def return_address(self, pc: int) -> int:
        """The address of the bundle after the delay slots of a call at pc."""
        for _ in range(1 + DELAY_SLOTS):
            pc += self._decode(pc).size
        return pc

    # what actions ask of the core

    def effect_function(self, effect: Effect, operands: Mapping[str, Any], pc: int) -> Callable[..., Any]:
        """What computes the effect of an instruction with these operands, in the bundle at pc."""
        return self.tracked_effect(effect, pc) if self.strict else effect.function

    def doubt(self, doubtful: Any, what: Doubt, pc: int) -> None:
        """Whether the facts leave open what the instruction of the bundle at pc gives: an error or a warning."""
        if isinstance(doubtful, Partial):
            doubtful = doubtful.value & ~doubtful.undefined
        if not doubtful:
            return
        if what.refused:
            raise EmulationError(what.text)
        if self.strict:
            self.report(pc, what.text)
        else:
            self.warn(pc, what.text, what.text)

    def branch(self, taken: Any, target: Any, pc: int) -> None:
        """A control transfer issues."""
        if self.strict:
            if self._time <= self._slots_end:
                self.report(pc, _TRANSFER_IN_SLOTS)
            self._slots_end = self._time + DELAY_SLOTS
            taken = self.certain(taken, "whether a branch is taken", pc)
            target = self.certain(target, "the target of a branch", pc) if taken else 0
        if self._branch_delay and taken:
            raise EmulationError(_TRANSFER_IN_SLOTS)
        if taken:
            if target & 15:
                raise EmulationError(f"the target {target:#x} of a control transfer is not 16-byte aligned")
            self._branch_delay = DELAY_SLOTS + 1
            self._branch_target = target

    def request_lock(self, acquire: int, number: Any, value: Any, enabled: Any, pc: int) -> None:
        """A lock instruction issues; it meets the lock unit in stage 2 (facts/schedule/aie2_hazards.md section 7)."""
        if self.strict:
            enabled = self.certain(enabled, "whether a lock is used", pc)
            if enabled:
                number = self.certain(number, "which lock is used", pc)
                value = self.certain(value, "the value of a lock", pc)
        if enabled:
            self.requests.append(lambda cycle: LockRequest(cycle, number, value, bool(acquire)))

    def request_stream_read(self, blocking: bool) -> None:
        """A stream read issues; the word is there in stage 2 (assumed; it lands in stage 7)."""
        self.requests.append(lambda cycle: StreamRead(cycle, blocking))

    def polled_word(self, pc: int) -> Any:
        """The word of a stream read that does not wait: 0 where there was none (assumed)."""
        if self.strict and not self.stream.success:
            origin = Origin(self.name, pc, "reads a stream without a word")
            return Partial(self.stream.word, 0xFFFFFFFF, origin)
        return self.stream.word

    def request_stream_write(self, word: Any, last: Any, blocking: int, pc: int) -> None:
        """A stream write issues; it meets the port in stage 2 (facts/schedule/aie2_hazards.md section 7)."""
        if self.strict:
            word = self.certain(word, "a word for the stream", pc)
            last = self.certain(last, "whether a word for the stream is the last", pc)
        self.requests.append(lambda cycle: StreamWrite(cycle, word, bool(last), bool(blocking)))

    def request_cascade_read(self, enabled: Any, pc: int) -> None:
        """A cascade read is in stage 5, where it looks at crSCDEn; the data are there in stage 6 (assumed)."""
        if self.strict:
            enabled = self.certain(enabled, "crSCDEn of a cascade read", pc)
        if enabled != 1:
            raise EmulationError(
                f"a cascade read while crSCDEn is {enabled}: what it gives is not in facts/semantics",
                remedy="set crSCDEn to 1 first",
            )
        self.requests.append(CascadeRead)

    def request_cascade_write(self, data: Any, enabled: Any, pc: int) -> None:
        """A cascade write issues; it meets the link in stage 2 (assumed)."""
        if self.strict:
            enabled = self.certain(enabled, "crMCDEn of a cascade write", pc)
        if enabled != 1:
            raise EmulationError(
                f"a cascade write while crMCDEn is {enabled}: what it does is not in facts/semantics",
                remedy="set crMCDEn to 1 first",
            )
        content = (
            PartialBytes(data.value.tobytes(), data.undefined.tobytes(), data.origin)
            if isinstance(data, Partial)
            else data.tobytes()
        )
        self.requests.append(lambda cycle: CascadeWrite(cycle, content))

    def answer(self, got: StreamAnswer | bool | bytes | PartialBytes | None) -> None:
        """What the last request got, see `suspension`; to be called before the core runs on."""
        if isinstance(got, StreamAnswer):
            self.stream = got
        elif isinstance(got, bool):
            self.accepted = got
        elif isinstance(got, PartialBytes):
            value, undefined = (np.frombuffer(each, dtype=np.uint8) for each in got[:2])
            self.cascade = Partial(value, undefined, got.origin)
        elif got is not None:
            self.cascade = np.frombuffer(got, dtype=np.uint8)

    def raise_event(self, number: int) -> None:
        """An `event` instruction issues."""
        self.events.append((self.cycle, number))

    def finish(self) -> None:
        """`done` issues."""
        self.finished = True

    # a cycle's end

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
        if self.strict:
            self.report_landings(self.write_landings[slot])
            self.land_scalars(entries)
        elif entries:
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
        if self.strict and self.registers.scalar[SP] != self.stack:
            self.stack_moved(self.registers.scalar[SP])
        return stall

    # running

    runs_long = False
    """Whether the last run was long enough for the next one to be worth a thread."""

    def run_ahead(self, cycle: int, limit: int) -> None:
        """Says that `run` will be called with these arguments, if nothing comes in between: a core may start on it."""

    def run(self, cycle: int, limit: int) -> Suspension:
        """Executes bundles from array cycle `cycle` on until the core needs the array, or the limit is reached.

        Raises EmulationError, with the core, its cycle and program counter, for what cannot be executed.
        """
        if self._drained:
            return Done(self.cycle)
        self.cycle = cycle
        if self.requests:
            return self.requests.pop(0)(cycle)
        try:
            with np.errstate(all="ignore"):
                return self._run_halting(limit) if self.stops or self.halt_next else self._run(limit)
        except EmulationError as error:
            raise self._placed(error) from None

    def _placed(self, error: EmulationError) -> EmulationError:
        """The error, with its place."""
        if error.place is not None:
            return error
        return EmulationError(
            error.message,
            place=f"{self.name}, bundle {self.pc:#x}, cycle {self.cycle}",
            details=error.details,
            remedy=error.remedy,
        )

    def _run(self, limit: int) -> Suspension:
        if self.finished:
            return self._drain()
        step = self._step
        while self.cycle < limit:
            suspension = step()
            if suspension is not None:
                return suspension
            if not self.bundles & _LOOK_UP:
                check()
        return Limit(self.cycle)

    def _run_halting(self, limit: int) -> Suspension:
        """As _run, a bundle at a time, stopping where the core is to halt."""
        if self.registers and self.finished:
            return self._drain()
        while self.cycle < limit:
            if not self.leaving and (self.halt_next or self.pc in self.stops):
                return Halt(self.cycle)
            bundles = self.bundles
            suspension = self._step()
            self.leaving = self.leaving and self.bundles == bundles
            if suspension is not None:
                return suspension
        return Limit(self.cycle)

    def _step(self) -> Suspension | None:
        """One bundle; the suspension when it asks for one, before or after it."""
        late, registers = self.late, self.registers.scalar
        pc, time = self.pc, self._time
        if self.shared and time in self.shared:
            if self._admitted != time:
                self._admitted = time
                return SharedAccess(self.cycle, self.shared[time])
            del self.shared[time]
        if pc in self.watched and self.passing is not None:
            self.passing(self.cycle, pc)
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
        if pc == registers[LE]:
            if self.strict:
                self.check_loop_end(pc, issue.following, issue.part_word)
            if registers[LC] > 0:
                registers[LC] -= 1
                if registers[LC]:
                    self.pc = registers[LS]
        if self._branch_delay:
            self._branch_delay -= 1
            if not self._branch_delay:
                self.pc = self._branch_target
        if self.requests:
            return self.requests.pop(0)(self.cycle)
        return self._drain() if self.finished else None

    def _drain(self) -> Done:
        """Lets what is under way at `done` reach memory and registers, at once."""
        issued = self.cycle - 1
        self._drained = True
        for _ in range(WHEEL):
            slot = self._time & (WHEEL - 1)
            for stage, values in self.late[slot]:
                stage(self._time, *values)
            self.late[slot].clear()
            self._end_cycle(slot)
            self._time += 1
        if self.requests:
            raise EmulationError("a cascade read is under way at done: facts/schedule does not say what becomes of it")
        self.cycle = issued
        return Done(issued)
