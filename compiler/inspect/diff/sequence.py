"""Two sequences side by side: what stands in both, what was inserted, removed, changed, or moved."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

_MOST_PAIRS = 1 << 30  # of items: the comparison keeps a bit for each, 128 MiB


class Pair(NamedTuple):
    """Places in the first and the second sequence; None where an item is in one of them only."""

    a: int | None
    b: int | None
    equal: bool


def matching_blocks(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int, int]]:
    """(place in a, place in b, length) of the runs of a longest common subsequence, in order.

    Sequences whose exact comparison would take too much memory are first cut at items that are unique in both.
    """
    from rapidfuzz.distance import LCSseq

    numbers: dict[Hashable, int] = {}
    first = [numbers.setdefault(item, len(numbers)) for item in a]
    second = [numbers.setdefault(item, len(numbers)) for item in b]
    blocks = []
    for part_a, part_b in _parts(first, second):
        found = LCSseq.opcodes(first[part_a.start : part_a.stop], second[part_b.start : part_b.stop])
        blocks += [
            (part_a.start + o.src_start, part_b.start + o.dest_start, o.src_end - o.src_start)
            for o in found
            if o.tag == "equal"
        ]
    return blocks


def _parts(a: Sequence[int], b: Sequence[int]) -> list[tuple[range, range]]:
    """Parts that are compared with each other; what is unique in both begins a part, other parts that are too big end.

    A part without anything unique is cut to a size that can be compared.
    """
    if len(a) * len(b) <= _MOST_PAIRS:
        return [(range(len(a)), range(len(b)))]
    counts = Counter(a), Counter(b)
    places = {item: place for place, item in enumerate(b)}
    unique = [i for i, item in enumerate(a) if counts[0][item] == counts[1][item] == 1]
    out = set(moved([places[a[i]] for i in unique]))
    anchors = [(i, places[a[i]]) for place, i in enumerate(unique) if place not in out]
    starts = [(0, 0), *anchors]
    parts = []
    for (i, j), (next_i, next_j) in zip(starts, [*anchors, (len(a), len(b))], strict=True):
        most = max(1, _MOST_PAIRS // max(1, next_j - j))
        parts.append((range(i, min(next_i, i + most)), range(j, next_j)))
    return parts


def align(
    a: Sequence[Hashable], b: Sequence[Hashable], weak_a: Sequence[Hashable] = (), weak_b: Sequence[Hashable] = ()
) -> list[Pair]:
    """All items of both sequences in order, equal ones in pairs.

    Where weak keys are given, items between equal ones whose weak keys agree are pairs as well, with `equal` False.
    """
    pairs: list[Pair] = []
    at_a = at_b = 0
    for start_a, start_b, length in (*matching_blocks(a, b), (len(a), len(b), 0)):
        pairs += _between(range(at_a, start_a), range(at_b, start_b), weak_a, weak_b)
        pairs += [Pair(start_a + i, start_b + i, True) for i in range(length)]
        at_a, at_b = start_a + length, start_b + length
    return pairs


def _between(a: range, b: range, weak_a: Sequence[Hashable], weak_b: Sequence[Hashable]) -> list[Pair]:
    if not weak_a or not weak_b or not a or not b:
        return [Pair(i, None, False) for i in a] + [Pair(None, j, False) for j in b]
    found = align([weak_a[i] for i in a], [weak_b[j] for j in b])
    return [Pair(None if i is None else a[i], None if j is None else b[j], False) for i, j, _ in found]


def moved(order: Sequence[int]) -> list[int]:
    """Places to take out of a permutation so that the rest ascends: the fewest there are, ascending."""
    tails: list[int] = []  # smallest last value of an ascending subsequence, by its length
    places: list[int] = []
    before: list[int] = []
    for place, value in enumerate(order):
        length = bisect.bisect_left(tails, value)
        before.append(places[length - 1] if length else -1)
        tails[length : length + 1] = [value]
        places[length : length + 1] = [place]
    kept = set()
    place = places[-1] if places else -1
    while place >= 0:
        kept.add(place)
        place = before[place]
    return [place for place in range(len(order)) if place not in kept]


def moved_runs(order: Sequence[int]) -> list[range]:
    """The same as runs of places that moved together."""
    runs: list[range] = []
    for place in moved(order):
        if runs and runs[-1].stop == place and order[place] == order[place - 1] + 1:
            runs[-1] = range(runs[-1].start, place + 1)
        else:
            runs.append(range(place, place + 1))
    return runs


def numbered(keys: Sequence[Hashable]) -> list[tuple[Hashable, int]]:
    """Each key with how often it stood before: unique, and the same in another sequence that holds the same items."""
    seen: defaultdict[Hashable, int] = defaultdict(int)
    result = []
    for key in keys:
        result.append((key, seen[key]))
        seen[key] += 1
    return result
