"""The design of two columns with one part changed, for each of its parts: some 450 mutants, most of them broken.

A mutant knows the tile of its change, which the first line of a diagnosis should name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from small_design import IN, OWN
from wide_design import FIRST, MEMTILE, SECOND, SHIM, SHIM_1, Tile, WideDesign, adder, first_adder, second_adder

from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.router import Port


@dataclass(frozen=True)
class Mutant:
    what: str
    tile: Tile
    change: Callable[[WideDesign], object]

    @property
    def tile_name(self) -> str:
        return f"{geometry.tile_kind(self.tile[1])}({self.tile[0]},{self.tile[1]})"


def mutants() -> list[Mutant]:
    design = WideDesign()
    parts = (_locks, _descriptors, _starts, _ways, _packets, _operations, _programs)
    return [mutant for part in parts for mutant in part(design)]


def _locks(design: WideDesign) -> Iterator[Mutant]:
    for tile, lock in design.locks:
        for value in (0, 2):
            yield Mutant(f"lock {lock} starts at {value}", tile, partial(_set_lock, tile, lock, lock, value))
        yield Mutant(f"lock {lock + 1} starts for {lock}", tile, partial(_set_lock, tile, lock, lock + 1, 1))


def _set_lock(tile: Tile, old: int, new: int, value: int, design: WideDesign) -> None:
    del design.locks[tile, old]
    design.locks[tile, new] = value


def _descriptors(design: WideDesign) -> Iterator[Mutant]:
    for (tile, number), bd in design.descriptors.items():
        assert bd.acquire is not None and bd.release is not None and bd.next is not None
        (taken, by), (given, value) = bd.acquire, bd.release
        changes = {
            "a word short": {"words": bd.words - 1},
            "a word long": {"words": bd.words + 1},
            "twice as long": {"words": 2 * bd.words},
            "without an acquire": {"acquire": None},
            "without a release": {"release": None},
            "acquires the next lock": {"acquire": (taken + 1, by)},
            "releases the next lock": {"release": (given + 1, value)},
            "acquires 2": {"acquire": (taken, -2)},
            "releases 2": {"release": (given, 2)},
            "with its locks exchanged": {"acquire": (given, -1), "release": (taken, 1)},
            "ends its chain": {"next": None},
            "with another next": {"next": bd.next + 1},
            "elsewhere": {"address": bd.address + 0x40},
        }
        for what, change in changes.items():
            yield Mutant(f"descriptor {number} {what}", tile, partial(_set_descriptor, tile, number, change))
        yield Mutant(f"descriptor {number} missing", tile, partial(_drop_descriptor, tile, number))


def _set_descriptor(tile: Tile, number: int, change: dict, design: WideDesign) -> None:
    design.descriptors[tile, number] = replace(design.descriptors[tile, number], **change)


def _drop_descriptor(tile: Tile, number: int, design: WideDesign) -> None:
    del design.descriptors[tile, number]


def _starts(design: WideDesign) -> Iterator[Mutant]:
    for at, (tile, direction, channel, first) in enumerate(design.starts):
        what = f"start of {direction} {channel}"
        other = 1 - channel if channel < 2 else channel + 2
        yield Mutant(f"{what} missing", tile, partial(_splice, "starts", at, []))
        yield Mutant(f"{what}, next", tile, partial(_splice, "starts", at, [(tile, direction, channel, first + 1)]))
        yield Mutant(f"{what} on {other}", tile, partial(_splice, "starts", at, [(tile, direction, other, first)]))


def _splice(part: str, at: int, new: list, design: WideDesign) -> None:
    getattr(design, part)[at : at + 1] = new


def _ways(design: WideDesign) -> Iterator[Mutant]:
    def beside(port: Port) -> Port:
        return replace(port, number=port.number + 1)

    for at, way in enumerate(design.connections):
        for what, new in (
            ("missing", []),
            ("to the next port", [replace(way, target=beside(way.target))]),
            ("from the next port", [replace(way, source=beside(way.source))]),
        ):
            yield Mutant(f"way {way} {what}", way.tile, partial(_splice, "connections", at, new))


def _packets(design: WideDesign) -> Iterator[Mutant]:
    for at, rule in enumerate(design.shared):
        for what, new in (
            ("missing", []),
            ("of another id", [replace(rule, packet_id=9)]),
            ("by another arbiter", [replace(rule, arbiter=3)]),
        ):
            yield Mutant(f"packet way {at} {what}", rule.connection.tile, partial(_splice, "shared", at, new))
    for at, slot in enumerate(design.slots):
        others = {"missing": [], "of another id": [replace(slot, packet_id=9)]}
        others["to another arbiter"] = [replace(slot, arbiter=5)]
        for what, new in others.items():
            yield Mutant(f"slot {at} {what}", MEMTILE, partial(_splice, "slots", at, new))


def _operations(design: WideDesign) -> Iterator[Mutant]:
    shims = [SHIM] * 6 + [SHIM_1] * 6 + [SHIM, SHIM_1]
    for at, (shim, operation) in enumerate(zip(shims, design.operations, strict=True)):
        yield Mutant(f"operation {at} missing", shim, partial(_splice, "operations", at, []))
        yield Mutant(f"operation {at} twice", shim, partial(_splice, "operations", at, [operation] * 2))
        yield Mutant(f"operation {at} after the next", shim, partial(_exchange, at))


def _exchange(at: int, design: WideDesign) -> None:
    design.operations[at : at + 2] = design.operations[at : at + 2][::-1]


def _programs(design: WideDesign) -> Iterator[Mutant]:
    changes: tuple[dict, ...] = (
        *({"words": words} for words in (31, 33)),
        *({"wanted": wanted} for wanted in (-2, 1)),
        *({name: lock} for name in ("done_in", "done_out") for lock in (None, OWN + 9)),
        *({name: OWN + 9} for name in ("full", "empty")),
        *({"target": address} for address in (0x76000, 0x50000, 0x30000)),
        *({"source": address} for address in (0x70600, 0x70000 + IN + 2)),
        {"step": 0},
    )
    for tile in design.programs:
        made = {FIRST: first_adder, SECOND: second_adder}.get(tile, adder)
        yield Mutant("not enabled", tile, lambda changed, tile=tile: changed.enabled.discard(tile))
        yield Mutant("no program", tile, lambda changed, tile=tile: changed.programs.pop(tile))
        for change in changes:
            yield Mutant(f"program with {change}", tile, partial(_set_program, tile, made, change))


def _set_program(tile: Tile, made: Callable[..., str], change: dict, design: WideDesign) -> None:
    design.programs[tile] = made(**change)
