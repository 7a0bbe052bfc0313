"""An Attention as MLIR: one attn.sdpa in a function, in the form `--emit attn` writes and `load` reads back equal."""

from __future__ import annotations

import re
from typing import Any

from npuc.compiler.frontend.attention import Argument, Attention, Sizes
from npuc.compiler.frontend.call_arguments import SCALE, CallArgument
from npuc.compiler.frontend.print_layouts import tensor_type, turned_in, turned_out

_DEFAULTS: dict[str, Any] = {"causal": False, "align": "top-left", "recipe": "balanced"}
_WRITTEN = ("causal", "scale", "window", "softcap", "align", "precision", "recipe")
_FACTORS = ("q_scale", "k_scale", "v_scale", "o_scale")


def to_attn_module(attention: Attention) -> str:
    """The module's text; every argument is an operand as it is, or turned round to [B, H, S, D]."""
    result = attention.argument("out")
    roles = ["q", "k", "v"] + (["mask"] if attention.mask is not None else [])
    operands = [attention.argument(role) for role in roles]
    parameters = ", ".join(f"%{a.name}: {_parameter_type(a)}" for a in attention.parameters)
    steps = [line for a in attention.inputs if a.layout for line in turned_in(a)]
    steps += _equal_lengths(*operands[:2]) if attention.equal_lengths else []
    named = [f"%{a.name}{'_turned' if a.layout else ''}" for a in operands]
    for scale in (a for a in attention.beside if a.role == SCALE):
        steps += _scaled(operands[0], named[0], scale)
        named[0] = "%scaled"
    if operands[-1].inverted:
        steps += _turned_round(operands[-1], named[-1])
        named[-1] = "%kept"
    names = ", ".join(named)
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


def _turned_round(mask: Argument, name: str) -> list[str]:
    """%kept: true where a mask, which is the value of that name, is false."""
    type_, loops = _type(mask, mask.shape), ", ".join(f"d{d}" for d in range(len(mask.shape)))
    kinds = ", ".join(['"parallel"'] * len(mask.shape))
    return [
        f"%kept = linalg.generic {{indexing_maps = [affine_map<({loops}) -> ({loops})>,"
        f" affine_map<({loops}) -> ({loops})>], iterator_types = [{kinds}]}}"
        f" ins({name} : {type_}) outs({name} : {type_}) {{",
        "^bb0(%e: i1, %o: i1):",
        "  %true = arith.constant true",
        "  %y = arith.xori %e, %true : i1",
        "  linalg.yield %y : i1",
        f"}} -> {type_}",
    ]


def _scaled(q: Argument, name: str, scale: CallArgument) -> list[str]:
    """%scaled: Q, which is the value of that name, times what the scale of a call is."""
    type_, wide = _type(q, q.shape), "f64" if scale.dtype == "f64" else "f32"
    loops = ", ".join(f"d{d}" for d in range(len(q.shape)))
    maps = [loops, ", ".join("0" for _ in scale.shape), loops]
    spelled = ", ".join(f"affine_map<({loops}) -> ({results})>" for results in maps)
    kinds = ", ".join(['"parallel"'] * len(q.shape))
    value, widened = _converted("%e", q.dtype, wide, "%a")
    factor, lines = _converted("%f", scale.dtype, wide, "%s")
    lines += widened
    steps = abs(scale.power)
    if scale.rooted:
        lines.append(f"%r = math.sqrt {factor} : {wide}")
        factor, steps = "%r", 2 * steps
    for n in range(round(steps)):
        lines.append(f"%x{n} = arith.{'mulf' if scale.power > 0 else 'divf'} {value}, {factor} : {wide}")
        value = f"%x{n}"
    value, narrowed = _converted(value, wide, q.dtype, "%y")
    return [
        f"%scaled = linalg.generic {{indexing_maps = [{spelled}], iterator_types = [{kinds}]}}"
        f" ins({name}, %{scale.name} : {type_}, {scale.type_text}) outs({name} : {type_}) {{",
        f"^bb0(%e: {q.dtype}, %f: {scale.dtype}, %o: {q.dtype}):",
        *(f"  {line}" for line in (*lines, *narrowed, f"linalg.yield {value} : {q.dtype}")),
        f"}} -> {type_}",
    ]


def _converted(value: str, old: str, new: str, name: str) -> tuple[str, list[str]]:
    """A floating number in another type, and the operation that gives it as `name`; itself in its own."""
    if old == new:
        return value, []
    widths = {"bf16": 16, "f16": 16, "f32": 32, "f64": 64}
    change = "extf" if widths[old] < widths[new] else "truncf"
    return name, [f"{name} = arith.{change} {value} : {old} to {new}"]


def _parameter_type(parameter: Argument | CallArgument) -> str:
    return parameter.type_text if isinstance(parameter, CallArgument) else _type(parameter, parameter.source_shape)


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
