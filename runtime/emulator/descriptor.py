"""What a buffer descriptor means: word addresses, padding, locks, packets, chaining (facts/platform/device_npu1.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.errors import EmulationError

DIMENSIONS = {"core": 3, "memtile": 4, "shim": 3}
PADDED_DIMENSIONS = 3  # of a memtile's MM2S descriptors
CACHED_WORDS = 16384  # patterns up to this length keep the addresses of their bursts; longer ones are computed anew
KEPT_WORDS = 2 * CACHED_WORDS  # of all bursts of a pattern


@dataclass(frozen=True)
class Pattern:
    """The order in which a descriptor visits words: mixed-radix counting over dimensions, lowest first.

    length: words in the stream, padding included.  steps: words between neighbours of each dimension.  wraps: elements
    of each dimension but the last, 0 = the dimension takes all that is left.  pads: zeros before and after each of
    those dimensions, in elements of it.
    """

    length: int
    steps: tuple[int, ...]
    wraps: tuple[int, ...]
    pads: tuple[tuple[int, int], ...] = ()

    @cached_property
    def linear(self) -> bool:
        """Whether neighbours in the stream are neighbours in memory, throughout."""
        if any(before or after for before, after in self.pads):
            return False
        size = 1
        for step, wrap in zip(self.steps, (*self.wraps, 0), strict=True):
            if size >= self.length:
                return True
            if step != size:
                return False
            if not wrap:
                return True
            size *= wrap
        return True

    @cached_property
    def run(self) -> int:
        """Neighbouring words of memory that are visited one after the other, before the first jump."""
        if self.linear:
            return self.length
        size = 1
        for step, wrap in zip(self.steps, self.wraps, strict=False):
            if step != size:
                break
            size *= wrap
        return min(size, self.length)

    def offsets(self, start: int, count: int) -> np.ndarray:
        """Word offsets from the base address of words start..start+count of the stream; -1 where a zero is sent."""
        if self.length > CACHED_WORDS:
            return _offsets(self, start, count)
        kept = self._kept
        offsets = kept.get((start, count))
        if offsets is None:
            if count + sum(map(len, kept.values())) > KEPT_WORDS:
                kept.clear()
            offsets = kept[start, count] = _offsets(self, start, count)
            offsets.flags.writeable = False
        return offsets

    @cached_property
    def _kept(self) -> dict[tuple[int, int], np.ndarray]:
        return {}

    @cached_property
    def reach(self) -> int:
        """The largest offset from the base address (the smallest is 0 or comes from padding)."""
        if self.length > CACHED_WORDS and not self.pads:
            return self._reach_unpadded()
        return max(int(_offsets(self, 0, self.length).max()), 0)

    def _reach_unpadded(self) -> int:
        """Steps are positive: the largest offset has the last word's leading digits, or one less and then full ones."""
        digits, index = [], self.length - 1
        for wrap in (*self.wraps, 0):
            digits.append(index % wrap if wrap else index)
            index = index // wrap if wrap else 0
        best = 0
        for level in range(len(digits)):
            if level and not digits[level]:
                continue
            lower = sum((wrap - 1) * step for wrap, step in zip(self.wraps[:level], self.steps[:level], strict=True))
            upper = sum(d * s for d, s in zip(digits[level:], self.steps[level:], strict=True))
            best = max(best, upper + lower - (self.steps[level] if level else 0))
        return max(best, sum(d * s for d, s in zip(digits, self.steps, strict=True)))


def _offsets(pattern: Pattern, start: int, count: int) -> np.ndarray:
    index = np.arange(start, start + count, dtype=np.int64)
    offsets = np.zeros_like(index)
    zeros = np.zeros(count, dtype=bool)
    for level, step in enumerate(pattern.steps):
        wrap = pattern.wraps[level] if level < len(pattern.wraps) else 0
        if not wrap:
            offsets += index * step
            break
        before, after = pattern.pads[level] if level < len(pattern.pads) else (0, 0)
        size = before + wrap + after
        digit = index % size - before
        zeros |= (digit < 0) | (digit >= wrap)
        offsets += digit * step
        index = index // size
    offsets[zeros] = -1
    return offsets


@dataclass(frozen=True)
class Packet:
    """What an MM2S descriptor puts into the header it inserts."""

    id: int
    type: int
    out_of_order_id: int


@dataclass(frozen=True)
class Descriptor:
    """One run of a buffer descriptor.

    base: word address as the channel counts (memtile: in the 1.5 MiB of west, own and east; shim: of DDR).  acquire:
    (lock, value) or None; release: likewise, lock numbers as the channel counts.  following: the next descriptor of the
    chain or None.  packet: the header to insert, or None.  tlast: whether the last word ends a packet.
    """

    base: int
    pattern: Pattern
    acquire: tuple[int, int] | None
    release: tuple[int, int] | None
    following: int | None
    packet: Packet | None
    tlast: bool


def header(packet: Packet, column: int, row: int) -> int:
    """The header word of a packet (device_npu1.md, "Stream switch"; bits 10:5 hold the out-of-order descriptor)."""
    word = packet.id | packet.out_of_order_id << 5 | packet.type << 12 | row << 16 | column << 21
    return word | (~word.bit_count() & 1) << 31


def interpret(kind: str, words: Sequence[int], who: str) -> tuple[Descriptor, tuple[int, ...]]:
    """The run the words describe, and the words after it (the iteration counter moves on).

    Raises EmulationError for an invalid descriptor and for what is not modelled.
    """
    try:
        return _interpret(kind, tuple(words))
    except EmulationError as error:
        raise EmulationError(f"{who} {error.message}") from None


@lru_cache(maxsize=4096)
def _interpret(kind: str, words: tuple[int, ...]) -> tuple[Descriptor, tuple[int, ...]]:
    fields = geometry.unpack_bd(kind, words)
    if not fields["valid"]:
        raise EmulationError("is run but not valid")
    if fields.get("enable_compression"):
        raise EmulationError("uses compression, which is not modelled: its format is in no public source")
    if not fields["length"]:
        raise EmulationError("has length 0")
    current, wrap = fields["iteration_current"], fields["iteration_wrap"]
    base = fields["address_low"] | fields["address_high"] << 30 if kind == "shim" else fields["base_address"]
    base += current * (fields["iteration_step"] + 1) if wrap else 0
    after = list(words)
    if wrap:
        field = geometry.BD_FIELDS[kind]["iteration_current"]
        following = current + 1 if current < wrap else 0
        after[field.word] &= ~(((1 << field.width) - 1) << field.lsb)
        after[field.word] |= following << field.lsb
    acquire = (fields["acquire_lock"], fields["acquire_value"]) if fields["acquire_enable"] else None
    release = (fields["release_lock"], fields["release_value"]) if fields["release_value"] else None
    packet = None
    if fields["enable_packet"]:
        packet = Packet(fields["packet_id"], fields["packet_type"], fields["out_of_order_id"])
    chained = fields["next_bd"] if fields["use_next"] else None
    return Descriptor(
        base, _pattern(kind, fields), acquire, release, chained, packet, not fields["tlast_suppress"]
    ), tuple(after)


def _pattern(kind: str, fields: dict[str, int]) -> Pattern:
    count = DIMENSIONS[kind]
    steps = tuple(fields[f"d{level}_step"] + 1 for level in range(count))
    wraps = tuple(fields[f"d{level}_wrap"] for level in range(count - 1))
    pads: tuple[tuple[int, int], ...] = ()
    if kind == "memtile":
        pads = tuple(
            (fields[f"d{level}_zero_before"], fields[f"d{level}_zero_after"]) for level in range(PADDED_DIMENSIONS)
        )
        pads = pads if any(before or after for before, after in pads) else ()
        for level, (before, after) in enumerate(pads):
            if (before or after) and not all(wraps[: level + 1]):
                raise EmulationError(f"pads dimension {level}, which has no wrap: what that does is not known")
    if 0 in wraps:
        used = wraps.index(0) + 1
        steps, wraps = steps[:used], wraps[: used - 1]
    return _one_pattern(fields["length"], steps, wraps, pads)


@lru_cache(maxsize=256)
def _one_pattern(
    length: int, steps: tuple[int, ...], wraps: tuple[int, ...], pads: tuple[tuple[int, int], ...]
) -> Pattern:
    """Descriptors at other places share their pattern, with what is known of it."""
    return Pattern(length, steps, wraps, pads)
