"""A kernel as its callers see it: its name, and its arguments as the metadata of a file declares them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from npuc.compiler.argument_layout import ROW_MAJOR

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Argument, Attention

INSTANCE = "NPUC"
LONGEST_NAME = 63 - len(":" + INSTANCE)
# Interface -> device, where they differ: the matrix unit takes bf16, or int8 by precision; masks are added in f32.
DEVICE_DTYPES = {"f32": "bf16", "f16": "bf16"}
MASK_DTYPES = {"f16": "f32"}


def kernel_name(function: str) -> str:
    """The function's name as XRT takes it: letters, digits and underscores, a letter first."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", function)
    return (name if name[:1].isalpha() else f"k_{name}")[:LONGEST_NAME]


def argument_records(attention: Attention) -> list[dict[str, Any]]:
    """The arguments as JSON values: name, role, dtype, device_dtype, shape, direction, buffer, layout; inverted: where
    callers' masks are true that hide.

    shape: of the buffer.  layout: ROW_MAJOR, or for each dimension that callers have its [axis, extent] pairs, as
    [[["B", 1]], [["S", 128]], [["H", 8], ["D", 64]]] for [B, S, H*D].
    """
    return [
        {
            "name": argument.name,
            "role": argument.role,
            "dtype": argument.dtype,
            "device_dtype": _device_dtype(argument, attention.precision),
            "shape": list(argument.shape),
            "direction": "out" if argument.role == "out" else "in",
            "buffer": index,
            "layout": [[list(pair) for pair in dimension] for dimension in argument.layout] or ROW_MAJOR,
            **({"inverted": True} if argument.inverted else {}),
        }
        for index, argument in enumerate(attention.arguments)
    ]


def _device_dtype(argument: Argument, precision: str) -> str:
    if precision == "int8" and argument.role not in ("mask", "out"):
        return "i8"
    return (MASK_DTYPES if argument.role == "mask" else DEVICE_DTYPES).get(argument.dtype, argument.dtype)
