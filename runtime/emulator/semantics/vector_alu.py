"""Vector arithmetic and comparisons of the move slot (facts/semantics/vector_misc.md section 2)."""

from __future__ import annotations

import operator
from typing import Any

from npuc.runtime.emulator.semantics.registry import rule

_COMPARE = {"lt": operator.lt, "ge": operator.ge}
_TYPE = r"\.(?P<kind>s|d|bf)(?P<width>8|16|32)"


def dynamic_sign(v: Any, kind: str, register: tuple[int, ...], build: Any, what: str) -> Any:
    """build(signed): `s` forms are signed, `d` forms follow the sign register (0 unsigned, 1 signed)."""
    if kind == "s" or not register:
        return build(kind == "s")
    return v.choose(register[0], (0, 1), lambda sign: build(bool(sign)), what)


def _typed(v: Any, kind: str, width: int, sign: tuple[int, ...], build: Any) -> Any:
    return dynamic_sign(v, kind, sign, build, "crVaddSign")


def _order(v: Any, bits: Any) -> Any:
    """bf16 bit patterns to integers of the same order: sign and magnitude, -0 below +0."""
    signed = v.lanes(bits, 16, True)
    return signed ^ ((signed >> 15) & 0x7FFF)


def _is_nan(v: Any, bits: Any) -> Any:
    return (v.lanes(bits, 16) & 0x7FFF) > 0x7F80


@rule(r"v(?P<op>add|sub)\.(?P<width>8|16|32)")
def add(v: Any, a: Any, b: Any, *, op: str, width: int) -> Any:
    x, y = v.lanes(a, width), v.lanes(b, width)
    return v.bits(x + y if op == "add" else x - y)


@rule(r"vaddsub\.(?P<width>8|16|32)")
def add_or_subtract(v: Any, a: Any, b: Any, mask: int, *, width: int) -> Any:
    x, y = v.lanes(a, width), v.lanes(b, width)
    return v.bits(v.select(v.scalar_to_mask(mask, 512 // width), x - y, x + y))


@rule(r"vb(?P<op>and|or)")
def bitwise(v: Any, a: Any, b: Any, *, op: str) -> Any:
    return a & b if op == "and" else a | b


@rule(r"v(?P<op>lt|ge)\.(?P<kind>s|d)(?P<width>8|16|32)", reads="crVaddSign")
def compare(v: Any, a: Any, b: Any, *sign: int, op: str, kind: str, width: int) -> Any:
    return _typed(
        v,
        kind,
        width,
        sign,
        lambda signed: v.mask_to_scalar(_COMPARE[op](v.lanes(a, width, signed), v.lanes(b, width, signed))),
    )


@rule(r"v(?P<op>lt|ge)\.bf16")
def compare_bf16(v: Any, a: Any, b: Any, *, op: str) -> Any:
    ordered = ~(_is_nan(v, a) | _is_nan(v, b))
    return v.mask_to_scalar(_COMPARE[op](_order(v, a), _order(v, b)) & ordered)


@rule(r"v(?P<op>max_lt|min_ge)\.(?P<kind>s|d)(?P<width>8|16|32)", reads="crVaddSign")
def extreme(v: Any, a: Any, b: Any, *sign: int, op: str, kind: str, width: int) -> Any:
    def build(signed: bool) -> Any:
        x, y = v.lanes(a, width, signed), v.lanes(b, width, signed)
        if op == "max_lt":
            return v.bits(v.maximum(x, y)), v.mask_to_scalar(x < y)
        return v.bits(v.minimum(x, y)), v.mask_to_scalar(x >= y)

    return _typed(v, kind, width, sign, build)


@rule(r"v(?P<op>max_lt|min_ge)\.bf16")
def extreme_bf16(v: Any, a: Any, b: Any, *, op: str) -> Any:
    """A NaN makes the comparison false, and the first source is the result."""
    ordered = ~(_is_nan(v, a) | _is_nan(v, b))
    x, y = _order(v, a), _order(v, b)
    mask = (x < y if op == "max_lt" else x >= y) & ordered
    return v.bits(v.select(mask, v.lanes(b, 16), v.lanes(a, 16))), v.mask_to_scalar(mask)


@rule(r"vsub_(?P<op>lt|ge)\.(?P<kind>s|d)(?P<width>8|16|32)", reads="crVaddSign")
def subtract_and_compare(v: Any, a: Any, b: Any, *sign: int, op: str, kind: str, width: int) -> Any:
    def build(signed: bool) -> Any:
        x, y = v.lanes(a, width, signed), v.lanes(b, width, signed)
        return v.bits(x - y), v.mask_to_scalar(_COMPARE[op](x, y))

    return _typed(v, kind, width, sign, build)


@rule(r"vmaxdiff_lt\.(?P<kind>s|d)(?P<width>8|16|32)", reads="crVaddSign")
def difference(v: Any, a: Any, b: Any, *sign: int, kind: str, width: int) -> Any:
    def build(signed: bool) -> Any:
        x, y = v.lanes(a, width, signed), v.lanes(b, width, signed)
        less = x < y
        return v.bits(v.select(less, x ^ x, x - y)), v.mask_to_scalar(less)

    return _typed(v, kind, width, sign, build)


@rule(r"vabs_gtz\.(?P<kind>s|d)(?P<width>8|16|32)", reads="crVaddSign")
def absolute(v: Any, a: Any, *sign: int, kind: str, width: int) -> Any:
    def build(signed: bool) -> Any:
        x = v.lanes(a, width, signed)
        positive = x > 0
        return v.bits(v.select(x < 0, -x, x) if signed else x), v.mask_to_scalar(positive)

    return _typed(v, kind, width, sign, build)


@rule(r"vneg_gtz(?P<width>8|16|32)")
def negate(v: Any, a: Any, *, width: int) -> Any:
    x = v.lanes(a, width, True)
    return v.bits(-x), v.mask_to_scalar(x > 0)


@rule(r"vbneg_ltz\.s(?P<width>8|16|32)")
def invert(v: Any, a: Any, *, width: int) -> Any:
    return ~a, v.mask_to_scalar(v.lanes(a, width, True) < 0)


@rule(r"veqz\.(?P<width>8|16|32)")
def is_zero(v: Any, a: Any, *, width: int) -> Any:
    return v.mask_to_scalar(v.lanes(a, width) == 0)
