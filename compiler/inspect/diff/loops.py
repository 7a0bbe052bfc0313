"""Sizes of programs and of their hardware loops: what a changed schedule means for the time they take."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence

from npuc.compiler.asm.codec import Bundle, Undecodable
from npuc.compiler.asm.disassembler import LOOP_REGISTERS, bundle_pointer
from npuc.compiler.asm.programs import CoreProgram

Items = Sequence[Bundle | Undecodable]
Names = Mapping[int, str]


def loop_bodies(items: Items) -> dict[int, int]:
    """Address of a hardware loop's first bundle -> bundles of its body, the last one (le) included.

    Start and end are what is put into ls and le, the first start belonging to the first end and so on.
    """
    places: dict[str, list[int]] = {register: [] for register in LOOP_REGISTERS}
    for item in items:
        for decoded in item.slots.values() if isinstance(item, Bundle) else ():
            place = bundle_pointer(decoded)
            if place is not None:
                for register in LOOP_REGISTERS:
                    if register in decoded.operands:
                        places[register].append(int(decoded.operands[place]))
    addresses = [item.address for item in items]
    bodies = {}
    for start, end in zip(*places.values(), strict=False):
        if start <= end:
            bodies[start] = bisect.bisect_right(addresses, end) - bisect.bisect_left(addresses, start)
    return bodies


def size_note(a: tuple[CoreProgram, Items], b: tuple[CoreProgram, Items], moved_to: Mapping[int, int]) -> str:
    """How programs and loop bodies grew or shrank: `1,183 -> 1,190 bundles; loop scores 15 -> 16`."""
    (first, items_a), (second, items_b) = a, b
    counts = [f"{len(items_a):,} -> {len(items_b):,} bundles"] if len(items_a) != len(items_b) else []
    bodies_a, bodies_b = loop_bodies(items_a), loop_bodies(items_b)
    counts += _changed_bodies(bodies_a, bodies_b, moved_to, (first.names, second.names))
    return "; ".join(counts)


def _changed_bodies(
    a: Mapping[int, int], b: Mapping[int, int], moved_to: Mapping[int, int], names: tuple[Names, Names]
) -> Iterator[str]:
    """Loops whose bodies have another length; the same loop is the one at the same bundle or of the same name."""
    named = {name: address for address, name in names[1].items() if address in b}
    for start, bundles in a.items():
        name = names[0].get(start)
        there = moved_to.get(start) if name not in named else named[name]
        if there is not None and b.get(there, bundles) != bundles:
            yield f"loop {name or f'{start:#x}'} {bundles} -> {b[there]}"
