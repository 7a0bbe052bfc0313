"""The attn dialect as text: one `attn.sdpa` in a function, generic form, as any MLIR parser reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention


def tensor_type(shape: Sequence[int], dtype: str) -> str:
    """For instance `tensor<1x8x256x64xbf16>`."""
    return "tensor<" + "".join(f"{n}x" for n in shape) + dtype + ">"


def sdpa_module(
    function: str,
    arguments: Sequence[tuple[str, str]],
    operands: Sequence[str],
    result: str,
    attributes: Mapping[str, Any],
) -> str:
    """A module with one function over arguments (name, type), some of them operands of attn.sdpa.

    Attributes that are None are left out.
    """
    types = dict(arguments)
    parameters = ", ".join(f"%{name}: {type_}" for name, type_ in arguments)
    written = ", ".join(f"{key} = {_attribute(value)}" for key, value in attributes.items() if value is not None)
    return (
        f"func.func @{_symbol(function)}({parameters}) -> {result} {{\n"
        f'  %attended = "attn.sdpa"({", ".join("%" + name for name in operands)}) {{{written}}}\n'
        f"       : ({', '.join(types[name] for name in operands)}) -> {result}\n"
        f"  return %attended : {result}\n"
        "}\n"
    )


def attention_module(attention: Attention) -> str:
    """The recognised attention, written in the attn dialect; attributes at their defaults are left out."""
    output = attention.argument("out")
    roles = ("q", "k", "v") if attention.mask is None else ("q", "k", "v", "mask")
    attributes = {
        "causal": attention.causal or None,
        "scale": attention.scale,
        "window": attention.window,
        "softcap": attention.softcap,
    }
    defaults = {"align": "top-left", "precision": "bf16", "recipe": "balanced"}
    attributes |= {key: getattr(attention, key) for key, value in defaults.items() if getattr(attention, key) != value}
    attributes |= {key: getattr(attention, key) for key in ("q_scale", "k_scale", "v_scale", "o_scale")}
    return sdpa_module(
        attention.function,
        [(_identifier(a.name), tensor_type(a.shape, a.dtype)) for a in attention.inputs],
        [_identifier(attention.argument(role).name) for role in roles],
        tensor_type(output.shape, output.dtype),
        attributes,
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
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_attribute(float(item)) for item in value) + "]"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _identifier(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w$.-]*|\d+", name) else re.sub(r"\W", "_", f"_{name}")


def _symbol(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w$.]*", name) else _attribute(name)
