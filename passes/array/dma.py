"""DMA programs of the core tiles and memory tiles: rings of descriptors that wait on locks and run for ever.

The same in every tile of a kind, whatever the lengths: how often a ring turns is decided by what the shims send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from npuc.compiler.diagnostics import ResourceError
from npuc.passes.array.descriptors import ChannelStart, Descriptor, Dimension, DmaProgram, ring
from npuc.passes.array.design import Buffer, Design
from npuc.passes.array.fifo import (
    CORE_OUTPUT_CHANNEL,
    FIRST_CORE_CHANNEL,
    RECEIVING_CHANNELS,
    Fifo,
    Slot,
    empty_full,
)
from npuc.passes.array.kept import Kept


class Step(NamedTuple):
    """One buffer of a ring, or a piece of it from byte `offset` on: how many words pass, and in which order."""

    slot: Slot
    words: int
    order: tuple[Dimension, ...]
    offset: int = 0


def core_program(design: Design) -> DmaProgram:
    """Each receiving channel fills the buffers of its streams in turn, the sending one empties those of the output."""
    numbers = iter(range(design.target.core_descriptors))
    rings = Rings("core", design.buffers, list(design.core_locks), [numbers, numbers])
    for channel in RECEIVING_CHANNELS:
        rings.add("s2mm", channel, _turns(design.inputs(channel), lambda fifo: _linear(fifo, fifo.core_slots())))
    for fifo in design.outputs:
        rings.add("mm2s", CORE_OUTPUT_CHANNEL, _pieces(fifo))
    return rings.program()


def memtile_program(design: Design) -> DmaProgram:
    """Tiles come in as they lie and go out in the cores' order, or the other way round."""
    return memtile_rings(design).program()


def memtile_rings(design: Design) -> Rings:
    """The same, and what of it runs by the runtime sequence's tasks alone."""
    half = design.target.memtile_descriptors
    numbers = [iter(range(half)), iter(range(half, 2 * half))]
    rings = Rings("memtile", design.relay_buffers, list(design.relay_locks), numbers)
    cores = design.target.cores_per_column
    for channel in RECEIVING_CHANNELS:
        shared = [fifo for fifo in design.inputs(channel) if not fifo.dealt]
        if any(fifo.kept for fifo in shared):
            rings.keep(channel, shared[0])
            continue
        rings.add("s2mm", channel, _turns(shared, lambda fifo: _linear(fifo, fifo.relay_slots(None))))
        rings.add("mm2s", channel, _turns(shared, lambda fifo: _ordered(fifo, fifo.relay_slots(None))))
    dealt = [fifo for channel in RECEIVING_CHANNELS for fifo in design.inputs(channel) if fifo.dealt]
    for fifo in dealt:
        rings.add("s2mm", fifo.channel, _linear(fifo, fifo.dealt_slots(cores)))
    for fifo in design.outputs:
        for outlet in range(fifo.outlets):
            rings.add("mm2s", design.output_channels[outlet], _linear(fifo, fifo.dealt_slots(cores, outlet)))
    for core in range(cores):
        for direction, fifos in (("mm2s", dealt), ("s2mm", design.outputs)):
            for fifo in fifos:
                rings.add(direction, FIRST_CORE_CHANNEL + core, _ordered(fifo, fifo.relay_slots(core)))
    return rings


def kept_streams(design: Design) -> list[Kept]:
    """What memory tiles keep, with the descriptors that are left for it."""
    rings = memtile_rings(design)
    used = {descriptor.number for descriptor in rings.descriptors}
    half, found = design.target.memtile_descriptors, []
    for kept in rings.kept:
        first = half * (kept.channel % 2)
        found.append(replace(kept, spare=tuple(sorted({*range(first, first + half)} - used))))
    return found


def _linear(fifo: Fifo, slots: Sequence[Slot]) -> list[Step]:
    return [Step(slot, fifo.tile.words, ()) for slot in slots]


def _pieces(fifo: Fifo) -> list[Step]:
    """What leaves a core."""
    size = fifo.tile.nbytes // fifo.pieces
    return [
        Step(slot, fifo.tile.words // fifo.pieces, (), number * size)
        for slot in fifo.core_slots()
        for number in range(fifo.pieces)
    ]


def _ordered(fifo: Fifo, slots: Sequence[Slot]) -> list[Step]:
    return [Step(slot, fifo.tile.words, fifo.tile.dimensions()) for slot in slots]


def _turns(fifos: Sequence[Fifo], steps: Callable[[Fifo], list[Step]]) -> list[Step]:
    """First buffers of all streams, then second ones."""
    return [step for turn in zip(*(steps(fifo) for fifo in fifos), strict=True) for step in turn]


class Rings:
    """Collects the rings of one tile; numbers: of descriptors for channels of even and of odd number."""

    def __init__(
        self, kind: str, buffers: Mapping[str, Buffer], locks: Sequence[str], numbers: Sequence[Iterator[int]]
    ) -> None:
        self.kind, self.buffers, self.numbers = kind, buffers, numbers
        self.locks = {name: number for number, name in enumerate(locks)}
        self.descriptors: list[Descriptor] = []
        self.starts: list[ChannelStart] = []
        self.kept: list[Kept] = []

    def add(self, direction: str, channel: int, steps: Iterable[Step]) -> None:
        """For ever; receiving fills buffers, sending empties them."""
        links = []
        for (buffer, stem), words, order, offset in steps:
            empty, full = (self.locks[name] for name in empty_full(stem))
            wait, signal = (empty, full) if direction == "s2mm" else (full, empty)
            number, address = self._number(channel), self.buffers[buffer].address + offset
            links.append(Descriptor(self.kind, number, address, words, order, acquire=(wait, -1), release=(signal, 1)))
        if links:
            self.descriptors += ring(links)
            self.starts.append(ChannelStart(direction, channel, links[0].number))

    def keep(self, channel: int, fifo: Fifo) -> None:
        """No ring: descriptors for tasks of the runtime sequence."""
        (slot,) = fifo.relay_slots(None)
        empty, full = (self.locks[name] for name in empty_full(slot.locks))
        numbers = (self._number(channel), self._number(channel), self._number(channel))
        self.kept.append(Kept(fifo, channel, self.buffers[slot.buffer].address, (empty, full), numbers))
        self.descriptors += self.kept[-1].descriptors

    def _number(self, channel: int) -> int:
        number = next(self.numbers[channel % 2], None)
        if number is None:
            raise ResourceError(f"the streams need more descriptors than channel {channel} of a {self.kind} tile has")
        return number

    def program(self) -> DmaProgram:
        return DmaProgram(self.kind, tuple(self.descriptors), tuple(self.starts))
