"""Differences of array configurations: what CDO commands leave in registers and memories, and in which order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy

from npuc.compiler.emit import cdo
from npuc.compiler.emit.layout import pack_words
from npuc.compiler.inspect.diff.report import REORDERED, Difference, only_in
from npuc.compiler.inspect.diff.sequence import Pair, align, moved_runs, numbered
from npuc.compiler.inspect.diff.values import hexadecimal, ranges_of, size_text
from npuc.compiler.target.npu1 import geometry
from npuc.compiler.target.npu1.register_fields import changed_fields
from npuc.compiler.target.npu1.registers import register_name

WORD = 0xFFFFFFFF


class RegisterWrite(NamedTuple):
    """One word written to a register: register = register & ~mask | value & mask."""

    mask: int
    value: int


class Step(NamedTuple):
    """What a command does, for comparing orders: its place, what it writes there, and a name for readers."""

    key: Hashable
    content: Hashable
    what: str


class Memory:
    """Initial contents of a memory of `size` bytes, and which of these bytes are written."""

    def __init__(self, size: int) -> None:
        self.contents = numpy.zeros(size, numpy.uint8)
        self.written = numpy.zeros(size, numpy.bool_)

    def fill(self, offset: int, words: Sequence[int]) -> None:
        """Write words; what goes beyond the end is lost."""
        data = pack_words([word & WORD for word in words])[: len(self.contents) - offset]
        self.contents[offset : offset + len(data)] = numpy.frombuffer(data, numpy.uint8)
        self.written[offset : offset + len(data)] = True

    def text(self, start: int, end: int) -> str:
        return hexadecimal(self.contents[start:end].tobytes())


@dataclass
class Configuration:
    """What commands do: writes by register address, memories by their first address, and all of it in order.

    others: commands that write nothing.
    """

    registers: dict[int, list[RegisterWrite]] = field(default_factory=lambda: defaultdict(list))
    memories: dict[int, Memory] = field(default_factory=dict)
    others: list[cdo.Command] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


def _memory_at(row: int, offset: int) -> tuple[int, int] | None:
    """(start, size) of the memory an offset of a tile lies in, None for registers."""
    kind = geometry.tile_kind(row) if row < geometry.ROWS else ""
    if offset < geometry.DATA_MEMORY_SIZE.get(kind, 0):
        return 0, geometry.DATA_MEMORY_SIZE[kind]
    start, size = geometry.PROGRAM_MEMORY_OFFSET, geometry.PROGRAM_MEMORY_SIZE
    return (start, size) if kind == "core" and start <= offset < start + size else None


def read_configuration(commands: Iterable[cdo.Command]) -> Configuration:
    """What the commands do, in order."""
    result = Configuration()
    for command in commands:
        if isinstance(command, (cdo.Nop, cdo.MaskPoll)):
            result.others.append(command)
            result.steps.append(Step(command, None, type(command).__name__))
        elif isinstance(command, cdo.DmaWrite):
            _block(result, command)
        else:
            mask = command.mask if isinstance(command, cdo.MaskWrite) else WORD
            _, row, offset = geometry.split_address(command.address)
            if mask == WORD and _memory_at(row, offset):
                _block(result, cdo.DmaWrite(command.address, (command.value,)))
            else:
                _register(result, command.address, RegisterWrite(mask, command.value))
    return result


def _register(result: Configuration, address: int, write: RegisterWrite) -> None:
    result.registers[address].append(write)
    result.steps.append(Step(address, write, register_name(address)))


def _block(result: Configuration, command: cdo.DmaWrite) -> None:
    """Words written to consecutive addresses, cut where a memory begins or ends."""
    done = 0
    while done < len(command.words):
        address = command.address + 4 * done
        _, row, offset = geometry.split_address(address)
        memory = _memory_at(row, offset)
        if memory is None:
            _register(result, address, RegisterWrite(WORD, command.words[done]))
            done += 1
            continue
        start, size = memory
        count = min(len(command.words) - done, (start + size - offset + 3) // 4)
        contents = result.memories.setdefault(address - offset + start, Memory(size))
        words = command.words[done : done + count]
        contents.fill(offset - start, words)
        result.steps.append(Step((address, count), words, register_name(address)))
        done += count


# --- registers ----------------------------------------------------------------------------------------------------
def word_differences(address: int, before: int, after: int, note: str = "") -> Iterator[Difference]:
    """The fields in which two values of a register differ."""
    _, row, offset = geometry.split_address(address)
    kind = geometry.tile_kind(row) if row < geometry.ROWS else ""
    name = register_name(address)
    fields = changed_fields(kind, offset, before, after) if kind else [("", before, after)]
    for field_name, old, new in fields if before != after else ():
        if field_name:
            yield Difference(f"{name} {field_name}", before=old, after=new, note=note)
        else:
            yield Difference(name, before=f"{before:#x}", after=f"{after:#x}", note=note)


def _write_text(write: RegisterWrite) -> str:
    return f"{write.value:#x}" if write.mask == WORD else f"{write.value:#x} under mask {write.mask:#x}"


def compare_registers(a: Configuration, b: Configuration) -> Iterator[Difference]:
    """Register by register, in order of address: the writes that differ, down to fields."""
    for address in sorted(a.registers.keys() | b.registers.keys()):
        before, after = a.registers.get(address, []), b.registers.get(address, [])
        if Counter(before) != Counter(after):  # the same writes in another order are told by compare_order
            yield from _writes(address, before, after)


def _writes(address: int, before: Sequence[RegisterWrite], after: Sequence[RegisterWrite]) -> Iterator[Difference]:
    if len(before) == len(after):
        pairs = [Pair(i, i, old == new) for i, (old, new) in enumerate(zip(before, after, strict=True))]
    else:
        pairs = align(before, after, [0] * len(before), [0] * len(after))
    for pair in pairs:
        if pair.equal:
            continue
        if pair.a is None and pair.b is not None:
            yield only_in(False, register_name(address), _write_text(after[pair.b]))
        elif pair.b is None and pair.a is not None:
            yield only_in(True, register_name(address), _write_text(before[pair.a]))
        elif pair.a is not None and pair.b is not None:
            old, new = before[pair.a], after[pair.b]
            note = f"write {pair.a + 1} of {len(before)}" if len(before) > 1 else ""
            yield from word_differences(address, old.value, new.value, note)
            if old.mask != new.mask:
                name = f"{register_name(address)} mask"
                yield Difference(name, before=f"{old.mask:#x}", after=f"{new.mask:#x}", note=note)


# --- memories -----------------------------------------------------------------------------------------------------
def compare_memories(a: Configuration, b: Configuration) -> Iterator[Difference]:
    """Data memories: ranges whose initial contents differ.  Program memories are compared as programs, not here."""
    for address in sorted(a.memories.keys() | b.memories.keys()):
        _, row, start = geometry.split_address(address)
        if start != geometry.PROGRAM_MEMORY_OFFSET:
            empty = Memory(geometry.DATA_MEMORY_SIZE[geometry.tile_kind(row)])
            yield from _memory(a.memories.get(address, empty), b.memories.get(address, empty), address)


def _memory(a: Memory, b: Memory, address: int) -> Iterator[Difference]:
    for start, end in ranges_of(a.written & ~b.written):
        yield only_in(True, register_name(address + start), a.text(start, end), size_text(end - start))
    for start, end in ranges_of(b.written & ~a.written):
        yield only_in(False, register_name(address + start), b.text(start, end), size_text(end - start))
    for start, end in ranges_of(a.written & b.written & (a.contents != b.contents)):
        before, after = a.text(start, end), b.text(start, end)
        yield Difference(register_name(address + start), before=before, after=after, note=size_text(end - start))


# --- commands and their order -------------------------------------------------------------------------------------
def compare_order(a: Configuration, b: Configuration) -> Iterator[Difference]:
    """Commands that write nothing and differ, and those in both configurations that stand in another order."""
    common = _common(a.steps, b.steps)
    for other in align(a.others, b.others):
        if other.b is None and other.a is not None:
            yield only_in(True, "command", repr(a.others[other.a]))
        elif other.a is None and other.b is not None:
            yield only_in(False, "command", repr(b.others[other.b]))
    for run in moved_runs([j for _, j in common]):
        (first, to), (last, _) = common[run.start], common[run.stop - 1]
        steps = a.steps[first], a.steps[last]
        what = steps[0].what if len(run) == 1 else f"{steps[0].what} to {steps[1].what}"
        note = f"{len(run)} writes; " if len(run) > 1 else ""
        yield Difference(what, REORDERED, first, to, f"{note}now {_after(b, to)}, was {_after(a, first)}")


def _common(a: Sequence[Step], b: Sequence[Step]) -> list[tuple[int, int]]:
    """Places of steps that are in both: those that write the same, then those that write to the same place."""
    partner: dict[int, int] = {}
    for parts in (slice(0, 2), slice(0, 1)):
        left_a = [i for i in range(len(a)) if i not in partner]
        taken = set(partner.values())
        left_b = [j for j in range(len(b)) if j not in taken]
        keys_a, keys_b = (numbered([s[i][parts] for i in left]) for s, left in ((a, left_a), (b, left_b)))
        places = dict(zip(keys_b, left_b, strict=True))
        partner.update((i, places[key]) for i, key in zip(left_a, keys_a, strict=True) if key in places)
    return sorted(partner.items())


def _after(side: Configuration, place: int) -> str:
    return f"after {side.steps[place - 1].what}" if place else "first"


def compare_blocks(a: Sequence[cdo.Command], b: Sequence[cdo.Command]) -> Iterator[Difference]:
    """Commands that write the same in other pieces, as a block instead of single words."""
    before, after = [_block_shape(command) for command in a], [_block_shape(command) for command in b]
    for pair in align(before, after):
        if pair.b is None and pair.a is not None:
            yield only_in(True, *before[pair.a])
        elif pair.a is None and pair.b is not None:
            yield only_in(False, *after[pair.b])


def _block_shape(command: cdo.Command) -> tuple[str, str]:
    """(place, kind and size) of a command."""
    words = len(getattr(command, "words", ()))
    size = f" of {words} words" if words else ""
    return register_name(getattr(command, "address", 0)), type(command).__name__ + size
