"""Writes one block: the bundles from a shape on, until control divides or the array is needed.

Every cycle follows `Core._step`: stages of earlier instructions, the bundle, memory, landings. Whatever could make the
interpreter raise an error is tested before a cycle changes anything; where a test fails the block is left at the start
of that cycle, and the interpreter takes it from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from npuc.compiler.target.aie2.schedule import DELAY_SLOTS
from npuc.runtime.emulator.actions import WHEEL
from npuc.runtime.emulator.core_strict import loses_part_words
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.native import banks, calls, effects, layout
from npuc.runtime.emulator.native.ir import (
    Emitter,
    NeedsConstant,
    Scalar,
    Untranslatable,
    i1,
    i64,
    scalar,
    writing,
)
from npuc.runtime.emulator.native.machine import acquiring_load
from npuc.runtime.emulator.native.pieces import pointer
from npuc.runtime.emulator.native.pipeline import Pipeline, describe, waiting_place
from npuc.runtime.emulator.native.shape import UNKNOWN_LOOP, Shape
from npuc.runtime.emulator.native.symbolic import SymbolicCore
from npuc.runtime.emulator.register_file import LC, LE, LS

log = logging.getLogger("npuc.emulator.native")

MAXIMUM_BUNDLES = 48
MAXIMUM_LINES = 2000
LINK, WRONG, INTERPRET, LOCK, COMPUTED, LIMIT, LOOP, MARK = range(1, 9)
"""Ways out: to a block; a test failed; what the translator does not know; lock request; computed jump; cycle limit; a
hardware loop becomes active whose registers are not known; to a block at a watched address."""
FOUND_BY = {COMPUTED: (layout.TARGET // 8,), LOOP: (layout.SCALARS // 8 + LS, layout.SCALARS // 8 + LE)}
"""Words of the state that the block behind an exit depends on.

What such an exit's place points to is a record: the words by which a block was found, and that block. Records are
complete before a single store puts them there, and are never changed, so that threads may read while another adds.
"""


class Issue(NamedTuple):
    """A bundle: address after it, actions on a symbolic core, whether it multiplies, whether it stores less than a
    word."""

    following: int
    actions: tuple[Callable[[int], None], ...]
    multiplies: bool
    part_word: bool


class Exit(NamedTuple):
    """One way out of a block: its kind, what is under way there, and why (for INTERPRET).

    bundles, mac_bundles: what the block has counted up to there and not added to the state.
    """

    kind: int
    shape: Shape
    reason: str = ""
    bundles: int = 0
    mac_bundles: int = 0


def link_line(number: int) -> str:
    """Stands for the code that goes on to a block, by the number of its exit."""
    return f"  ; link {number}."


@dataclass
class Block:
    """lines: IR text of the function's body, a `link_line` for each of `links`; successors: shapes it goes on to."""

    shape: Shape
    lines: list[str]
    links: list[int]
    declarations: set[str]
    successors: list[Shape]


class Module:
    """What blocks of one module share: numbered exits and effect families. watched: addresses that are left to."""

    def __init__(self, watched: Container[int] = ()) -> None:
        self.watched = watched
        self.exits: list[Exit] = []
        self.families: dict[tuple[Any, ...], int] = {}

    def exit(self, way_out: Exit) -> int:
        self.exits.append(way_out)
        return len(self.exits) - 1

    def family(self, family: effects.Family) -> int:
        return self.families.setdefault(family.name, len(self.families))


_NOTHING: Mapping[int, int] = MappingProxyType({})


class _Unknown(Exception):
    """The loop registers are needed and not known."""


class BlockWriter:
    """Writes the block of one shape. core: symbolic. fetch: bundles prepared for that core. most: bundles.
    planned: see Pipeline."""

    def __init__(
        self,
        module: Module,
        core: SymbolicCore,
        fetch: Callable[[int], Issue],
        shape: Shape,
        most: int,
        planned: Mapping[int, int] = _NOTHING,
    ) -> None:
        self.most = most
        self.module, self.core, self.fetch, self.shape = module, core, fetch, shape
        self.out = Emitter()
        self.pipeline = Pipeline(core, self._stage, planned)
        self.pc, self.delay, self.target, self.loop = shape.pc, shape.delay, shape.target, shape.loop
        self.slots = shape.slots
        self.time = 0
        self.bundles = self.mac_bundles = self.worst_stall = 0
        self.longest = 0  # cycles before the last bundle, at most
        self.stall: str | None = None
        self.functions: dict[tuple[int, str], str] = {}  # effects found in this block, by table and key
        self.wrong: list[tuple[str, int, str]] = []  # ways to the common end: label, exit, stall
        self.wrong_now: int | None = None
        self.saved: Any = None
        self.successors: list[Shape] = []
        self.links: list[int] = []

    def _stage(self, origin: tuple[int, int], name: str) -> Any:
        for action in self.fetch(origin[0]).actions:
            if action.__globals__["origin"] == origin:
                return action.__globals__[name]
        raise AssertionError(f"no instruction at {origin}")

    # ways out

    def _cycle_text(self) -> str:
        """The array cycle at which the present bundle issues."""
        text = self.out.value(f"add i64 %cycle, {self.bundles}") if self.bundles else "%cycle"
        return self.out.value(f"add i64 {text}, {self.stall}") if self.stall else text

    def _shape(self, where: tuple[int, int, int | None], loop: Any, described: tuple[Any, ...]) -> Shape:
        known = loop._replace(fresh=True) if loop.active or loop.fresh else UNKNOWN_LOOP
        return Shape(*where, known, *described)._replace(slots=self.slots)

    def _end(self) -> tuple[Any, ...]:
        """Brings the state up to the present cycle; what is under way."""
        out, described = self.out, self.pipeline.settle(self.time)
        out.line(f"store i64 {self._cycle_text()}, ptr {pointer(layout.CYCLE)}, align 8")
        for place, count in ((layout.BUNDLES, self.bundles), (layout.MAC_BUNDLES, self.mac_bundles)):
            if count:
                where = pointer(place)
                before = out.value(f"load i64, ptr {where}, align 8")
                out.line(f"store i64 {out.value(f'add i64 {before}, {count}')}, ptr {where}, align 8")
        return described

    def _leave(self, kind: int, shape: Shape, reason: str = "") -> None:
        """The last lines of a way out whose state is up to date."""
        if kind == LINK and shape.pc < 0:
            kind = COMPUTED
        if kind == LINK and shape.pc in self.module.watched:
            kind = MARK
        number = self.module.exit(Exit(kind, shape, reason))
        if kind in (LINK, MARK):
            self.successors.append(shape)
        if kind == LINK:
            self.links.append(number)
            self.out.lines.append(link_line(number))
        else:
            place = self.out.value(f"getelementptr i8, ptr @exits, i64 {8 * number}")
            self.out.line(f"store ptr {place}, ptr {pointer(layout.EXIT)}, align 8")
            if kind in FOUND_BY:
                self._go_where_it_was_found(kind, place)
            self.out.line(f"ret i64 {kind}")

    def _go_where_it_was_found(self, kind: int, place: str) -> None:
        """On to the block of the exit's record, where the words of the state are those that it was found by."""
        out, record, same = self.out, self.out.value(acquiring_load(place)), "true"
        for position, word in enumerate(FOUND_BY[kind]):
            known = out.value(f"load i64, ptr {out.value(f'getelementptr i64, ptr {record}, i64 {position}')}, align 8")
            present = out.value(f"load i64, ptr {pointer(8 * word)}, align 8")
            same = out.value(f"and i1 {same}, {out.value(f'icmp eq i64 {known}, {present}')}")
        found, other = out.new_label(), out.new_label()
        out.line(f"br i1 {same}, label %{found}, label %{other}, !prof !0")
        out.start(found)
        where = out.value(f"getelementptr i64, ptr {record}, i64 {len(FOUND_BY[kind])}")
        block = out.value(f"load ptr, ptr {where}, align 8")
        out.line(f"ret i64 {out.value(f'musttail call i64 {block}(ptr %s, ptr %m)')}")
        out.start(other)

    def _missing(self) -> str:
        """A label where the interpreter takes this cycle over, because a test failed."""
        if self.wrong_now is None:
            described = describe(self.saved[0], self.time, waiting_place)
            shape = self._shape((self.pc, self.delay, self.target), self.loop, described)
            self.wrong_now = self.module.exit(Exit(WRONG, shape, "", self.bundles, self.mac_bundles))
        label = self.out.new_label()
        self.wrong.append((label, self.wrong_now, self.stall or "0"))
        return label

    def _write_wrong(self) -> None:
        """The common end of all cycles that the interpreter takes over."""
        if not self.wrong:
            return
        out = self.out
        for label, _, _ in self.wrong:
            out.start(label)
            out.line("br label %wrong")
        out.start("wrong")
        numbers = ", ".join(f"[ {number}, %{label} ]" for label, number, _ in self.wrong)
        stalls = ", ".join(f"[ {stall}, %{label} ]" for label, _, stall in self.wrong)
        number, stall = out.value(f"phi i64 {numbers}"), out.value(f"phi i64 {stalls}")
        place = out.value(f"getelementptr ptr, ptr @exits, i64 {number}")
        out.line(f"store ptr {place}, ptr {pointer(layout.EXIT)}, align 8")
        out.line(f"store i64 {stall}, ptr {pointer(layout.STALL)}, align 8")
        out.line(f"ret i64 {WRONG}")

    # cycles

    def write(self) -> Block:
        """The whole block."""
        out = self.out
        with writing(out):
            out.line(f"%cycle = load i64, ptr {pointer(layout.CYCLE)}, align 8")
            self.core.registers.scalar.known.clear()
            self.core.call_family, self.core.cycle_value = self._call, lambda: Scalar(self._cycle_text())
            self.core.enter_block()
            self.pipeline.enter(self.shape)
            limit = out.value(f"load i64, ptr {pointer(layout.LIMIT)}, align 8")
            room = out.value(f"sub i64 {limit}, %cycle")
            check = len(out.lines)
            out.start("body")
            while self._cycle():
                pass
            out.start("limited")
            self._leave(LIMIT, self.shape)
            self._write_wrong()
            out.lines[check:check] = [
                f"  %room = icmp sgt i64 {room}, {self.longest}",
                "  br i1 %room, label %body, label %limited",
            ]
        return Block(self.shape, out.lines, self.links, out.declarations, self.successors)

    def _cycle(self) -> bool:
        """One bundle, or none where it cannot be translated; whether the block goes on."""
        out = self.out
        mark, label = len(out.lines), out.label
        self.saved = self.pipeline.save()
        known, functions = self.core.save(), dict(self.functions)
        wrong, loop, slots = len(self.wrong), self.loop, self.slots
        counts = (self.bundles, self.mac_bundles, self.stall, self.worst_stall, self.time)
        try:
            more = self._bundle()
            self.longest = counts[0] + counts[3]
            return more
        except Exception as problem:
            if not isinstance(problem, (Untranslatable, NeedsConstant, EmulationError, _Unknown)):
                log.warning("the bundle at %#x is interpreted: the translator fails on it", self.pc, exc_info=True)
            del out.lines[mark:], self.wrong[wrong:]
            out.label, self.loop, self.functions, self.slots = label, loop, functions, slots
            self.bundles, self.mac_bundles, self.stall, self.worst_stall, self.time = counts
            self.pipeline.restore(self.saved)
            self.core.restore(known)
            kind = LOOP if isinstance(problem, _Unknown) else INTERPRET
            self._leave(
                kind,
                self._shape((self.pc, self.delay, self.target), self.loop, self._end()),
                getattr(problem, "message", str(problem)),
            )
            return False

    def _bundle(self) -> bool:
        core, slot = self.core, self.time & (WHEEL - 1)
        core.start_cycle()
        self.wrong_now = None
        self.out.check = core.require
        for stage, values in core.late[slot]:
            stage(self.time, *values)
        core.late[slot].clear()
        issue = self.fetch(self.pc)
        for action in issue.actions:
            action(self.time)
        loads = list(core.accesses)
        places = [core.locate(address, size) for address, size, _, _ in core.stores]
        core.check_meetings(loads, places)
        core.check_landings(slot)
        stall = banks.stall(core.accesses) if len(core.accesses) > 1 else None
        self._check_branches()
        self.pipeline.keep(slot)
        self._check()
        core.write_stores(places)
        if stall is not None:
            self.stall = self.out.value(f"add i64 {self.stall}, {stall}") if self.stall else stall
            self.worst_stall += len(core.accesses) - 1
        self._land(slot)
        self.bundles += 1
        self.mac_bundles += issue.multiplies
        self.time += 1
        return self._advance(issue)

    def _check_branches(self) -> None:
        if len(self.core.branches) > 1:
            raise Untranslatable("two control transfers in one bundle")
        if self.slots and self.core.branches:
            raise Untranslatable("a control transfer in delay slots")
        for taken, target in self.core.branches:
            if self.delay:
                if isinstance(taken, int) and taken:
                    raise Untranslatable("a control transfer in delay slots")
                self.core.wrong.append(i64(taken))
            self.core.wrong.append(i64(scalar(target & 15) * taken))

    def _check(self) -> None:
        """Leaves the block where a test of this cycle failed."""
        out, total = self.out, ""
        for each in self.core.wrong:
            if each.startswith("%"):
                total = out.value(f"or i64 {total}, {each}") if total else each
            elif each != "0":
                raise Untranslatable("what the interpreter refuses")
        if total:
            fine, label = out.value(f"icmp eq i64 {total}, 0"), out.new_label()
            out.line(f"br i1 {fine}, label %{label}, label %{self._missing()}, !prof !0")
            out.start(label)

    def _land(self, slot: int) -> None:
        core = self.core
        for index, value in core.scalar_landings[slot]:
            core.land_scalar(index, value)
            if index in (LC, LS, LE):
                self._loop_register(index, value)
        landings = [*core.vector_landings[slot], *core.bypass_landings[slot]]
        for wheel in (core.scalar_landings, core.vector_landings, core.bypass_landings, core.write_landings):
            wheel[slot].clear()
        if landings:
            self.pipeline.vacate(landings)
        for place, value in landings:
            core.land_vector(place, value)
        self.pipeline.end_cycle()

    # control

    def _loop_register(self, index: int, value: Any) -> None:
        known = value if isinstance(value, int) else None
        if index == LC:
            self.loop = self.loop._replace(active=known is None or known > 0)
        elif index == LS:
            self.loop = self.loop._replace(start=known, fresh=True)
        else:
            self.loop = self.loop._replace(end=known, fresh=True)
        if self.loop.active and None in self.loop:
            if self.shape.loop == UNKNOWN_LOOP or self.bundles:
                raise _Unknown
            raise Untranslatable("a hardware loop whose registers are computed in its first bundle")

    def _next(self, delay: int, target: Any, pc: int) -> tuple[int, int, int | None]:
        """pc, delay and target after this cycle, where the next bundle would be at pc; -1 for a computed pc."""
        if delay == 1:
            return (-1 if target is None else target), 0, 0
        return pc, max(delay - 1, 0), target

    def _advance(self, issue: Issue) -> bool:
        loop_end = self.loop.active and self.pc == self.loop.end
        if self.core.strict:
            self.slots = DELAY_SLOTS if self.core.branches else max(self.slots - 1, 0)
        decisions = [each for each in self.core.branches if not isinstance(each[0], int)]
        waits = [each for each in self.core.locks if not (isinstance(each[3], int) and not each[3])]
        if len(decisions) + loop_end + len(waits) > 1:
            raise Untranslatable("two decisions in one bundle")
        delay, target = self.delay, self.target
        for taken, where in self.core.branches:
            if isinstance(taken, int) and taken:
                delay, target = DELAY_SLOTS + 1, self._static_target(where)
        if loop_end:
            self._divide_loop(issue, delay, target)
        elif decisions:
            self._divide_branch(issue, decisions[0])
        elif waits:
            self._request(issue, waits[0], delay, target)
        else:
            return self._go_on(issue.following, delay, target)
        return False

    def _static_target(self, target: Any) -> int | None:
        if isinstance(target, int):
            return target
        self.out.line(f"store i64 {target.ref}, ptr {pointer(layout.TARGET)}, align 8")
        return None

    def _go_on(self, following: int, delay: int, target: int | None) -> bool:
        self.pc, self.delay, self.target = self._next(delay, target, following)
        goes_on = self.pc == following and self.pc not in self.module.watched
        if goes_on and self.bundles < self.most and len(self.out.lines) < MAXIMUM_LINES:
            return True
        self._leave(LINK, self._shape((self.pc, self.delay, self.target), self.loop, self._end()))
        return False

    def _two_ways(self, condition: str, first: tuple[int, Shape], second: tuple[int, Shape]) -> None:
        labels = self.out.new_label(), self.out.new_label()
        self.out.line(f"br i1 {condition}, label %{labels[0]}, label %{labels[1]}")
        for label, way in zip(labels, (first, second), strict=True):
            self.out.start(label)
            self._leave(*way)

    def _divide_loop(self, issue: Issue, delay: int, target: int | None) -> None:
        count = self.core.registers.scalar[LC]
        pick = self.core.lanes.pick
        again = i1(count > 1)
        self.core.registers.scalar[LC] = pick(count > 0, count - 1, count)
        described = self._end()
        assert self.loop.start is not None
        if self.core.strict and issue.part_word and loses_part_words(self.loop.start, issue.following):
            raise Untranslatable("a sub-word store at the end of a short hardware loop")
        back = self._shape(self._next(delay, target, self.loop.start), self.loop, described)
        left = self._shape(self._next(delay, target, issue.following), UNKNOWN_LOOP, described)
        self._two_ways(again, (LINK, back), (LINK, left))

    def _divide_branch(self, issue: Issue, branch: tuple[Any, Any]) -> None:
        taken, where = branch
        condition = i1(taken)
        target = self._static_target(where)
        described = self._end()
        jump = self._shape(self._next(DELAY_SLOTS + 1, target, issue.following), self.loop, described)
        stay = self._shape(self._next(self.delay, self.target, issue.following), self.loop, described)
        self._two_ways(condition, (LINK, jump), (LINK, stay))

    def _request(self, issue: Issue, request: tuple[Any, ...], delay: int, target: int | None) -> None:
        acquire, number, value, enabled = request
        after = self._next(delay, target, issue.following)
        if after[0] < 0:
            raise Untranslatable("a lock request in the last delay slot of a computed jump")
        for place, each in ((layout.LOCK_ACQUIRE, acquire), (layout.LOCK_NUMBER, number), (layout.LOCK_VALUE, value)):
            self.out.line(f"store i64 {i64(each)}, ptr {pointer(place)}, align 8")
        condition = None if isinstance(enabled, int) else i1(enabled)
        shape = self._shape(after, self.loop, self._end())
        if condition is None:
            self._leave(LOCK, shape)
        else:
            self._two_ways(condition, (LOCK, shape), (LINK, shape))

    # effects out of line

    def _call(self, family: effects.Family, arguments: list[Any]) -> Any:
        out, table = self.out, self.module.family(family)
        self.pipeline.keep(self.time & (WHEEL - 1))  # nothing stays in registers of the host across the call
        key = calls.key_of(out, [arguments[i] for i in family.decides], self.core.wrong) if family.decides else ""
        if (table, key) not in self.functions:
            self.functions[table, key] = (
                calls.find_function(out, table, key, self._missing) if key else (calls.only_function(out, table))
            )
        return calls.call(out, family, self.functions[table, key], arguments)
