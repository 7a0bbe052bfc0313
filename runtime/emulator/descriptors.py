"""Buffer descriptors as transfers: which words in which order (facts/platform/device_npu1.md, "Buffer descriptors").

A descriptor walks dimension 0 fastest. A wrap of 0 leaves its dimension without an end, the highest dimension has
none; the length ends the transfer. Steps and the iteration wrap are stored minus 1, in 32-bit words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from npuc.compiler.target.npu1.geometry import BD_FIELDS, unpack_bd
from npuc.runtime.emulator.errors import EmulationError

DIMENSIONS = {"core": 3, "memtile": 4, "shim": 3}
_CACHED_LENGTH = 1 << 18  # longer address lists are kept fewer at a time

Shape = tuple[tuple[int, int], ...]  # (wrap, step) of each dimension, the highest one's wrap 0


@dataclass(frozen=True)
class LockUse:
    """A lock number as the descriptor has it, and the signed value."""

    number: int
    value: int


@dataclass(frozen=True)
class Descriptor:
    """One buffer descriptor, decoded. base: words (shim: bytes, 48 bit). length: words. iteration: (current, wrap, step)."""

    base: int
    length: int
    shape: Shape
    iteration: tuple[int, int, int]
    acquire: LockUse | None
    release: LockUse | None
    next_bd: int | None

    @property
    def start(self) -> int:
        """Offset in words of this run from the base: iteration current times step."""
        current, _, step = self.iteration
        return current * step


@lru_cache(maxsize=4096)
def decode(kind: str, words: tuple[int, ...]) -> Descriptor:
    """Decodes the words of a `kind` tile's descriptor. Raises EmulationError for what is not modelled or invalid."""
    f = unpack_bd(kind, words)
    if not f["valid"]:
        raise EmulationError("is not valid (its valid bit is 0)")
    if f["enable_packet"]:
        raise EmulationError("sends packets: packet mode is not modelled")
    if f.get("enable_compression"):
        raise EmulationError("compresses: not modelled")
    padding = [name for name in f if "_zero_" in name and f[name]]
    if padding:
        raise EmulationError(f"pads with zeros ({', '.join(padding)}): not modelled")
    if f["length"] == 0:
        raise EmulationError("has length 0: not modelled")
    top = DIMENSIONS[kind] - 1
    shape = tuple((f[f"d{d}_wrap"] if d < top else 0, f[f"d{d}_step"] + 1) for d in range(top + 1))
    base = f["base_address"] if kind != "shim" else f["address_high"] << 32 | f["address_low"] << 2
    return Descriptor(
        base=base,
        length=f["length"],
        shape=shape,
        iteration=(f["iteration_current"], f["iteration_wrap"] + 1, f["iteration_step"] + 1),
        acquire=LockUse(f["acquire_lock"], f["acquire_value"]) if f["acquire_enable"] else None,
        release=LockUse(f["release_lock"], f["release_value"]) if f["release_value"] else None,
        next_bd=f["next_bd"] if f["use_next"] else None,
    )


def advance_iteration(kind: str, words: list[int]) -> None:
    """Moves Iteration_Current of a descriptor one step on, as every run of it does; back to 0 behind the wrap."""
    current, wrap = BD_FIELDS[kind]["iteration_current"], BD_FIELDS[kind]["iteration_wrap"]
    last = words[wrap.word] >> wrap.lsb & (1 << wrap.width) - 1
    if not last:
        return
    mask = (1 << current.width) - 1
    value = words[current.word] >> current.lsb & mask
    value = 0 if value >= last else value + 1
    words[current.word] = words[current.word] & ~(mask << current.lsb) | value << current.lsb


def _addresses(shape: Shape, length: int) -> np.ndarray | None:
    wrap, step = shape[0]
    if step == 1 and (wrap == 0 or wrap >= length):
        return None
    rest = np.arange(length, dtype=np.int64)
    total = np.zeros(length, dtype=np.int64)
    for wrap, step in shape:
        if wrap == 0:
            total += rest * step
            break
        total += rest % wrap * step
        rest //= wrap
    if np.array_equal(total, np.arange(length)):
        return None
    return total


_short = lru_cache(maxsize=512)(_addresses)
_long = lru_cache(maxsize=8)(_addresses)


def word_addresses(shape: Shape, length: int) -> np.ndarray | None:
    """Word offsets of a transfer in order, int64[length]; None for 0, 1, 2, ... (contiguous)."""
    return _short(shape, length) if length <= _CACHED_LENGTH else _long(shape, length)


class Run:
    """One execution of a descriptor: the words of a memory it still has to read or write.

    words: the memory as uint32. base: its first word of the transfer. addresses: offsets, or None when contiguous.
    """

    __slots__ = ("words", "written", "base", "addresses", "length", "position", "started")

    def __init__(self, words: np.ndarray, written: np.ndarray | None, base: int, addresses: np.ndarray | None,
                 length: int, started: int) -> None:
        self.words = words
        self.written = written
        self.base = base
        self.addresses = addresses
        self.length = length
        self.position = 0
        self.started = started

    @property
    def left(self) -> int:
        return self.length - self.position

    def _places(self, count: int) -> slice | np.ndarray:
        position = self.position
        self.position += count
        if self.addresses is None:
            return slice(self.base + position, self.base + position + count)
        return self.addresses[position:position + count] + self.base

    def read(self, count: int) -> np.ndarray:
        """The next words, copied."""
        places = self._places(count)
        words = self.words[places]
        return words.copy() if isinstance(places, slice) else words

    def write(self, words: np.ndarray) -> None:
        """Stores the next words."""
        places = self._places(len(words))
        self.words[places] = words
        if self.written is not None:
            self.written.reshape(-1, 4)[places] = True
