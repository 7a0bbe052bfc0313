"""Sums of products as matrix multiplications."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from npuc.runtime.evaluator.body import Body, Compute
from npuc.runtime.evaluator.elements import ElementType

PRODUCTS = ("arith.mulf", "arith.muli")
CONVERSIONS = ("arith.extf", "arith.truncf", "arith.convertf")
EXACT_INTEGERS = 1 << 53  # below it float64 sums of integers are exact


@dataclass(frozen=True)
class Contraction:
    """The sum over loop dimensions of (the product of `left`) * (the product of `right`), values of a body.

    along: the loop dimensions that each of the two products varies along.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    left_along: frozenset[int]
    right_along: frozenset[int]
    type: ElementType

    def summed(self, left: Sequence[np.ndarray], right: Sequence[np.ndarray], extents: dict[int, int]) -> np.ndarray:
        """The sum over the loop dimensions `extents` (dimension -> how often it runs), which keep length one."""
        a, b = (math.prod(arrays[1:], start=arrays[0]) for arrays in (left, right))
        if self.type.is_float:
            return _sum_of_products(a, b, self.left_along, self.right_along, extents)
        a, b = self.type.signed(a), self.type.signed(b)
        largest = [max(1, int(np.abs(x.astype(np.float64)).max(initial=0))) for x in (a, b)]
        if math.prod(largest) * math.prod(extents.values()) < EXACT_INTEGERS:
            a, b = a.astype(np.float64), b.astype(np.float64)
        total = _sum_of_products(a, b, self.left_along, self.right_along, extents)
        return self.type.wrapped(total.astype(np.int64))


def contraction_of(
    body: Body, value: int, along: Callable[[int], frozenset[int]], constants: Collection[int]
) -> Contraction | None:
    """`value` as a product of two groups of factors, of which neither varies along all dimensions of the other.

    along: the loop dimensions that a value varies along.  None where there is no such product.
    """
    type_ = getattr(body.values[value], "type", None)
    if type_ is None or type_.width == 1:
        return None
    factors = sorted(_factors(body, value, constants), key=lambda f: -len(along(f)))
    left = along(factors[0])
    right = next((along(f) for f in factors if not along(f) <= left), None)
    if right is None or right >= left:
        return None
    groups: tuple[list[int], list[int]] = ([], [])
    for factor in factors:
        fitting = [group for group, dims in zip(groups, (left, right), strict=True) if along(factor) <= dims]
        if not fitting:
            return None
        fitting[0].append(factor)
    return Contraction(tuple(groups[0]), tuple(groups[1]), left, right, type_)


def _factors(body: Body, value: int, constants: Collection[int]) -> list[int]:
    """What a value is a product of; of data, conversions between floating types are the identity."""
    step = body.values[value]
    if isinstance(step, Compute) and value not in constants and step.name in (*PRODUCTS, *CONVERSIONS):
        return [factor for operand in step.operands for factor in _factors(body, operand, constants)]
    return [value]


def _sum_of_products(
    a: np.ndarray, b: np.ndarray, a_along: frozenset[int], b_along: frozenset[int], extents: dict[int, int]
) -> np.ndarray:
    """Both with one axis a loop dimension. Dimensions of neither are repetitions of the same sum."""
    rank = max(a.ndim, b.ndim)
    for dimension in extents:
        if dimension in a_along and dimension not in b_along:
            a = a.sum(axis=dimension, keepdims=True)
        elif dimension in b_along and dimension not in a_along:
            b = b.sum(axis=dimension, keepdims=True)
    both = [d for d in range(rank) if d in a_along and d in b_along]
    batch, summed = [d for d in both if d not in extents], [d for d in both if d in extents]
    rows = [d for d in range(rank) if d in a_along and d not in b_along and d not in extents]
    columns = [d for d in range(rank) if d in b_along and d not in a_along and d not in extents]
    matrices = _matrix(a, batch, rows, summed) @ _matrix(b, batch, summed, columns)
    sizes = {d: (a if d in a_along else b).shape[d] for d in (*batch, *rows, *columns)}
    blocks = matrices.reshape([sizes[d] for d in (*batch, *rows, *columns)])
    ordered = blocks.transpose(np.argsort([*batch, *rows, *columns]))
    result = ordered.reshape([sizes.get(d, 1) for d in range(rank)])
    repeated = math.prod(n for d, n in extents.items() if d not in a_along and d not in b_along)
    return result * repeated if repeated != 1 else result


def _matrix(array: np.ndarray, batch: Sequence[int], rows: Sequence[int], columns: Sequence[int]) -> np.ndarray:
    """An array with one axis a loop dimension as matrices [batch, rows, columns]; its other axes have length one."""
    order = [*batch, *rows, *columns]
    rest = [d for d in range(array.ndim) if d not in order]
    sizes = [math.prod(array.shape[d] for d in dims) for dims in (batch, rows, columns)]
    return array.transpose(order + rest).reshape(sizes)
