"""What a buffer descriptor means: word addresses, locks, chaining (facts/platform/device_npu1.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.errors import EmulationError

LONGEST = 1 << 25  # words of one run; bounds memory, as the shim's length field has 32 bits
DIMENSIONS = {"core": 3, "memtile": 4, "shim": 3}
# Fields whose use is not modelled, with what they ask for.
UNMODELLED = {
    "enable_packet": "packet mode",
    "enable_compression": "compression",
    **{f"d{i}_zero_{where}": "zero padding" for i in range(3) for where in ("before", "after")},
}


@dataclass(frozen=True)
class Descriptor:
    """One run of a buffer descriptor.

    places: word addresses in the order of the stream (shim: of DDR, in words).  acquire: (lock, value) or None;
    release: likewise.  following: the next descriptor of the chain or None.
    """

    places: np.ndarray
    acquire: tuple[int, int] | None
    release: tuple[int, int] | None
    following: int | None


def _offsets(fields: dict[str, int], kind: str) -> np.ndarray:
    index = np.arange(fields["length"], dtype=np.int64)
    offsets = np.zeros_like(index)
    for level in range(DIMENSIONS[kind]):
        step = fields[f"d{level}_step"] + 1
        wrap = fields.get(f"d{level}_wrap", 0)
        if not wrap:
            return offsets + index * step
        offsets += index % wrap * step
        index = index // wrap
    return offsets


def _lock(kind: str, number: int, who: str) -> int:
    if kind != "memtile":
        return number
    own = number - geometry.MEMTILE_LOCK_OWN
    if not 0 <= own < geometry.LOCK_COUNT[kind]:
        raise EmulationError(f"{who}: lock {number} is a neighbour's; neighbour access is not modelled")
    return own


def interpret(kind: str, words: Sequence[int], who: str) -> tuple[Descriptor, list[int]]:
    """The run the words describe, and the words after it (the iteration counter moves on).

    Raises EmulationError for an invalid descriptor and for what is not modelled.
    """
    fields = geometry.unpack_bd(kind, words)
    if not fields["valid"]:
        raise EmulationError(f"{who} is run but not valid")
    for name, what in UNMODELLED.items():
        if fields.get(name):
            raise EmulationError(f"{who} uses {what}, which is not modelled")
    if not fields["length"]:
        raise EmulationError(f"{who} has length 0")
    if fields["length"] > LONGEST:
        raise EmulationError(f"{who} has length {fields['length']:,} words; more than {LONGEST:,} are not modelled")
    current, wrap = fields["iteration_current"], fields["iteration_wrap"]
    base = _base(kind, fields, who) + current * (fields["iteration_step"] + 1 if wrap else 0)
    after = list(words)
    if wrap:
        field = geometry.BD_FIELDS[kind]["iteration_current"]
        following = current + 1 if current < wrap else 0
        after[field.word] &= ~(((1 << field.width) - 1) << field.lsb)
        after[field.word] |= following << field.lsb
    acquire = release = None
    if fields["acquire_enable"]:
        acquire = (_lock(kind, fields["acquire_lock"], who), fields["acquire_value"])
    if fields["release_value"]:
        release = (_lock(kind, fields["release_lock"], who), fields["release_value"])
    chained = fields["next_bd"] if fields["use_next"] else None
    return Descriptor(base + _offsets(fields, kind), acquire, release, chained), after


def _base(kind: str, fields: dict[str, int], who: str) -> int:
    if kind == "shim":
        return fields["address_low"] | fields["address_high"] << 30
    if kind == "core":
        return fields["base_address"]
    base = fields["base_address"] - geometry.MEMTILE_VIEW_OWN // 4
    if not 0 <= base < geometry.MEMTILE_MEMORY_SIZE // 4:
        raise EmulationError(f"{who}: its address is in a neighbour's memory; neighbour access is not modelled")
    return base
