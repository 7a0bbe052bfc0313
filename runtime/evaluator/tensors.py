"""Operations of the tensor dialect that move elements: slices, reshapes, and tensors put together from parts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from npuc.runtime.evaluator.elements import ElementType
from npuc.runtime.evaluator.nodes import Node, Origin, Request
from npuc.runtime.evaluator.regions import (
    Indices,
    Region,
    array_of,
    common,
    count,
    index_set,
    lengths,
    positions,
    put,
    shifted,
)


class Slice(Node):
    """tensor.extract_slice. kept: the source's dimensions that the result has, in order."""

    def __init__(
        self,
        origin: Origin,
        source: Node,
        offsets: Sequence[int],
        sizes: Sequence[int],
        strides: Sequence[int],
        kept: Sequence[int],
    ) -> None:
        super().__init__(origin, source.type, [sizes[d] for d in kept], source.constant)
        self._source = source
        self._walk = list(zip(offsets, strides, strict=True))
        self._kept = tuple(kept)
        for d, (offset, size, stride) in enumerate(zip(offsets, sizes, strides, strict=True)):
            check_slice(origin, d, (offset, size, stride), source.shape[d])

    def needs(self, region: Region) -> list[Request]:
        wanted: list[Indices] = [range(offset, offset + 1) for offset, _ in self._walk]
        for d, indices in zip(self._kept, region, strict=True):
            offset, stride = self._walk[d]
            wanted[d] = shifted(indices, offset) if stride == 1 else index_set(array_of(indices) * stride + offset)
        return [(self._source, tuple(wanted))]

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        reverse = tuple(slice(None, None, -1 if stride < 0 else 1) for _, stride in self._walk)
        return arrays[0][reverse].reshape(lengths(region))


def check_slice(origin: Origin, dimension: int, slice_: tuple[int, int, int], size: int) -> None:
    """Raises InputError where (offset, size, stride) leaves a dimension."""
    offset, taken, stride = slice_
    last = offset + (taken - 1) * stride
    if taken < 0 or (taken > 0 and not (0 <= offset < size and 0 <= last < size)):
        raise origin.error(f"its slice of dimension {dimension} ({offset} to {last}) leaves the {size} elements")


class Scalar(Node):
    """tensor.extract in the function's body: one element at known indices."""

    def __init__(self, origin: Origin, source: Node, indices: Sequence[int]) -> None:
        super().__init__(origin, source.type, (), source.constant)
        self._source = source
        self._part = tuple(range(index, index + 1) for index in indices)

    def needs(self, region: Region) -> list[Request]:
        return [(self._source, self._part)]

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return arrays[0].reshape(())


class Reshape(Node):
    """The same elements in the same order under another shape (expand_shape, collapse_shape, reshape)."""

    def __init__(self, origin: Origin, source: Node, shape: Sequence[int]) -> None:
        super().__init__(origin, source.type, shape, source.constant)
        self._source = source
        self._groups = common_groups(source.shape, tuple(shape))

    def needs(self, region: Region) -> list[Request]:
        if count(region) == 0:
            return []
        part: list[Indices] = []
        for old, new in self._groups:
            part += self._group_part(old, new, region)
        return [(self._source, tuple(part))]

    def _group_part(self, old: range, new: range, region: Region) -> list[Indices]:
        """The least product of index sets of the source's dimensions `old` that holds what is wanted."""
        sizes = self._source.shape[old.start : old.stop]
        wanted = [region[d] for d in new]
        if all(w == range(self.shape[d]) for d, w in zip(new, wanted, strict=True)):
            return [range(size) for size in sizes]
        flat = self._flat(new, wanted)
        return [index_set(coordinate) for coordinate in np.unravel_index(flat, sizes)] if sizes else []

    def _flat(self, new: range, wanted: Sequence[Indices]) -> np.ndarray:
        """Row-major positions, within the group, of the wanted elements in row-major order."""
        sizes = [self.shape[d] for d in new]
        flat = np.zeros(1, np.int64)
        for size, indices in zip(sizes, wanted, strict=True):
            flat = (flat[:, None] * size + array_of(indices)[None, :]).reshape(-1)
        return flat

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        if count(region) == 0:
            return np.zeros(lengths(region), self.type.dtype)
        array, (_, part) = arrays[0], self.needs(region)[0]
        for axis, (old, new) in enumerate(self._groups):
            # Groups before this one have become one axis each.
            have = part[old.start : old.stop]
            array = array.reshape(*array.shape[:axis], -1, *array.shape[axis + len(old) :])
            wanted = [region[d] for d in new]
            if count(have) == count(tuple(wanted)):
                continue
            at = np.zeros(1, np.int64)
            flat = self._flat(new, wanted)
            for indices, coordinate in zip(
                have, np.unravel_index(flat, self._source.shape[old.start : old.stop]), strict=True
            ):
                at = at * len(indices) + positions(indices, coordinate)
            array = np.take(array, at, axis=axis)
        return array.reshape(lengths(region))


def common_groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
    """Dimensions of two shapes of one size, in the finest groups whose sizes agree."""
    groups: list[tuple[range, range]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        start = i, j
        a = b = 1
        while True:
            if (a <= b and i < len(old)) or j >= len(new):
                a *= old[i]
                i += 1
            else:
                b *= new[j]
                j += 1
            if a == b and i > start[0] and j > start[1]:
                break
            if i >= len(old) and j >= len(new):
                break
        groups.append((range(start[0], i), range(start[1], j)))
    return groups


class Assembled(Node):
    """A tensor made of boxes of others, on a ground where no box lies: insert_slice, concat, pad.

    boxes: offset, stride and size a dimension, and the node that lies there with the dimensions it has (`kept`).
    Boxes later in the list hide earlier ones.
    """

    def __init__(self, origin: Origin, shape: Sequence[int], boxes: Sequence[Box], ground: Node | None) -> None:
        nodes = [box.node for box in boxes] + ([ground] if ground is not None else [])
        super().__init__(origin, nodes[0].type, shape, all(node.constant for node in nodes))
        self._boxes = tuple(boxes)
        self._ground = ground

    def _pieces(self, region: Region) -> list[tuple[Region, Node, Region]]:
        """Disjoint parts of a region, and for each the node and the part of it that is seen there."""
        pieces: list[tuple[Region, Node, Region]] = []
        waiting = [(region, len(self._boxes))]
        while waiting:
            part, left = waiting.pop()
            if count(part) == 0:
                continue
            if left == 0:
                if self._ground is None:
                    raise AssertionError("boxes without a ground cover the tensor")
                pieces.append((part, self._ground, part))
                continue
            box = self._boxes[left - 1]
            splits = [box.split(d, indices) for d, indices in enumerate(part)]
            for choice in itertools.product((0, 1), repeat=len(part)):
                cell = tuple(split[inside] for split, inside in zip(splits, choice, strict=True))
                if all(choice):
                    if count(cell):
                        pieces.append((cell, box.node, box.local(cell)))
                else:
                    waiting.append((cell, left - 1))
        return pieces

    def needs(self, region: Region) -> list[Request]:
        return [(node, part) for _, node, part in self._pieces(region)]

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        out = np.empty(lengths(region), self.type.dtype)
        for (where, _, _), array in zip(self._pieces(region), arrays, strict=True):
            put(out, region, where, array.reshape(lengths(where)))
        return out


class Box:
    """Where a node lies in a larger tensor."""

    def __init__(
        self, node: Node, offsets: Sequence[int], sizes: Sequence[int], strides: Sequence[int], kept: Sequence[int]
    ) -> None:
        self.node = node
        self._walk = list(zip(offsets, sizes, strides, strict=True))
        self._kept = tuple(kept)

    def split(self, dimension: int, indices: Indices) -> tuple[Indices, Indices]:
        """Indices of the larger tensor outside and inside the box."""
        offset, size, stride = self._walk[dimension]
        if stride == 1:
            inside = common(indices, range(offset, offset + size))
        else:
            inside = common(indices, index_set(np.arange(size, dtype=np.int64) * stride + offset))
        outside = np.setdiff1d(array_of(indices), array_of(inside), assume_unique=True)
        return index_set(outside), inside

    def local(self, cell: Region) -> Region:
        """A part of the larger tensor inside the box, in the node's own indices."""
        part = []
        for d in self._kept:
            offset, _, stride = self._walk[d]
            part.append(shifted(cell[d], -offset) if stride == 1 else index_set((array_of(cell[d]) - offset) // stride))
        return tuple(part)


class FromElements(Node):
    """tensor.from_elements: scalars in row-major order."""

    def __init__(self, origin: Origin, shape: Sequence[int], scalars: Sequence[Node], type_: ElementType) -> None:
        super().__init__(origin, type_, shape, all(node.constant for node in scalars))
        self._scalars = scalars

    def needs(self, region: Region) -> list[Request]:
        wanted = itertools.product(*region)
        return [(self._scalars[int(np.ravel_multi_index(at, self.shape)) if at else 0], ()) for at in wanted]

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.array(arrays, self.type.dtype).reshape(lengths(region))
