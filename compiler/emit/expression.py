"""Arithmetic over runtime dimensions: + - * // % and parentheses, integers and names.

Evaluated once per call of a kernel to fill in its runtime sequence.  Nothing else of Python is reachable.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache

from npuc.compiler.diagnostics import InputError

LENGTH_LIMIT = 1000  # characters; bounds the work of parsing and the size of products
_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


@lru_cache(maxsize=4096)
def parse(expression: str) -> ast.expr:
    """The checked syntax tree; InputError when the text is not such an expression."""
    if len(expression) > LENGTH_LIMIT or not expression.isascii():
        raise InputError(f"expression of {len(expression)} characters: at most {LENGTH_LIMIT} of ASCII are taken")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"expression {expression!r} cannot be read") from error
    for node in ast.walk(tree):
        known = isinstance(node, (ast.Name, ast.Load, ast.BinOp, ast.UnaryOp, ast.USub, *_BINARY))
        if not known and not (isinstance(node, ast.Constant) and type(node.value) is int):
            raise InputError(f"expression {expression!r}: {type(node).__name__} is not allowed")
    return tree


def names(expression: str) -> frozenset[str]:
    """The dimensions an expression needs."""
    return frozenset(node.id for node in ast.walk(parse(expression)) if isinstance(node, ast.Name))


def evaluate(expression: str, dimensions: Mapping[str, int]) -> int:
    """The expression's value; InputError names a dimension that is missing or a division by zero."""

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant):
            assert isinstance(node.value, int)
            return node.value
        if isinstance(node, ast.Name):
            if node.id not in dimensions:
                raise InputError(f"expression {expression!r} needs dimension {node.id}")
            return int(dimensions[node.id])
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand)
        assert isinstance(node, ast.BinOp)
        return _BINARY[type(node.op)](value(node.left), value(node.right))

    try:
        return value(parse(expression))
    except ZeroDivisionError as error:
        raise InputError(f"expression {expression!r} divides by zero for {dict(dimensions)}") from error
    except RecursionError as error:
        raise InputError(f"expression {expression!r} is nested too deeply") from error
