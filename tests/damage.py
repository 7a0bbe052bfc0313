"""Files gone wrong: cut, with flipped bits, and changed inside with every checksum made good again."""

from __future__ import annotations

import copy
import hashlib
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from npuc.compiler.emit import cdo, npua, pdi, txn, xclbin


def truncated(data: bytes, generator: random.Random, count: int) -> Iterator[bytes]:
    """`count` proper prefixes, the shortest and the longest among them."""
    lengths = [0, 1, len(data) - 1, *(generator.randrange(len(data)) for _ in range(count - 3))]
    return (data[:length] for length in lengths)


def flipped(data: bytes, generator: random.Random, count: int) -> Iterator[bytes]:
    """`count` copies with one to eight random bits inverted."""
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(generator.choice((1, 1, 2, 8))):
            changed[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        yield bytes(changed)


def resealed(file: bytes, *, image: bytes | None = None, **changes: Any) -> bytes:
    """An xclbin of one kernel with another PDI or other parts of its NPUA, its hash and checksums right again."""
    container = xclbin.read_xclbin(file)
    (kernel,) = container.kernels
    if image is not None:
        changes["pdi_sha256"] = hashlib.sha256(image).digest()
    inner = npua.write_npua(replace(npua.read_npua(kernel.npua), **changes))
    entry = replace(kernel, npua=inner, description=None)
    return xclbin.write_xclbin(xclbin.Xclbin((entry,), container.columns, container.pdi if image is None else image))


def sealed_npua(data: bytes) -> bytes:
    """A changed NPUA with its CRC-32 right again."""
    return data[:28] + zlib.crc32(data[:28] + bytes(4) + data[32:]).to_bytes(4, "little") + data[32:]


def _other_number(value: int, generator: random.Random) -> int:
    return generator.choice((value ^ 1 << generator.randrange(32), value + 4, value - 4, 0, generator.getrandbits(32)))


def changed_record(record: Any, generator: random.Random) -> Any:
    """A command or operation with one of its numbers replaced by another that the field holds."""
    names = [f.name for f in fields(record) if isinstance(getattr(record, f.name), (int, tuple))]
    if not names:
        return record
    name = generator.choice(names)
    value = getattr(record, name)
    if isinstance(value, tuple):
        if not value:
            return record
        words = list(value)
        for _ in range(generator.choice((1, 1, 4))):
            at = generator.randrange(len(words))
            words[at] = _other_number(words[at], generator) & 0xFFFFFFFF
        return replace(record, **{name: tuple(words)})
    narrow = isinstance(record, (txn.Sync, txn.Preempt))
    limit = 1 if name == "direction" else 0xFF if narrow else 0xFFFFFFFF
    return replace(record, **{name: _other_number(value, generator) & limit})


def changed_list(records: Sequence[Any], generator: random.Random) -> list[Any]:
    """The records with one changed, left out, doubled or moved."""
    result = list(records)
    at = generator.randrange(len(result))
    action = generator.choice(("change", "change", "change", "omit", "double", "move"))
    if action == "change":
        result[at] = changed_record(result[at], generator)
    elif action == "omit":
        del result[at]
    elif action == "double":
        result.insert(generator.randrange(len(result)), result[at])
    else:
        result.insert(generator.randrange(len(result)), result.pop(at))
    return result


def changed_image(file: bytes, generator: random.Random) -> bytes:
    """The xclbin with its array configuration changed: register writes, programs, descriptors."""
    commands = pdi.read_pdi(xclbin.read_xclbin(file).pdi).commands
    for _ in range(generator.choice((1, 1, 3))):
        commands = tuple(changed_list(commands, generator))
    return resealed(file, image=pdi.write_pdi(commands))


def changed_program(file: bytes, generator: random.Random) -> bytes:
    """The xclbin with bits of its core programs inverted."""
    commands = list(pdi.read_pdi(xclbin.read_xclbin(file).pdi).commands)
    places = [i for i, c in enumerate(commands) if isinstance(c, cdo.DmaWrite) and c.address >> 17 & 7 == 1]
    at = generator.choice(places)
    words = list(commands[at].words)
    for _ in range(generator.choice((1, 1, 2, 8))):
        words[generator.randrange(len(words))] ^= 1 << generator.randrange(32)
    commands[at] = replace(commands[at], words=tuple(words))
    return resealed(file, image=pdi.write_pdi(commands))


def changed_sequence(file: bytes, generator: random.Random) -> bytes:
    """The xclbin with its runtime sequence changed."""
    control = npua.read_npua(xclbin.read_xclbin(file).kernels[0].npua).control
    operations = tuple(changed_list(control.operations, generator))
    return resealed(file, control=replace(control, operations=operations, patches=()))


# What a value of the metadata may become.
ODD_VALUES = (
    None, True, -1, 0, 1, 3, 1 << 31, 1 << 40, 1 << 70, 0.5, -0.0, "", "q", "f32", "\n\x1b[2J", [], [1], {}, {"a": 1},
)  # fmt: skip


def changed_metadata(file: bytes, generator: random.Random) -> bytes:
    """The xclbin with one value of its metadata replaced or left out (the plan, which nothing reads, aside)."""
    metadata = copy.deepcopy(npua.read_npua(xclbin.read_xclbin(file).kernels[0].npua).metadata)
    holders: list[Any] = [metadata]
    for holder in holders:
        inner = holder.values() if isinstance(holder, dict) else holder
        holders += [value for value in inner if isinstance(value, (dict, list)) and value]
    holders = [holder for holder in holders if holder is not metadata["plan"]]
    holder = generator.choice(holders)
    key = generator.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    if generator.random() < 0.2:
        del holder[key]
    else:
        holder[key] = generator.choice(ODD_VALUES)
    return resealed(file, metadata=metadata)


CHANGES = (changed_image, changed_program, changed_sequence, changed_metadata)
