"""A core that runs native code: blocks that are translated on demand, the interpreter for what remains.

State is either the interpreter's (registers, wheels) or that of native code (the state buffer and a shape); each is
made from the other where they meet. Vector registers lie in the state buffer always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from npuc.runtime.apart import check
from npuc.runtime.emulator.actions import WHEEL
from npuc.runtime.emulator.core import Core
from npuc.runtime.emulator.core_strict import settled
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.native import ahead, layout
from npuc.runtime.emulator.native.blocks import INTERPRET, LIMIT, LOCK, WRONG, Exit
from npuc.runtime.emulator.native.ir import Untranslatable
from npuc.runtime.emulator.native.lanes import UNKNOWN
from npuc.runtime.emulator.native.program import Program, program_of
from npuc.runtime.emulator.native.shape import UNKNOWN_LOOP, Loop, Shape
from npuc.runtime.emulator.native.state import StateBuffer
from npuc.runtime.emulator.native.strict import CHUNK, Met
from npuc.runtime.emulator.register_file import LC, LE, LS, SCALAR_INDEX, SP, TrackedPlace
from npuc.runtime.emulator.semantics import WARNINGS
from npuc.runtime.emulator.semantics.definedness import Origin, Partial
from npuc.runtime.emulator.suspension import Limit, LockRequest, Suspension

PATIENCE, AFTER_LIMIT = 16, 64
"""Bundles that are interpreted from a place without translated code on before it is translated; the second where a
cycle limit stopped the core, which is a place like any other: the next block is near."""
INTERPRETED = 1 << 62
"""As patience: no block fits before the limit."""
SAMPLE, SHORTEST, PAUSES = 64, 100, (64, 2048)
"""When of SAMPLE calls in a row, which ran fewer than SHORTEST bundles each on average, most had to change between the
two forms of state, as those of a core that works in a neighbour's memory, that costs more than native code gains: some
calls are interpreted. Calls that end at lock requests do not change the form. PAUSES: how many calls, the first time
and, twice as many each time it is so again, at most: while code is still being translated it is so for a short time."""
_CYCLE, _LIMIT, _BUNDLES, _MAC_BUNDLES, _EXIT, _TIMER_ORIGIN, _LOCK_ACQUIRE, _LOCK_NUMBER, _LOCK_VALUE = (
    place // 8
    for place in (
        layout.CYCLE,
        layout.LIMIT,
        layout.BUNDLES,
        layout.MAC_BUNDLES,
        layout.EXIT,
        layout.TIMER_ORIGIN,
        layout.LOCK_ACQUIRE,
        layout.LOCK_NUMBER,
        layout.LOCK_VALUE,
    )
)
"""Where native code has them, among the words of the state buffer."""
_CARRY = SCALAR_INDEX["srCarry"]
_MASK = (1 << 64) - 1
_FILES = (layout.PLAIN, layout.BYPASSED)
_NO_STACK = (1 << 20, 0)


def _partial(value: Any) -> bool:
    """Whether there is a Partial in it."""
    if isinstance(value, (tuple, list)):
        return any(map(_partial, value))
    return isinstance(value, Partial)


class NativeCore(Core):
    """A core like `Core`, with the same results, cycles and counters, in native code where it can."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._buffer = StateBuffer()
        self._state, self._words, self._scalars = self._buffer.bytes, self._buffer.words, self._buffer.scalars
        self._words[layout.UNWARNED // 8 :][: len(WARNINGS)] = -1
        self._shape: Shape | None = None  # of the state, while it is native code's
        self._next_block: Any = None
        self._program: Program | None = None
        self._calls = self._counted = self._pause = self._changes = 0
        self._next_pause = PAUSES[0]
        self._limited = False  # the last run ended at its limit
        self._ahead: ahead.Ahead | None = None
        self.taken_over = 0  # runs that another thread had made before their turn
        self.runs_long = False
        self.native_bundles = 0  # of all bundles since the core was made, those that native code executed
        self._met: list[Met] = []  # strict: where the present bundle found undefined bits
        self._stack_seen = _NO_STACK
        super().__init__(*arguments, **options)
        if self.strict and self.data_memory.written is None:
            self.data_memory.written = np.ones(self.data_memory.size, dtype=bool)
        self._memory = int(self.data_memory.data.ctypes.data)

    @property
    def refused(self) -> Counter[str]:
        """Why bundles of the present program were interpreted, and how often each."""
        return self._program.refused if self._program is not None else Counter()

    # strict: what is told of the interpreted bundles

    def scalar(self, index: int, pc: int) -> Any:
        value = super().scalar(index, pc)
        if isinstance(value, Partial):
            self._met.append(("scalars", index))
        return value

    def vector(self, place: TrackedPlace, register: str, pc: int) -> Any:
        value = super().vector(place, register, pc)
        if isinstance(value, Partial):
            chunks = np.flatnonzero(value.undefined.reshape(-1, CHUNK).any(axis=1)) + place.offset // CHUNK
            self._met += [("chunks", int(each)) for each in chunks]
        return value

    def _content(self, memory: DataMemory, offset: int, size: int, reader: Origin) -> Any:
        value = super()._content(memory, offset, size, reader)
        if isinstance(value, Partial):
            self._met.append(("loads", reader.address))
        return value

    def stack_moved(self, now: int) -> None:
        before = self.stack
        super().stack_moved(now)
        low, high = self._stack_seen
        joins = low <= now and before <= high
        self._stack_seen = (min(low, before), max(high, now)) if joins else (min(before, now), max(before, now))

    def _stepped(self) -> Suspension | None:
        """An interpreted bundle."""
        suspension = self._step()
        if self._met:
            if self._program is not None and self._program.meet(self._met):
                self.origins_kept = self.data_memory.origins_kept = False
            self._met.clear()
        return suspension

    # the two forms of the state

    @property
    def registers(self) -> Any:
        """The register file, as the interpreter keeps it."""
        if self._shape is not None:
            self._to_interpreter()
        return self._registers

    @registers.setter
    def registers(self, file: Any) -> None:
        size = file.plain.size
        for name, base in (("plain", layout.PLAIN), ("bypassed", layout.BYPASSED)):
            place = self._state[base : base + size]
            place[:] = getattr(file, name)
            setattr(file, name, place)
        if self.strict:
            file.undefined = tuple(self._state[layout.UNDEFINED + base :][:size] for base in _FILES)
        self._registers = file

    def reset(self) -> None:
        self._shape = self._next_block = self._ahead = None
        super().reset()

    def warn(self, address: int, kind: str, text: str) -> None:
        super().warn(address, kind, text)
        self._words[layout.UNWARNED // 8 + WARNINGS.index(kind)] = 0

    def watch(self, addresses: frozenset[int], passing: Callable[[int, int], None] | None) -> None:
        super().watch(addresses, passing)
        if self._shape is not None:
            self._to_interpreter()
        self._program = None

    def program_changed(self) -> None:
        if self._shape is not None:
            self._to_interpreter()
        self._program = None
        super().program_changed()

    def _to_interpreter(self) -> None:
        shape, state = self._shape, self._state
        assert shape is not None
        self._changes += 1
        self._shape = self._next_block = None
        file = self._registers
        file.scalar[:] = self._scalars.tolist()
        if self.strict:
            self._undefined_from_native(shape)
        if file.scalar[_CARRY] == UNKNOWN:
            file.scalar[_CARRY] = None
        self._branch_delay = shape.delay
        self._branch_target = int(self._words[layout.TARGET // 8]) if shape.target is None else shape.target
        unsigned = state.view(np.uint64)
        arrays: dict[tuple[Any, ...], np.ndarray] = {}

        def value(spec: tuple[Any, ...]) -> Any:
            if spec[0] == "c":
                return spec[1]
            if spec[0] == "s":
                return int(unsigned[spec[1] // 8])
            if spec[0] == "l":
                return [value(each) for each in spec[1]]
            if spec[0] == "p":
                return settled(Partial(value(spec[1]), value(spec[2])), None)
            if spec not in arrays:
                arrays[spec] = state[spec[1] : spec[1] + spec[2]].copy()
            return arrays[spec]

        for delay in range(WHEEL):
            slot = (self._time + delay) & (WHEEL - 1)
            for wheel in (self.late, self.scalar_landings, self.vector_landings, self.bypass_landings):
                wheel[slot].clear()
            for origin, stage, values in shape.late[delay]:
                self.late[slot].append((self._stage(origin, stage), tuple(map(value, values))))
            for index, spec in shape.scalar[delay]:
                landing = value(spec)
                self.scalar_landings[slot].append((index, None if index == _CARRY and landing == UNKNOWN else landing))
            for wheel, entries in ((self.vector_landings, shape.vector), (self.bypass_landings, shape.bypass)):
                for offset, size, spec in entries[delay]:
                    wheel[slot].append((self._place_at(offset, size), value(spec)))
            self.write_landings[slot][:] = shape.writes[delay]

    def _place_at(self, offset: int, size: int) -> Any:
        """The vector register at an offset of the state buffer."""
        if not self.strict:
            return self._state[offset : offset + size]
        number = int(offset >= layout.BYPASSED)
        return TrackedPlace(self._registers, number, offset - _FILES[number], size)

    def _undefined_from_native(self, shape: Shape) -> None:
        """Which bits of the scalars are undefined, and what strict mode keeps beside registers."""
        file, first = self._registers, layout.UNDEFINED_SCALARS // 8
        file.undefined_scalar[:] = self._words[first : first + layout.SCALAR_COUNT].tolist()
        self._slots_end = self._time + shape.slots - 1
        self.stack = file.scalar[SP]

    def _undefined_to_native(self) -> None:
        first = layout.UNDEFINED_SCALARS // 8
        self._words[first : first + layout.SCALAR_COUNT] = self._registers.undefined_scalar
        written = self.data_memory.written
        assert written is not None
        self._words[layout.WRITTEN // 8] = int(written.ctypes.data)

    def _stage(self, origin: tuple[int, int], name: str) -> Any:
        issue = self._issues.get(origin[0]) or self._prepare(origin[0])
        for action in issue.actions:
            if action.__globals__["origin"] == origin:
                return action.__globals__[name]
        raise AssertionError(f"no instruction at {origin}")

    def _present_shape(self) -> tuple[Shape, list[Any]]:
        """The shape of the interpreter's state, and the values in the order of their slots."""
        order: dict[int, tuple[int, Any]] = {}

        def described(value: Any) -> tuple[Any, ...]:
            if value is None:
                return ("c", None)
            if isinstance(value, list):
                return ("l", tuple(map(described, value)))
            if isinstance(value, Partial):
                return ("p", described(value.value), described(value.undefined))
            key = id(value) if isinstance(value, np.ndarray) else -1 - len(order)
            number, _ = order.setdefault(key, (len(order), value))
            if number >= layout.UNDER_WAY_SLOTS:
                raise Untranslatable("more results under way than there is room for")
            slot = layout.UNDER_WAY + layout.SLOT * number
            return ("v", slot, value.size) if isinstance(value, np.ndarray) else ("s", slot)

        turn = [(self._time + delay) & (WHEEL - 1) for delay in range(WHEEL)]
        late = tuple(
            tuple(
                (stage.__globals__["origin"], stage.__name__, tuple(map(described, values)))
                for stage, values in self.late[slot]
            )
            for slot in turn
        )
        scalar = tuple(tuple((index, described(value)) for index, value in self.scalar_landings[slot]) for slot in turn)
        vector, bypass = (
            tuple(
                tuple((self._offset(place), place.size, described(value)) for place, value in wheel[slot])
                for slot in turn
            )
            for wheel in (self.vector_landings, self.bypass_landings)
        )
        writes = tuple(tuple(self.write_landings[slot]) for slot in turn)
        registers = self._registers.scalar
        loop = Loop(registers[LS], registers[LE], True, True) if registers[LC] > 0 else UNKNOWN_LOOP
        shape = Shape(
            self.pc,
            self._branch_delay,
            self._branch_target if self._branch_delay else 0,
            loop,
            late,
            scalar,
            vector,
            bypass,
            writes,
            max(0, self._slots_end - self._time + 1) if self.strict else 0,
        )
        return shape, [value for _, value in order.values()]

    def _offset(self, place: Any) -> int:
        """Where a vector register lies in the state buffer."""
        if self.strict:
            return _FILES[place.number] + place.offset
        return int(place.ctypes.data) - self._buffer.address

    def _to_native(self, shape: Shape, values: list[Any]) -> None:
        for number, value in enumerate(values):
            slot = layout.UNDER_WAY + layout.SLOT * number
            if isinstance(value, np.ndarray):
                self._state[slot : slot + value.size] = value.view(np.uint8)
            else:
                number = int(value) & _MASK
                self._words[slot // 8] = number - (number >> 63 << 64)
        scalars = self._registers.scalar
        if scalars[_CARRY] is None:
            scalars = [UNKNOWN if value is None else value for value in scalars]
        self._scalars[:] = scalars
        if self.strict:
            self._undefined_to_native()
        for wheel in (self.write_landings, self.late, self.scalar_landings, self.vector_landings, self.bypass_landings):
            for entries in wheel:
                entries.clear()
        self._shape = shape

    # running

    def run(self, cycle: int, limit: int) -> Suspension:
        """See Core.run. The short way goes straight on with the block behind the last lock or limit."""
        block, shape = self._next_block, self._shape
        if (
            block is None
            or shape is None
            or shape.pc != self.pc  # set from outside
            or cycle >= limit
            or self._calls >= SAMPLE - 1
            or self._pause
            or self.stops
            or self.halt_next
            or self.requests
            or self.watched
            or self.strict
        ):
            return super().run(cycle, limit)
        self._calls += 1
        self._limited = False
        self.cycle = cycle
        before = self.bundles
        try:
            suspension, patience = self._run_native(limit)
            if suspension is None:
                with np.errstate(all="ignore"):
                    suspension = self._go_on(limit, patience)
        except EmulationError as error:
            raise self._placed(error) from None
        self.runs_long = self.bundles - before >= ahead.LONG
        return suspension

    def _run(self, limit: int) -> Suspension:
        before = self.bundles
        suspension = self._run_on(limit)
        self.runs_long = self.bundles - before >= ahead.LONG
        return suspension

    def _run_on(self, limit: int) -> Suspension:
        self._stack_seen = _NO_STACK  # the array may have changed what is beside it
        if self.finished:
            return super()._run(limit)
        if self._pause:
            return self._interpret(limit)
        self._calls += 1
        if self._calls == SAMPLE:
            short = 0 <= self.bundles - self._counted < SHORTEST * SAMPLE
            self._pause = self._next_pause if short and self._changes > SAMPLE // 2 else 0
            self._next_pause = min(2 * self._next_pause, PAUSES[1]) if self._pause else PAUSES[0]
            self._calls, self._counted, self._changes = 0, self.bundles, 0
        if self._program is None:
            self._program = program_of(bytes(self.program_memory), self.strict, self.watched)
        if self._shape is not None and self._shape.pc != self.pc:  # set from outside
            self._to_interpreter()
        self._note_passing()  # after a lock or a limit
        patience = 0
        if self._shape is None and not self._idle():
            patience = AFTER_LIMIT if self._limited else PATIENCE
        self._limited = False
        return self._go_on(limit, patience)

    def _go_on(self, limit: int, patience: int) -> Suspension:
        """In native code or not; patience: how many bundles to interpret before code is written."""
        while self.cycle < limit:
            check()
            if self._shape is None and (patience == INTERPRETED or not self._enter(patience <= 0)):
                suspension = self._stepped()
                patience -= patience != INTERPRETED
            else:
                suspension, patience = self._run_native(limit)
            if suspension is not None:
                return suspension
        self._limited = True
        return Limit(self.cycle)

    def _interpret(self, limit: int) -> Suspension:
        """A call without native code; a long one ends the pause."""
        if self._shape is not None:
            self._to_interpreter()
        before = self.bundles
        suspension = super()._run(limit)
        self._pause = self._pause - 1 if self.bundles - before < SHORTEST * SAMPLE else 0
        return suspension

    def _idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._branch_delay and not any(
            any(wheel) for wheel in (self.late, self.scalar_landings, self.vector_landings, self.bypass_landings)
        )

    def _enter(self, translate: bool) -> bool:
        """Goes over to native code, where there is some or may be."""
        assert self._program is not None
        if self.shared or self.requests or self._program.broken:
            return False
        if not translate and self.pc not in self._program.starts:
            return False
        if self.strict and not self._may_be_native():
            return False
        try:
            shape, values = self._present_shape()
            block = self._program.blocks.get(shape)
            if block is None and translate:
                block = self._program.block(shape)
        except Untranslatable:
            return False
        if block is None:
            return False
        self._to_native(shape, values)
        self._next_block = block
        self._note_passing()
        return True

    def _note_passing(self) -> None:
        """Native code tells of watched addresses that it comes to, not of those where it begins."""
        if self.pc in self.watched and self.passing is not None:
            self.passing(self.cycle, self.pc)

    def _may_be_native(self) -> bool:
        """Strict: native code takes loop registers as defined, and undefined bits only once it tracks them."""
        if any(self._registers.undefined_scalar[index] for index in (LC, LS, LE)):
            return False
        assert self._program is not None
        if self._program.tracks:
            self.origins_kept = self.data_memory.origins_kept = False
            return True
        return not any(_partial(entry) for wheel in self._wheels() for entries in wheel for entry in entries)

    def _wheels(self) -> tuple[list[list[Any]], ...]:
        return self.late, self.scalar_landings, self.vector_landings, self.bypass_landings

    def _run_native(self, limit: int) -> tuple[Suspension | None, int]:
        """Native code from the present shape on; a suspension, or how many bundles to interpret before translating."""
        program, buffer = self._program, self._buffer
        numbers = buffer.numbers
        assert program is not None and self._shape is not None
        taken_over = None if self._ahead is None else self._taken_over(limit)
        if taken_over is None:
            self._prepare_words(self.cycle, limit)
            kind, place = self._next_block(buffer.address, self._memory), numbers[_EXIT]
            if kind != LOCK:
                kind, place = program.go_on(kind, buffer, self._memory, self.passing)
        else:
            kind, place = taken_over
        way_out, behind = program.links[place]
        if not isinstance(way_out, Exit):
            way_out = program.exit(place)
        bundles, cycle, mac_bundles = numbers[_BUNDLES], numbers[_CYCLE], numbers[_MAC_BUNDLES]
        if kind == WRONG:
            bundles, mac_bundles = bundles + way_out.bundles, mac_bundles + way_out.mac_bundles
            cycle += way_out.bundles + numbers[layout.STALL // 8]
        self.bundles += bundles
        self.native_bundles += bundles
        self.mac_bundles += mac_bundles
        self.stall_memory += cycle - self.cycle - bundles
        self._time += bundles
        self.cycle = cycle
        self._shape = shape = way_out.shape
        self.pc = shape.pc
        if kind == LOCK:
            self._next_block = behind.get(())
            if self._next_block is None:
                self._go_on_behind(place)
            return LockRequest(cycle, numbers[_LOCK_NUMBER], numbers[_LOCK_VALUE], numbers[_LOCK_ACQUIRE] != 0), 0
        self._next_block = None
        if kind == LIMIT and cycle < limit:
            self._to_interpreter()
            return None, INTERPRETED
        if kind == LIMIT:
            self._go_on_behind(place)
            return Limit(cycle), 0
        return self._interpret_one(kind, way_out)

    def _go_on_behind(self, place: int) -> None:
        assert self._program is not None
        try:
            self._next_block = self._program.after(place)
        except Untranslatable:
            self._to_interpreter()

    def _interpret_one(self, kind: int, way_out: Exit) -> tuple[Suspension | None, int]:
        if kind == INTERPRET:
            assert self._program is not None
            self._program.refuse(way_out.reason)
        self._to_interpreter()
        with np.errstate(all="ignore"):
            return self._stepped(), 0 if kind == INTERPRET else PATIENCE

    def _prepare_words(self, cycle: int, limit: int) -> None:
        numbers = self._buffer.numbers
        numbers[_CYCLE], numbers[_LIMIT], numbers[_TIMER_ORIGIN] = cycle, limit, self.timer_origin
        if self.strict:
            numbers[layout.STACK_LOW // 8], numbers[layout.STACK_HIGH // 8] = self._stack_seen
        numbers[_BUNDLES] = numbers[_MAC_BUNDLES] = 0

    # on another thread

    def run_ahead(self, cycle: int, limit: int) -> None:
        """Starts what `run` with these arguments will have to do, where native code alone can do it.

        Nothing is changed; the results are taken over by that call, if nothing else has changed the core or its memory.
        """
        program, block = self._program, self._next_block
        stopping = self.stops or self.halt_next or self._pause or self.strict or self.watched
        if self._ahead is not None or program is None or block is None or stopping or ahead.threads() < 2:
            return
        self._prepare_words(cycle, limit)
        self._ahead = ahead.Ahead(program, block, self._buffer, self.data_memory.data, self._run_key(cycle, limit))

    def _run_key(self, cycle: int, limit: int) -> Any:
        return (cycle, limit, id(self._shape), self.bundles, self.timer_origin)

    def _taken_over(self, limit: int) -> tuple[int, int] | None:
        made, self._ahead = self._ahead, None
        if made is None:
            return None
        found = made.take_over(self._buffer, self.data_memory.data, self._run_key(self.cycle, limit))
        self.taken_over += found is not None
        return found
