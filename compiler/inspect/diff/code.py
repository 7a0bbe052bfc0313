"""Differences of core programs, bundle by bundle, aligned like a text diff.

Branch targets, loop bounds and code addresses in pointers are compared by where they lead, so bundles that an insertion
only shifts are the same.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from npuc.compiler.asm.codec import Bundle, Decoded, Undecodable, decode_sweep
from npuc.compiler.asm.disassembler import bundle_pointer, byte_directive
from npuc.compiler.asm.programs import CoreProgram
from npuc.compiler.asm.text import format_instruction
from npuc.compiler.inspect.diff.loops import size_note
from npuc.compiler.inspect.diff.report import ADDED, CHANGED, REMOVED, Difference
from npuc.compiler.inspect.diff.sequence import Pair, align
from npuc.compiler.target.npu1.geometry import PROGRAM_MEMORY_SIZE

Item = Bundle | Undecodable
CONTEXT = 2  # bundles shown before and after a difference
MOST_LINES = 2000  # of one difference; a program has at most 8,192 bundles
_SHORT = 3  # equal bundles between bigger changes, which are rather chance than sameness
_MANY = 8  # changed bundles beside which equal ones that do nothing are chance


@dataclass(frozen=True)
class CodeChange:
    """Differences of two programs, and where the bundles of the first stand in the second (address -> address).

    note: how the programs and their loops grew or shrank.
    """

    differences: tuple[Difference, ...]
    moved_to: Mapping[int, int]
    note: str = ""


class _Targets(NamedTuple):
    """A bundle with its code addresses taken out, and these."""

    shape: tuple[object, ...]
    addresses: tuple[int, ...]


def _target_of(decoded: Decoded) -> tuple[int, int] | None:
    """(operand place, program address) of an instruction that holds one.

    Branches and loop bounds do; and a pointer that is set to a place below the data memories can only mean code.
    """
    place = bundle_pointer(decoded)
    if place is not None:
        value = decoded.operands[place]
        return (place, value) if isinstance(value, int) else None
    if decoded.instruction.mnemonic == "movxm":
        register, value = decoded.operands
        if str(register)[0] == "p" and isinstance(value, int) and 0 < value < PROGRAM_MEMORY_SIZE:
            return 1, value
    return None


def _instruction_shape(decoded: Decoded) -> tuple[tuple[object, ...], tuple[int, ...]]:
    target = _target_of(decoded)
    if target is None:
        return (decoded.instruction.name, decoded.operands, decoded.canonical), ()
    operands = (*decoded.operands[: target[0]], "target", *decoded.operands[target[0] + 1 :])
    return (decoded.instruction.name, operands, decoded.canonical), (target[1],)


@lru_cache(1 << 16)
def _bundle_shape(raw: bytes) -> _Targets:
    """Of the bytes of one bundle.  Without a target they are the shape themselves, don't-care bits included."""
    (item,) = decode_sweep(raw)
    if isinstance(item, Undecodable):
        return _Targets((raw,), ())
    shapes = [_instruction_shape(decoded) for decoded in item.slots.values()]
    addresses = tuple(address for _, targets in shapes for address in targets)
    return _Targets((item.format.name, *(shape for shape, _ in shapes)) if addresses else (raw,), addresses)


def _slots_text(slots: Iterable[Decoded]) -> str:
    return "; ".join(format_instruction(decoded.instruction, decoded.operands) for decoded in slots)


@lru_cache(1 << 16)
def _bundle_text(raw: bytes) -> str:
    (item,) = decode_sweep(raw)
    if isinstance(item, Undecodable):
        return byte_directive(raw)
    return _slots_text(item.slots.values())


class _Program:
    """A program's bundles with what comparing them needs."""

    def __init__(self, program: CoreProgram) -> None:
        self.program = program
        self.items: tuple[Item, ...] = decode_sweep(program.code, program.base)
        self.end = program.base + len(program.code)
        self._symbols = sorted(program.symbols)
        self.names = program.names

    def instructions(self, i: int) -> tuple[Decoded, ...]:
        item = self.items[i]
        return item.instructions if isinstance(item, Bundle) else ()

    def does_nothing(self, i: int | None) -> bool:
        return i is not None and isinstance(self.items[i], Bundle) and not self.instructions(i)

    def shapes(self) -> list[_Targets]:
        return [_bundle_shape(self.raw(item)) for item in self.items]

    def raw(self, item: Item) -> bytes:
        start = item.address - self.program.base
        return self.program.code[start : start + item.size]

    def address_name(self, address: int) -> str:
        """`symbol+0x10`, or nothing where no symbol is known."""
        i = bisect.bisect_right(self._symbols, (address, "\U0010ffff")) - 1
        if i < 0 or address > self.end:
            return ""
        start = self._symbols[i][0]
        name = self.names[start]
        return name if start == address else f"{name}+{address - start:#x}"

    def text(self, item: Item) -> str:
        raw = self.raw(item)
        text = _bundle_text(raw)
        return self.with_names(text, _bundle_shape(raw).addresses) if self._symbols else text

    def with_names(self, text: str, targets: Sequence[int]) -> str:
        """Text of instructions, behind it the names of the places they lead to."""
        names = [name for name in map(self.address_name, targets) if name]
        return f"{text}  // to {', '.join(names)}" if names else text

    def lines(self, mark: str, i: int) -> Iterator[str]:
        item = self.items[i]
        if item.address in self.names:
            yield f"{mark}{self.names[item.address]}:"
        yield f"{mark}{item.address:6x}:  {self.text(item)}"


def _same_targets(a: Sequence[int], b: Sequence[int], moved_to: Mapping[int, int]) -> bool:
    return all(moved_to.get(before, before) == after for before, after in zip(a, b, strict=True))


def _runs(pairs: Sequence[Pair]) -> list[tuple[bool, int, int]]:
    """(equal, start, end) of maximal runs of pairs."""
    runs: list[tuple[bool, int, int]] = []
    for i, pair in enumerate(pairs):
        if runs and runs[-1][0] == pair.equal:
            runs[-1] = pair.equal, runs[-1][1], i + 1
        else:
            runs.append((pair.equal, i, i + 1))
    return runs


def _without_chance_matches(program: _Program, pairs: list[Pair]) -> list[Pair]:
    """Equal runs that are short or do nothing, between bigger changes, are split: rewritten code is one difference."""
    runs = _runs(pairs)
    result: list[Pair] = []
    for number, (equal, start, end) in enumerate(runs):
        length = end - start
        around = [runs[n][2] - runs[n][1] for n in (number - 1, number + 1) if 0 <= n < len(runs)]
        chance = equal and len(around) == 2 and (
            (length <= _SHORT and min(around) > 2 * length + 2)
            or (length <= _MANY <= max(around) and all(program.does_nothing(p.a) for p in pairs[start:end]))
        )  # fmt: skip
        if chance:
            result += [Pair(p.a, None, False) for p in pairs[start:end]]
            result += [Pair(None, p.b, False) for p in pairs[start:end]]
        else:
            result += pairs[start:end]
    return result


def _addresses(a: _Program, b: _Program, pairs: Sequence[Pair]) -> dict[int, int]:
    """Address in a -> address in b; bundles changed one for one count as the same place."""
    moved_to = {a.end: b.end}
    for equal, start, end in _runs(pairs):
        run = pairs[start:end]
        first = [p.a for p in run if p.a is not None]
        second = [p.b for p in run if p.b is not None]
        if equal or len(first) == len(second):
            moved_to.update((a.items[i].address, b.items[j].address) for i, j in zip(first, second, strict=True))
    return moved_to


def compare_code(a: CoreProgram, b: CoreProgram) -> CodeChange:
    """Differences of two programs; places are addresses, as in `0x1a0 (loop+0x20)`, of the second for what it adds."""
    first, second = _Program(a), _Program(b)
    shapes_a, shapes_b = first.shapes(), second.shapes()
    pairs = _without_chance_matches(first, align([s.shape for s in shapes_a], [s.shape for s in shapes_b]))
    moved_to = _addresses(first, second, pairs)
    pairs = [
        pair._replace(equal=_same_targets(shapes_a[pair.a].addresses, shapes_b[pair.b].addresses, moved_to))
        if pair.equal and pair.a is not None and pair.b is not None
        else pair
        for pair in pairs
    ]
    differences = [_difference(first, second, pairs, start, end) for equal, start, end in _runs(pairs) if not equal]
    for name in ("base", "entry"):
        before, after = getattr(a, name), getattr(b, name)
        if before != after:
            differences.insert(0, Difference(name, before=f"{before:#x}", after=f"{after:#x}"))
    return CodeChange(tuple(differences), moved_to, size_note((a, first.items), (b, second.items), moved_to))


def _difference(a: _Program, b: _Program, pairs: Sequence[Pair], start: int, end: int) -> Difference:
    run = pairs[start:end]
    removed = [p.a for p in run if p.a is not None]
    added = [p.b for p in run if p.b is not None]
    lines = [*_context(a, pairs[max(0, start - CONTEXT) : start])]
    lines += [line for i in removed for line in a.lines("-", i)]
    lines += [line for j in added for line in b.lines("+", j)]
    lines += _context(a, pairs[end : end + CONTEXT])
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"@ {len(lines) - MOST_LINES} more lines"]
    before, after = _what(a, removed), _what(b, added)
    if len(removed) == len(added) == 1:
        before, after = _changed_slots(a, b, removed[0], added[0])
    program, item = (a, a.items[removed[0]]) if removed else (b, b.items[added[0]])
    name = program.address_name(item.address)
    place = f"{item.address:#x}" + (f" ({name})" if name else "")
    change = CHANGED if removed and added else REMOVED if removed else ADDED
    return Difference(place, change, before, after, _likeness(a, removed, b, added), lines=tuple(lines))


def _likeness(a: _Program, removed: Sequence[int], b: _Program, added: Sequence[int]) -> str:
    """What several bundles still have in common: the instructions, or the operations."""
    if len(removed) + len(added) <= 2:
        return ""
    sides = [d for i in removed for d in a.instructions(i)], [d for j in added for d in b.instructions(j)]
    if len(sides[0]) != len(sides[1]):
        return ""
    before, after = (Counter((d.instruction.name, d.operands) for d in side) for side in sides)
    if before == after:
        return "the same instructions in another order or form"
    before_kinds, after_kinds = (Counter(d.instruction.mnemonic for d in side) for side in sides)
    return "the same operations on other registers or in another order" if before_kinds == after_kinds else ""


def _context(a: _Program, pairs: Sequence[Pair]) -> Iterator[str]:
    for pair in pairs:
        if pair.equal and pair.a is not None:
            yield from a.lines(" ", pair.a)


def _what(program: _Program, places: Sequence[int]) -> str | None:
    if len(places) > 1:
        return f"{len(places)} bundles"
    return program.text(program.items[places[0]]) if places else None


def _changed_slots(a: _Program, b: _Program, i: int, j: int) -> tuple[str, str]:
    """The instructions in which two bundles differ; the whole bundles when these are all the same."""
    before, after = a.items[i], b.items[j]
    whole = a.text(before), b.text(after)
    if isinstance(before, Undecodable) or isinstance(after, Undecodable):
        return whole
    changed = [slot for slot in {**before.slots, **after.slots} if before.slots.get(slot) != after.slots.get(slot)]
    sides = _chosen_slots(a, before, changed), _chosen_slots(b, after, changed)
    return sides if all(sides) and sides[0] != sides[1] else whole


def _chosen_slots(program: _Program, bundle: Bundle, slots: Sequence[str]) -> str:
    chosen = [bundle.slots[slot] for slot in slots if slot in bundle.slots]
    targets = [target[1] for target in map(_target_of, chosen) if target is not None]
    return program.with_names(_slots_text(chosen), targets)
