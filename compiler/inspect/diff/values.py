"""Differences of values: trees of JSON values by path, bytes by range."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy
from numpy.typing import NDArray

from npuc.compiler.inspect.diff.report import ADDED, REMOVED, Difference, Section
from npuc.compiler.inspect.diff.sequence import align

MOST_RANGES = 1000  # beyond this many byte ranges only their extent says anything
_JOIN = 8  # ranges closer than this are shown as one
_SHOWN = 16  # bytes of a range that are shown


def compare_trees(a: Any, b: Any, path: str = "") -> Iterator[Difference]:
    """Differences of two JSON values; a place is the path, as in `plan.items[3]`.

    Numbers of different types differ, as 1 and 1.0 do in canonical JSON.
    """
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in chain(a, (key for key in b if key not in a)):
            below = f"{path}.{key}" if path else str(key)
            if key not in b:
                yield Difference(below, REMOVED, before=a[key])
            elif key not in a:
                yield Difference(below, ADDED, after=b[key])
            else:
                yield from compare_trees(a[key], b[key], below)
    elif isinstance(a, list) and isinstance(b, list):
        yield from _compare_lists(a, b, path)
    elif type(a) is not type(b) or a != b:
        yield Difference(path, before=a, after=b)


def _compare_lists(a: list[Any], b: list[Any], path: str) -> Iterator[Difference]:
    if len(a) == len(b):
        for i, (before, after) in enumerate(zip(a, b, strict=True)):
            yield from compare_trees(before, after, f"{path}[{i}]")
        return
    texts = [[json.dumps(item, sort_keys=True, default=str) for item in items] for items in (a, b)]
    for pair in align(*texts):
        if pair.b is None and pair.a is not None:
            yield Difference(f"{path}[{pair.a}]", REMOVED, before=a[pair.a])
        elif pair.a is None and pair.b is not None:
            yield Difference(f"{path}[{pair.b}]", ADDED, after=b[pair.b])


def ranges_of(marks: NDArray[numpy.bool_]) -> list[tuple[int, int]]:
    """[start, end) of the runs of true marks, close ones joined."""
    places = numpy.flatnonzero(marks)
    if not places.size:
        return []
    cuts = numpy.flatnonzero(numpy.diff(places) >= _JOIN)
    starts = places[numpy.concatenate(([0], cuts + 1))]
    ends = places[numpy.concatenate((cuts, [places.size - 1]))] + 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def differing_ranges(a: bytes, b: bytes) -> list[tuple[int, int]]:
    """[start, end) of the places in which two strings differ, close ones joined; of the shorter one's length."""
    size = min(len(a), len(b))
    views = (numpy.frombuffer(data, numpy.uint8, size) for data in (a, b))
    return ranges_of(numpy.not_equal(*views))


def hexadecimal(data: bytes) -> str:
    """The bytes of a range, or the first of them."""
    return data[:_SHOWN].hex(" ") + (" ..." if len(data) > _SHOWN else "")


def size_text(size: int) -> str:
    """`1 byte`, `2 bytes`."""
    return f"{size} byte{'' if size == 1 else 's'}"


def compare_bytes(a: bytes, b: bytes, name: str = "bytes", base: int = 0) -> Iterator[Difference]:
    """Differences of two byte strings that lie at `base`: the ranges that differ, and what one of them has more."""
    ranges = differing_ranges(a, b)
    if len(ranges) > MOST_RANGES:
        ranges = [(ranges[0][0], ranges[-1][1])]
    for start, end in ranges:
        note = "" if end - start == 1 else size_text(end - start)
        place = f"{name} {base + start:#x}"
        yield Difference(place, before=hexadecimal(a[start:end]), after=hexadecimal(b[start:end]), note=note)
    yield from _tail(a, b, name, base)


def with_other_bytes(sections: tuple[Section, ...], a: bytes, b: bytes) -> tuple[Section, ...]:
    """The sections of two files, with the differing bytes where nothing in them tells the files apart."""
    if a == b or any(section.count for section in sections):
        return sections
    return (*sections, Section("other bytes", tuple(compare_bytes(a, b))))


def _tail(a: bytes, b: bytes, name: str, base: int) -> Iterable[Difference]:
    size = min(len(a), len(b))
    note = size_text(abs(len(a) - len(b)))
    if len(a) > size:
        yield Difference(f"{name} {base + size:#x}", REMOVED, before=hexadecimal(a[size:]), note=note)
    elif len(b) > size:
        yield Difference(f"{name} {base + size:#x}", ADDED, after=hexadecimal(b[size:]), note=note)
