"""Sizes and addresses of bundles: the shortest formats, widened where alignment and loop set-up ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

from npuc.compiler.asm.codec import bundle_sizes
from npuc.compiler.asm.widening import LINE, sizes_to_line
from npuc.passes.machine.emission import SETUP_BYTES, Emission

Sizes = tuple[int, ...]  # in bytes, of which a bundle can have any


@cache
def _sizes(slots: frozenset[str]) -> Sizes:
    return bundle_sizes(slots)


def bundle_addresses(emission: Emission) -> list[int]:
    """The address of every bundle and, last, the end of the program."""
    sizes = [_sizes(frozenset(bundle)) for bundle in emission.bundles]
    for position in emission.loop_ends:
        sizes[position] = (LINE,)
    while True:
        chosen = _choose(sizes, emission.aligned)
        addresses = [0]
        for size in chosen:
            addresses.append(addresses[-1] + size)
        if not _widen_setups(emission, sizes, chosen, addresses):
            return addresses


def _widen_setups(emission: Emission, sizes: list[Sizes], chosen: Sequence[int], addresses: Sequence[int]) -> bool:
    """Ask for wider bundles between the set-up of a loop and its end where they are too close; whether any are."""
    changed = False
    for setter, end in emission.setups:
        lacking = SETUP_BYTES - (addresses[end] - addresses[setter])
        for position in range(setter, end):
            if lacking <= 0:
                break
            wider = tuple(size for size in sizes[position] if size > chosen[position])
            if wider:
                sizes[position] = wider
                lacking -= wider[0] - chosen[position]
                changed = True
    return changed


def _choose(sizes: Sequence[Sizes], aligned: set[int]) -> list[int]:
    """The least sizes with every position of `aligned` on a line."""
    result: list[int] = []
    stops = sorted({position for position in aligned if position} | {len(sizes)})
    start = 0
    for stop in stops:
        result += _choose_between(tuple(sizes[start:stop]), stop in aligned)
        start = stop
    return result


@lru_cache(maxsize=1 << 10)
def _choose_between(sizes: tuple[Sizes, ...], to_line: bool) -> list[int]:
    """Sizes of the bundles from one line to the next aligned position: a shortest way by residues."""
    if not to_line:
        return [options[0] for options in sizes]
    chosen = sizes_to_line(sizes)
    assert chosen is not None, "an empty bundle takes any size"
    return chosen
