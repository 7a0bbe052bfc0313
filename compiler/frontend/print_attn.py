"""An Attention as MLIR: one attn.sdpa in a function, in the form `--emit attn` writes and `load` reads back equal."""

from __future__ import annotations

import re
from typing import Any

from npuc.compiler.frontend.attention import Argument, Attention, Sizes
from npuc.compiler.frontend.print_layouts import tensor_type, turned_in, turned_out

_DEFAULTS: dict[str, Any] = {"causal": False, "align": "top-left", "recipe": "balanced"}
_WRITTEN = ("causal", "scale", "window", "softcap", "align", "precision", "recipe")
_FACTORS = ("q_scale", "k_scale", "v_scale", "o_scale")


def to_attn_module(attention: Attention) -> str:
    """The module's text; every argument is an operand as it is, or turned round to [B, H, S, D]."""
    result = attention.argument("out")
    roles = ["q", "k", "v"] + (["mask"] if attention.mask is not None else [])
    operands = [attention.argument(role) for role in roles]
    parameters = ", ".join(f"%{a.name}: {_type(a, a.source_shape)}" for a in attention.inputs)
    steps = [line for a in attention.inputs if a.layout for line in turned_in(a)]
    steps += _equal_lengths(*operands[:2]) if attention.equal_lengths else []
    names = ", ".join(f"%{a.name}{'_turned' if a.layout else ''}" for a in operands)
    types = ", ".join(_type(a, a.shape) for a in operands)
    steps += [
        f'%attended = "attn.sdpa"({names}) {{{_attributes(attention)}}}',
        f"     : ({types}) -> {_type(result, result.shape)}",
        *(turned_out(result, "attended") if result.layout else []),
        f"return %{'o_turned' if result.layout else 'attended'} : {_type(result, result.source_shape)}",
    ]
    type_ = _type(result, result.source_shape)
    body = "".join(f"  {line}\n" for line in steps)
    return f"func.func @{symbol(attention.function)}({parameters}) -> {type_} {{\n{body}}}\n"


def _equal_lengths(q: Argument, k: Argument) -> list[str]:
    """The assertion that a call has as many queries as keys."""
    names = [f"%{a.name}{'_turned' if a.layout else ''}" for a in (q, k)]
    at = len(q.shape) - 2
    return [
        f"%rows = arith.constant {at} : index",
        f"%queries = tensor.dim {names[0]}, %rows : {_type(q, q.shape)}",
        f"%keys = tensor.dim {names[1]}, %rows : {_type(k, k.shape)}",
        "%alike = arith.cmpi eq, %queries, %keys : index",
        'cf.assert %alike, "as many queries as keys"',
    ]


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


def _type(argument: Argument, shape: Sizes) -> str:
    return tensor_type(argument, shape)


def symbol(name: str) -> str:
    """A function's name behind `@`, in quotes where MLIR needs them."""
    if re.fullmatch(r"[A-Za-z_][\w$.]*", name, re.ASCII):
        return name
    escaped = (chr(b) if chr(b).isalnum() and b < 128 else f"\\{b:02X}" for b in name.encode())
    return '"' + "".join(escaped) + '"'
