"""Conversions: shift-round-saturate, up-shift, pack, unpack, fp32 <-> bf16, floor (facts/semantics/convert.md)."""

from __future__ import annotations

from typing import Any

from npuc.runtime.emulator.semantics.registry import rule
from npuc.runtime.emulator.semantics.vector_alu import dynamic_sign

ROUNDING_MODES = (0, 1, 2, 3, 8, 9, 10, 11, 12, 13)
SATURATION_MODES = (0, 1, 3)
_SHIFT_MASK = 63
"""Shift registers hold six bits (facts/platform/registers_aie2.json, Core_S0)."""
_FIRST_NEGATIVE = 60
"""From here on the shift of a vsrs means itself - 64 (section 2)."""
_BEYOND_CLAMPS = 1 << 40
"""A lane is clamped to this before it is multiplied by up to 16: beyond every range of a result, and no overflow."""


def _goes_up(mode: int, value: Any, quotient: Any, rest: Any, half: Any) -> Any:
    """Whether value / 2^s rounds to quotient + 1; rest is what the shift drops, half is 2^(s-1) (0 when s = 0)."""
    some = rest > 0
    if mode == 1:
        return some
    if mode == 2:
        return some & (value < 0)
    if mode == 3:
        return some & (value > 0)
    above, tie = rest > half, (rest == half) & some
    if mode == 8:
        return above
    if mode == 9:
        return above | tie
    if mode == 10:
        return above | (tie & (value < 0))
    if mode == 11:
        return above | (tie & (value > 0))
    odd = (quotient & 1) == (1 if mode == 12 else 0)
    return above | (tie & odd)


def _round_shift(v: Any, value: Any, shift: int, mode: int) -> Any:
    quotient = value >> shift
    if mode == 0:
        return quotient
    dropped = (1 << shift) - 1
    half = (dropped >> 1) + v.flag(shift > 0)
    return quotient + _goes_up(mode, value, quotient, value & dropped, half)


def _clamp(v: Any, value: Any, width: int, signed: bool, saturation: int) -> Any:
    if saturation == 0:
        return value
    if not signed:
        return v.minimum(v.maximum(value, 0), (1 << width) - 1)
    top = (1 << (width - 1)) - 1
    return v.minimum(v.maximum(value, -top if saturation == 3 else -top - 1), top)


def shift_round_saturate(
    v: Any,
    acc: Any,
    shift: int,
    saturation: int,
    rounding: int,
    sign: tuple[int, ...],
    *,
    kind: str,
    width: int,
    lane: int,
) -> Any:
    """Accumulator lanes (signed) / 2^shift, rounded, clamped, the low `width` bits of each packed densely.

    Shifts 60..63 mean -4..-1. Also gives whether the clamp of a product with 4, 8 or 16 acted where only products in
    range (and negative ones, for the unsigned range) are documented.
    """
    shift = shift & _SHIFT_MASK
    value = v.resize(v.lanes(acc, lane, True), 64, True)

    def narrow(lanes: Any) -> Any:
        return v.bits(v.resize(lanes, width))

    def divided(mode: int, saturate: int, signed: bool) -> Any:
        return narrow(_clamp(v, _round_shift(v, value, shift, mode), width, signed, saturate)), 0

    def multiplied(saturate: int, signed: bool) -> Any:
        if saturate == 0:
            return narrow(value << (64 - shift)), 0
        product = v.maximum(v.minimum(value, _BEYOND_CLAMPS), -_BEYOND_CLAMPS) << (64 - shift)
        clamped = _clamp(v, product, width, signed, saturate)
        beyond = v.any(clamped != product if signed else clamped < product)
        return narrow(clamped), v.flag(beyond) & v.flag(shift < 63)

    def build(signed: bool) -> Any:
        def finish(mode: int, saturate: int) -> Any:
            return v.branch(
                shift >= _FIRST_NEGATIVE,
                lambda: multiplied(saturate, signed),
                lambda: divided(mode, saturate, signed),
            )

        def by_mode(mode: int) -> Any:
            return v.choose(saturation, SATURATION_MODES, lambda saturate: finish(mode, saturate), "crSat")

        return v.choose(rounding, ROUNDING_MODES, by_mode, "crRnd")

    return dynamic_sign(v, kind, sign, build, "crSRSSign")


_SRS = r"(vsrsm?|vst(\.[23]d)?\.srs)\.(?P<kind>s|d)(?P<width>8|16|32)\.s(?P<lane>32|64)"


def _srs(
    v: Any, acc: Any, shift: int, saturation: int, rounding: int, *sign: int, kind: str, width: int, lane: int
) -> Any:
    return shift_round_saturate(v, acc, shift, saturation, rounding, sign, kind=kind, width=width, lane=lane)


_SRS_DOUBT = (
    "a vsrs that multiplies by 4, 8 or 16 saturates: facts/semantics/convert.md section 2 has only results in range; "
    "the product is clamped"
)
rule(_SRS, syntax=r"^vsrs", reads="crSat crRnd crSRSSign", doubt=_SRS_DOUBT)(_srs)
rule(_SRS, syntax=r"^vst", reads="crSat crRnd crSRSSign", access="store", bytes=32, doubt=_SRS_DOUBT)(_srs)

_UPS = r"(vups|vlda(\.[23]d)?\.ups)\.s(?P<lane>32|64)\.(?P<kind>s|d)(?P<width>8|16|32)"


def _ups(v: Any, source: Any, shift: int, saturation: int, *sign: int, kind: str, width: int, lane: int) -> Any:
    """Lanes extended, shifted left, truncated or clamped to the signed range of the accumulator lane; whether that
    clamp acted."""
    shift = shift & _SHIFT_MASK

    def build(signed: bool) -> Any:
        value = v.resize(v.lanes(source, width, signed), 64, True)
        return v.choose(saturation, SATURATION_MODES, lambda saturate: shifted(value, saturate), "crSat")

    def shifted(value: Any, saturate: int) -> Any:
        result = value << shift
        if not saturate:
            return v.bits(v.resize(result, lane)), 0
        low, high = -(1 << (lane - 1)), (1 << (lane - 1)) - 1
        # A lane overflows when shifting the clamped result back does not give the value again.
        limit = v.select(value < 0, low, high)
        fits = ((result >> shift) == value) & (result >= low) & (result <= high)
        return v.bits(v.resize(v.select(fits, result, limit), lane)), v.flag(v.any(~fits))

    return dynamic_sign(v, kind, sign, build, "crUPSSign")


_UPS_DOUBT = (
    "a vups saturates: facts/semantics/convert.md section 3 has two sources that differ (0x7fff by 20 gives 0x7fffffff "
    "or 0x7ff00000); the shifted value is clamped"
)
rule(_UPS, syntax=r"^vups", reads="crSat crUPSSign", doubt=_UPS_DOUBT)(_ups)
rule(_UPS, syntax=r"^vlda", reads="crSat crUPSSign", access="load", bytes=32, doubt=_UPS_DOUBT)(_ups)


_PACK = r"(vpack|vst(\.[23]d)?\.pack)\.(?P<kind>s|d)(?P<width>4|8)\.[sd](8|16)"


def _pack(v: Any, source: Any, saturation: int, *sign: int, kind: str, width: int) -> Any:
    """Lanes of 16 or 8 bits to 8 or 4: low bits kept, or clamped; the source lanes are signed when the range is, as
    the type in the mnemonic says (only the signed clamp is measured). crSat 3: the signed range without its minimum."""

    def build(signed: bool) -> Any:
        value = v.lanes(source, 2 * width, signed)
        clamped = v.choose(
            saturation, SATURATION_MODES, lambda saturate: _clamp(v, value, width, signed, saturate), "crSat"
        )
        return v.bits(v.resize(clamped, 8)) if width == 8 else v.join_nibbles(v.resize(clamped, 8))

    return dynamic_sign(v, kind, sign, build, "crPackSign")


rule(_PACK, syntax=r"^vpack", reads="crSat crPackSign")(_pack)
rule(_PACK, syntax=r"^vst", reads="crSat crPackSign", access="store", bytes=32)(_pack)


_UNPACK = r"(vunpack|vldb(\.[23]d)?\.unpack)\.(?P<kind>s|d)(?P<width>8|16)\.[sd](4|8)"


def _unpack(v: Any, source: Any, *sign: int, kind: str, width: int) -> Any:
    def build(signed: bool) -> Any:
        value = v.nibbles(source, signed) if width == 8 else v.lanes(source, 8, signed)
        return v.bits(v.resize(value, width, signed))

    return dynamic_sign(v, kind, sign, build, "crUnpackSign")


rule(_UNPACK, syntax=r"^vunpack", reads="crUnpackSign")(_unpack)
rule(_UNPACK, syntax=r"^vldb", reads="crUnpackSign", access="load", bytes=32)(_unpack)


def _widen_bf16(v: Any, source: Any) -> Any:
    return v.bits(v.resize(v.lanes(source, 16), 32) << 16)


rule(r"vconv\.fp32\.bf16")(_widen_bf16)
rule(r"vlda(\.[23]d)?\.conv\.fp32\.bf16", access="load", bytes=32)(_widen_bf16)


def narrow_fp32(v: Any, source: Any, rounding: int) -> Any:
    """fp32 to bf16 on sign and magnitude: denormals rounded, overflow to infinity, a NaN stays one."""

    def build(mode: int) -> Any:
        value = v.lanes(source, 32)
        quotient, rest = value >> 16, value & 0xFFFF
        if mode == 12:  # half to even, written short because every kernel uses it
            quotient = (value + (0x7FFF + (quotient & 1))) >> 16
        else:
            quotient = quotient + _grows(mode, value, quotient, rest)
        magnitude = value & 0x7FFFFFFF
        nan = (value >> 16) | ((value & 0x7F0000) == 0)
        return v.bits(v.resize(v.select(magnitude > 0x7F800000, nan, quotient), 16))

    return v.choose(rounding, ROUNDING_MODES, build, "crRnd")


def _grows(mode: int, value: Any, quotient: Any, rest: Any) -> Any:
    """Whether the magnitude is rounded up: modes name directions of the signed value, see _goes_up."""
    some, negative = rest > 0, value >= 0x80000000
    if mode == 0:
        return some & negative
    above, tie = rest > 0x8000, rest == 0x8000
    if mode == 1:
        return some & ~negative
    if mode == 2:
        return some & False
    if mode == 3:
        return some
    if mode == 8:
        return above | (tie & negative)
    if mode == 9:
        return above | (tie & ~negative)
    if mode == 10:
        return above
    if mode == 11:
        return above | tie
    return above | (tie & ((quotient & 1) == 0))


rule(r"vconv\.bf16\.fp32", reads="crRnd")(narrow_fp32)
rule(r"vst(\.[23]d)?\.conv\.bf16\.fp32", reads="crRnd", access="store", bytes=32)(narrow_fp32)


@rule(r"vfloor\.s32\.bf16")
def floor(v: Any, source: Any, shift: int) -> Any:
    """floor(value * 2^shift) clamped to 32 signed bits; shift is a signed 6-bit number; NaN gives 0x7FFFFFFF."""
    pattern = v.resize(v.lanes(source, 16), 64, True)
    field, mantissa = (pattern >> 7) & 0xFF, pattern & 0x7F
    significand = v.select(field == 0, mantissa, mantissa | 0x80)
    exponent = v.maximum(field, 1) - 134 + v.signed(shift, 6)
    value = v.select(pattern >= 0x8000, -significand, significand)
    left = v.minimum(v.maximum(exponent, 0), 40)
    right = v.minimum(v.maximum(-exponent, 0), 63)
    result = v.minimum(v.maximum((value << left) >> right, -(1 << 31)), (1 << 31) - 1)
    nan = (field == 0xFF) & (mantissa != 0)
    return v.bits(v.resize(v.select(nan, 0x7FFFFFFF, result), 32))
