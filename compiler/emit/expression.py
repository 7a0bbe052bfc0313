"""Arithmetic on runtime dimensions in control templates: names, integers, + - * // % and parentheses."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

from npuc.compiler.diagnostics import InputError

_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}
LONGEST = 1000  # characters


def evaluate(expression: str, dimensions: Mapping[str, int]) -> int:
    """The value.  InputError for unknown names, other syntax or division by zero."""
    try:
        if len(expression) > LONGEST:
            raise ValueError("too long")
        return _value(ast.parse(expression, mode="eval").body, dimensions)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError) as error:
        raise InputError(f"control template expression {expression[:60]!r}: {error}") from error


def _value(node: ast.expr, dimensions: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in dimensions:
            raise ValueError(f"unknown dimension {node.id}")
        return dimensions[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left, dimensions), _value(node.right, dimensions))
    raise ValueError("only names, integers, + - * // % and parentheses")
