"""The attn dialect as text: one `attn.sdpa` in a function, generic form, as any MLIR parser reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention


def tensor_type(shape: Sequence[int | None], dtype: str) -> str:
    """`tensor<1x8x?x64xbf16>`; a dimension that is None or negative is dynamic."""
    return "tensor<" + "".join("?x" if n is None or n < 0 else f"{n}x" for n in shape) + dtype + ">"


def sdpa_module(
    function: str, arguments: Sequence[tuple[str, str]], result: str, attributes: Mapping[str, Any]
) -> str:
    """A module with one function over arguments (name, type). Attributes that are None are left out."""
    values = [f"%{name}" for name, _ in arguments]
    types = ", ".join(type_ for _, type_ in arguments)
    parameters = ", ".join(f"{value}: {type_}" for value, (_, type_) in zip(values, arguments, strict=True))
    written = ", ".join(f"{key} = {_attribute(value)}" for key, value in attributes.items() if value is not None)
    return (
        f"func.func @{_symbol(function)}({parameters}) -> {result} {{\n"
        f'  %attended = "attn.sdpa"({", ".join(values)}) {{{written}}}\n'
        f"       : ({types}) -> {result}\n"
        f"  return %attended : {result}\n"
        "}\n"
    )


def attention_module(attention: Attention) -> str:
    """The recognised attention, written in the attn dialect."""
    inputs = [a for a in attention.arguments if a.role != "out"]
    (output,) = [a for a in attention.arguments if a.role == "out"]
    return sdpa_module(
        attention.function,
        [(_identifier(a.name), tensor_type(a.shape, a.dtype)) for a in inputs],
        tensor_type(output.shape, output.dtype),
        {
            "causal": True if attention.causal else None,
            "scale": attention.scale,
            "window": attention.window,
            "softcap": attention.softcap,
            "align": attention.align if attention.align != "top-left" else None,
            "precision": attention.precision if attention.precision != "bf16" else None,
            "recipe": attention.recipe,
        },
    )


def _attribute(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value} : i64"
    if isinstance(value, float):
        # MLIR wants a point in the mantissa, and repr's digits give the same double back.
        mantissa, _, exponent = repr(value).partition("e")
        mantissa = mantissa if "." in mantissa else mantissa + ".0"
        return f"{mantissa}e{exponent} : f64" if exponent else f"{mantissa} : f64"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _identifier(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w$.-]*|\d+", name) else re.sub(r"\W", "_", f"_{name}")


def _symbol(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w$.]*", name) else _attribute(name)
