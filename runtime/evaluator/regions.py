"""Parts of tensors: a set of indices along each dimension, their product being the part.

Index sets ascend and hold no index twice: a `range` of step 1 where they have no gaps, else a tuple. Both compare and
hash by contents, so that a part of a tensor can be a key.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Indices: TypeAlias = "range | tuple[int, ...]"
Region: TypeAlias = "tuple[Indices, ...]"


def everything(shape: Sequence[int]) -> Region:
    return tuple(range(size) for size in shape)


def index_set(values: np.ndarray) -> Indices:
    """The distinct values of an integer array."""
    distinct = np.unique(values)
    if distinct.size == 0:
        return range(0)
    first, last = int(distinct[0]), int(distinct[-1])
    if last - first + 1 == distinct.size:
        return range(first, last + 1)
    return tuple(distinct.tolist())


def array_of(indices: Indices) -> np.ndarray:
    if isinstance(indices, range):
        return np.arange(indices.start, indices.stop, dtype=np.int64)
    return np.asarray(indices, dtype=np.int64)


def common(a: Indices, b: Indices) -> Indices:
    """The indices that are in both."""
    if isinstance(a, range) and isinstance(b, range):
        start, stop = max(a.start, b.start), min(a.stop, b.stop)
        return range(start, max(start, stop))
    return index_set(np.intersect1d(array_of(a), array_of(b), assume_unique=True))


def shifted(indices: Indices, by: int) -> Indices:
    if isinstance(indices, range):
        return range(indices.start + by, indices.stop + by)
    return tuple(index + by for index in indices)


def positions(within: Indices, values: np.ndarray) -> np.ndarray:
    """Where each of `values`, all of them in `within`, stands in it."""
    if isinstance(within, range):
        return values - within.start
    return np.searchsorted(array_of(within), values)


def lengths(region: Region) -> tuple[int, ...]:
    return tuple(map(len, region))


def count(region: Region) -> int:
    """How many elements a region has."""
    return math.prod(map(len, region))


def take(array: np.ndarray, region: Region) -> np.ndarray:
    """The part of a whole array; a view where the sets are ranges."""
    view = array[tuple(slice(i.start, i.stop) if isinstance(i, range) else slice(None) for i in region)]
    for axis, indices in enumerate(region):
        if not isinstance(indices, range):
            view = np.take(view, array_of(indices), axis=axis)
    return view


def restrict(array: np.ndarray, have: Region, want: Region) -> np.ndarray:
    """The part `want` of an array that holds the part `have`."""
    if have == want:
        return array
    return take(array, tuple(index_set(positions(h, array_of(w))) for h, w in zip(have, want, strict=True)))


def put(array: np.ndarray, have: Region, part: Region, values: np.ndarray) -> None:
    """Write `values` at the part `part` of an array that holds the part `have`."""
    array[np.ix_(*(positions(h, array_of(p)) for h, p in zip(have, part, strict=True)))] = values


def halves(region: Region, axis: int) -> tuple[Region, Region]:
    """The region cut in two along an axis of at least two indices."""
    indices = region[axis]
    middle = len(indices) // 2
    before, after = region[:axis], region[axis + 1 :]
    return (*before, indices[:middle], *after), (*before, indices[middle:], *after)
