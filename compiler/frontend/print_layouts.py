"""The reshapes and the transpose between an argument as the source has it and [B, H, S, D], as MLIR."""

from __future__ import annotations

from npuc.compiler.argument_layout import AXES, Size, Sizes
from npuc.compiler.frontend.attention import Argument

_Digit = tuple[str, Size]


def tensor_type(argument: Argument, shape: Sizes) -> str:
    """`tensor<1x?x64xbf16>`, of the argument's element type."""
    return f"tensor<{''.join(f'{_size(size)}x' for size in shape)}{argument.dtype}>"


def turned_in(argument: Argument) -> list[str]:
    """From %name to %name_turned."""
    name, dimensions = argument.name, _dimensions(argument)
    digits = [digit for dimension in dimensions for digit in dimension]
    order = _order(digits)
    lines, lengths = _lengths(name, argument, dimensions)
    parted = _reshaped(argument, name, f"{name}_parted", "expand", argument.source_shape, dimensions, lengths)
    moved = _transposed(argument, f"{name}_parted", f"{name}_moved", digits, order, lengths)
    ordered = [digits[n] for n in order]
    joined = _reshaped(argument, f"{name}_moved", f"{name}_turned", "collapse", argument.shape, _by_axis(ordered), {})
    return [*lines, *parted, *moved, *joined]


def turned_out(argument: Argument, value: str) -> list[str]:
    """From %value to %name_turned."""
    name, dimensions = argument.name, _dimensions(argument)
    digits = [digit for dimension in dimensions for digit in dimension]
    order = _order(digits)
    ordered = [digits[n] for n in order]
    lines, lengths = _lengths(value, argument, _by_axis(ordered), value)
    back = [order.index(n) for n in range(len(digits))]
    parted = _reshaped(argument, value, f"{name}_parted", "expand", argument.shape, _by_axis(ordered), lengths)
    moved = _transposed(argument, f"{name}_parted", f"{name}_moved", ordered, back, lengths)
    shape = argument.source_shape
    joined = _reshaped(argument, f"{name}_moved", f"{name}_turned", "collapse", shape, dimensions, {})
    return [*lines, *parted, *moved, *joined]


def _dimensions(argument: Argument) -> list[list[_Digit]]:
    """The digits of each source dimension, with ones for axes that are nowhere and dimensions that walk none."""
    walked = {axis for dimension in argument.layout for axis, _ in dimension}
    dimensions = [list(dimension) or [("B", 1)] for dimension in argument.layout]
    walked |= {"B"} if any(not dimension for dimension in argument.layout) else set()
    dimensions[0] = [(axis, 1) for axis in AXES if axis not in walked] + dimensions[0]
    return dimensions


def _order(digits: list[_Digit]) -> list[int]:
    return [n for name in AXES for n, (axis, _) in enumerate(digits) if axis == name]


def _by_axis(ordered: list[_Digit]) -> list[list[_Digit]]:
    return [[digit for digit in ordered if digit[0] == name] for name in AXES]


def _lengths(
    name: str, argument: Argument, dimensions: list[list[_Digit]], value: str | None = None
) -> tuple[list[str], dict[str, str]]:
    """Operations that give what is open, and their names by axis."""
    lines, found = [], {}
    shape = argument.source_shape if value is None else argument.shape
    for d, dimension in enumerate(dimensions):
        for axis, size in dimension:
            if size is None:
                type_ = tensor_type(argument, shape)
                lines += [
                    f"%{name}_at_{axis} = arith.constant {d} : index",
                    f"%{name}_{axis} = tensor.dim %{name}, %{name}_at_{axis} : {type_}",
                ]
                found[axis] = f"%{name}_{axis}"
    return lines, found


def _reshaped(
    argument: Argument,
    source: str,
    result: str,
    kind: str,
    shape: Sizes,
    groups: list[list[_Digit]],
    lengths: dict[str, str],
) -> list[str]:
    """expand_shape of %source to the digits of `groups`, or collapse_shape of the digits to `shape`."""
    digits = [digit for group in groups for digit in group]
    sizes = tuple(size for _, size in digits)
    if len(digits) == len(groups):
        types = f"{tensor_type(argument, shape)} to {tensor_type(argument, shape)}"
        return [f"%{result} = tensor.cast %{source} : {types}"]
    numbers = iter(range(len(digits)))
    reassociation = "[" + ", ".join(str([next(numbers) for _ in group]) for group in groups) + "]"
    whole, parts = tensor_type(argument, shape), tensor_type(argument, sizes)
    if kind == "collapse":
        return [f"%{result} = tensor.collapse_shape %{source} {reassociation} : {parts} into {whole}"]
    output = ", ".join(lengths[axis] if size is None else str(size) for axis, size in digits)
    return [f"%{result} = tensor.expand_shape %{source} {reassociation} output_shape [{output}] : {whole} into {parts}"]


def _transposed(
    argument: Argument, source: str, result: str, digits: list[_Digit], order: list[int], lengths: dict[str, str]
) -> list[str]:
    moved = [digits[n] for n in order]
    given, made = (tensor_type(argument, tuple(size for _, size in some)) for some in (digits, moved))
    names = ", ".join(lengths[axis] for axis, size in moved if size is None)
    return [
        f"%{result}_storage = tensor.empty({names}) : {made}",
        f"%{result} = linalg.transpose ins(%{source} : {given}) outs(%{result}_storage : {made}) permutation = {order}",
    ]


def _size(size: Size) -> str:
    return "?" if size is None else str(size)
