"""Operations bound to the timing tables: what each reads, writes and occupies, by location.

A location is the smallest thing that can hold a value: `%name.0` for part 0 of a virtual register, or the name of a
smallest physical register (`r27`, `crRnd`).  Dependences are between locations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache

from npuc.compiler.diagnostics import InternalError
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, Instruction, Memory
from npuc.compiler.target.aie2.registers import parts
from npuc.compiler.target.aie2.schedule import STICKY_FLAGS, Timing, timing
from npuc.passes.machine.ir import PART_NAMES, Label, Op, Operand, Part, Reg

# Numbers of stand-in registers: clear of the hardware's, and far enough apart that the second
# tuple of a 3D form (n + 4) and the registers of a pair meet no other stand-in.
_STANDIN_BASE, _STANDIN_STEP = 128, 16

# Order of memory against locks (facts/schedule/aie2_hazards.md section 7).
LOCK_DISTANCE = 4
_BEFORE_LOCK = {"plain": 4, "converting": 6, "subword": 10}
_AFTER_LOCK = {"plain": 4, "converting": 2, "subword": 4}
DONE_DISTANCE = 6


@dataclass(frozen=True)
class Claim:
    """A unit taken at `cycle` (0 = issue), once for each cycle it is held.

    Claims of one kind and the same `shared` register do not collide, nor do two of kind `avoid`.
    """

    unit: str
    cycle: int
    kind: str
    shared: str | None


@dataclass(frozen=True)
class Choice:
    """One instruction that can carry out an operation."""

    instruction: Instruction
    claims: tuple[Claim, ...]


@dataclass(eq=False)
class Node:
    """An operation as the schedulers see it.  accesses: (location, stage, bypass)."""

    op: Op
    choices: tuple[Choice, ...]
    reads: tuple[tuple[str, int, str | None], ...]
    writes: tuple[tuple[str, int, str | None], ...]
    memory: Memory | None
    effect: str | None
    reach: int
    label: str = field(default="")

    @property
    def is_barrier(self) -> bool:
        """Keeps its place among all operations with effects."""
        return self.effect is not None and self.effect != "lock"

    @property
    def is_lock(self) -> bool:
        return self.effect == "lock"

    @property
    def access_width(self) -> str:
        """How its memory access behaves: plain, converting (late store) or subword (read, modify, write)."""
        assert self.memory is not None
        if self.memory.kind == "load+store":
            return "subword"
        return "converting" if self.memory.stages[-1] > 5 else "plain"

    @property
    def before_lock(self) -> int:
        return _BEFORE_LOCK[self.access_width]

    @property
    def after_lock(self) -> int:
        return _AFTER_LOCK[self.access_width]


def slots_of(instruction: Instruction) -> tuple[str, ...]:
    """The issue slots taken: `lng` takes the place of `alu` and `mv` (facts/schedule/aie2_hazards.md section 1)."""
    return ("alu", "mv") if instruction.slot == "lng" else (instruction.slot,)


def locations(operand: Operand) -> tuple[str, ...]:
    """The locations of a register operand."""
    if isinstance(operand, str):
        return parts(operand)
    if isinstance(operand, Reg):
        return _register_locations(operand.file, operand.name, operand.fixed)
    if isinstance(operand, Part):
        whole = locations(operand.reg)
        return tuple(whole[i] for i in operand.indices)
    return ()


@lru_cache(maxsize=1 << 14)
def _register_locations(file: str, name: str, fixed: str | None) -> tuple[str, ...]:
    if fixed is not None:
        return fixed_parts(file, fixed)
    return tuple(f"%{name}.{i}" for i in range(len(PART_NAMES.get(file, ("",)))))


@cache
def fixed_parts(file: str, register: str) -> tuple[str, ...]:
    """Smallest parts of a physical register of a file, in the order of PART_NAMES."""
    found = parts(register)
    return found + parts(f"d{int(register[1:]) + 4}") if file == "d3" else found


_PART_LETTERS = {
    ("x", "lo"): "wl", ("x", "hi"): "wh",
    ("bm", "lo"): "amll", ("bm", "hi"): "amlh",
    ("cm", "lo"): "bml", ("cm", "hi"): "bmh",
    ("cm", "lo.lo"): "amll", ("cm", "lo.hi"): "amlh", ("cm", "hi.lo"): "amhl", ("cm", "hi.hi"): "amhh",
}  # fmt: skip


@cache
def part_name(file: str, register: str, which: str) -> str:
    """The physical name of part `which` of `register`: ('x', 'x3', 'lo') -> wl3, ('bm', 'bmh2', 'lo') -> amhl2."""
    if file == "l":
        return parts(register)[which == "hi"]
    if file == "y":
        number = 2 * int(register[1:]) + which.startswith("hi")
        rest = which[3:]
        return part_name("x", f"x{number}", rest) if rest else f"x{number}"
    number = int(register.lstrip("abcdefghijklmnopqrstuvwxyz"))
    if file in ("d", "d3"):
        return f"{which.rstrip('2')}{number + (4 if which.endswith('2') else 0)}"
    if file == "bm" and register.startswith("bmh"):
        return f"amh{'l' if which == 'lo' else 'h'}{number}"
    return f"{_PART_LETTERS[file, which]}{number}"


def _standin(reg: Reg, number: int, half: str | None) -> str:
    if reg.fixed is not None:
        return reg.fixed
    letters = {"bm": f"bm{half or 'l'}", "d3": "d"}.get(reg.file, reg.file)
    return letters if letters == "lr" else f"{letters}{number}"


def _bind(operands: Iterable[Operand], halves: Mapping[Reg, str]) -> tuple[list[str | int], dict[str, str]]:
    """Operands with stand-in physical names, and the location each smallest stand-in part means."""
    numbers: dict[Reg, int] = {}
    names: list[str | int] = []
    meaning: dict[str, str] = {}
    for operand in operands:
        if isinstance(operand, Label):
            names.append(0)
        elif isinstance(operand, (int, str)):
            names.append(operand)
        else:
            reg = operand.reg if isinstance(operand, Part) else operand
            number = numbers.setdefault(reg, _STANDIN_BASE + _STANDIN_STEP * len(numbers))
            whole = _standin(reg, number, halves.get(reg))
            if reg.fixed is None:
                meaning.update(zip(fixed_parts(reg.file, whole), locations(reg), strict=True))
            names.append(part_name(reg.file, whole, operand.which) if isinstance(operand, Part) else whole)
    return names, meaning


@lru_cache(maxsize=1 << 14)
def _timing(instruction: Instruction, names: tuple[str | int, ...]) -> Timing:
    registers = {o.name: v for o, v in zip(instruction.operands, names, strict=True) if isinstance(v, str)}
    return timing(instruction, registers)


def _claims(instruction: Instruction, found: Timing, spoken: dict[str, str], either: set[str]) -> tuple[Claim, ...]:
    claims = [Claim(f"slot {slot}", 0, "use", None) for slot in slots_of(instruction)]
    for unit, stage, length, kind, shared in found.units:
        units = [unit]
        if shared in either:
            units = [unit[:-2] + ".l", unit[:-2] + ".h"]
        identity = spoken.get(shared, shared) if shared else None
        claims += [Claim(u, stage - 1 + k, kind, identity) for u in units for k in range(length)]
    return tuple(dict.fromkeys(claims))


def _bank(op: Op, found: Timing) -> tuple[Claim, ...]:
    if op.memory.bank is None or found.memory is None:
        return ()
    banks = (op.memory.bank,) if isinstance(op.memory.bank, str) else op.memory.bank
    return tuple(Claim(f"bank {bank}", found.memory.stages[0] - 1, "use", None) for bank in banks)


def make_node(op: Op, halves: Mapping[Reg, str] | None = None) -> Node:
    """halves: the half of an accumulator each `bm` register will be, `l` or `h`; both for those it does not name.

    Raises InternalError for an unknown instruction or operands that do not fit it."""
    halves = halves or {}
    names, meaning = _bind(op.operands, halves)
    spoken = {n: str(o) for n, o in zip(names, op.operands, strict=True) if isinstance(n, str)}
    either = {n for n, o in zip(names, op.operands, strict=True) if isinstance(n, str) and _may_be_either(o, halves)}
    choices = []
    first: Timing | None = None
    for name in (op.name, *op.alternatives):
        instruction = _instruction(name, op)
        found = _timing(instruction, tuple(names))
        if first is None:
            first = found
        elif (found.reads, found.writes, found.memory) != (first.reads, first.writes, first.memory):
            raise InternalError(f"{name} is no alternative of {op.name}: its operands are read or written otherwise")
        choices.append(Choice(instruction, (*_claims(instruction, found, spoken, either), *_bank(op, found))))
    assert first is not None
    reads = tuple((meaning.get(a.register, a.register), a.stage, a.bypass) for a in first.reads)
    writes = tuple(
        (meaning.get(a.register, a.register), a.stage, a.bypass) for a in first.writes if a.register not in STICKY_FLAGS
    )
    instruction = choices[0].instruction
    effect = instruction.side_effect
    if effect is None and (any(a.register in STICKY_FLAGS for a in first.reads) or instruction.name == "MOV_CNTR"):
        effect = "status"
    node = Node(op, tuple(choices), tuple(dict.fromkeys(reads)), tuple(dict.fromkeys(writes)), first.memory, effect, 0)
    node.reach = _reach(node)
    node.label = op.comment
    return node


def _instruction(name: str, op: Op) -> Instruction:
    instruction = INSTRUCTIONS.get(name)
    if instruction is None:
        raise InternalError(f"no instruction {name}")
    if len(instruction.operands) != len(op.operands):
        raise InternalError(f"{name}: {len(op.operands)} operands, not {len(instruction.operands)}: {op.operands}")
    return instruction


def _may_be_either(operand: Operand, halves: Mapping[Reg, str]) -> bool:
    """Whether an operand lies in an accumulator half that is not known yet."""
    reg = operand.reg if isinstance(operand, Part) else operand
    return isinstance(reg, Reg) and reg.file == "bm" and reg.fixed is None and reg not in halves


def _reach(node: Node) -> int:
    """Bundles from issue after which anything may issue as if the pipeline were empty."""
    reach = [1]
    reach += [stage for _, stage, _ in node.writes]
    reach += [stage - 1 for _, stage, _ in node.reads]
    reach += [claim.cycle + 1 for choice in node.choices for claim in choice.claims]
    if node.memory is not None:
        reach += [node.before_lock, node.memory.stages[-1] - 5 + 1]
    if node.is_lock:
        reach.append(LOCK_DISTANCE)
    if node.is_barrier:
        reach.append(DONE_DISTANCE)
    return max(reach)
