"""Structured program -> positions of bundles: schedules every region and joins them.

Code grows on one line of positions, a bundle each.  What is in flight is followed across straight code and the ramps
of hardware loops; before and behind every branch the pipeline is empty (all results have landed).
Beside the line of bundles goes the *trace*, the same operations at the cycles in which liveness sees them: a few passes
of a hardware loop stand there one after the other, so that first passes are told from steady ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from npuc.compiler.diagnostics import InternalError
from npuc.compiler.target.aie2.schedule import DELAY_SLOTS
from npuc.passes.machine.dependence import dependences
from npuc.passes.machine.ir import (
    Barrier,
    CountedLoop,
    Forever,
    HardwareLoop,
    IfNonzero,
    Label,
    Op,
    Part,
    Program,
    Reg,
    Statement,
)
from npuc.passes.machine.list_schedule import Placed, list_schedule
from npuc.passes.machine.modulo_schedule import ModuloSchedule, modulo_schedule
from npuc.passes.machine.nodes import Node, make_node, slots_of
from npuc.passes.machine.reservation import ReservationTable

# Set-up of the hardware loop (facts/schedule/aie2_hazards.md section 6).
SETUP_BUNDLES = 7
SETUP_BYTES = 112


@dataclass(frozen=True)
class Choices:
    """What register allocation may ask to change: least intervals by loop name, straight code as written, halves of
    accumulators."""

    least_intervals: Mapping[str, int] = field(default_factory=dict)
    in_order: bool = False
    halves: Mapping[Reg, str] = field(default_factory=dict)


@dataclass
class LoopRecord:
    """How a hardware loop came out, for statistics."""

    name: str
    count: int
    schedule: ModuloSchedule
    first: int
    last: int
    looped: bool


@dataclass
class Trace:
    """Operations at the cycles liveness sees; edges beyond falling through: cycle -> cycles that may follow.

    loops: (name, first and last cycle) of the bodies of hardware loops; overlaps: the same with both ramps, and of
    loops whose passes all lie in ramps.
    """

    length: int = 0
    operations: list[tuple[int, Node]] = field(default_factory=list)
    jumps: dict[int, list[int]] = field(default_factory=dict)
    dead_ends: set[int] = field(default_factory=set)
    loops: list[tuple[str, int, int]] = field(default_factory=list)
    overlaps: list[tuple[str, int, int]] = field(default_factory=list)


@dataclass
class Emission:
    """The scheduled program, registers still virtual."""

    bundles: list[dict[str, Placed]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    symbols: list[tuple[int, str]] = field(default_factory=list)
    aligned: set[int] = field(default_factory=set)
    loop_ends: set[int] = field(default_factory=set)
    setups: list[tuple[int, int]] = field(default_factory=list)
    loops: list[LoopRecord] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)


class Emitter:
    """Schedules a program region by region."""

    def __init__(self, choices: Choices, cache: dict[tuple[str, int, str], ModuloSchedule]) -> None:
        self.choices = choices
        self.cache = cache
        self.out = Emission()
        self.table = ReservationTable()
        self.window: list[Placed] = []
        self.floor = 0
        self.shift = 0  # trace cycle of a position, less the position
        self.names: dict[str, int] = {}
        self.label_cycles: dict[str, int] = {}

    def run(self, program: Program) -> Emission:
        self.statements(program.body)
        self.drain()
        self.out.trace.length = len(self.out.bundles) + self.shift
        return self.out

    # structure

    def statements(self, body: Sequence[Statement]) -> None:
        straight: list[Op] = []
        for statement in body:
            if isinstance(statement, Op):
                straight.append(statement)
                continue
            self.straight(straight)
            straight = []
            if isinstance(statement, HardwareLoop):
                self.hardware_loop(statement)
            elif isinstance(statement, CountedLoop):
                self.counted_loop(statement)
            elif isinstance(statement, IfNonzero):
                self.if_nonzero(statement)
            elif isinstance(statement, Forever):
                self.forever(statement)
            elif isinstance(statement, Barrier):
                self.drain()
        self.straight(straight)

    def straight(self, operations: Sequence[Op]) -> None:
        if operations:
            nodes = [make_node(op, self.choices.halves) for op in operations]
            placed = list_schedule(
                nodes, self.table, before=self.window, floor=self.floor, in_order=self.choices.in_order
            )
            for p in placed:
                self.put(p)
            self.window += placed

    def counted_loop(self, loop: CountedLoop) -> None:
        start = self.label(loop.name)
        self.statements([*loop.body, Op("ADD_NC", (loop.count, loop.count, -1), comment=f"count {loop.name}")])
        last = self.branch("JNZ", (loop.count, Label(start)))
        self.out.trace.jumps.setdefault(last, []).append(self.label_cycles[start])

    def if_nonzero(self, branch: IfNonzero) -> None:
        name = self.unique("endif")
        last = self.branch("JZ", (branch.condition, Label(name)))
        self.statements(branch.body)
        self.place_label(name)
        self.out.trace.jumps.setdefault(last, []).append(self.label_cycles[name])

    def forever(self, loop: Forever) -> None:
        start = self.label(loop.name)
        self.statements(loop.body)
        last = self.branch("J_jump_imm", (Label(start),))
        self.out.trace.jumps.setdefault(last, []).append(self.label_cycles[start])
        self.out.trace.dead_ends.add(last)

    # positions

    def put(self, placed: Placed) -> None:
        self.grow(placed.position + 1)
        bundle = self.out.bundles[placed.position]
        bundle[placed.choice.instruction.slot] = placed
        self.out.trace.operations.append((placed.position + self.shift, placed.node))

    def grow(self, length: int) -> None:
        while len(self.out.bundles) < length:
            self.out.bundles.append({})

    def drained(self) -> int:
        """The first position by which all that was placed has landed."""
        return max([len(self.out.bundles), *(p.position + p.node.reach for p in self.window)])

    def drain(self) -> None:
        self.grow(self.drained())
        self.begin()

    def begin(self) -> None:
        """Nothing is in flight at the end of the line."""
        self.floor = len(self.out.bundles)
        self.window = []
        self.table = ReservationTable()

    def unique(self, name: str) -> str:
        count = self.names.get(name, 0)
        self.names[name] = count + 1
        return name if count == 0 and name != "endif" else f"{name}.{count}"

    def label(self, name: str) -> str:
        name = self.unique(name)
        self.place_label(name)
        return name

    def place_label(self, name: str) -> None:
        self.drain()
        position = len(self.out.bundles)
        self.out.labels[name] = position
        self.label_cycles[name] = position + self.shift
        self.out.symbols.append((position, name))
        self.out.aligned.add(position)

    def branch(self, name: str, operands: tuple[Reg | Label, ...]) -> int:
        """Place a branch whose delay slots end when the pipeline is empty; returns the trace cycle of the last one."""
        node = make_node(Op(name, operands))
        end = self.drained()
        floor = max(self.floor, end - 1 - DELAY_SLOTS)
        placed = list_schedule([node], self.table, before=self.window, floor=floor)[0]
        self.put(placed)
        self.grow(max(end, placed.position + 1 + DELAY_SLOTS))
        if len(self.out.bundles) != placed.position + 1 + DELAY_SLOTS:
            raise InternalError(f"branch at {placed.position}: delay slots do not end the region")
        self.begin()
        return len(self.out.bundles) - 1 + self.shift

    # hardware loops

    def modulo(self, name: str, loop: HardwareLoop, nodes: Sequence[Node]) -> ModuloSchedule:
        least = max(loop.least_interval, self.choices.least_intervals.get(name, 1))
        key = (name, least, "".join(self.choices.halves.get(reg, "-") for reg in _accumulators(loop)))
        if key not in self.cache:
            most = min(loop.count, loop.max_stages or loop.count)
            self.cache[key] = modulo_schedule(
                nodes,
                minimum=least,
                most_stages=most,
                pipelined=loop.pipelined,
                ordered=loop.ordered,
                thorough=loop.thorough,
            )
        return self.cache[key]

    def hardware_loop(self, loop: HardwareLoop) -> None:
        operations = [op for op in loop.body if isinstance(op, Op)]
        if loop.count == 1 or not operations:
            self.straight(operations)
            return
        nodes = [make_node(op, self.choices.halves) for op in operations]
        for node in nodes:
            if node.is_lock or node.is_barrier or any(c.instruction.has_delay_slots for c in node.choices):
                raise InternalError(f"hardware loop {loop.name}: {node.op.name} cannot be inside")
        name = self.unique(loop.name)
        _LoopEmission(self, name, loop, nodes, self.modulo(name, loop, nodes)).run()


def _accumulators(loop: HardwareLoop) -> list[Reg]:
    operands = (o.reg if isinstance(o, Part) else o for op in loop.body if isinstance(op, Op) for o in op.operands)
    return list(dict.fromkeys(o for o in operands if isinstance(o, Reg) and o.file == "bm"))


class _LoopEmission:
    """One pipelined loop: ramp in, body, ramp out."""

    def __init__(
        self, emitter: Emitter, name: str, loop: HardwareLoop, nodes: Sequence[Node], schedule: ModuloSchedule
    ) -> None:
        self.e, self.name, self.loop, self.nodes, self.schedule = emitter, name, loop, nodes, schedule
        self.interval, self.stages = schedule.interval, schedule.stages
        self.peeled = max(0, min(loop.peeled, loop.count - self.stages - 1))
        self.passes = loop.count - self.stages + 1 - self.peeled
        self.rising = self.stages - 1 + self.peeled  # passes that begin before the loop
        self.ramp = self.rising * self.interval

    def run(self) -> None:
        e, name = self.e, self.name
        base, setters = self._base()
        start, end = base + self.ramp, base + self.ramp + self.interval
        e.grow(end)
        for setter in self._setters(name):
            position = setters.pop(0)
            node = make_node(setter)
            choice = node.choices[0]
            e.table.take(-1, choice, position)
            e.put(Placed(node, choice, position))
            e.out.setups.append((position, end - 1))
        self._place(base)
        e.out.loops.append(LoopRecord(name, self.loop.count, self.schedule, start, end, self.passes > 1))
        e.out.symbols.append((start, name))
        if self.passes > 1:
            e.out.labels.update({name: start, f"{name}.last": end - 1})
            e.out.aligned |= {start, end - 1, end}
            e.out.loop_ends.add(end - 1)
            e.floor = end

    def _setters(self, name: str) -> list[Op]:
        """Writes of the loop registers, the last the one that may go anywhere."""
        if self.passes == 1:
            return []
        count = "MOVA_lda_cg" if self.passes <= 1023 else "MOVXM_lng_cg"
        return [
            Op("MOVXM_lng_cg", ("ls", Label(name)), comment=f"loop {name}"),
            Op("MOVXM_lng_cg", ("le", Label(f"{name}.last")), comment=f"loop {name}"),
            Op(count, ("lc", self.passes), comment=f"loop {name}"),
        ]

    def _instances(self, first: int, last: int) -> list[tuple[int, int]]:
        """(operation, time) of passes first..last in program order."""
        return [(i, t + k * self.interval) for k in range(first, last + 1) for i, t in enumerate(self.schedule.times)]

    def _base(self) -> tuple[int, list[int]]:
        """The earliest position for the ramp in, and those of the writes of the loop registers."""
        e, choices = self.e, self.schedule.choices
        rising = [(i, t) for i, t in self._instances(0, self.rising) if t < self.ramp or self.passes == 1]
        base = e.floor
        graph = dependences([*(p.node for p in e.window), *(self.nodes[i] for i, _ in rising)], first=len(e.window))
        for (source, target, _), latency in graph.edges.items():
            if source < len(e.window):
                base = max(base, e.window[source].position + latency - rising[target - len(e.window)][1])
        if self.passes > 1:
            landed = max([e.floor, *(p.position + p.node.reach for p in e.window)])
            base = max(base, landed - self.ramp, len(e.out.bundles) - self.ramp)
        while True:
            if all(e.table.free(choices[i], base + t) for i, t in rising):
                setters = self._setter_positions(base, rising)
                if setters is not None:
                    return base, setters
            base += 1

    def _setter_positions(self, base: int, rising: Sequence[tuple[int, int]]) -> list[int] | None:
        """Free places for the writes of the loop registers, early enough before the loop's end."""
        last = min(base + self.ramp + self.interval - 1 - SETUP_BUNDLES, base + self.ramp - 1)
        taken = {(slot, base + t) for i, t in rising for slot in slots_of(self.schedule.choices[i].instruction)}
        units = {(claim.unit, base + t + claim.cycle) for i, t in rising for claim in self.schedule.choices[i].claims}
        positions: list[int] = []
        for setter in self._setters(""):
            choice = make_node(setter).choices[0]
            for position in range(self.e.floor, last + 1):
                slots = {(slot, position) for slot in slots_of(choice.instruction)}
                rows = {(claim.unit, position + claim.cycle) for claim in choice.claims}
                if self.e.table.free(choice, position) and not slots & taken and not rows & units:
                    positions.append(position)
                    taken |= slots
                    break
            else:
                return None
        return positions

    def _place(self, base: int) -> None:
        """Bundles of both ramps and the body; the trace; what is in flight behind the loop."""
        e, count = self.e, self.loop.count
        skipped = (self.passes - 1) * self.interval  # bundles of passes that are not laid out
        end = self.ramp + self.interval
        for i, t in self._instances(0, self.rising):
            if t < end:
                self._lay(i, base + t)
        reach = max(n.reach for n in self.nodes)
        tail = self._instances(max(0, count - self.stages - 1 - reach // self.interval), count - 1)
        window = []
        for i, t in tail:
            position = base + t - skipped
            if t - skipped >= end:
                self._lay(i, position)
            if self.passes == 1 or t - skipped + self.nodes[i].reach > end:
                window.append(Placed(self.nodes[i], self.schedule.choices[i], position))
        for p in window:
            e.table.take(-1, p.choice, p.position)
        if self.passes == 1:
            e.window += window
        else:
            e.window = window
        self._trace(base)

    def _lay(self, i: int, position: int) -> None:
        self.e.grow(position + 1)
        choice = self.schedule.choices[i]
        self.e.out.bundles[position][choice.instruction.slot] = Placed(self.nodes[i], choice, position)

    def _trace(self, base: int) -> None:
        """Enough passes for the first ones to differ from the steady one, which alone repeats."""
        e, trace = self.e, self.e.out.trace
        reach = max(n.reach for n in self.nodes)
        shown = min(self.passes, 2 + reach // self.interval)
        count = shown + self.rising
        for i, t in self._instances(0, count - 1):
            trace.operations.append((base + e.shift + t, self.nodes[i]))
        first = base + e.shift + self.ramp
        last = first + shown * self.interval - 1
        trace.loops.append((self.name, first, last))
        trace.overlaps.append((self.name, first - self.ramp, last + self.ramp))
        if shown < self.passes:
            trace.jumps.setdefault(last, []).append(last - self.interval + 1)
        e.shift += (shown - 1) * self.interval
