"""Vectors that are only moved: bytes in as many registers of the host as it takes.

LLVM's fast instruction selection, four times as fast as the other, knows the types that the host's registers hold and
no wider ones. So a vector that a block loads, stores or passes is a value for each register (`Pieces`); joined to one
value of its whole width it is only where something is computed with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from npuc.runtime.emulator.native import machine
from npuc.runtime.emulator.native.ir import Lanes, current


def pointer(offset: int, base: str = "%s") -> str:
    """The address of a place in the state buffer."""
    return current().value(f"getelementptr i8, ptr {base}, i64 {offset}")


def alignment(offset: int) -> int:
    return min(64, offset & -offset) if offset else 64


def widths(size: int) -> list[int]:
    """The bytes of each piece of a vector of that many bytes."""
    widest = machine.register_bytes()
    return [size] if size <= widest or size % widest else [widest] * (size // widest)


class Pieces(Lanes):
    """Bytes in one piece or several. slot: where they wait in the state buffer, if they do.

    What waits is loaded where it is used, anew in each stretch of code: LLVM's fast register allocator would keep a
    value that is used behind a call or a branch in memory, too.
    """

    __slots__ = ("_pieces", "_stretch")

    def __init__(self, count: int, pieces: Sequence[str] | None, slot: int | None = None) -> None:
        super().__init__(None, count, "i8", slot=slot)
        self._pieces, self._stretch = pieces, -1 if pieces is None else current().stretch

    @property
    def pieces(self) -> Sequence[str]:
        """The SSA names."""
        if self.slot is not None and self._stretch != current().stretch:
            self._pieces, self._stretch = load(self.count, pointer(self.slot), alignment(self.slot)), current().stretch
        assert self._pieces is not None
        return self._pieces

    def fetch(self) -> None:
        """Loads what waits in memory, for the present stretch."""
        _ = self.pieces

    def wait(self, slot: int) -> None:
        """Stores the bytes in the state buffer."""
        store(self, pointer(slot), alignment(slot))
        self.slot, self._stretch = slot, current().stretch

    @property
    def ref(self) -> str:
        """One SSA name for all, a new one each time."""
        names, width = list(self.pieces), widths(self.count)[0]
        while len(names) > 1:
            mask = ", ".join(f"i32 {i}" for i in range(2 * width))
            names = [
                current().value(
                    f"shufflevector <{width} x i8> {low}, <{width} x i8> {high}, <{2 * width} x i32> <{mask}>"
                )
                for low, high in zip(names[::2], names[1::2], strict=True)
            ]
            width *= 2
        return names[0]

    def part(self, first: int, count: int) -> Lanes | None:
        """Some of the bytes, where that takes no more than to name their pieces."""
        width = widths(self.count)[0]
        if first % width or count % width or first + count > self.count:
            return None
        return Pieces(count, self.pieces[first // width : (first + count) // width])


def pieces_of(value: Lanes) -> Sequence[str]:
    """The names of a vector's pieces."""
    if isinstance(value, Pieces):
        return value.pieces
    name, sizes = value.ref, widths(value.count * value.bits // 8)
    if len(sizes) == 1:
        return [name]
    if name == "zeroinitializer":
        return [name] * len(sizes)
    assert value.kind == "i8"
    names, first = [], 0
    for size in sizes:
        mask = ", ".join(f"i32 {i}" for i in range(first, first + size))
        names.append(
            current().value(f"shufflevector {value.type} {name}, {value.type} poison, <{size} x i32> <{mask}>")
        )
        first += size
    return names


def split(value: Lanes) -> Lanes:
    """Bytes that were computed, as they are moved from now on."""
    return value if isinstance(value, Pieces) else Pieces(value.count, pieces_of(value))


def joined(value: Lanes) -> Lanes:
    """Bytes to compute with."""
    return Lanes(value.ref, value.count, "i8") if isinstance(value, Pieces) else value


def _places(size: int, base: str, align: int) -> list[tuple[str, str, int]]:
    """Type, address and alignment of each piece of a vector in memory."""
    out, found, first = current(), [], 0
    for width in widths(size):
        place = out.value(f"getelementptr i8, ptr {base}, i64 {first}") if first else base
        found.append((f"<{width} x i8>", place, min(align, width) if first else align))
        first += width
    return found


def load(size: int, base: str, align: int) -> Sequence[str]:
    """The names of the pieces of a vector that lies at an address."""
    return [
        current().value(f"load {kind}, ptr {place}, align {aligned}")
        for kind, place, aligned in _places(size, base, align)
    ]


def store(value: Lanes, base: str, align: int) -> None:
    """Writes a vector to an address."""
    size = value.count * value.bits // 8
    for (kind, place, aligned), name in zip(_places(size, base, align), pieces_of(value), strict=True):
        current().line(f"store {kind} {name}, ptr {place}, align {aligned}")
