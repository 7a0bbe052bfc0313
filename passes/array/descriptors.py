"""Buffer descriptors and DMA programs of one tile, in bytes, words and lock names' ids, and their register words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from npuc.compiler.target.npu1 import geometry


@dataclass(frozen=True)
class Dimension:
    """`wrap` positions `step` words apart; the last dimension of a descriptor has wrap 0: the length ends it."""

    wrap: int
    step: int


@dataclass(frozen=True)
class Descriptor:
    """One buffer descriptor of a core tile, memory tile or shim.

    address: bytes in the tile's own data memory (0 for the shim, patched at run time).  words: length.
    dimensions: innermost first, none for a linear transfer.  acquire, release: (lock id in the own tile, value).
    next: the descriptor that follows, None: the chain ends.  iterations, iteration_step: how many times the descriptor
    moves on by that many words before it starts over.
    """

    kind: str
    number: int
    address: int
    words: int
    dimensions: tuple[Dimension, ...] = ()
    acquire: tuple[int, int] | None = None
    release: tuple[int, int] | None = None
    next: int | None = None
    iterations: int = 1
    iteration_step: int = 1

    def pack(self) -> tuple[int, ...]:
        """Register words (facts/platform/device_npu1.md, "Buffer descriptors": steps and iterations minus 1)."""
        fields: dict[str, int] = {"length": self.words, "valid": 1}
        if self.kind == "shim":
            fields.update(ax_cache=geometry.SHIM_AX_CACHE, burst=len(geometry.SHIM_BURST_BYTES) - 1)
        else:
            window = geometry.MEMTILE_VIEW_OWN if self.kind == "memtile" else 0
            fields["base_address"] = (window + self.address) // 4
        for level, dimension in enumerate(self.dimensions):
            fields[f"d{level}_step"] = dimension.step - 1
            if dimension.wrap:
                fields[f"d{level}_wrap"] = dimension.wrap
        first_lock = geometry.MEMTILE_LOCK_OWN if self.kind == "memtile" else 0
        if self.acquire is not None:
            lock, value = self.acquire
            fields.update(acquire_enable=1, acquire_lock=first_lock + lock, acquire_value=value)
        if self.release is not None:
            lock, value = self.release
            fields.update(release_lock=first_lock + lock, release_value=value)
        if self.next is not None:
            fields.update(use_next=1, next_bd=self.next)
        if self.iterations > 1:
            fields.update(iteration_wrap=self.iterations - 1, iteration_step=self.iteration_step - 1)
        return tuple(geometry.pack_bd(self.kind, **fields))

    def word_addresses(self) -> Iterator[int]:
        """Word addresses (in the tile's memory) in the order in which the words pass, first iteration."""
        if not self.dimensions:
            yield from range(self.address // 4, self.address // 4 + self.words)
            return
        for position in range(self.words):
            address, rest = self.address // 4, position
            for dimension in self.dimensions:
                index = rest % dimension.wrap if dimension.wrap else rest
                rest = rest // dimension.wrap if dimension.wrap else 0
                address += index * dimension.step
            yield address


@dataclass(frozen=True)
class ChannelStart:
    """Push the chain that begins at descriptor `first` on a channel ('s2mm' or 'mm2s')."""

    direction: str
    channel: int
    first: int


@dataclass(frozen=True)
class DmaProgram:
    """All descriptors of one tile and the channels that run them from the start."""

    kind: str
    descriptors: tuple[Descriptor, ...]
    starts: tuple[ChannelStart, ...]

    def chain(self, direction: str, channel: int) -> list[Descriptor]:
        """The descriptors a channel runs, in order, until the chain ends or closes."""
        by_number = {descriptor.number: descriptor for descriptor in self.descriptors}
        first = next(s.first for s in self.starts if (s.direction, s.channel) == (direction, channel))
        chain, number = [], first
        while True:
            chain.append(by_number[number])
            following = chain[-1].next
            if following is None or following == first:
                return chain
            number = following


def ring(descriptors: list[Descriptor]) -> list[Descriptor]:
    """The same descriptors, each followed by the next and the last by the first."""
    numbers = [descriptor.number for descriptor in descriptors]
    following = numbers[1:] + numbers[:1]
    return [_followed(descriptor, number) for descriptor, number in zip(descriptors, following, strict=True)]


def _followed(descriptor: Descriptor, number: int) -> Descriptor:
    values = {name: getattr(descriptor, name) for name in descriptor.__dataclass_fields__}
    return Descriptor(**{**values, "next": number})
