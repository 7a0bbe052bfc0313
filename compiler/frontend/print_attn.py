"""An Attention as MLIR: one attn.sdpa in a function, in the form `--emit attn` writes and `load` reads back equal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from npuc.compiler.frontend.attention import Argument, Attention

_DEFAULTS: dict[str, Any] = {"causal": False, "align": "top-left", "recipe": "balanced"}
_WRITTEN = ("causal", "scale", "window", "softcap", "align", "precision", "recipe")
_FACTORS = ("q_scale", "k_scale", "v_scale", "o_scale")


def to_attn_module(attention: Attention) -> str:
    """The module's text. Three-dimensional arguments are expanded to [1, H, S, D] around the operation."""
    result = attention.argument("out")
    parameters = ", ".join(f"%{a.name}: {_tensor(a.shape, a.dtype)}" for a in attention.inputs)
    lines = [f"func.func @{_symbol(attention.function)}({parameters}) -> {_tensor(result.shape, result.dtype)} {{"]
    roles = ["q", "k", "v"] + (["mask"] if attention.mask is not None else [])
    operands, types = [], []
    for role in roles:
        operand, type_ = _operand(attention, role, lines)
        operands.append(operand)
        types.append(type_)
    full = _tensor(attention.full_shape("out"), result.dtype)
    lines.append(f'  %attended = "attn.sdpa"({", ".join(operands)}) {{{_attributes(attention)}}}')
    lines.append(f"       : ({', '.join(types)}) -> {full}")
    returned = "%attended"
    if len(result.shape) == 3:
        returned = f"%{result.name}"
        lines.append(f"  {returned} = tensor.collapse_shape %attended [[0, 1], [2], [3]] : {full} into {_type(result)}")
    lines.append(f"  return {returned} : {_type(result)}")
    return "\n".join(lines) + "\n}\n"


def _operand(attention: Attention, role: str, lines: list[str]) -> tuple[str, str]:
    argument = attention.argument(role)
    if role == "mask" or len(argument.shape) == 4:
        return f"%{argument.name}", _type(argument)
    shape = attention.full_shape(role)
    full = _tensor(shape, argument.dtype)
    lines.append(
        f"  %{role}_4 = tensor.expand_shape %{argument.name} [[0, 1], [2], [3]] output_shape {list(shape)}"
        f" : {_type(argument)} into {full}"
    )
    return f"%{role}_4", full


def _attributes(attention: Attention) -> str:
    default_precision = "int8" if attention.argument("q").dtype == "i8" else "bf16"
    defaults = {**_DEFAULTS, "precision": default_precision}
    written = []
    for name in _WRITTEN:
        value = getattr(attention, name)
        if value is not None and value != defaults.get(name):
            written.append(f"{name} = {_attribute(value)}")
    for name in _FACTORS:
        factors = getattr(attention, name)
        if factors is not None:
            written.append(f"{name} = array<f64: {', '.join(map(_float, factors))}>")
    return ", ".join(written)


def _attribute(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value} : i64"
    return f"{_float(value)} : f64" if isinstance(value, float) else f'"{value}"'


def _float(value: float) -> str:
    """Digits that read back as the same double; MLIR wants a point in the mantissa."""
    mantissa, e, exponent = repr(float(value)).partition("e")
    return (mantissa if "." in mantissa else mantissa + ".0") + e + exponent


def _type(argument: Argument) -> str:
    return _tensor(argument.shape, argument.dtype)


def _tensor(shape: Sequence[int], dtype: str) -> str:
    return "tensor<" + "".join(f"{size}x" for size in shape) + dtype + ">"


def _symbol(name: str) -> str:
    if re.fullmatch(r"[A-Za-z_][\w$.]*", name, re.ASCII):
        return name
    escaped = (chr(b) if chr(b).isalnum() and b < 128 else f"\\{b:02X}" for b in name.encode())
    return '"' + "".join(escaped) + '"'
