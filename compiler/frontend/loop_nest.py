"""A linalg operation as a loop nest: what must hold of its maps and iterators before any rule reads it.

A nest that passes these checks writes every element of every result exactly once (for each combination of the loop
dimensions that it keeps), and each loop dimension has one extent. The rules of `structured` rely on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from npuc.compiler.frontend.attention import Size
from npuc.compiler.frontend.shapes import sizes_of

PARALLEL, REDUCTION = "#linalg.iterator_type<parallel>", "#linalg.iterator_type<reduction>"


class NestError(Exception):
    """A linalg operation that is no such nest; the text says why."""


@dataclass(frozen=True)
class LoopNest:
    """maps: one an operand, results last.  extents: of each loop dimension, None where open.

    reduced: the loop dimensions that no result keeps; those of one element are left out where others remain.
    """

    operation: Any
    maps: tuple[Any, ...]
    extents: tuple[Size, ...]
    reduced: tuple[int, ...]

    @property
    def dimensions(self) -> int:
        return len(self.extents)

    @property
    def result_count(self) -> int:
        return len(self.operation.results)

    @property
    def first_output(self) -> int:
        """Number of the operand in whose place the first result comes."""
        return len(self.maps) - self.result_count


def loop_nest(operation: Any, maps: Sequence[Any]) -> LoopNest:
    """The nest of an operation on tensors with its indexing maps. Raises NestError."""
    count = len(operation.results)
    if count == 0 or len(maps) != len(operation.operands):
        raise NestError("it has no tensor as its result")
    if any(map_.n_symbols for map_ in maps):
        raise NestError("its indexing maps have symbols")
    extents = _extents(operation, maps)
    types = [result.type for result in operation.results]
    kept = [_written(map_, sizes_of(type_)) for map_, type_ in zip(maps[-count:], types, strict=True)]
    if any(dimensions != kept[0] for dimensions in kept):
        raise NestError("its results do not keep the same loop dimensions")
    reduced = tuple(d for d in range(len(extents)) if d not in kept[0])
    _check_iterators(operation, reduced)
    real = tuple(d for d in reduced if extents[d] != 1)
    return LoopNest(operation, tuple(maps), extents, real or reduced)


def _extents(operation: Any, maps: Sequence[Any]) -> tuple[Size, ...]:
    """Each loop dimension's extent by the operands that it indexes; they must agree."""
    from torch_mlir import ir

    extents: list[Size] = [None] * maps[0].n_dims
    seen: set[int] = set()
    for operand, map_ in zip(operation.operands, maps, strict=True):
        if not isinstance(operand.type, ir.RankedTensorType):
            continue
        for size, expression in zip(sizes_of(operand.type), map_.results, strict=True):
            if not isinstance(expression, ir.AffineDimExpr):
                continue
            dimension = expression.position
            seen.add(dimension)
            if size is not None and extents[dimension] not in (None, size):
                raise NestError(f"its operands disagree on the extent of loop dimension {dimension}")
            extents[dimension] = size if size is not None else extents[dimension]
    if len(seen) != len(extents):
        raise NestError("no operand says how far one of its loop dimensions runs")
    return tuple(extents)


def _written(map_: Any, shape: Sequence[Size]) -> frozenset[int]:
    """The loop dimensions that a result keeps: each once, so that all of its elements are written."""
    from torch_mlir import ir

    dimensions = []
    for expression, size in zip(map_.results, shape, strict=True):
        if isinstance(expression, ir.AffineDimExpr):
            dimensions.append(expression.position)
        elif size != 1 or not is_zero(expression):
            raise NestError(f"it writes only a part of its result: the indexing map is {map_}")
    if len(set(dimensions)) != len(dimensions):
        raise NestError(f"it writes only a diagonal of its result: the indexing map is {map_}")
    return frozenset(dimensions)


def _check_iterators(operation: Any, reduced: Sequence[int]) -> None:
    """A generic's dimensions that are summed away must be declared reductions; in named operations they are."""
    if "iterator_types" not in operation.attributes:
        return
    kinds = [str(kind) for kind in operation.attributes["iterator_types"]]
    if any(kind not in (PARALLEL, REDUCTION) for kind in kinds):
        raise NestError(f"its iterators are {', '.join(kinds)}, not parallel or reduction")
    if any(kinds[dimension] != REDUCTION for dimension in reduced):
        raise NestError("a loop dimension that its results do not keep is declared parallel")


def is_zero(expression: Any) -> bool:
    from torch_mlir import ir

    return isinstance(expression, ir.AffineConstantExpr) and expression.value == 0
