"""What the buffer descriptors of core tiles reach in memory, told from the register writes of a configuration.

Fields and the order of words are those of facts/platform/device_npu1.md, "Buffer descriptors".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from npuc.compiler.emit import cdo
from npuc.compiler.target.npu1 import geometry

_FIRST = geometry.BD_BASE["core"]
_END = _FIRST + geometry.BD_COUNT["core"] * geometry.BD_STRIDE
_DIMENSIONS = 3
WORD = 4


class DescriptorBuffer(NamedTuple):
    """Bytes start .. end - 1 of a tile's data memory lie between the first and the last that a descriptor reaches."""

    descriptor: int
    start: int
    end: int


def descriptor_buffers(commands: Iterable[cdo.Command]) -> dict[tuple[int, int], tuple[DescriptorBuffer, ...]]:
    """(column, row) of core tiles -> the buffers of their valid descriptors, as the commands leave them."""
    words: dict[tuple[int, int, int], int] = {}
    for address, mask, value in _writes(commands):
        column, row, offset = geometry.split_address(address)
        if row in geometry.CORE_ROWS and _FIRST <= offset < _END:
            before = words.get((column, row, offset), 0)
            words[column, row, offset] = before & ~mask | value & mask
    found: dict[tuple[int, int], list[DescriptorBuffer]] = {}
    for column, row in sorted({(column, row) for column, row, _ in words}):
        for number in range(geometry.BD_COUNT["core"]):
            at = geometry.bd_offset("core", number)
            held = [words.get((column, row, at + WORD * i), 0) for i in range(geometry.BD_WORDS["core"])]
            buffer = core_descriptor_buffer(number, held)
            if buffer is not None:
                found.setdefault((column, row), []).append(buffer)
    return {tile: tuple(buffers) for tile, buffers in found.items()}


def core_descriptor_buffer(number: int, words: Sequence[int]) -> DescriptorBuffer | None:
    """What descriptor `number` of a core tile reaches, None when it is not valid; the iteration's steps included."""
    fields = geometry.unpack_bd("core", words)
    if not fields["valid"] or not fields["length"]:
        return None
    dimensions, size = [], 1
    for level in range(_DIMENSIONS):
        dimensions.append((fields[f"d{level}_step"] + 1, size))
        wrap = fields.get(f"d{level}_wrap", 0)
        if not wrap:
            break
        size *= wrap
    farthest = _farthest(fields["length"], dimensions)
    farthest += fields["iteration_wrap"] * (fields["iteration_step"] + 1)
    start = WORD * fields["base_address"]
    return DescriptorBuffer(number, start, start + WORD * (farthest + 1))


def _farthest(length: int, dimensions: Sequence[tuple[int, int]]) -> int:
    """The largest word offset among `length` words; dimensions: (step, words of an element), lowest first."""
    step, size = dimensions[-1]
    lower = dimensions[:-1]
    count, rest = divmod(length, size)
    best = 0
    if count:
        best = (count - 1) * step + (_farthest(size, lower) if lower else 0)
    if rest:
        best = max(best, count * step + _farthest(rest, lower))
    return best


def _writes(commands: Iterable[cdo.Command]) -> Iterator[tuple[int, int, int]]:
    """(address, mask, value) of every word that is written."""
    for command in commands:
        if isinstance(command, cdo.Write):
            yield command.address, 0xFFFFFFFF, command.value
        elif isinstance(command, cdo.MaskWrite):
            yield command.address, command.mask, command.value
        elif isinstance(command, cdo.DmaWrite) and _FIRST < (command.address & 0xFFFFF) + WORD * len(command.words):
            for index, value in enumerate(command.words):
                yield command.address + WORD * index, 0xFFFFFFFF, value
