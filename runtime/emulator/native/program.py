"""The translated code of a program: its blocks, what they lead to, and the translation of what is missing."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import logging
import os
import threading
import weakref
from collections import ChainMap, Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from npuc.compiler.asm.codec import DecodeError, decode_bundle
from npuc.compiler.target.aie2.schedule import DELAY_SLOTS
from npuc.compiler.uncollected import uncollected
from npuc.runtime.apart import check
from npuc.runtime.emulator.actions import compile_action
from npuc.runtime.emulator.core import multiplies, stores_part_of_a_word
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.native import blocks, layout, machine, modules
from npuc.runtime.emulator.native.blocks import COMPUTED, FOUND_BY, INTERPRET, LIMIT, LINK, LOOP, MARK, Exit, Issue
from npuc.runtime.emulator.native.calls import HASH, KEYS
from npuc.runtime.emulator.native.ir import NeedsConstant, Untranslatable
from npuc.runtime.emulator.native.shape import Loop, Shape
from npuc.runtime.emulator.native.state import StateBuffer
from npuc.runtime.emulator.native.strict import Met, StrictSymbolicCore, Tracking
from npuc.runtime.emulator.native.symbolic import SymbolicCore
from npuc.runtime.emulator.register_file import LE, LS

log = logging.getLogger("npuc.emulator.native")

ENOUGH = 512
"""Undefined bits met in interpreted bundles before some of them are tracked; four times as many each time."""
OFTEN = 32
"""How often the way to a limit is interpreted before code for it is written, or undefined bits are met at one place
before they are tracked there."""
_EXIT, _TARGET = layout.EXIT // 8, layout.TARGET // 8
_GO_ON = (LINK, COMPUTED, LOOP, MARK)
_LOOK_UP = 15  # every so many blocks, less one, a run looks whether it is to stop
_BLOCK = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
_MASK = (1 << 64) - 1
_translating = threading.RLock()
"""Code is written by one thread at a time, whatever program it is for."""


class Program:
    """The translated code of one program, shared by all cores that hold it. watched: `Core.watch`."""

    def __init__(self, memory: bytes, digest: str, strict: bool, watched: frozenset[int] = frozenset()) -> None:
        self.memory, self.digest, self.strict, self.watched = memory, digest, strict, watched
        self.blocks: dict[Shape, Any] = {}
        self.starts: set[int] = set()  # addresses at which blocks start
        self._steps: dict[Shape, Any] = {}
        self.broken = False
        self.limited = 0  # how often a block was too long for what was left before the limit
        self._single: dict[int, bool] = {}  # whether an exit is that of a step
        self.links: dict[int, tuple[Exit | bytes, dict[Any, Any]]] = {}  # exits, maybe as stored, and what is behind
        self._stranded = itertools.count(-1, -1)  # places of exits that no code has
        self.refused: Counter[str] = Counter()
        self._core: SymbolicCore = (StrictSymbolicCore if strict else SymbolicCore)(self._return_address)
        self._grown = 0  # how often what is tracked became more
        self._met: Counter[Met] = Counter()  # where undefined bits were met since then
        self._issues: dict[int, Issue] = {}
        self._modules: dict[int, modules.Loaded] = {}  # by the place of their families
        self._linking: dict[int, modules.Loaded] = {}  # by the places of their exits
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
            actions = (
                compile_action(core, each.instruction, each.operands, pc, (pc, position))
                for position, each in enumerate(bundle.instructions)
            )
            made = tuple(each for each in actions if each)
            self._issues[pc] = Issue(pc + bundle.size, made, multiplies(bundle), stores_part_of_a_word(bundle))
        return self._issues[pc]

    def block(self, shape: Shape) -> Any:
        """The function of a shape's block, translated when it is not there yet.

        Raises Untranslatable when that fails; the program is `broken` then, and best interpreted from there on.
        """
        with _translating:
            if shape not in self.blocks:
                self._translate(shape, self.blocks, self.blocks, blocks.MAXIMUM_BUNDLES)
            return self.blocks[shape]

    def step(self, shape: Shape) -> Any:
        """The function that executes one bundle and goes on to a block as soon as one starts; else as `block`."""
        with _translating:
            if shape not in self._steps:
                self._translate(shape, self._steps, ChainMap(self.blocks, self._steps), 1)
            return self._steps[shape]

    def _translate(self, shape: Shape, into: dict[Shape, Any], known: Mapping[Shape, Any], most: int) -> None:
        try:
            with uncollected():
                code = modules.translate(shape, self._core, self._fetch, known, most, self._name(), self.watched)
            loaded = modules.Loaded(code, self._resolver)
        except Exception as problem:  # whatever LLVM may say: the interpreter can do without
            log.warning("the program at %#x is interpreted: its translation fails", shape.pc, exc_info=True)
            self.broken = True
            raise Untranslatable("its translation fails") from problem
        # Blocks come last: other threads run what they find, and every way out of it must lead somewhere.
        self._modules[loaded.table] = loaded
        for place, way_out in loaded.exits.items():
            self.links[place] = (way_out, {})
            self._single[place] = most == 1
            self._linking[place] = loaded
            if isinstance(way_out, Exit) and way_out.kind == LINK and way_out.shape in known:
                self._link(place, known[way_out.shape])
        for each, address in loaded.entries.items():
            into.setdefault(each, _BLOCK(address))
            if most > 1:
                self.starts.add(each.pc)

    def _name(self) -> str:
        """What its code is named by."""
        name = self.digest
        if isinstance(self._core, StrictSymbolicCore):
            name += f" {self._core.tracking.name()}"
        return f"{name} watched {sorted(self.watched)}" if self.watched else name

    @property
    def tracks(self) -> bool:
        """Strict: whether code keeps undefined bits."""
        return self._grown > 0

    def meet(self, found: Sequence[Met]) -> bool:
        """Strict: a bundle was interpreted that read undefined bits there. Where that is often they are tracked, and
        all code is written anew; what runs may go on in the old. Whether that happened."""
        core = self._core
        assert isinstance(core, StrictSymbolicCore)
        self._met.update(found)
        if sum(self._met.values()) < ENOUGH << 2 * self._grown:
            return False
        with _translating:
            often = Tracking.of(each for each, count in self._met.items() if count >= OFTEN)
            self._met.clear()
            tracking = core.tracking.with_more(often)
            if tracking == core.tracking:
                return False
            core.tracking, self._grown = tracking, self._grown + 1
            self.blocks, self._steps, self.starts = {}, {}, set()
        log.info("undefined bits are tracked from now on at %s", tracking.name())
        return True

    def _link(self, place: int, block: Any) -> None:
        self._linking[place].link(place, ctypes.cast(block, ctypes.c_void_p))

    def exit(self, place: int) -> Exit:
        """The way out at a place."""
        way_out, found = self.links[place]
        if not isinstance(way_out, Exit):
            way_out = modules.exit_of(way_out)
            self.links[place] = way_out, found
        return way_out

    def follow(self, place: int) -> Any:
        """The block that a link leads to; the link goes there from now on. To watched addresses there are no links."""
        way_out = self.exit(place)
        shape = way_out.shape
        block = self.step(shape) if self._single[place] and shape not in self.blocks else self.block(shape)
        if way_out.kind == LINK:
            self._link(place, block)
        return block

    def run(
        self, block: Any, state: StateBuffer, memory: int, passing: Callable[[int, int], None] | None = None
    ) -> tuple[int, int]:
        """Runs blocks until the core has to be left: kind and place of the exit. memory: address of the data memory.
        passing: called with cycle and address at watched addresses.

        Changes nothing but the state, the memory and this program's links; other threads may run the program, too.
        """
        return self.go_on(block(state.address, memory), state, memory, passing)

    def go_on(
        self, kind: int, state: StateBuffer, memory: int, passing: Callable[[int, int], None] | None = None
    ) -> tuple[int, int]:
        """As `run`, from an exit of that kind on."""
        registers, numbers, turns = state.address, state.numbers, 0
        while True:
            place = numbers[_EXIT]
            if kind not in _GO_ON and not (kind == LIMIT and self._may_step(state)):
                return kind, place
            turns += 1
            if not turns & _LOOK_UP:
                check()
            shape = self.exit(place).shape
            if kind == COMPUTED:
                shape = shape._replace(pc=numbers[_TARGET])
            elif kind == LOOP:  # a hardware loop becomes active: its registers as they are
                shape = shape._replace(loop=Loop(numbers[LS], numbers[LE], False, True))
            if passing is not None and kind != LINK and shape.pc in self.watched:
                passing(numbers[layout.CYCLE // 8], shape.pc)
            try:
                block = (
                    self.follow(place)
                    if kind in (LINK, MARK)
                    else self.step(shape)
                    if kind == LIMIT
                    else self._found(place, shape, [numbers[word] for word in FOUND_BY[kind]])
                )
            except Untranslatable as problem:
                stranded = next(self._stranded)
                self.links[stranded] = Exit(INTERPRET, shape, str(problem)), {}
                return INTERPRET, stranded
            kind = block(registers, memory)

    def _may_step(self, state: StateBuffer) -> bool:
        """Whether to go on bundle by bundle after a block that would go beyond the limit: when that happens often."""
        if state.words[layout.CYCLE // 8] >= state.words[layout.LIMIT // 8]:
            return False
        self.limited += 1
        return self.limited >= OFTEN

    def _found(self, place: int, shape: Shape, by: Sequence[int]) -> Any:
        """The block behind an exit for what is known only now, the shape there. by: see `FOUND_BY`."""
        found, key = self.links[place][1], tuple(by)
        block = found.get(key)
        if block is None:
            block = found[key] = self.block(shape)
            if shape.pc not in self.watched:
                self._linking[place].found(place, by, ctypes.cast(block, ctypes.c_void_p).value or 0)
        return block

    def after(self, place: int) -> Any:
        """The code that goes on behind an exit."""
        way_out, found = self.exit(place), self.links[place][1]
        if () not in found:
            shape = way_out.shape
            found[()] = self.step(shape) if way_out.kind == LIMIT and shape not in self.blocks else self.block(shape)
        return found[()]

    def refuse(self, reason: str) -> None:
        """Says once what is interpreted."""
        self.refused[reason] += 1
        if self.refused[reason] == 1:
            log.info("interpreted, not translated: %s", reason)

    def _resolve(self, table: int, position: int, key: int) -> int | None:
        """Native code asks for the function of a family; None leaves the cycle to the interpreter."""
        try:
            with _translating:
                index = ((key * HASH) & _MASK) >> 60
                assert index < KEYS
                return self._modules[table].resolve(position, key, index)
        except (EmulationError, Untranslatable, NeedsConstant) as error:
            self.refuse(getattr(error, "message", str(error)))
        except Exception:
            log.exception("an effect cannot be translated")
        return None


_programs: weakref.WeakValueDictionary[tuple[str, bool, frozenset[int]], Program] = weakref.WeakValueDictionary()


def program_of(memory: bytes, strict: bool, watched: frozenset[int] = frozenset()) -> Program:
    """The program with these bytes, for cores in strict mode or not, whose blocks are left at watched addresses."""
    key = hashlib.sha256(memory).hexdigest(), strict, watched
    with _translating:
        program = _programs.get(key)
        if program is None:
            program = _programs[key] = Program(memory, *key)
        return program


def _hold() -> None:
    """A fork copies one thread: the others must not be writing code then."""
    _translating.acquire()
    machine.lock.acquire()


def _let_go() -> None:
    machine.lock.release()
    _translating.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go)
