"""Scalar arithmetic, moves, address registers and control transfers (facts/semantics/vector_misc.md section 3)."""

from __future__ import annotations

import operator
from typing import Any

from npuc.runtime.emulator.semantics.registry import rule

_BINARY = {"and": operator.and_, "or": operator.or_, "xor": operator.xor}
_COMPARE = {"lt": operator.lt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne}


@rule(r"add", syntax=r"\$mRx,", writes="srCarry")
def add(v: Any, a: int, b: int) -> Any:
    total = a + v.u32(b)
    return v.u32(total), total >> 32


@rule(r"sub", writes="srCarry")
def sub(v: Any, a: int, b: int) -> Any:
    return v.u32(a - b), v.flag(a < b)


@rule(r"adc", reads="srCarry", writes="srCarry")
def adc(v: Any, a: int, b: int, carry: int) -> Any:
    total = a + b + carry
    return v.u32(total), total >> 32


@rule(r"sbc", reads="srCarry", writes="srCarry")
def sbc(v: Any, a: int, b: int, carry: int) -> Any:
    # The carry counts as a borrow (captures with carry clear give a - b; the flag rule is not proven on hardware).
    total = a - b - carry
    return v.u32(total), v.flag(total < 0)


@rule(r"abs", writes="srCarry")
def absolute(v: Any, a: int) -> Any:
    value = v.signed(a)
    return v.u32(v.pick(value < 0, -value, value)), None


@rule(r"(?P<op>and|or|xor)")
def bitwise(v: Any, a: int, b: int, *, op: str) -> int:
    return _BINARY[op](a, b)


@rule(r"mul")
def mul(v: Any, a: int, b: int) -> int:
    return v.u32(a * b)


@rule(r"(?P<op>lt|ge)")
def compare_signed(v: Any, a: int, b: int, *, op: str) -> int:
    return v.flag(_COMPARE[op](v.signed(a), v.signed(b)))


@rule(r"(?P<op>lt|ge)u")
def compare_unsigned(v: Any, a: int, b: int, *, op: str) -> int:
    return v.flag(_COMPARE[op](a, b))


@rule(r"(?P<op>eq|ne)")
def compare_equal(v: Any, a: int, b: int, *, op: str) -> int:
    return v.flag(_COMPARE[op](a, b))


@rule(r"(?P<op>eq|ne)z")
def compare_zero(v: Any, a: int, *, op: str) -> int:
    return v.flag(_COMPARE[op](a, 0))


@rule(r"(?P<kind>a|l)shl")
def shift(v: Any, a: int, count: int, *, kind: str) -> int:
    """Left for counts >= 0, right (arithmetic or logical) for negative ones; counts modulo 32."""
    value = v.signed(a) if kind == "a" else a
    return v.u32(v.pick(count >> 31 == 0, value << (count & 31), value >> (-count & 31)))


@rule(r"clz")
def count_zeros(v: Any, a: int) -> int:
    return v.leading_zeros(a)


@rule(r"clb")
def count_sign_bits(v: Any, a: int) -> int:
    return v.leading_zeros(v.pick(a >> 31, v.u32(~a), a))


@rule(r"extend\.(?P<sign>[su])(?P<width>8|16)")
def extend(v: Any, a: int, *, sign: str, width: int) -> int:
    return v.u32(v.signed(a, width)) if sign == "s" else v.unsigned(a, width)


@rule(r"sel\.(?P<op>eq|ne)z", reads="r27")
def select(v: Any, a: int, b: int, condition: int, *, op: str) -> int:
    return v.pick(_COMPARE[op](condition, 0), a, b)


@rule(r"divs", reads="r31", writes="r31")
def divide_step(v: Any, d: int, b: int, low: int) -> Any:
    """One restoring step of an unsigned division; r31 shifts out dividend bits and takes in quotient bits."""
    t = v.u32((d << 1) | (low >> 31))
    fits = t >= b
    return v.u32(v.pick(fits, t - b, t)), v.u32((low << 1) | v.flag(fits))


@rule(r"mov(|a|x|xm|\.d[1-6])", syntax=r"^\S+ \$\w+, \$\w+$")
def move(v: Any, value: Any) -> Any:
    return value


@rule(r"vmov(|\.d)", syntax=r"^\S+ \$\w+, \$\w+$")
def move_vector(v: Any, value: Any) -> Any:
    return value


@rule(r"add\.nc", syntax="")
def add_no_carry(v: Any, a: int, b: int) -> int:
    return v.u32(a + b)


@rule(r"mov", syntax=r"cntr$", reads="core.cycle")
def read_counter(v: Any, cycle: int) -> int:
    return v.unsigned(cycle, 64)


@rule(r"nop(|a|b|m|s|v|x|xm)")
def nothing(v: Any) -> tuple[()]:
    return ()


@rule(r"event", writes="core.event")
def event(v: Any, number: int) -> int:
    return number


@rule(r"padd[abs](\.[23]d)?")
def add_to_pointer(v: Any) -> tuple[()]:
    """The update of the address registers is the whole effect."""
    return ()


# control transfers: taken, target


@rule(r"j", writes="pc.taken pc.target")
def jump(v: Any, target: int) -> Any:
    return 1, target


@rule(r"jl", reads="pc.return", writes="lr pc.taken pc.target")
def jump_and_link(v: Any, target: int, back: int) -> Any:
    return back, 1, target


@rule(r"ret", reads="lr", writes="pc.taken pc.target")
def jump_back(v: Any, target: int) -> Any:
    return 1, target


@rule(r"j(?P<op>n?)z", writes="pc.taken pc.target")
def jump_if(v: Any, condition: int, target: int, *, op: str) -> Any:
    return v.flag((condition == 0) == (op == "")), target


@rule(r"jnzd", writes="srCarry pc.taken pc.target")
def jump_counting(v: Any, count: int, target: int) -> Any:
    """What is tested is the value read, before the decrement: programs of the vendor's compiler count on it.

    A loop of 179 rounds begins at 178, one of 0x7fffffff at 0x7ffffffe (public image kernels, legacy_sequence.md).
    """
    return v.u32(count - 1), None, v.flag(count != 0), target


# locks, end of program


@rule(r"(?P<op>acq|rel)", writes="lock.acquire lock.number lock.value lock.enabled")
def lock(v: Any, number: int, value: int, *, op: str) -> Any:
    return v.flag(op == "acq"), number, v.signed(value), 1


@rule(r"(?P<op>acq|rel)\.cond", reads="r26", writes="lock.acquire lock.number lock.value lock.enabled")
def lock_if(v: Any, number: int, value: int, condition: int, *, op: str) -> Any:
    return v.flag(op == "acq"), number, v.signed(value), v.flag(condition != 0)


@rule(r"done", writes="core.done")
def done(v: Any) -> int:
    return 1
