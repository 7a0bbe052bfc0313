"""The designs of `net_designs.py` with one field of one register write changed, for every field: some 2,000 mutants.

A mutant knows the tile of its register, which the first line of a diagnosis should name.  Fields that decide nothing in
these designs are among them; such mutants run to their end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import net_designs
from net_designs import Net

from npuc.compiler.emit import cdo, txn
from npuc.compiler.target.npu1 import geometry

BASES = ("relay", "cascade", "broadcast", "packets", "streams", "neighbour", "control")
NO_EFFECT = {"ax_cache", "ax_qos", "burst", "secure", "smid", "packet_type", "enable_compression"}
Writes = cdo.Write | cdo.MaskWrite | cdo.DmaWrite | txn.Operation


@dataclass(frozen=True)
class RegisterMutant:
    """part: 'image' or 'sequence'.  at: the write in it.  new: what stands there instead."""

    base: str
    part: str
    at: int
    what: str
    names: str  # of the tile, or what else the line may say for it
    new: Writes

    def run(self, limit: int, strict: bool) -> None:
        net: Net = getattr(net_designs, self.base)()
        if self.part == "sequence":
            net.operations[self.at] = self.new
        else:
            commands = list(net.commands())
            commands[self.at] = self.new
            net.commands = lambda: commands  # type: ignore[method-assign]
        net.run(limit, strict=strict)


def mutants() -> list[RegisterMutant]:
    found = []
    for base in BASES:
        net = getattr(net_designs, base)()
        for part, writes in (("image", list(net.commands())), ("sequence", net.operations)):
            for at, write in enumerate(writes):
                for what, new in _changes(write):
                    found.append(RegisterMutant(base, part, at, what, _names(at, write, new), new))
    return found


def _names(at: int, write: Writes, new: Writes) -> str:
    """A pattern: the tile; of a token awaited elsewhere that tile too, of a patch the operation."""
    if isinstance(write, txn.Sync) and isinstance(new, txn.Sync):
        return f"\\({write.column},{write.row}\\)|\\({new.column},{new.row}\\)"
    column, row, _ = geometry.split_address(write.address)
    tile = f"{geometry.tile_kind(row)}\\({column},{row}\\)"
    return f"{tile}|sequence operation {at} (names|patches)" if isinstance(write, txn.DdrPatch) else tile


def _changes(write: Writes) -> Iterator[tuple[str, Writes]]:
    if isinstance(write, txn.Sync):
        changes = {"column": 1 - write.column, "row": 1 - write.row, "direction": 1 - write.direction}
        for name, value in {**changes, "channel": 1 - write.channel}.items():
            yield f"{name} {value} of the sync", replace(write, **{name: value})
        return
    if isinstance(write, txn.DdrPatch):
        for name, step in (("argument", 1), ("offset", 64), ("address", geometry.BD_STRIDE)):
            yield f"{name} of the patch", replace(write, **{name: getattr(write, name) + step})
        return
    _, row, offset = geometry.split_address(write.address)
    kind = geometry.tile_kind(row)
    if isinstance(write, (cdo.DmaWrite, txn.BlockWrite)):
        number, inside = divmod(offset - geometry.BD_BASE[kind], geometry.BD_STRIDE)
        if not inside and 0 <= number < geometry.BD_COUNT[kind]:
            yield from _of_descriptor(write, kind, number)
        return
    for what, value in _values(kind, offset, write.value):
        yield what, replace(write, value=value)


def _of_descriptor(write: cdo.DmaWrite | txn.BlockWrite, kind: str, number: int) -> Iterator[tuple[str, Writes]]:
    old = geometry.unpack_bd(kind, write.words)
    for name, field in geometry.BD_FIELDS[kind].items():
        for step in (1, -1):
            value = old[name] + step
            low, high = (-(1 << field.width - 1), 1 << field.width - 1) if field.signed else (0, 1 << field.width)
            if low <= value < high and name not in NO_EFFECT:
                words = geometry.pack_bd(kind, **{**old, name: value})
                yield f"{name} {value} of descriptor {number}", replace(write, words=tuple(words))


def _values(kind: str, offset: int, value: int) -> Iterator[tuple[str, int]]:
    """Other values of a register, by what it is; masked writes keep their mask."""
    base = geometry.LOCK_BASE[kind]
    if base <= offset < base + geometry.LOCK_STRIDE * geometry.LOCK_COUNT[kind]:
        yield from ((f"lock {(offset - base) >> 4} starts at {each}", each) for each in (value + 1, value - 1))
    for direction in geometry.DIRECTIONS:
        for channel in range(geometry.CHANNEL_COUNT[kind]):
            name = f"{direction} {channel}"
            if offset == geometry.channel_queue_offset(kind, direction, channel):
                yield f"{name} starts the next descriptor", value + 1
                yield f"{name} repeats once more", value + (1 << 16)
                yield f"{name} with the other token", value ^ 1 << 31
            elif offset == geometry.channel_control_offset(kind, direction, channel):
                yield f"{name} with another controller id", value ^ 1 << 8
                yield f"{name} with the other order", value ^ 1 << 3
    for what, first, fields in (
        ("master", geometry.SWITCH_MASTER_BASE[kind], {"enable": 31, "packets": 30, "select": 0, "msel": 3}),
        ("slave", geometry.SWITCH_SLAVE_BASE[kind], {"enable": 31, "packets": 30}),
        ("slot", geometry.SWITCH_SLOT_BASE[kind], {"id": 24, "mask": 16, "enable": 8, "msel": 4, "arbiter": 0}),
    ):
        if first <= offset < first + 0x100 * (1 + 3 * (what == "slot")):
            yield from ((f"{what} {offset - first:#x}, {name}", value ^ 1 << bit) for name, bit in fields.items())
    if kind == "shim" and offset in (geometry.SHIM_MUX, geometry.SHIM_DEMUX):
        yield f"mux or demux {offset:#x}", 0
    if kind == "core" and offset == geometry.CORE_CONTROL:
        yield "core control", value ^ (geometry.CORE_CONTROL_ENABLE if value & 1 else geometry.CORE_CONTROL_RESET)
