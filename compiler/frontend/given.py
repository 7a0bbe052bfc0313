"""What a tensor or a number that is given to an attention is at first sight, by its type."""

from __future__ import annotations

from typing import Any

from npuc.compiler.frontend.attention import DTYPES
from npuc.compiler.frontend.axes import argument_axes
from npuc.compiler.frontend.number_formats import FLOAT_FORMATS
from npuc.compiler.frontend.shapes import sizes_of
from npuc.compiler.frontend.values import Axes, Operand, Scaling


def given(number: int, type_: Any, layout: Axes | None = None) -> Operand | Scaling | None:
    """Argument `number` of that type; None where attention takes none. layout: where that is known."""
    if problem_of(type_) is not None:
        return None
    if is_number(type_):
        return Scaling(number)
    axes = layout or argument_axes(number, sizes_of(type_))
    return Operand(axes, number, source=axes)


def problem_of(type_: Any) -> str | None:
    """Why attention takes no argument of that type."""
    from torch_mlir import ir

    if is_number(type_):
        return None
    if not isinstance(type_, ir.RankedTensorType):
        return "not a ranked tensor"
    if type_.encoding is not None:
        return "tensors with an encoding are not recognised"
    if str(type_.element_type) not in DTYPES:
        return f"element types are {', '.join(DTYPES)}"
    return None


def is_number(type_: Any) -> bool:
    """Whether it is one floating number: a scalar, or a tensor without dimensions, or of f64 with one element."""
    from torch_mlir import ir

    if not isinstance(type_, ir.RankedTensorType):
        return str(type_) in FLOAT_FORMATS
    element = str(type_.element_type)
    alone = type_.rank == 0 or (element not in DTYPES and all(size == 1 for size in sizes_of(type_)))
    return element in FLOAT_FORMATS and alone and type_.encoding is None


def refusal(number: int, type_: Any) -> str:
    """What is said of an argument of another type."""
    problem = problem_of(type_)
    return f"argument {number} is {type_}{', ' if problem == 'not a ranked tensor' else ': '}{problem}"
