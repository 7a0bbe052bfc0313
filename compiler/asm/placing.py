"""Addresses for everything in a section: bundles get their sizes, labels and data their offsets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from npuc.compiler.asm.codec import encode_bundle
from npuc.compiler.asm.source import (
    Align,
    At,
    Data,
    Item,
    Label,
    Source,
    SourceBundle,
    SourceProgram,
    SourceSection,
    Values,
)
from npuc.compiler.asm.widening import LINE, sizes_to_line
from npuc.compiler.target.aie2.schedule import DELAY_SLOTS

LOOP_END = "le"
_NOP = encode_bundle({})


@dataclass
class Placed:
    """A section with everything in its place, from offset 0.

    bundles: (offset, bytes, bundle); values: (offset, values); labels: name -> offset.  `data` has everything but the
    bundles and values that symbols have to be known for, which are zero in it.
    """

    section: SourceSection
    data: bytearray = field(default_factory=bytearray)
    bundles: list[tuple[int, int, SourceBundle]] = field(default_factory=list)
    values: list[tuple[int, Values]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    alignment: int = 1

    @property
    def address(self) -> int:
        """The address asked for, else 0, which stands for any multiple of the alignment."""
        return self.section.address or 0


class _Targets(NamedTuple):
    """Names of code that is jumped to, and of the last bundles of hardware loops."""

    lines: frozenset[str]
    loop_ends: frozenset[str]


def code_targets(program: SourceProgram) -> _Targets:
    """What instructions name, and global names in code."""
    lines, loop_ends = set(), set()
    for section in program.sections.values():
        for item in section.items:
            if isinstance(item, SourceBundle) and item.parsed.references:
                for slot, _, expression in item.parsed.references:
                    if len(expression.symbols) == 1 and not expression.constant:
                        name = expression.symbols[0][1]
                        lines.add(name)
                        if item.parsed.slots[slot][1][0] == LOOP_END:
                            loop_ends.add(name)
    lines |= {name for name, about in program.attributes.items() if about.binding == "global"}
    return _Targets(frozenset(lines), frozenset(loop_ends))


class _Run:
    """Items since the last known offset, whose sizes are not chosen yet."""

    def __init__(self, source: Source, placed: Placed) -> None:
        self.source, self.placed = source, placed
        self.items: list[tuple[Item, tuple[int, ...]]] = []

    def add(self, item: Item, sizes: tuple[int, ...]) -> None:
        self.items.append((item, sizes))

    def finish(self, at: At | None = None, what: str = "") -> None:
        """Place the items; with `at`, so that what follows lies on a line.  Raises AssemblyError when it cannot."""
        items, start = self.items, self.placed.address + len(self.placed.data)
        sizes: list[int] | None = [options[0] for _, options in items]
        if at is not None and sizes is not None and (start + sum(sizes)) % LINE:
            sizes = sizes_to_line([options for _, options in items], start)
            if sizes is None:
                remedy = "leave out nops of a bundle before it, add a line nop, or write .align 16"
                raise self.source.error(at, f"no bundle before {what} can be widened so that it lies on a line", remedy)
        for (item, _), size in zip(items, sizes or (), strict=True):
            self._place(item, size)
        self.items = []

    def _place(self, item: Item, size: int) -> None:
        placed, offset = self.placed, len(self.placed.data)
        if isinstance(item, SourceBundle):
            placed.bundles.append((offset, size, item))
            code = item.parsed.code
            if code is None:
                code = bytes(size)
            elif len(code) != size:
                code = encode_bundle(item.parsed.slots, size)
            placed.data += code
        elif isinstance(item, Label):
            placed.labels[item.name] = offset
        elif isinstance(item, Values):
            placed.values.append((offset, item))
            placed.data += bytes(size)
        elif isinstance(item, Data):
            placed.data += item.contents


def place_section(source: Source, section: SourceSection, targets: _Targets) -> Placed:
    """Every item with its offset.  Raises AssemblyError where something cannot be aligned."""
    placed = Placed(section, alignment=LINE if section.is_code else 1)
    run = _Run(source, placed)
    returns: set[int] = set()  # bundle numbers that a call comes back to
    number = 0
    last_of_loop: str | None = None
    for item in section.items:
        if isinstance(item, SourceBundle):
            sizes = item.parsed.sizes
            if item.exact:
                sizes = sizes[:1]
            elif number in returns:
                run.finish(item.at, "what a call returns to")
            if last_of_loop and not item.exact:
                if LINE not in sizes:
                    message = f"the last bundle of a hardware loop takes {LINE} bytes, this one has {sizes[0]}"
                    raise source.error(item.at, message, "leave out its nops")
                sizes = (LINE,)
            last_of_loop = None
            run.add(item, sizes)
            if item.parsed.calls:
                returns.add(number + DELAY_SLOTS + 1)
            number += 1
        elif isinstance(item, Label):
            if not item.exact and section.is_code and item.name in targets.lines:
                run.finish(item.at, item.name)
            if item.name in targets.loop_ends:
                last_of_loop = item.name
            run.add(item, (0,))
        elif isinstance(item, Align):
            run.finish()
            placed.alignment = max(placed.alignment, item.bytes)
            _fill(placed, item)
        elif isinstance(item, Values):
            run.add(item, (item.size * len(item.expressions),))
        else:
            run.add(item, (len(item.contents),))
    run.finish()
    return placed


def _fill(placed: Placed, align: Align) -> None:
    missing = -(placed.address + len(placed.data)) % align.bytes
    if placed.section.is_code and not align.fill:
        placed.data += bytes(missing % len(_NOP)) + _NOP * (missing // len(_NOP))
    else:
        placed.data += bytes([align.fill]) * missing
