"""A core that runs native code: blocks that are translated on demand, the interpreter for what remains.

State is either the interpreter's (registers, wheels) or that of native code (the state buffer and a shape); each is
made from the other where they meet. Vector registers lie in the state buffer always.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import threading
import weakref
from collections import Counter
from typing import Any

import numpy as np

from npuc.compiler.asm.codec import DecodeError, decode_bundle
from npuc.compiler.target.aie2.schedule import DELAY_SLOTS
from npuc.runtime.emulator.actions import WHEEL, compile_action
from npuc.runtime.emulator.core import Core, _multiplies
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.native import layout, modules
from npuc.runtime.emulator.native.blocks import COMPUTED, INTERPRET, LIMIT, LINK, LOCK, LOOP, WRONG, Exit, Issue
from npuc.runtime.emulator.native.calls import HASH, KEYS
from npuc.runtime.emulator.native.ir import NeedsConstant, Untranslatable
from npuc.runtime.emulator.native.lanes import UNKNOWN
from npuc.runtime.emulator.native.shape import UNKNOWN_LOOP, Loop, Shape
from npuc.runtime.emulator.native.symbolic import SymbolicCore
from npuc.runtime.emulator.register_file import LC, LE, LS, SCALAR_INDEX
from npuc.runtime.emulator.suspension import Limit, LockRequest, Suspension

log = logging.getLogger("npuc.emulator.native")

PATIENCE = 16
"""Bundles that are interpreted from a place without translated code on, before it is translated."""
INTERPRETED = 1 << 62
SAMPLE, SHORTEST, PAUSE = 64, 100, 2048
"""When of SAMPLE calls in a row, which ran fewer than SHORTEST bundles each on average, most had to change between the
two forms of state, as those of a core that works in a neighbour's memory, that costs more than native code gains: PAUSE
calls are interpreted. Calls that end at lock requests do not change the form."""
_CARRY = SCALAR_INDEX["srCarry"]
_BLOCK = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
_MASK = (1 << 64) - 1


class Program:
    """The translated code of one program, shared by all cores that hold it."""

    def __init__(self, memory: bytes, digest: str) -> None:
        self.memory, self.digest = memory, digest
        self.blocks: dict[Shape, Any] = {}
        self.links: dict[int, tuple[Exit, dict[Any, Any]]] = {}
        self.refused: Counter[str] = Counter()
        self._core = SymbolicCore(self._return_address)
        self._issues: dict[int, Issue] = {}
        self._modules: dict[int, modules.Loaded] = {}
        self._lock = threading.RLock()
        self._resolver = modules.Resolver(self._resolve)

    def _decode(self, pc: int) -> Any:
        if not 0 <= pc < len(self.memory):
            raise Untranslatable(f"no bundle at {pc:#x}")
        try:
            return decode_bundle(self.memory, pc)
        except DecodeError as error:
            raise Untranslatable(error.message) from None

    def _return_address(self, pc: int) -> int:
        for _ in range(1 + DELAY_SLOTS):
            pc += self._decode(pc).size
        return pc

    def _fetch(self, pc: int) -> Issue:
        if pc not in self._issues:
            bundle = self._decode(pc)
            core: Any = self._core
            actions = (compile_action(core, each.instruction, each.operands, pc, (pc, position))
                       for position, each in enumerate(bundle.instructions))
            self._issues[pc] = Issue(pc + bundle.size, tuple(each for each in actions if each), _multiplies(bundle))
        return self._issues[pc]

    def block(self, shape: Shape) -> Any:
        """The function of a shape's block, translated when it is not there yet."""
        with self._lock:
            if shape not in self.blocks:
                code = modules.translate(shape, self._core, self._fetch, self.blocks, self.digest)
                loaded = modules.Loaded(code, self._resolver)
                self._modules[loaded.table] = loaded
                for each, address in loaded.entries.items():
                    self.blocks.setdefault(each, _BLOCK(address))
                for place, way_out in loaded.exits.items():
                    self.links[place] = (way_out, {})
                    if way_out.kind == LINK and way_out.shape in self.blocks:
                        self._link(place, self.blocks[way_out.shape])
            return self.blocks[shape]

    def _link(self, place: int, block: Any) -> None:
        ctypes.c_void_p.from_address(place).value = ctypes.cast(block, ctypes.c_void_p).value

    def follow(self, place: int) -> Any:
        """The block that a link leads to; the link goes there from now on."""
        block = self.block(self.links[place][0].shape)
        self._link(place, block)
        return block

    def refuse(self, reason: str) -> None:
        """Says once what is interpreted."""
        self.refused[reason] += 1
        if self.refused[reason] == 1:
            log.info("interpreted, not translated: %s", reason)

    def _resolve(self, table: int, position: int, key: int) -> int | None:
        """Native code asks for the function of a family; None leaves the cycle to the interpreter."""
        try:
            with self._lock:
                index = ((key * HASH) & _MASK) >> 60
                assert index < KEYS
                return self._modules[table].resolve(position, key, index)
        except (EmulationError, Untranslatable, NeedsConstant) as error:
            self.refuse(getattr(error, "message", str(error)))
        except Exception:
            log.exception("an effect cannot be translated")
        return None


_programs: weakref.WeakValueDictionary[str, Program] = weakref.WeakValueDictionary()


def program_of(memory: bytes) -> Program:
    """The program with these bytes."""
    digest = hashlib.sha256(memory).hexdigest()
    program = _programs.get(digest)
    if program is None:
        program = _programs[digest] = Program(memory, digest)
    return program


def _aligned(size: int) -> np.ndarray:
    raw = np.zeros(size + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start:start + size]


class NativeCore(Core):
    """A core like `Core`, with the same results, cycles and counters, in native code where it can."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._state = _aligned(layout.STATE_BYTES)
        self._words = self._state.view(np.int64)
        self._scalars = self._words[:layout.SCALAR_COUNT]
        self._shape: Shape | None = None  # of the state, while it is native code's
        self._next_block: Any = None
        self._program: Program | None = None
        self._calls = self._counted = self._pause = self._changes = 0
        self.native_bundles = 0  # of all bundles since the core was made, those that native code executed
        super().__init__(*arguments, **options)
        self._address = self._state.ctypes.data
        self._memory = self.data_memory.data.ctypes.data

    @property
    def refused(self) -> Counter[str]:
        """Why bundles of the present program were interpreted, and how often each."""
        return self._program.refused if self._program is not None else Counter()

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
            place = self._state[base:base + size]
            place[:] = getattr(file, name)
            setattr(file, name, place)
        self._registers = file

    def reset(self) -> None:
        self._shape = self._next_block = None
        super().reset()

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
        if file.scalar[_CARRY] == UNKNOWN:
            file.scalar[_CARRY] = None
        self._branch_delay = shape.delay
        self._branch_target = int(self._words[layout.TARGET // 8]) if shape.target is None else shape.target
        unsigned = state.view(np.uint64)
        arrays: dict[int, np.ndarray] = {}

        def value(spec: tuple[Any, ...]) -> Any:
            if spec[0] == "c":
                return spec[1]
            if spec[0] == "s":
                return int(unsigned[spec[1] // 8])
            if spec[0] == "l":
                return [value(each) for each in spec[1]]
            if spec[1] not in arrays:
                arrays[spec[1]] = state[spec[1]:spec[1] + spec[2]].copy()
            return arrays[spec[1]]

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
                    wheel[slot].append((state[offset:offset + size], value(spec)))

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
            key = id(value) if isinstance(value, np.ndarray) else -1 - len(order)
            number, _ = order.setdefault(key, (len(order), value))
            if number >= layout.UNDER_WAY_SLOTS:
                raise Untranslatable("more results under way than there is room for")
            slot = layout.UNDER_WAY + layout.SLOT * number
            return ("v", slot, value.size) if isinstance(value, np.ndarray) else ("s", slot)

        turn = [(self._time + delay) & (WHEEL - 1) for delay in range(WHEEL)]
        late = tuple(tuple((stage.__globals__["origin"], stage.__name__, tuple(map(described, values)))
                           for stage, values in self.late[slot]) for slot in turn)
        scalar = tuple(tuple((index, described(value)) for index, value in self.scalar_landings[slot])
                       for slot in turn)
        vector, bypass = (tuple(tuple((place.ctypes.data - self._address, place.size, described(value))
                                      for place, value in wheel[slot]) for slot in turn)
                          for wheel in (self.vector_landings, self.bypass_landings))
        registers = self._registers.scalar
        loop = Loop(registers[LS], registers[LE], True, True) if registers[LC] > 0 else UNKNOWN_LOOP
        shape = Shape(self.pc, self._branch_delay, self._branch_target if self._branch_delay else 0, loop, late, scalar,
                      vector, bypass)
        return shape, [value for _, value in order.values()]

    def _to_native(self, shape: Shape, values: list[Any]) -> None:
        for number, value in enumerate(values):
            slot = layout.UNDER_WAY + layout.SLOT * number
            if isinstance(value, np.ndarray):
                self._state[slot:slot + value.size] = value.view(np.uint8)
            else:
                number = int(value) & _MASK
                self._words[slot // 8] = number - (number >> 63 << 64)
        scalars = self._registers.scalar
        if scalars[_CARRY] is None:
            scalars = [UNKNOWN if value is None else value for value in scalars]
        self._scalars[:] = scalars
        for wheel in (self.late, self.scalar_landings, self.vector_landings, self.bypass_landings):
            for entries in wheel:
                entries.clear()
        self._shape = shape

    # running

    def _run(self, limit: int) -> Suspension:
        if self.strict or self.finished:
            return super()._run(limit)
        if self._pause:
            return self._interpret(limit)
        self._calls += 1
        if self._calls == SAMPLE:
            short = 0 <= self.bundles - self._counted < SHORTEST * SAMPLE
            self._pause = PAUSE if short and self._changes > SAMPLE // 2 else 0
            self._calls, self._counted, self._changes = 0, self.bundles, 0
        if self._program is None:
            self._program = program_of(bytes(self.program_memory))
        if self._shape is not None and self._shape.pc != self.pc:  # set from outside
            self._to_interpreter()
        patience = PATIENCE if self._shape is None and not self._idle() else 0
        while self.cycle < limit:
            if self._shape is None and (patience == INTERPRETED or not self._enter(patience <= 0)):
                suspension = self._step()
                patience -= patience != INTERPRETED
            else:
                suspension, patience = self._run_native(limit)
            if suspension is not None:
                return suspension
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
        return not self._branch_delay and not any(any(wheel) for wheel in (
            self.late, self.scalar_landings, self.vector_landings, self.bypass_landings))

    def _enter(self, translate: bool) -> bool:
        """Goes over to native code, where there is some or may be."""
        if self.shared or self.requests:
            return False
        assert self._program is not None
        try:
            shape, values = self._present_shape()
        except Untranslatable:
            return False
        block = self._program.blocks.get(shape)
        if block is None:
            if not translate:
                return False
            block = self._program.block(shape)
        self._to_native(shape, values)
        self._next_block = block
        return True

    def _run_native(self, limit: int) -> tuple[Suspension | None, int]:
        """Native code from the present shape on; a suspension, or how many bundles to interpret before translating.

        INTERPRETED: no block fits before the limit.
        """
        program, words = self._program, self._words
        assert program is not None and self._shape is not None
        block = self._next_block or program.block(self._shape)
        words[layout.CYCLE // 8], words[layout.LIMIT // 8] = self.cycle, limit
        words[layout.TIMER_ORIGIN // 8] = self.timer_origin
        words[layout.BUNDLES // 8] = words[layout.MAC_BUNDLES // 8] = 0
        while True:
            kind = block(self._address, self._memory)
            place = int(words[layout.EXIT // 8])
            if kind == LINK:
                block = program.follow(place)
            elif kind == COMPUTED:
                block = self._computed(program, place)
            elif kind == LOOP:
                block = self._relooped(program, place)
            else:
                break
        way_out, found = program.links[place]
        bundles = int(words[layout.BUNDLES // 8]) + way_out.bundles
        cycle = int(words[layout.CYCLE // 8]) + way_out.bundles
        if kind == WRONG:
            cycle += int(words[layout.STALL // 8])
        self.bundles += bundles
        self.native_bundles += bundles
        self.mac_bundles += int(words[layout.MAC_BUNDLES // 8]) + way_out.mac_bundles
        self.stall_memory += cycle - self.cycle - bundles
        self._time = (self._time + bundles)
        self.cycle = cycle
        self._shape = way_out.shape
        self.pc = way_out.shape.pc
        self._next_block = None
        if kind == LOCK:
            if "block" not in found:
                found["block"] = program.block(way_out.shape)
            self._next_block = found["block"]
            lock = [int(words[each // 8]) for each in (layout.LOCK_ACQUIRE, layout.LOCK_NUMBER, layout.LOCK_VALUE)]
            return LockRequest(cycle, lock[1], lock[2], bool(lock[0])), 0
        if kind == LIMIT:
            self._to_interpreter()
            return None, INTERPRETED
        return self._interpret_one(kind, way_out)

    def _interpret_one(self, kind: int, way_out: Exit) -> tuple[Suspension | None, int]:
        if kind == INTERPRET:
            assert self._program is not None
            self._program.refuse(way_out.reason)
        self._to_interpreter()
        return self._step(), 0 if kind == INTERPRET else PATIENCE

    def _relooped(self, program: Program, place: int) -> Any:
        """The block where a hardware loop becomes active, for what its registers hold."""
        way_out, found = program.links[place]
        loop = Loop(int(self._scalars[LS]), int(self._scalars[LE]), False, True)
        if loop not in found:
            found[loop] = program.block(way_out.shape._replace(loop=loop))
        return found[loop]

    def _computed(self, program: Program, place: int) -> Any:
        """The block of a computed jump."""
        way_out, found = program.links[place]
        pc = int(self._words[layout.TARGET // 8])
        if pc not in found:
            found[pc] = program.block(way_out.shape._replace(pc=pc))
        return found[pc]
