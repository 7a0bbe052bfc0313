"""Register allocation: virtual registers onto sets of physical parts, after scheduling.

A virtual register needs a physical one of its file (whole, so that its parts lie together), whose parts conflict with
nothing else that lives there, and which every instruction field naming it can encode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from npuc.compiler.target.aie2.registers import REGISTER_CLASSES
from npuc.passes.machine.ir import Part, Reg
from npuc.passes.machine.liveness import Liveness, set_bits
from npuc.passes.machine.nodes import Node, fixed_parts, locations, part_name

# Physical registers of each file, in order of preference: accumulators' and tuples' halves fill up one by one so that
# whole ones stay free (facts/isa/aie2_registers.json).
FILES: dict[str, tuple[str, ...]] = {
    "x": tuple(f"x{n}" for n in range(12)),
    "wl": tuple(f"wl{n}" for n in range(12)),
    "wh": tuple(f"wh{n}" for n in range(12)),
    "y": tuple(f"y{n}" for n in range(2, 6)),
    "cm": tuple(f"cm{n}" for n in range(9)),
    "bm": tuple(f"bm{half}{n}" for n in range(9) for half in "lh"),
    "r": tuple(f"r{n}" for n in range(32)),
    "l": tuple(f"r{n + 1}:r{n}" for n in range(16, 32, 2)),
    "s": tuple(f"s{n}" for n in range(4)),
    "q": tuple(f"q{n}" for n in range(4)),
    "d3": tuple(f"d{n}" for n in range(4)),
    "lr": ("lr",),
    **{file: tuple(f"{file}{n}" for n in range(8)) for file in ("p", "m", "dn", "dj", "dc", "d")},
}
_RIVALS = {"bm": "accumulator", "cm": "accumulator", "x": "vector", "y": "vector", "wl": "vector", "wh": "vector"}
_EVICTIONS = 300  # of registers that find places some find them at once, and the others hardly ever


class AllocationFailed(Exception):
    """`reg` found no register; `cycle` of the trace is where most of its file are wanted."""

    def __init__(self, reg: Reg, wanted: int, limit: int, cycle: int) -> None:
        super().__init__(f"{reg}: {wanted} of {limit} {reg.file}")
        self.reg, self.wanted, self.limit, self.cycle = reg, wanted, limit, cycle


@dataclass
class _Request:
    """A virtual register: its location bits, and per candidate the physical parts in the same order."""

    reg: Reg
    bits: tuple[int, ...]
    candidates: list[tuple[str, tuple[str, ...]]]


def allocate(nodes: Iterable[Node], live: Liveness, halves: Mapping[Reg, str]) -> dict[Reg, str]:
    """A physical register for every virtual one; halves: of accumulators, `l` or `h`.  Raises AllocationFailed."""
    requests = _requests(nodes, live, halves)
    return _Colouring(requests, live).run()


def _requests(nodes: Iterable[Node], live: Liveness, halves: Mapping[Reg, str]) -> list[_Request]:
    allowed: dict[Reg, frozenset[str]] = {}
    for node in nodes:
        for choice in node.choices:
            for operand, value in zip(choice.instruction.operands, node.op.operands, strict=True):
                reg = value.reg if isinstance(value, Part) else value
                if isinstance(reg, Reg) and reg.fixed is None:
                    which = value.which if isinstance(value, Part) else None
                    _restrict(allowed, reg, which, operand.register_class or "")
    requests = []
    for reg, names in allowed.items():
        bits = tuple(live.bits.get(location, -1) for location in locations(reg))
        if reg in halves:
            names = frozenset(name for name in names if name[2] == halves[reg])
        candidates = [(name, fixed_parts(reg.file, name)) for name in FILES[reg.file] if name in names]
        requests.append(_Request(reg, bits, candidates))
    return requests


def _restrict(allowed: dict[Reg, frozenset[str]], reg: Reg, which: str | None, register_class: str) -> None:
    names = _encodable(reg.file, which, register_class)
    allowed[reg] = allowed[reg] & names if reg in allowed else names


@cache
def _encodable(file: str, which: str | None, register_class: str) -> frozenset[str]:
    """The registers of a file that, or part `which` of which, a field of the class encodes."""
    values = REGISTER_CLASSES[register_class].values
    return frozenset(name for name in FILES[file] if (part_name(file, name, which) if which else name) in values)


class _Colouring:
    """Greedy colouring, hardest first; a register that finds no place evicts the cheapest others."""

    def __init__(self, requests: Sequence[_Request], live: Liveness) -> None:
        self.live = live
        self.requests = requests
        self.holders: dict[str, int] = {}  # physical part -> bits of the locations that use it
        self.owner: dict[int, int] = {}  # location bit -> request
        self.given: dict[int, int] = {}  # request -> candidate
        self.evicted_from: dict[tuple[int, int], int] = {}
        for name, bit in live.bits.items():
            if not name.startswith("%"):
                self.holders[name] = 1 << bit
        for i, request in enumerate(requests):
            self.owner.update(dict.fromkeys(request.bits, i))
        self.tries = 0

    def run(self) -> dict[Reg, str]:
        order = sorted(range(len(self.requests)), key=self._difficulty)
        while order:
            i = order.pop(0)
            place = self._free_place(i)
            if place is None:
                place, leaving = self._contested_place(i)
                self.tries += 1
                if place is None or self.tries > _EVICTIONS:
                    raise self._failure(i)
                for j in leaving:
                    self._remove(j)
                order = [*leaving, *order]
            self._give(i, place)
        return {r.reg: r.candidates[self.given[i]][0] for i, r in enumerate(self.requests)}

    def _difficulty(self, i: int) -> tuple[int, int, int, int]:
        """Many parts, few candidates and many conflicts first."""
        request = self.requests[i]
        conflicts = sum(self.live.conflicts[bit].bit_count() for bit in request.bits if bit >= 0)
        return len(request.candidates) > 8, -len(request.bits), -conflicts, i

    def _clashes(self, i: int, candidate: int) -> int:
        """Bits in the way of request i at a candidate."""
        request, found = self.requests[i], 0
        for bit, part in zip(request.bits, request.candidates[candidate][1], strict=True):
            if bit >= 0:
                found |= self.live.conflicts[bit] & self.holders.get(part, 0)
        return found

    def _free_place(self, i: int) -> int | None:
        """A place without conflicts, by preference one whose other half is in use already."""
        best: tuple[int, int] | None = None
        for candidate, (name, _) in enumerate(self.requests[i].candidates):
            if not self._clashes(i, candidate):
                score = (-self._company(name), candidate)
                if best is None or score < best:
                    best = score
        return best[1] if best else None

    def _company(self, name: str) -> int:
        """How much lives in the accumulator that `name` is half of."""
        if not name.startswith("bm"):
            return 0
        return sum(bool(self.holders.get(f"am{a}{b}{name[3:]}")) for a in "lh" for b in "lh")

    def _contested_place(self, i: int) -> tuple[int | None, list[int]]:
        best: tuple[int, int, int] | None = None
        leaving: list[int] = []
        for candidate in range(len(self.requests[i].candidates)):
            bits = list(set_bits(self._clashes(i, candidate)))
            if all(bit in self.owner for bit in bits):
                owners = sorted({self.owner[bit] for bit in bits})
                cost = sum(len(self.requests[j].bits) for j in owners)
                score = (cost + 4 * self.evicted_from.get((i, candidate), 0), len(owners), candidate)
                if best is None or score < best:
                    best, leaving = score, owners
        if best is None:
            return None, []
        self.evicted_from[i, best[2]] = self.evicted_from.get((i, best[2]), 0) + 1
        return best[2], leaving

    def _give(self, i: int, candidate: int) -> None:
        self.given[i] = candidate
        request = self.requests[i]
        for bit, part in zip(request.bits, request.candidates[candidate][1], strict=True):
            if bit >= 0:
                self.holders[part] = self.holders.get(part, 0) | 1 << bit

    def _remove(self, i: int) -> None:
        request = self.requests[i]
        candidate = self.given.pop(i)
        for bit, part in zip(request.bits, request.candidates[candidate][1], strict=True):
            if bit >= 0:
                self.holders[part] &= ~(1 << bit)

    def _failure(self, i: int) -> AllocationFailed:
        reg = self.requests[i].reg
        rivals = _RIVALS.get(reg.file, reg.file)
        chosen = 0
        parts: set[str] = set()
        for request in self.requests:
            if _RIVALS.get(request.reg.file, request.reg.file) == rivals:
                chosen |= sum(1 << bit for bit in request.bits if bit >= 0)
                parts.update(part for _, names in request.candidates for part in names)
        own = sum(1 << bit for bit in self.requests[i].bits if bit >= 0)
        most, cycle = self.live.peak(chosen, own)
        size = len(self.requests[i].bits)
        return AllocationFailed(reg, -(-most // size), len(parts) // size, cycle)
