"""Streams that memory tiles keep: a ring of tiles that the tasks of a runtime sequence fill and empty.

What came once can be sent again, as long as its place in the ring is not given free.  Three descriptors are there from
the start, each of one tile, and the next one at its next run: one fills, one sends tiles and gives their places free,
one sends and holds them.  They stand at the ring's first tile when the array is configured; whoever moves them on by
other than whole rounds sets them back (`rewind`).  Chains of further descriptors send tiles from any place on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.descriptors import Descriptor
from npuc.passes.array.fifo import Fifo


@dataclass(frozen=True)
class Kept:
    """A kept stream in every memory tile.

    channel: the receiving and the sending one.  address: of the ring.  locks: places that are free, and tiles that came
    and were not sent yet.  numbers: of the descriptors that fill, release and hold.  spare: numbers of those that the
    channel can use beside the design's.
    """

    fifo: Fifo
    channel: int
    address: int
    locks: tuple[int, int]
    numbers: tuple[int, int, int]
    spare: tuple[int, ...] = ()

    @property
    def tiles(self) -> int:
        """That the ring holds."""
        return self.fifo.relay_depth

    @property
    def descriptors(self) -> tuple[Descriptor, Descriptor, Descriptor]:
        """That fill, release and hold."""
        empty, full = self.locks
        fill, release, hold = self.numbers
        sent = replace(self._tile(release, full), dimensions=self.fifo.tile.dimensions())
        filled = replace(self._tile(fill, empty), release=(full, 1))
        return filled, replace(sent, release=(empty, 1)), replace(sent, number=hold)

    def _tile(self, number: int, acquire: int) -> Descriptor:
        words = self.fifo.tile.words
        step = dict(iterations=self.tiles, iteration_step=words)
        return Descriptor("memtile", number, self.address, words, acquire=(acquire, -1), **step)  # type: ignore[arg-type]

    def parts(self, first: int, count: int) -> list[tuple[int, int]]:
        """(place, tiles) of a stretch of the ring, which may begin before its end and end behind its start."""
        parts = []
        while count:
            first %= self.tiles
            some = min(count, self.tiles - first)
            parts.append((first, some))
            first, count = first + some, count - some
        return parts

    def sending(self, numbers: Iterator[int], first: int, count: int, come: bool, freed: int = 0) -> list[Descriptor]:
        """A chain that sends `count` tiles from place `first` on, which may lie beyond the ring's end, and begin again.

        come: whether they have to come first, else they are there.  freed: places that are free at its end.
        """
        empty, full = self.locks
        chain = []
        for place, some in self.parts(first, count):
            words = self.fifo.tile.words
            descriptor = Descriptor("memtile", next(numbers), self.address + 4 * place * words, some * words)
            order = self.fifo.tile.dimensions_of_many()
            chain.append(replace(descriptor, dimensions=order, acquire=(full, -some) if come else None))
        if freed:
            chain[-1] = replace(chain[-1], release=(empty, freed))
        return chain

    @staticmethod
    def rewind(descriptor: Descriptor) -> tuple[int, int]:
        """(offset in the tile's registers, word): what has it stand where it stood at first."""
        word = geometry.BD_FIELDS["memtile"]["iteration_current"].word
        return geometry.bd_offset("memtile", descriptor.number) + 4 * word, descriptor.pack()[word]


def chained(descriptors: list[Descriptor]) -> list[Descriptor]:
    """Each followed by the next."""
    following = [descriptor.number for descriptor in descriptors[1:]]
    return [replace(one, next=number) for one, number in zip(descriptors, [*following, None], strict=True)]
