"""tm_tensor.scatter: parts of a tensor replaced at places that are computed, as caches are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from npuc.runtime.evaluator.build import Builder
from npuc.runtime.evaluator.nodes import Node, Origin, Request
from npuc.runtime.evaluator.regions import Region, array_of


class Scatter(Node):
    """The original, with a window of it replaced for each update: update u, of shape [window], begins at the index that
    row u of the indices has along `dimensions`, and at 0 along others. Later ones replace earlier ones.

    updates: [updates, window].  indices: [updates, dimensions].
    """

    def __init__(self, origin: Origin, original: Node, updates: Node, indices: Node, dimensions: Sequence[int]) -> None:
        super().__init__(origin, original.type, original.shape, False)
        self._original, self._updates, self._indices = original, updates, indices
        self._dimensions = tuple(dimensions)

    def needs(self, region: Region) -> list[Request]:
        whole = [(node, tuple(map(range, node.shape))) for node in (self._updates, self._indices)]
        return [(self._original, region), *whole]

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Raises InputError for a place outside of the original."""
        found, updates, indices = arrays[0].copy(), arrays[1], arrays[2].astype(np.int64)
        window = updates.shape[1:]
        starts = np.zeros((len(updates), len(window)), np.int64)
        starts[:, self._dimensions] = indices
        offsets = np.indices(window).reshape(len(window), -1)
        places = (starts[:, :, None] + offsets[None]).transpose(1, 0, 2).reshape(len(window), -1)
        inside = np.ones(places.shape[1], bool)
        at = []
        for place, size, kept in zip(places, self.shape, map(array_of, region), strict=True):
            if place.size and not (0 <= place.min() and place.max() < size):
                raise self.origin.error(f"it writes at {place.min()} to {place.max()} of a dimension of {size}")
            slot = np.searchsorted(kept, place).clip(max=max(len(kept) - 1, 0))
            inside &= kept[slot] == place if len(kept) else False
            at.append(slot)
        found[tuple(slot[inside] for slot in at)] = updates.reshape(-1)[inside]
        return found


def scatter(builder: Builder, operation: Any) -> list[Node]:
    """Raises InputError for one that computes with what was there."""
    origin = builder.origin(operation)
    updates, indices, original = builder.operands(operation)
    block = operation.regions[0].blocks[0]
    steps = [view.operation for view in block.operations]
    if len(steps) != 1 or steps[0].operands[0] != block.arguments[0]:
        raise origin.error("only scatters that replace what was there are evaluated")
    if len(updates.shape) != len(original.shape) + 1 or len(indices.shape) != 2:
        raise origin.error("only scatters of windows with as many dimensions as the tensor are evaluated")
    return [Scatter(origin, original, updates, indices, list(operation.attributes["dimension_map"]))]
