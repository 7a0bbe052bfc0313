"""Sizes and addresses of bundles: the shortest formats, widened where alignment and loop set-up ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from npuc.compiler.asm.codec import bundle_sizes
from npuc.passes.kernel.emission import SETUP_BYTES, Emission

LINE = 16  # alignment of branch targets and loop bounds, size of a loop's last bundle (facts/schedule/aie2_hazards.md)


@cache
def _sizes(slots: frozenset[str]) -> tuple[int, ...]:
    return bundle_sizes(slots)


def bundle_addresses(emission: Emission) -> list[int]:
    """The address of every bundle and, last, the end of the program."""
    sizes = [list(_sizes(frozenset(bundle))) for bundle in emission.bundles]
    for position in emission.loop_ends:
        sizes[position] = [LINE]
    while True:
        chosen = _choose(sizes, emission.aligned)
        addresses = [0]
        for size in chosen:
            addresses.append(addresses[-1] + size)
        if not _widen_setups(emission, sizes, chosen, addresses):
            return addresses


def _widen_setups(emission: Emission, sizes: list[list[int]], chosen: Sequence[int], addresses: Sequence[int]) -> bool:
    """Ask for wider bundles between the set-up of a loop and its end where they are too close; whether any are."""
    changed = False
    for setter, end in emission.setups:
        lacking = SETUP_BYTES - (addresses[end] - addresses[setter])
        for position in range(setter, end):
            if lacking <= 0:
                break
            wider = [size for size in sizes[position] if size > chosen[position]]
            if wider:
                sizes[position] = wider
                lacking -= wider[0] - chosen[position]
                changed = True
    return changed


def _choose(sizes: Sequence[Sequence[int]], aligned: set[int]) -> list[int]:
    """The least sizes with every position of `aligned` on a line."""
    result: list[int] = []
    stops = sorted({position for position in aligned if position} | {len(sizes)})
    start = 0
    for stop in stops:
        result += _choose_between(sizes[start:stop], stop in aligned)
        start = stop
    return result


def _choose_between(sizes: Sequence[Sequence[int]], to_line: bool) -> list[int]:
    """Sizes of the bundles from one line to the next aligned position: a shortest way by residues."""
    if not to_line:
        return [options[0] for options in sizes]
    best: dict[int, int] = {0: 0}
    steps: list[dict[int, int]] = []
    for options in sizes:
        reached: dict[int, int] = {}
        step: dict[int, int] = {}
        for residue in sorted(best):
            for size in options:
                into, cost = (residue + size) % LINE, best[residue] + size
                if cost < reached.get(into, 1 << 30):
                    reached[into], step[into] = cost, size
        best = reached
        steps.append(step)
    residue, chosen = 0, []
    for step in reversed(steps):
        chosen.append(step[residue])
        residue = (residue - step[residue]) % LINE
    return chosen[::-1]
