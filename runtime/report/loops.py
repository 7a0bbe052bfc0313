"""Hardware loops of core programs as tables of slots, and the slot that binds each.

A loop is what constants written to LS and LE name (facts/schedule/aie2_hazards.md section 6): an iteration issues its
bundles one a cycle, so with nothing to wait for it takes as many cycles as it has bundles, and no fewer than the
instructions of its fullest slot.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from npuc.compiler.asm.codec import Bundle, Decoded, decode_sweep
from npuc.compiler.asm.disassembler import bundle_pointer
from npuc.compiler.asm.programs import CoreProgram, read_programs
from npuc.compiler.asm.text import format_instruction
from npuc.runtime.report.markup import Markup, element, joined, table

SLOTS = ("lda", "ldb", "st", "alu", "mv", "vec")
MOST_ROWS = 240  # bundles of a loop that are shown


@dataclass(frozen=True)
class Loop:
    """bundles: of its body, in order. name: the symbol before it."""

    name: str
    start: int
    end: int
    bundles: tuple[Bundle, ...]

    @property
    def used(self) -> Counter[str]:
        """Instructions by slot, without those that do nothing."""
        return Counter(slot for bundle in self.bundles for slot, d in bundle.slots.items() if not _idle(d))

    @property
    def bound(self) -> int:
        """Instructions of the fullest slot."""
        return max(self.used.values(), default=0)

    @property
    def binding(self) -> str:
        """Which slot or slots that is."""
        return " and ".join(sorted(slot for slot, count in self.used.items() if count == self.bound))

    @property
    def products(self) -> int:
        """Bundles with a vector multiplication."""
        return sum(any(_multiplies(d) for d in bundle.slots.values()) for bundle in self.bundles)


def _idle(decoded: Decoded) -> bool:
    return decoded.instruction.mnemonic.startswith("nop")


def _multiplies(decoded: Decoded) -> bool:
    return decoded.instruction.mnemonic.split(".")[0] in {"vmac", "vmul", "vmsc", "vnegmac", "vnegmul", "vaddmac"}


def loops_of(program: CoreProgram) -> tuple[Loop, ...]:
    """In order of address."""
    bundles = {item.address: item for item in decode_sweep(program.code, program.base) if isinstance(item, Bundle)}
    order = sorted(bundles)
    pairs: dict[int, int] = {}
    start: int | None = None
    for address in order:
        for decoded in bundles[address].slots.values():
            position = bundle_pointer(decoded)
            value = None if position is None else decoded.operands[position]
            if not isinstance(value, int):
                continue
            if "ls" in decoded.operands:
                start = value
            elif "le" in decoded.operands and start is not None:
                pairs[start] = value
    found = []
    for start, end in sorted(pairs.items()):
        if start in bundles and end in bundles and start <= end:
            body = tuple(bundles[address] for address in order if start <= address <= end)
            found.append(Loop(_symbol(program, start), start, end, body))
    return tuple(found)


def _symbol(program: CoreProgram, address: int) -> str:
    before = [name for at, name in program.symbols if at <= address and name]
    return before[-1] if before else "loop"


def distinct_programs(file: bytes) -> list[tuple[CoreProgram, int]]:
    """Each program of a file once, with how many cores run it."""
    found: dict[tuple[int, bytes], list[CoreProgram]] = {}
    for program in read_programs(file):
        found.setdefault((program.base, program.code), []).append(program)
    return [(same[0], len(same)) for same in found.values()]


def section(file: bytes) -> Markup:
    """Every loop of every distinct program."""
    parts: list[Markup] = []
    for program, cores in distinct_programs(file):
        loops = loops_of(program)
        heading = f"{program.title}" + (f" and {cores - 1} more with the same program" if cores > 1 else "")
        about = f": {len(program.code):,} bytes, {len(loops)} hardware loop{'' if len(loops) == 1 else 's'}"
        parts.append(element("h3", heading + about))
        if loops:
            head = ("loop", "bundles", "bound", "binding slot", "with a product")
            rows = [_row(loop) for loop in loops]
            parts.append(table(head, rows))
        parts += [_slots(loop) for loop in loops]
    return joined(*parts)


def _row(loop: Loop) -> tuple[str, ...]:
    length, products = str(len(loop.bundles)), str(loop.products)
    return f"{loop.name} at {loop.start:#x}", length, str(loop.bound), loop.binding, products


def _slots(loop: Loop) -> Markup:
    used = loop.used
    slots = [*SLOTS, *sorted(set(used) - set(SLOTS))]
    head = element("tr", element("th", "cycle"), *(element("th", f"{slot} {used[slot]}") for slot in slots))
    rows = []
    for cycle, bundle in enumerate(loop.bundles[:MOST_ROWS]):
        cells = []
        for slot in slots:
            decoded = bundle.slots.get(slot)
            busy = decoded is not None and not _idle(decoded)
            kind = None if not busy else "p" if decoded is not None and _multiplies(decoded) else "b"
            text = format_instruction(decoded.instruction, decoded.operands) if busy and decoded is not None else ""
            cells.append(element("td", text, class_=kind))
        rows.append(element("tr", element("td", str(cycle)), *cells))
    left = len(loop.bundles) - len(rows)
    more = (element("p", f"{left} more bundles"),) if left else ()
    title = (
        f"{loop.name} at {loop.start:#x}: {len(loop.bundles)} cycles an iteration, bound {loop.bound} by {loop.binding}"
    )
    body = element(
        "div", element("table", element("thead", head), element("tbody", *rows), class_="slots"), class_="wide"
    )
    return element("details", element("summary", title), body, *more)
