"""How a loop nest reads and writes tensors through indexing maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npuc.runtime.evaluator.affine import AffineMap, Dimension, Expression, Number, evaluate, used
from npuc.runtime.evaluator.body import outside, position_array
from npuc.runtime.evaluator.nodes import Node, Origin
from npuc.runtime.evaluator.regions import Indices, Region, array_of, common, index_set, positions

Loops = Region  # the iterations that are run: indices along each loop dimension


@dataclass(frozen=True)
class Access:
    """An operand and the map from the loop dimensions to its elements."""

    node: Node
    map: AffineMap

    @property
    def dimensions(self) -> frozenset[int]:
        """The loop dimensions it varies along."""
        return frozenset().union(*map(used, self.map.results))

    def region(self, loops: Loops, origin: Origin) -> Region:
        """What the iterations read. Raises InputError for indices outside the operand."""
        region = tuple(_indices(e, loops) for e in self.map.results)
        for dimension, (indices, size) in enumerate(zip(region, self.node.shape, strict=True)):
            if len(indices) and (indices[0] < 0 or indices[-1] >= size):
                wrong = indices[0] if indices[0] < 0 else indices[-1]
                raise outside(origin, dimension, wrong, size)
        return region

    def spread(self, array: np.ndarray, region: Region, loops: Loops) -> np.ndarray:
        """The part `region` with one axis a loop dimension, of length one where it does not vary."""
        results = self.map.results
        rank = len(loops)
        walked = [e.position for e in results if isinstance(e, Dimension)]
        if len(set(walked)) == len(walked) and all(isinstance(e, Dimension | Number) for e in results):
            kept = array[tuple(slice(None) if isinstance(e, Dimension) else 0 for e in results)]
            ordered = kept.transpose(np.argsort(walked))
            return ordered.reshape([len(loops[d]) if d in walked else 1 for d in range(rank)])
        coordinates = [position_array(indices, d, rank) for d, indices in enumerate(loops)]
        at = (positions(r, np.asarray(evaluate(e, coordinates))) for r, e in zip(region, results, strict=True))
        return array[tuple(at)].reshape([len(loops[d]) if d in self.dimensions else 1 for d in range(rank)])


def _indices(expression: Expression, loops: Loops) -> Indices:
    if isinstance(expression, Dimension):
        return loops[expression.position]
    if isinstance(expression, Number):
        return range(expression.value, expression.value + 1)
    dimensions = used(expression)
    rank = len(loops)
    coordinates = [position_array(i if d in dimensions else (0,), d, rank) for d, i in enumerate(loops)]
    return index_set(np.asarray(evaluate(expression, coordinates)))


@dataclass(frozen=True)
class Output:
    """Where a result's iterations write: each of its dimensions is a loop dimension or one fixed index."""

    results: tuple[Dimension | Number, ...]

    @property
    def dimensions(self) -> frozenset[int]:
        return frozenset(e.position for e in self.results if isinstance(e, Dimension))

    def covers(self, shape: Sequence[int]) -> bool:
        """Whether every element of the result is written."""
        distinct = len(self.dimensions) == sum(isinstance(e, Dimension) for e in self.results)
        return distinct and all(
            isinstance(e, Dimension) or (size == 1 and e.value == 0)
            for e, size in zip(self.results, shape, strict=True)
        )

    def written(self, region: Region) -> Region:
        """The part of a region of the result that is written at all."""
        loops = self.loops(region)
        return tuple(
            loops[e.position] if isinstance(e, Dimension) else common(range(e.value, e.value + 1), indices)
            for e, indices in zip(self.results, region, strict=True)
        )

    def loops(self, region: Region) -> dict[int, Indices]:
        """The indices of the loop dimensions that write into a region of the result."""
        found: dict[int, Indices] = {}
        for e, indices in zip(self.results, region, strict=True):
            if isinstance(e, Dimension):
                found[e.position] = common(found[e.position], indices) if e.position in found else indices
        return found

    def gather(self, values: np.ndarray, loops: dict[int, Indices]) -> np.ndarray:
        """Values over the loop dimensions (length one where none is written along) as a block of the result.

        For outputs that cover it: dimensions are distinct.
        """
        full = np.broadcast_to(values, [len(loops[d]) if d in loops else 1 for d in range(values.ndim)])
        full = full.reshape([len(loops[d]) for d in sorted(loops)])
        order = [sorted(loops).index(e.position) for e in self.results if isinstance(e, Dimension)]
        block = full.transpose(order)
        return block.reshape([len(loops[e.position]) if isinstance(e, Dimension) else 1 for e in self.results])

    def scatter(self, into: np.ndarray, region: Region, values: np.ndarray, loops: dict[int, Indices]) -> None:
        """Write values over the loop dimensions into an array that holds `region` of the result."""
        rank = values.ndim
        at = tuple(
            positions(indices, position_array(loops[e.position], e.position, rank))
            if isinstance(e, Dimension)
            else positions(indices, np.full([1] * rank, e.value))
            for e, indices in zip(self.results, region, strict=True)
        )
        into[at] = np.broadcast_to(values, np.broadcast_shapes(*(a.shape for a in at)))


def output_of(map_: AffineMap) -> Output | None:
    """The map of a result; None for maps that write anywhere else than along loop dimensions or at fixed indices."""
    if all(isinstance(e, Dimension | Number) for e in map_.results):
        return Output(tuple(e for e in map_.results if isinstance(e, Dimension | Number)))
    return None


def full_range(array: np.ndarray, axis: int, indices: Indices) -> np.ndarray:
    """Of an array that runs over a whole loop dimension, the given indices."""
    return np.take(array, array_of(indices), axis=axis)
