"""Differences of AIE_PARTITION sections: width, start columns, and the PDIs with the kernels they serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import partition
from npuc.compiler.emit.npua import ProgramSymbols
from npuc.compiler.emit.partition import Image
from npuc.compiler.inspect.diff.array_image import compare_pdis
from npuc.compiler.inspect.diff.kernel_data import Moves, Surroundings
from npuc.compiler.inspect.diff.layouts import compare_layout
from npuc.compiler.inspect.diff.report import REORDERED, Difference, Section, derived, only_in
from npuc.compiler.inspect.diff.sequence import moved
from npuc.compiler.inspect.diff.values import compare_bytes, compare_trees

_PLACES = ("name", "starts", "pdis", "commit", "pdi_count", "start_count")  # offsets and counts of what is compared


Symbols = Mapping[bytes, tuple[ProgramSymbols, ...]]


@dataclass(frozen=True)
class PartitionChange:
    """Sections, and what the kernels' data need to know of the PDIs."""

    sections: tuple[Section, ...]
    around: Surroundings


def compare_partitions(a: bytes, b: bytes, symbols: tuple[Symbols, Symbols], name: str) -> PartitionChange:
    """Two sections; symbols: what the files say of the programs in their PDIs, by the hash of the PDI.

    Raises InputError when a section cannot be read.
    """
    first, second = partition.read_partition(a), partition.read_partition(b)
    differences = list(compare_layout(partition.HEADER, a, b, follows=_PLACES))
    differences += compare_trees(list(first.start_columns), list(second.start_columns), "start_columns")
    matched = _match(first.images, second.images)
    order = [j for i, j in matched if i is not None and j is not None]
    both = [i for i, j in matched if i is not None and j is not None]
    for place in moved(order):
        differences.append(Difference(f"PDI {both[place]}", REORDERED, both[place], order[place]))
    sections: list[Section] = []
    moves: dict[bytes, Moves] = {}
    for i, j in matched:
        if i is None or j is None:
            image = second.images[j or 0] if i is None else first.images[i]
            size = f"{len(image.pdi)} bytes, kernel ids {_ids(image)}"
            differences.append(only_in(i is not None, f"PDI {j if i is None else i}", size))
            continue
        before, after = first.images[i], second.images[j]
        differences += compare_trees(_about(before), _about(after), f"PDI {i}")
        if before.pdi != after.pdi:
            found, moves[sha256(before.pdi).digest()] = _image(before.pdi, after.pdi, symbols, f"PDI {i} ")
            sections += found
    hashes = [frozenset(sha256(image.pdi).digest() for image in side.images) for side in (first, second)]
    around = Surroundings(moves, (hashes[0], hashes[1]))
    return PartitionChange((Section(name, tuple(differences)), *sections), around)


def _image(a: bytes, b: bytes, symbols: tuple[Symbols, Symbols], name: str) -> tuple[tuple[Section, ...], Moves]:
    known = [side.get(sha256(pdi).digest(), ()) for side, pdi in zip(symbols, (a, b), strict=True)]
    try:
        change = compare_pdis(a, b, known, name)
    except InputError as error:
        unread = Difference(name.strip(), note=f"cannot be read: {error.message}")
        return (Section(name.strip(), (unread, *derived(compare_bytes(a, b)))),), {}
    return change.sections, change.moved_to


def _ids(image: Image) -> str:
    return ", ".join(f"{kernel_id:#x}" for kernel_id in image.kernel_ids)


def _about(image: Image) -> dict[str, Any]:
    """What the section says of a PDI besides its bytes."""
    groups = [
        {
            "name": group.name,
            "type": group.type,
            "pdi_id": group.pdi_id,
            "kernel_ids": [f"{kernel_id:#x}" for kernel_id in group.kernel_ids],
            "pre_groups": [f"{group_id:#x}" for group_id in group.pre_groups],
        }
        for group in image.groups
    ]
    return {"uuid": image.uuid.hex(), "groups": groups}


def _match(a: Sequence[Image], b: Sequence[Image]) -> list[tuple[int | None, int | None]]:
    """PDIs with the same contents and kernels, then with the same kernels, then in order."""
    partner: dict[int, int] = {}
    for key in (lambda i: (i.pdi, i.kernel_ids), lambda i: i.kernel_ids, lambda i: None):
        left: dict[Any, list[int]] = {}
        for j in sorted(set(range(len(b))) - set(partner.values())):
            left.setdefault(key(b[j]), []).append(j)
        for i in range(len(a)):
            if i not in partner and left.get(key(a[i])):
                partner[i] = left[key(a[i])].pop(0)
    alone: Iterator[tuple[None, int]] = ((None, j) for j in range(len(b)) if j not in partner.values())
    return [*((i, partner.get(i)) for i in range(len(a))), *alone]
