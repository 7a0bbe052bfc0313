"""Which half of an accumulator each virtual `bm` register is to be.

The read port of the accumulators exists once per half (facts/schedule/aie2_hazards.md section 4), so a loop whose
registers are spread over both halves reads twice as many.  The halves are fixed before scheduling; register
allocation may ask to give one up, which then counts for both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from npuc.passes.machine.ir import HardwareLoop, Op, Part, Program, Reg, Statement
from npuc.passes.machine.nodes import make_node

HALVES = ("l", "h")


def choose_halves(program: Program, without: Iterable[Reg] = ()) -> dict[Reg, str]:
    """`l` or `h` for the `bm` registers that hardware loops use, evenly by reads and by number in each loop."""
    halves: dict[Reg, str] = {}
    free = set(without)
    for loop in sorted(hardware_loops(program.body), key=lambda loop: -len(loop.body)):
        reads, number = Counter[str](), Counter[str]()
        wanted: Counter[Reg] = Counter()
        for op in loop.body:
            if isinstance(op, Op):
                fixed = _count_fixed(op)
                reads.update(fixed)
                for reg in _registers(op):
                    wanted[reg] += _port_reads(op, reg)
        for reg, count in wanted.items():
            if reg in halves:
                reads[halves[reg]] += count
                number[halves[reg]] += 1
        for reg, count in sorted(wanted.items(), key=lambda item: -item[1]):
            if reg not in halves and reg not in free:
                half = min(HALVES, key=lambda h: (reads[h] if count else 0, number[h], reads[h], h == "h"))
                halves[reg] = half
                reads[half] += count
                number[half] += 1
    return halves


def hardware_loops(body: Iterable[Statement]) -> Iterator[HardwareLoop]:
    for statement in body:
        if isinstance(statement, HardwareLoop):
            yield statement
        elif hasattr(statement, "body"):
            yield from hardware_loops(statement.body)


def _registers(op: Op) -> list[Reg]:
    """The free `bm` registers of an operation, each once."""
    whole = (o.reg if isinstance(o, Part) else o for o in op.operands)
    return list(dict.fromkeys(r for r in whole if isinstance(r, Reg) and r.file == "bm" and r.fixed is None))


def _port_reads(op: Op, reg: Reg) -> int:
    names = {str(reg), f"{reg}.lo", f"{reg}.hi"}
    claims = make_node(op).choices[0].claims
    return sum(1 for c in claims if c.shared in names and c.unit.endswith(".l"))


def _count_fixed(op: Op) -> Counter[str]:
    """Reads by halves that are named as such: parts of `cm` registers."""
    claims = make_node(op).choices[0].claims
    spoken = {str(o) for o in op.operands if isinstance(o, Reg | Part) and _of(o).file == "cm"}
    return Counter(c.unit[-1] for c in claims if c.shared in spoken)


def _of(operand: Reg | Part) -> Reg:
    return operand.reg if isinstance(operand, Part) else operand
