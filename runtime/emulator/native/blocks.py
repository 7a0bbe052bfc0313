"""Writes one block: the bundles from a shape on, until control divides or the array is needed.

Every cycle follows `Core._step`: stages of earlier instructions, the bundle, memory, landings. Whatever could make the
interpreter raise an error is tested before a cycle changes anything; where a test fails the block is left at the start
of that cycle, and the interpreter takes it from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from npuc.compiler.target.aie2.schedule import DELAY_SLOTS
from npuc.runtime.emulator.actions import WHEEL
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.native import banks, effects, layout
from npuc.runtime.emulator.native.ir import (
    Emitter,
    Lanes,
    NeedsConstant,
    Scalar,
    Untranslatable,
    current,
    i1,
    i64,
    writing,
)
from npuc.runtime.emulator.native.lanes import UNKNOWN
from npuc.runtime.emulator.native.shape import Shape
from npuc.runtime.emulator.native.symbolic import SymbolicCore, alignment, pointer
from npuc.runtime.emulator.register_file import LC, LE, LS

MAXIMUM_BUNDLES = 48
MAXIMUM_LINES = 2000
LINK, WRONG, INTERPRET, LOCK, COMPUTED, LIMIT = range(1, 7)
"""Ways out: to a block; a test failed; what the translator does not know; lock request; computed jump; cycle limit."""
KEYS = 16
"""Entries of a family's table: values of what it decides on, and the function for them."""
HASH = 0x9E3779B97F4A7C15


class Issue(NamedTuple):
    """A bundle: address after it, actions on a symbolic core, whether it multiplies."""

    following: int
    actions: tuple[Callable[[int], None], ...]
    multiplies: bool


class Exit(NamedTuple):
    """One way out of a block: its kind, what is under way there, and why (for INTERPRET)."""

    kind: int
    shape: Shape
    reason: str


class Link(NamedTuple):
    """Stands for the code that goes on to a block: number of its exit."""

    number: int


@dataclass
class Block:
    """lines: IR text of the function's body with Links in between; families: positions in the module's table."""

    shape: Shape
    lines: list[str | Link]
    declarations: set[str]
    successors: list[Shape]


class Module:
    """What blocks of one module share: numbered exits and effect families."""

    def __init__(self) -> None:
        self.exits: list[Exit] = []
        self.families: dict[tuple[Any, ...], int] = {}

    def exit(self, kind: int, shape: Shape, reason: str = "") -> int:
        self.exits.append(Exit(kind, shape, reason))
        return len(self.exits) - 1

    def family(self, family: effects.Family) -> int:
        return self.families.setdefault(family.name, len(self.families))


def record_exit(out: Emitter, number: int) -> None:
    """Notes in the state which way out is taken."""
    place = out.value(f"getelementptr i8, ptr @exits, i64 {8 * number}")
    out.line(f"store ptr {place}, ptr {pointer(layout.EXIT)}, align 8")


class BlockWriter:
    """Writes the block of one shape. core: symbolic, with an empty pipeline. fetch: bundles prepared for that core."""

    def __init__(self, module: Module, core: SymbolicCore, fetch: Callable[[int], Issue], shape: Shape) -> None:
        self.module, self.core, self.fetch, self.shape = module, core, fetch, shape
        self.out = Emitter()
        self.pc, self.delay, self.target, self.loop = shape.pc, shape.delay, shape.target, shape.loop
        self.time = 0
        self.bundles = self.mac_bundles = self.worst_stall = 0
        self.stall: str | None = None
        self.stubs: list[tuple[str, int, str]] = []  # label, exit, cycle: ways out to be written at the end
        self.exit_label: str | None = None
        self.saved: list[list[list[Any]]] = []
        self.lazy: list[Any] = []  # values that wait in the state buffer
        self.successors: list[Shape] = []
        self.wheels = (core.late, core.scalar_landings, core.vector_landings, core.bypass_landings)

    # values under way

    def _value(self, spec: tuple[Any, ...], seen: dict[tuple[Any, ...], Any]) -> Any:
        if spec[0] == "c":
            return spec[1]
        if spec[0] == "l":
            return [self._value(each, seen) for each in spec[1]]
        if spec not in seen:
            offset = spec[1]
            place = pointer(offset)
            if spec[0] == "s":
                seen[spec] = Scalar(None, slot=offset, load=f"load i64, ptr {place}, align 8")
            else:
                seen[spec] = Lanes(None, spec[2], "i8", slot=offset,
                                   load=f"load <{spec[2]} x i8>, ptr {place}, align {alignment(offset)}")
            self.lazy.append(seen[spec])
        return seen[spec]

    def _enter(self) -> None:
        """Fills the wheels of the core with what is under way."""
        core, seen = self.core, {}  # type: ignore[var-annotated]
        for delay in range(WHEEL):
            for origin, stage, values in self.shape.late[delay]:
                function = self.fetch(origin[0]).actions and self._stage(origin, stage)
                core.late[delay].append((function, tuple(self._value(each, seen) for each in values)))
            for index, value in self.shape.scalar[delay]:
                core.scalar_landings[delay].append((index, self._value(value, seen)))
            for wheel, entries in ((core.vector_landings, self.shape.vector),
                                   (core.bypass_landings, self.shape.bypass)):
                for offset, size, value in entries[delay]:
                    buffer = core.registers.plain
                    wheel[delay].append((buffer[offset - layout.PLAIN:offset - layout.PLAIN + size],
                                         self._value(value, seen)))

    def _stage(self, origin: tuple[int, int], name: str) -> Any:
        for action in self.fetch(origin[0]).actions:
            if action.__globals__["origin"] == origin:
                return action.__globals__[name]
        raise AssertionError(f"no instruction at {origin}")

    def _under_way(self) -> Iterator[Any]:
        """All values in the wheels, lists taken apart."""
        for wheel in self.wheels:
            for entries in wheel:
                for _, values in entries:
                    for value in values if isinstance(values, (tuple, list)) else (values,):
                        if isinstance(value, list):
                            yield from value
                        else:
                            yield value

    def _keep(self) -> None:
        """Stores new values under way in the scratch area, where ways out find them."""
        live: set[int] = set()
        new: dict[int, Any] = {}
        for value in self._under_way():
            if isinstance(value, (Scalar, Lanes)):
                if value.slot is None:
                    new[id(value)] = value
                else:
                    live.add(value.slot)
        free = (slot for slot in range(layout.SCRATCH, layout.STATE_BYTES, layout.SLOT) if slot not in live)
        for value in new.values():
            slot = next(free, None)
            if slot is None:
                raise Untranslatable("more results under way than there is room for")
            self._store(value, slot)
            value.slot = slot

    @staticmethod
    def _store(value: Any, slot: int) -> None:
        kind, text = (value.type, value.ref) if isinstance(value, Lanes) else ("i64", value.ref)
        current().line(f"store {kind} {text}, ptr {pointer(slot)}, align {alignment(slot) if kind != 'i64' else 8}")

    def _describe(self, wheels: Any, first: int, name: Callable[[Any], tuple[Any, ...]]) -> tuple[Any, ...]:
        """late, scalar, vector, bypass of a shape whose next cycle is `first`."""
        late, scalar, vector, bypass = wheels

        def described(value: Any) -> tuple[Any, ...]:
            if isinstance(value, list):
                return ("l", tuple(described(each) for each in value))
            return ("c", value) if value is None or isinstance(value, int) else name(value)

        turn = [(first + delay) & (WHEEL - 1) for delay in range(WHEEL)]
        landings = [tuple(tuple((place.offset, place.size, described(value)) for place, value in wheel[i])
                          for i in turn)
                    for wheel in (vector, bypass)]
        return (
            tuple(tuple((stage.__globals__["origin"], stage.__name__, tuple(map(described, values)))
                        for stage, values in late[i]) for i in turn),
            tuple(tuple((index, described(value)) for index, value in scalar[i]) for i in turn),
            landings[0], landings[1])

    @staticmethod
    def _in_place(value: Any) -> tuple[Any, ...]:
        assert value.slot is not None
        return ("s", value.slot) if isinstance(value, Scalar) else ("v", value.slot, value.count)

    def _settle(self) -> tuple[Any, ...]:
        """Moves what is under way to the slots of the next block; its description."""
        order: dict[int, tuple[Any, int]] = {}

        def name(value: Any) -> tuple[Any, ...]:
            if id(value) not in order:
                if len(order) == layout.UNDER_WAY_SLOTS:
                    raise Untranslatable("more results under way than there is room for")
                order[id(value)] = (value, layout.UNDER_WAY + layout.SLOT * len(order))
            slot = order[id(value)][1]
            return ("s", slot) if isinstance(value, Scalar) else ("v", slot, value.count)

        described = self._describe(self.wheels, self.time, name)
        moved = [(value, slot) for value, slot in order.values() if value.slot != slot]
        for value, _ in moved:
            value.ref  # noqa: B018 (loads what still waits, before its slot is taken)
        for value, slot in moved:
            self._store(value, slot)
        return described

    # ways out

    def _cycle_text(self) -> str:
        """The array cycle at which the present bundle issues."""
        text = self.out.value(f"add i64 %cycle, {self.bundles}") if self.bundles else "%cycle"
        return self.out.value(f"add i64 {text}, {self.stall}") if self.stall else text

    def _count(self, cycle: str) -> None:
        out = self.out
        out.line(f"store i64 {cycle}, ptr {pointer(layout.CYCLE)}, align 8")
        for place, count in ((layout.BUNDLES, self.bundles), (layout.MAC_BUNDLES, self.mac_bundles)):
            if count:
                where = pointer(place)
                before = out.value(f"load i64, ptr {where}, align 8")
                out.line(f"store i64 {out.value(f'add i64 {before}, {count}')}, ptr {where}, align 8")

    def _leave(self, kind: int, shape: Shape, reason: str = "") -> None:
        """Ends the block; cycle and counters are in the state already."""
        number = self.module.exit(kind, shape, reason)
        if kind == LINK:
            self.successors.append(shape)
            self.out.lines.append(Link(number))  # type: ignore[arg-type]
        else:
            record_exit(self.out, number)
            self.out.line(f"ret i64 {kind}")

    def _bail(self) -> str:
        """The label where the interpreter takes this cycle over, because a test failed."""
        if self.exit_label is None:
            label = self.exit_label = self.out.new_label()
            described = self._describe(self.saved, self.time, self._in_place)
            shape = Shape(self.pc, self.delay, self.target, self.loop, *described)
            # The stub is written now, with the counts as they are, and placed behind the block.
            main, self.out.lines = self.out.lines, []
            before = self.out.label
            self.out.start(label)
            self._count(self._cycle_text())
            self._leave(WRONG, shape)
            self.out.label = before
            self.stub_lines += self.out.lines
            self.out.lines = main
        return self.exit_label

    # cycles

    def write(self) -> Block:
        """The whole block."""
        out = self.out
        self.stub_lines: list[Any] = []
        with writing(out):
            out.line(f"%cycle = load i64, ptr {pointer(layout.CYCLE)}, align 8")
            self.core.registers.scalar.known.clear()
            self.core.call_family, self.core.cycle_value = self._call, lambda: Scalar(self._cycle_text())
            for wheel in self.wheels:
                for entries in wheel:
                    entries.clear()
            self._enter()
            limit = out.value(f"load i64, ptr {pointer(layout.LIMIT)}, align 8")
            room = out.value(f"sub i64 {limit}, %cycle")
            check = len(out.lines)
            out.start("body")
            self._run()
            out.start("limited")
            self._leave(LIMIT, self.shape)
            longest = self.bundles - 1 + self.worst_stall if self.bundles else 0
            out.lines[check:check] = [f"  %room = icmp sgt i64 {room}, {longest}",
                                      "  br i1 %room, label %body, label %limited"]
        return Block(self.shape, out.lines + self.stub_lines, out.declarations, self.successors)

    def _run(self) -> None:
        out = self.out
        while True:
            mark, declared = len(out.lines), self.out.label
            self.saved = [[list(entries) for entries in wheel] for wheel in self.wheels]
            known = dict(self.core.registers.scalar.known)
            stubs, loop = len(self.stub_lines), self.loop
            waiting = [value for value in self.lazy if not value.loaded]
            counts = (self.bundles, self.mac_bundles, self.stall, self.worst_stall, self.time)
            try:
                more = self._cycle()
            except (Untranslatable, NeedsConstant, EmulationError) as problem:
                del out.lines[mark:], self.stub_lines[stubs:]
                out.label = declared
                self.loop = loop
                self.bundles, self.mac_bundles, self.stall, self.worst_stall, self.time = counts
                for value in waiting:
                    value._ref = None
                for wheel, entries in zip(self.wheels, self.saved, strict=True):
                    wheel[:] = entries
                self.core.registers.scalar.known = known
                self._stop(getattr(problem, "message", str(problem)))
                return
            if not more:
                return

    def _stop(self, reason: str) -> None:
        """The interpreter has to take this cycle, always."""
        described = self._settle()
        self._count(self._cycle_text())
        self._leave(INTERPRET, Shape(self.pc, self.delay, self.target, self.loop, *described), reason)

    def _cycle(self) -> bool:
        """One bundle; whether the block goes on."""
        core, slot = self.core, self.time & (WHEEL - 1)
        core.start_cycle()
        self.exit_label = None
        self.out.check = core.require
        for stage, values in core.late[slot]:
            stage(self.time, *values)
        core.late[slot].clear()
        issue = self.fetch(self.pc)
        for action in issue.actions:
            action(self.time)
        places = [core.locate(address, size) for address, size, _, _ in core.stores]
        stall = banks.stall(core.accesses) if len(core.accesses) > 1 else None
        self._check_branches()
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
        for taken, target in self.core.branches:
            if len(self.core.branches) > 1:
                raise Untranslatable("two control transfers in one bundle")
            if self.delay:
                if isinstance(taken, int) and taken:
                    raise Untranslatable("a control transfer in delay slots")
                self.core.wrong.append(i64(taken))
            if isinstance(target, int):
                if target & 15:
                    raise Untranslatable("a target that is not aligned")
            else:
                self.core.wrong.append(i64((target & 15) * taken))

    def _check(self) -> None:
        wrong, out = self.core.wrong, self.out
        known = [each for each in wrong if not each.startswith("%")]
        if any(each != "0" for each in known):
            raise Untranslatable("what the interpreter refuses")
        wrong = [each for each in wrong if each.startswith("%")]
        if not wrong:
            return
        total = wrong[0]
        for each in wrong[1:]:
            total = out.value(f"or i64 {total}, {each}")
        fine = out.value(f"icmp eq i64 {total}, 0")
        label = out.new_label()
        out.line(f"br i1 {fine}, label %{label}, label %{self._bail()}, !prof !0")
        out.start(label)

    def _land(self, slot: int) -> None:
        core = self.core
        for index, value in core.scalar_landings[slot]:
            core.registers.scalar[index] = value
            if index in (LC, LS, LE):
                self._loop_register(index, value)
        core.scalar_landings[slot].clear()
        for wheel in (core.vector_landings, core.bypass_landings):
            for place, value in wheel[slot]:
                if not isinstance(value, Lanes) or value.count != place.size:
                    raise Untranslatable("a result of another width than its register")
                self._store(value, place.offset)
            wheel[slot].clear()
        self._keep()

    def _loop_register(self, index: int, value: Any) -> None:
        known = value if isinstance(value, int) else None
        if index == LC:
            self.loop = self.loop._replace(active=known is None or known > 0)
        elif index == LS:
            self.loop = self.loop._replace(start=known)
        else:
            self.loop = self.loop._replace(end=known)

    # control

    def _next(self, delay: int, target: Any, pc: int) -> tuple[int, int, int | None]:
        """pc, delay and target after this cycle, where the next bundle would be at pc; -1 for a computed pc."""
        if delay == 1:
            return (-1 if target is None else target), 0, 0
        return pc, max(delay - 1, 0), target

    def _advance(self, issue: Issue) -> bool:
        loop_end = self.loop.active and self._at_loop_end()
        if loop_end and self.loop.start is None:
            raise Untranslatable("a hardware loop whose start is not known")
        decisions = [each for each in self.core.branches if not isinstance(each[0], int)]
        waits = [each for each in self.core.locks if not (isinstance(each[3], int) and not each[3])]
        if len(waits) > 1 or len(decisions) + bool(loop_end) + len(waits) > 1:
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

    def _at_loop_end(self) -> bool:
        if self.loop.end is None:
            raise Untranslatable("a hardware loop whose end is not known")
        return self.pc == self.loop.end

    def _static_target(self, target: Any) -> int | None:
        if isinstance(target, int):
            return target
        self.out.line(f"store i64 {target.ref}, ptr {pointer(layout.TARGET)}, align 8")
        return None

    def _go_on(self, following: int, delay: int, target: int | None) -> bool:
        pc, delay, target = self._next(delay, target, following)
        jumped = pc != following
        self.pc, self.delay, self.target = pc, delay, target
        if not jumped and self.bundles < MAXIMUM_BUNDLES and len(self.out.lines) < MAXIMUM_LINES:
            return True
        described = self._settle()
        self._count(self._cycle_text())
        self._transfer(Shape(pc, delay, target, self.loop, *described))
        return False

    def _transfer(self, shape: Shape) -> None:
        self._leave(COMPUTED if shape.pc < 0 else LINK, shape)

    def _two_ways(self, condition: str, first: Shape, second: Shape) -> None:
        labels = self.out.new_label(), self.out.new_label()
        self.out.line(f"br i1 {condition}, label %{labels[0]}, label %{labels[1]}")
        for label, shape in zip(labels, (first, second), strict=True):
            self.out.start(label)
            self._transfer(shape)

    def _divide_loop(self, issue: Issue, delay: int, target: int | None) -> None:
        count = Scalar(i64(self.core.registers.scalar[LC])) if isinstance(
            self.core.registers.scalar[LC], int) else self.core.registers.scalar[LC]
        again = i1(count > 1) if isinstance(count, Scalar) else "false"
        left = self.core.lanes.pick(count > 0, count - 1, count)
        self.core.registers.scalar[LC] = left
        described = self._settle()
        self._count(self._cycle_text())
        assert self.loop.start is not None
        back = self._next(delay, target, self.loop.start)
        out = self._next(delay, target, issue.following)
        self._two_ways(again, Shape(*back, self.loop, *described),
                       Shape(*out, self.loop._replace(active=False), *described))

    def _divide_branch(self, issue: Issue, branch: tuple[Any, Any]) -> None:
        taken, where = branch
        condition = i1(taken)
        target = self._static_target(where)
        described = self._settle()
        self._count(self._cycle_text())
        jump = self._next(DELAY_SLOTS + 1, target, issue.following)
        stay = self._next(self.delay, self.target, issue.following)
        self._two_ways(condition, Shape(*jump, self.loop, *described), Shape(*stay, self.loop, *described))

    def _request(self, issue: Issue, request: tuple[Any, ...], delay: int, target: int | None) -> None:
        acquire, number, value, enabled = request
        for place, each in ((layout.LOCK_ACQUIRE, acquire), (layout.LOCK_NUMBER, number), (layout.LOCK_VALUE, value)):
            self.out.line(f"store i64 {i64(each)}, ptr {pointer(place)}, align 8")
        condition = None if isinstance(enabled, int) else i1(enabled)
        described = self._settle()
        self._count(self._cycle_text())
        after = self._next(delay, target, issue.following)
        if after[0] < 0:
            raise Untranslatable("a lock request in the last delay slot of a computed jump")
        shape = Shape(*after, self.loop, *described)
        if condition is None:
            self._leave(LOCK, shape)
            return
        labels = self.out.new_label(), self.out.new_label()
        self.out.line(f"br i1 {condition}, label %{labels[0]}, label %{labels[1]}")
        self.out.start(labels[0])
        self._leave(LOCK, shape)
        self.out.start(labels[1])
        self._leave(LINK, shape)

    # effects out of line

    def _call(self, family: effects.Family, arguments: list[Any]) -> Any:
        out = self.out
        table = self.module.family(family)
        base = out.value(f"getelementptr i8, ptr @families, i64 {16 * KEYS * table}")
        if family.decides:
            function = self._find(table, base, [arguments[i] for i in family.decides])
        else:
            place = out.value(f"getelementptr i8, ptr {base}, i64 8")
            function = out.value(f"load ptr, ptr {place}, align 8, !invariant.load !1")
        texts = ", ".join(f"{effects.type_of(family.arguments[i])} {effects.text_of(arguments[i])}"
                          for i in family.passed)
        result = out.value(f"call {family.result_type} {function}({texts}) #1")
        kinds = family.results
        parts = [result] if len(kinds) == 1 else [
            out.value(f"extractvalue {family.result_type} {result}, {i}") for i in range(len(kinds))]
        values = [Lanes(part, kind, "i8") if kind else Scalar(part) for part, kind in zip(parts, kinds, strict=True)]
        return values[0] if len(kinds) == 1 else tuple(values)

    def _find(self, table: int, base: str, values: list[Any]) -> str:
        """The function of a family for these values: from its table, or by asking for it."""
        out = self.out
        key = i64(values[0])
        if len(values) > 1:
            for position, value in enumerate(values):
                if isinstance(value, int):
                    if value >> 16:
                        raise Untranslatable("a mode of more than 16 bits")
                else:
                    self.core.wrong.append(i64(value & ~0xFFFF))
                if position:
                    shifted = out.value(f"shl i64 {i64(value)}, {16 * position}")
                    key = out.value(f"or i64 {key}, {shifted}")
        hashed = out.value(f"mul i64 {key}, {HASH - (1 << 64)}")
        index = out.value(f"lshr i64 {hashed}, 60")
        entry = out.value(f"getelementptr [2 x i64], ptr {base}, i64 {index}")
        found = out.value(f"load i64, ptr {entry}, align 8")
        place = out.value(f"getelementptr i8, ptr {entry}, i64 8")
        function = out.value(f"load ptr, ptr {place}, align 8")
        same, filled = out.value(f"icmp eq i64 {found}, {key}"), out.value(f"icmp ne ptr {function}, null")
        hit = out.value(f"and i1 {same}, {filled}")
        labels = [out.new_label() for _ in range(3)]
        out.line(f"br i1 {hit}, label %{labels[2]}, label %{labels[0]}, !prof !0")
        before = out.label
        out.start(labels[0])
        asked = out.value("load ptr, ptr @resolve, align 8")
        made = out.value(f"call ptr {asked}(ptr @families, i64 {table}, i64 {key})")
        missing = out.value(f"icmp eq ptr {made}, null")
        out.line(f"br i1 {missing}, label %{self._bail()}, label %{labels[1]}")
        out.start(labels[1])
        out.line(f"br label %{labels[2]}")
        out.start(labels[2])
        return out.value(f"phi ptr [ {function}, %{before} ], [ {made}, %{labels[1]} ]")


__all__ = ["COMPUTED", "HASH", "INTERPRET", "KEYS", "LIMIT", "LINK", "LOCK", "UNKNOWN", "WRONG", "Block", "BlockWriter",
           "Exit", "Issue", "Link", "Module"]
