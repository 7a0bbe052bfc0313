"""Affine expressions over loop dimensions and symbols, evaluated on integer arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np


@dataclass(frozen=True)
class Dimension:
    position: int


@dataclass(frozen=True)
class Symbol:
    position: int


@dataclass(frozen=True)
class Number:
    value: int


@dataclass(frozen=True)
class Binary:
    """operation: `+`, `*`, `mod`, `floordiv` or `ceildiv`."""

    operation: str
    left: Expression
    right: Expression


Expression: TypeAlias = "Dimension | Symbol | Number | Binary"


@dataclass(frozen=True)
class AffineMap:
    dimensions: int
    results: tuple[Expression, ...]


_BINARY = (
    ("AffineAddExpr", "+"),
    ("AffineMulExpr", "*"),
    ("AffineModExpr", "mod"),
    ("AffineFloorDivExpr", "floordiv"),
    ("AffineCeilDivExpr", "ceildiv"),
)


def read_map(map_: Any) -> AffineMap:
    """An ir.AffineMap as plain data."""
    return AffineMap(map_.n_dims, tuple(map(_read, map_.results)))


def _read(expression: Any) -> Expression:
    from torch_mlir import ir

    if isinstance(expression, ir.AffineDimExpr):
        return Dimension(expression.position)
    if isinstance(expression, ir.AffineSymbolExpr):
        return Symbol(expression.position)
    if isinstance(expression, ir.AffineConstantExpr):
        return Number(expression.value)
    for class_, operation in _BINARY:
        if isinstance(expression, getattr(ir, class_)):
            return Binary(operation, _read(expression.lhs), _read(expression.rhs))
    raise AssertionError(f"an affine expression is none of the known ones: {expression}")


def used(expression: Expression) -> frozenset[int]:
    """The loop dimensions that occur."""
    if isinstance(expression, Dimension):
        return frozenset((expression.position,))
    if isinstance(expression, Binary):
        return used(expression.left) | used(expression.right)
    return frozenset()


def evaluate(expression: Expression, dimensions: Sequence[Any], symbols: Sequence[Any] = ()) -> Any:
    """The value on integers or int64 arrays. Raises ZeroDivisionError for a division by less than one."""
    if isinstance(expression, Dimension):
        return dimensions[expression.position]
    if isinstance(expression, Symbol):
        return symbols[expression.position]
    if isinstance(expression, Number):
        return np.int64(expression.value)
    left = evaluate(expression.left, dimensions, symbols)
    right = evaluate(expression.right, dimensions, symbols)
    if expression.operation == "+":
        return left + right
    if expression.operation == "*":
        return left * right
    if np.any(np.less(right, 1)):
        raise ZeroDivisionError(f"affine {expression.operation} by less than one")
    if expression.operation == "mod":
        return left % right
    return left // right if expression.operation == "floordiv" else -(-left // right)
