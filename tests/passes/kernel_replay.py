"""Symbolic execution of a machine-level program, two ways: statement by statement, and bundle by bundle through the
exposed pipeline.  Equal traces of memory mean that scheduling and register allocation kept the program's meaning.

Values are small integers standing for expressions (equal expressions, equal integers); a few scalar instructions
compute with numbers, so that loops and branches can be followed.
"""

from __future__ import annotations

from collections import defaultdict

from npuc.compiler.asm.codec import decode_program
from npuc.compiler.target.aie2.schedule import DELAY_SLOTS, STICKY_FLAGS, operand_registers, timing
from npuc.passes.machine.bundle_packing import bound, pack
from npuc.passes.machine.codegen import _schedule
from npuc.passes.machine.ir import CountedLoop, Forever, HardwareLoop, IfNonzero, Op, Program
from npuc.passes.machine.layout import bundle_addresses
from npuc.passes.machine.nodes import locations, make_node

REGIONS = ("a", "b", "c")
MOVES = ("MOVA_lda_cg", "MOVX_alu_cg", "MOV_mv_cg", "MOVXM_lng_cg")
LOCK_STAGE = 2


class Expressions:
    """Numbers for expressions; constants stand for themselves."""

    def __init__(self):
        self.known = {}

    def number(self, *key):
        return ("n", self.known.setdefault(key, len(self.known)))

    def compute(self, name, operands, place, inputs):
        """Value an instruction writes to its `place`-th written part, from what it read by then."""
        if name in MOVES:
            return ("c", operands[1])
        values = [v for _, v in inputs]
        if name in ("ADD_add_r_ri", "ADD_NC") and place == 0 and values and values[0][0] == "c":
            return ("c", values[0][1] + operands[2])
        constants = tuple(o for o in operands if isinstance(o, int))
        return self.number(name, constants, place, tuple(values))


class Memory:
    """One symbolic state a region; an access of no region concerns all."""

    def __init__(self, expressions):
        self.e = expressions
        self.state = {region: ("c", 0) for region in REGIONS}

    def regions(self, op):
        return REGIONS if op.memory.region is None else (op.memory.region,)

    def load(self, op):
        return self.e.number("load", tuple(self.state[r] for r in self.regions(op)))

    def store(self, op, name, inputs):
        old = {r: self.state[r] for r in self.regions(op)}
        for region in old:
            self.state[region] = self.e.number("store", name, region, tuple(old.values()), inputs)

    def lock(self, name, operands):
        for region in REGIONS:
            self.state[region] = self.e.number("lock", name, operands, region, self.state[region])


def sequential(program: Program, expressions: Expressions) -> dict:
    """Memory after the program, statement by statement."""
    values = defaultdict(lambda: ("c", 0))
    memory = Memory(expressions)

    def operation(op):
        node = make_node(op)
        unknown = [at for at, _, _ in node.reads if at.startswith("%") and at not in values]
        assert not unknown, f"{op.name} reads {unknown} before any write"
        read = [(stage, values[at]) for at, stage, _ in _reads(node)]
        constants = tuple(o for o in op.operands if isinstance(o, int))
        loaded = []
        if node.memory and "load" in node.memory.kind:
            loaded = [(node.memory.stages[0], memory.load(op))]
        if node.memory and "store" in node.memory.kind:
            memory.store(op, op.name, tuple(v for _, v in read + loaded))
        if node.is_lock:
            memory.lock(op.name, constants)
        written = [
            (at, expressions.compute(op.name, op.operands, i, [x for x in read + loaded if x[0] <= stage]))
            for i, (at, stage, _) in enumerate(node.writes)
        ]
        values.update(written)

    def block(body):
        for s in body:
            if isinstance(s, Op):
                operation(s)
            elif isinstance(s, HardwareLoop):
                for _ in range(s.count):
                    block(s.body)
            elif isinstance(s, CountedLoop):
                count = locations(s.count)[0]
                while True:
                    block(s.body)
                    values[count] = ("c", values[count][1] - 1)
                    assert values[count][1] >= 0, "counted loop that never ends"
                    if not values[count][1]:
                        break
            elif isinstance(s, IfNonzero):
                condition = values[locations(s.condition)[0]]
                assert condition[0] == "c"
                if condition[1]:
                    block(s.body)
            else:
                assert not isinstance(s, Forever)

    block(program.body)
    return memory.state


def _reads(node):
    return sorted(set(node.reads), key=lambda r: (r[1], node.reads.index(r)))


def pipelined(program: Program, expressions: Expressions, limit: int = 20000) -> dict:
    """Memory after the program, bundle by bundle: every read and write in its own stage."""
    emission, registers, _ = _schedule(program)
    addresses = bundle_addresses(emission)
    code, _ = pack(emission, registers, addresses)
    labels = {name: addresses[p] for name, p in emission.labels.items()}
    index = {a: i for i, a in enumerate(addresses)}
    decoded = decode_program(code)
    assert [b.address for b in decoded] == addresses[:-1]
    machine = _Pipeline(expressions)
    position, jump, cycle = 0, None, 0
    while position < len(emission.bundles) or machine.busy(cycle):
        cycle += 1
        assert cycle < limit, "runs away"
        bundle = emission.bundles[position] if position < len(emission.bundles) else {}
        if position < len(emission.bundles):
            meant = {slot: bound(p, registers, labels) for slot, p in bundle.items()}
            there = {d.instruction.slot: (d.instruction, d.operands) for d in decoded[position].instructions}
            assert meant == there, f"bundle {position} encodes something else"
        taken = machine.step(cycle, bundle, registers, labels)
        here, position = position, position + 1
        if taken is not None:
            assert jump is None, "branch in a delay slot"
            jump = (cycle + DELAY_SLOTS, taken)
        if jump is not None and cycle == jump[0]:
            position, jump = index[jump[1]], None
        elif here < len(emission.bundles) and addresses[here] == machine.loop("le") and machine.loop("lc"):
            machine.values["lc"] = ("c", machine.loop("lc") - 1)
            if machine.loop("lc"):
                position = index[machine.loop("ls")]
    return machine.memory.state


class _Instance:
    """One instruction in flight."""

    def __init__(self, op, instruction, operands, issued):
        self.op, self.instruction, self.operands, self.issued = op, instruction, operands, issued
        self.timing = timing(instruction, operand_registers(instruction, operands))
        self.inputs = []


class _Pipeline:
    def __init__(self, expressions):
        self.e = expressions
        self.memory = Memory(expressions)
        self.values = defaultdict(lambda: ("c", 0))
        self.reads, self.landings, self.accesses = defaultdict(list), defaultdict(list), defaultdict(list)

    def loop(self, register):
        kind, value = self.values[register]
        assert kind == "c"
        return value

    def busy(self, cycle):
        return any(c > cycle for table in (self.reads, self.landings, self.accesses) for c in table)

    def step(self, cycle, bundle, registers, labels):
        self._land(cycle)
        jump = None
        for slot in sorted(bundle):
            instruction, operands = bound(bundle[slot], registers, labels)
            instance = _Instance(bundle[slot].node.op, instruction, operands, cycle)
            self._issue(instance, cycle)
            if instruction.has_delay_slots:
                jump = instance
        self._read(cycle)
        self._access(cycle)
        if jump is None:
            return None
        if jump.instruction.name in ("JZ", "JNZ"):
            kind, value = jump.inputs[0][1]
            assert kind == "c", "branch on an unknown value"
            return jump.operands[1] if (value == 0) == (jump.instruction.name == "JZ") else None
        return jump.operands[0]

    def _issue(self, instance, cycle):
        t = instance.timing
        for i, access in enumerate(dict.fromkeys(t.reads)):
            self.reads[cycle + access.stage - 1].append((access.stage, i, instance, access))
        for i, access in enumerate(dict.fromkeys(a for a in t.writes if a.register not in STICKY_FLAGS)):
            self.landings[cycle + access.stage].append((instance, i, access))
        if t.memory is not None:
            for stage in {t.memory.stages[0], t.memory.stages[-1]}:
                self.accesses[cycle + stage - 1].append((instance, stage))
        if instance.instruction.side_effect == "lock":
            self.accesses[cycle + LOCK_STAGE - 1].append((instance, 0))

    def _value(self, instance, place, stage):
        inputs = [x for x in sorted(instance.inputs, key=lambda x: x[2]) if x[0] <= stage]
        return self.e.compute(instance.op.name, instance.operands, place, [x[:2] for x in inputs])

    def _land(self, cycle):
        landing = self.landings.pop(cycle, [])
        parts = [access.register for _, _, access in landing]
        assert len(parts) == len(set(parts)), f"two writes land together: {parts}"
        for instance, place, access in landing:
            self.values[access.register] = self._value(instance, place, access.stage)

    def _read(self, cycle):
        forwarded = {
            (access.register, access.bypass): (instance, place, access)
            for instance, place, access in self.landings.get(cycle + 1, [])
            if access.bypass
        }
        for stage, i, instance, access in self.reads.pop(cycle, []):
            ahead = forwarded.get((access.register, access.bypass))
            if ahead and ahead[0] is not instance:
                value = self._value(*ahead[:2], ahead[2].stage)
            else:
                value = self.values[access.register]
            instance.inputs.append((stage, value, (stage, i)))

    def _access(self, cycle):
        accesses = self.accesses.pop(cycle, [])
        stores = [x for x in accesses if x[1] and "store" in x[0].timing.memory.kind]
        for instance, stage in accesses:
            if stage == 0:
                assert len(accesses) == 1 or len({id(i) for i, s in accesses if s == 0}) == 1
                constants = tuple(o for o in instance.operands if isinstance(o, int))
                self.memory.lock(instance.op.name, constants)
                continue
            t = instance.timing.memory
            if "load" in t.kind and stage == t.stages[0]:
                for other, s in stores:
                    if other is not instance and s == other.timing.memory.stages[-1]:
                        mine, theirs = self.memory.regions(instance.op), self.memory.regions(other.op)
                        assert not set(mine) & set(theirs), "load and store in one cycle"
                instance.inputs.append((stage, self.memory.load(instance.op), (99, 0)))
        for instance, stage in stores:
            if stage == instance.timing.memory.stages[-1]:
                inputs = tuple(v for _, v, _ in sorted(instance.inputs, key=lambda x: x[2]))
                self.memory.store(instance.op, instance.op.name, inputs)
