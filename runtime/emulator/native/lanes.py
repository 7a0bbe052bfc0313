"""The lane operations of `semantics/lanes.py` on LLVM IR values: the same effects, written as native code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.native import products
from npuc.runtime.emulator.native.ir import (
    Bool,
    Lanes,
    NeedsConstant,
    Scalar,
    Untranslatable,
    current,
    i1,
    i64,
    scalar,
)
from npuc.runtime.emulator.native.pieces import Pieces, widths

UNKNOWN = 1 << 40
"""Stands in a scalar register for the None of the interpreter: a value that is not known."""


def _shuffle(a: Lanes, b: str, indices: Sequence[int]) -> Lanes:
    mask = ", ".join(f"i32 {index}" for index in indices)
    text = f"shufflevector {a.type} {a.ref}, {a.type} {b}, <{len(indices)} x i32> <{mask}>"
    return Lanes(current().value(text), len(indices), a.kind, a.signed)


def shuffle(a: Lanes, indices: Sequence[int]) -> Lanes:
    """Lanes of one vector in another order."""
    return _shuffle(a, "poison", indices)


class IRLanes:
    """See `NumpyLanes` for what each operation does."""

    # views and widths

    @staticmethod
    def lanes(value: Lanes, width: int, signed: bool = False) -> Lanes:
        kind, count = f"i{width}", value.count * value.bits // width
        if isinstance(value, Pieces) and kind == "i8" and not signed:
            return value
        if kind == value.kind:
            return Lanes(value.ref, count, kind, signed)
        return Lanes(current().value(f"bitcast {value.type} {value.ref} to <{count} x {kind}>"), count, kind, signed)

    @staticmethod
    def nibbles(value: Lanes, signed: bool = False) -> Lanes:
        low, high = value & 15, IRLanes.lanes(value, 8) >> 4
        result = _shuffle(low, high.ref, [i // 2 + (i & 1) * value.count for i in range(2 * value.count)])
        if not signed:
            return result
        result = (result ^ 8) - 8
        return Lanes(result.ref, result.count, "i8", True)

    @staticmethod
    def join_nibbles(lanes: Lanes) -> Lanes:
        value = IRLanes.lanes(lanes, 8) & 15
        return shuffle(value, range(0, value.count, 2)) | (shuffle(value, range(1, value.count, 2)) << 4)

    @staticmethod
    def bits(lanes: Lanes) -> Lanes:
        return IRLanes.lanes(lanes, 8)

    @staticmethod
    def resize(lanes: Lanes, width: int, signed: bool = False) -> Lanes:
        kind = f"i{width}"
        if lanes.bits == width:
            return Lanes(lanes.ref, lanes.count, kind, signed, lanes.narrow)
        op = "trunc" if width < lanes.bits else "sext" if lanes.signed else "zext"
        text = f"{op} {lanes.type} {lanes.ref} to <{lanes.count} x {kind}>"
        return Lanes(current().value(text), lanes.count, kind, signed, lanes if width > lanes.bits else None)

    @staticmethod
    def zeros(width: int) -> Lanes:
        return Lanes("zeroinitializer", width // 8, "i8")

    @staticmethod
    def unknown(width: int) -> Lanes:
        return IRLanes.zeros(width)

    @staticmethod
    def concat(low: Lanes, high: Lanes) -> Lanes:
        wide = widths(2 * low.count)[0]
        if isinstance(low, Pieces) and isinstance(high, Pieces) and wide <= low.count == high.count:
            return Pieces(2 * low.count, [*low.pieces, *high.pieces])
        size = max(low.count, high.count)
        padded = [
            each if each.count == size else shuffle(each, [min(i, each.count - 1) for i in range(size)])
            for each in (low, high)
        ]
        return _shuffle(padded[0], padded[1].ref, [*range(low.count), *range(size, size + high.count)])

    @staticmethod
    def part(value: Lanes, first: int, count: int) -> Lanes:
        if first == 0 and count >= value.count:
            return value
        named = value.part(first, count) if isinstance(value, Pieces) else None
        if named is not None:
            return named
        result = shuffle(value, range(first, first + count))
        return Lanes(
            result.ref,
            count,
            value.kind,
            value.signed,
            IRLanes.part(value.narrow, first, count) if value.narrow else None,
        )

    # lane-wise

    @staticmethod
    def select(mask: Lanes, yes: Any, no: Any) -> Lanes:
        if not isinstance(yes, Lanes) and not isinstance(no, Lanes):
            kind = "double" if isinstance(yes, float) else "i64"
            yes = Lanes(Lanes("", mask.count, kind, True).constant(yes), mask.count, kind, True)
        if isinstance(yes, Lanes):
            yes, no_text = yes.operand(no)
            text = f"{yes.type} {yes.ref}, {yes.type} {no_text}"
            like = yes
        else:
            like, yes_text = no.operand(yes)
            text = f"{like.type} {yes_text}, {like.type} {like.ref}"
        return like.like(f"select {mask.type} {mask.ref}, {text}")

    @staticmethod
    def _extreme(name: str, a: Any, b: Any) -> Lanes:
        if not isinstance(a, Lanes):
            a, b = b, a
        own, text = a.operand(b)
        op = f"llvm.{'s' if own.signed else 'u'}{name}.v{own.count}{own.kind}"
        return Lanes(
            current().intrinsic(op, own.type, (own.type, own.ref), (own.type, text)), own.count, own.kind, own.signed
        )

    @staticmethod
    def minimum(a: Any, b: Any) -> Lanes:
        return IRLanes._extreme("min", a, b)

    @staticmethod
    def maximum(a: Any, b: Any) -> Lanes:
        return IRLanes._extreme("max", a, b)

    @staticmethod
    def permute(lanes: Lanes, indices: tuple[int, ...]) -> Lanes:
        return shuffle(lanes, indices)

    @staticmethod
    def splat(value: Any, width: int, total: int = 512) -> Lanes:
        kind, count = f"i{width}", total // width
        if isinstance(value, int):
            return Lanes(Lanes("", count, kind).constant(value), count, kind)
        out = current()
        text = value.ref if width == 64 else out.value(f"trunc i64 {value.ref} to {kind}")
        single = out.value(f"insertelement <{count} x {kind}> poison, {kind} {text}, i64 0")
        return shuffle(Lanes(single, count, kind), [0] * count)

    @staticmethod
    def _index(lanes: Lanes, index: Any) -> str:
        if isinstance(index, int):
            return str(index % lanes.count)
        if lanes.count & (lanes.count - 1):
            raise Untranslatable("an index modulo a number that is no power of two")
        return i64(index & (lanes.count - 1))

    @staticmethod
    def extract(lanes: Lanes, index: Any) -> Scalar:
        out = current()
        element = out.value(f"extractelement {lanes.type} {lanes.ref}, i64 {IRLanes._index(lanes, index)}")
        if lanes.bits == 64:
            return Scalar(element)
        return Scalar(out.value(f"{'sext' if lanes.signed else 'zext'} {lanes.kind} {element} to i64"))

    @staticmethod
    def insert(lanes: Lanes, index: Any, value: Any) -> Lanes:
        out, text = current(), i64(value)
        if lanes.bits < 64:
            text = out.value(f"trunc i64 {text} to {lanes.kind}")
        place = IRLanes._index(lanes, index)
        return lanes.like(f"insertelement {lanes.type} {lanes.ref}, {lanes.kind} {text}, i64 {place}")

    @staticmethod
    def byte_window(value: Lanes, start: Any, count: int) -> Lanes:
        size = value.count
        if isinstance(start, int):
            chosen = [start + i if start + i < size else size for i in range(count)]
            return _shuffle(value, "zeroinitializer", chosen)
        out = current()
        area = out.value(f"alloca [{size + count} x i8], align 64")
        out.line(f"store {value.type} {value.ref}, ptr {area}, align 64")
        end = out.value(f"getelementptr i8, ptr {area}, i64 {size}")
        out.line(f"store <{count} x i8> zeroinitializer, ptr {end}, align 1")
        first = current().intrinsic("llvm.umin.i64", "i64", ("i64", start.ref), ("i64", str(size)))
        place = out.value(f"getelementptr i8, ptr {area}, i64 {first}")
        return Lanes(out.value(f"load <{count} x i8>, ptr {place}, align 1"), count, "i8")

    # masks

    @staticmethod
    def mask_to_scalar(mask: Lanes) -> Scalar:
        out = current()
        packed = out.value(f"bitcast {mask.type} {mask.ref} to i{mask.count}")
        return Scalar(packed if mask.count == 64 else out.value(f"zext i{mask.count} {packed} to i64"))

    @staticmethod
    def scalar_to_mask(value: Any, count: int) -> Lanes:
        out, text = current(), i64(value)
        if count < 64:
            text = out.value(f"trunc i64 {text} to i{count}")
        return Lanes(out.value(f"bitcast i{count} {text} to <{count} x i1>"), count, "i1")

    @staticmethod
    def any(mask: Lanes) -> Bool:
        out = current()
        packed = out.value(f"bitcast {mask.type} {mask.ref} to i{mask.count}")
        return Bool(out.value(f"icmp ne i{mask.count} {packed}, 0"))

    @staticmethod
    def branch(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        if isinstance(condition, (bool, int)):
            return yes() if condition else no()
        out = current()
        labels = out.new_label(), out.new_label(), out.new_label()
        out.line(f"br i1 {condition.ref}, label %{labels[0]}, label %{labels[1]}")
        arms, ends = [], []
        for label, build in zip(labels, (yes, no), strict=False):
            out.start(label)
            result = build()
            values = result if isinstance(result, tuple) else (result,)
            arms.append([(value, value.ref if isinstance(value, Lanes) else i64(value)) for value in values])
            ends.append(out.label)
            out.line(f"br label %{labels[2]}")
        out.start(labels[2])
        merged: list[Any] = []
        for (value, first), (_, second) in zip(*arms, strict=True):
            incoming = f"[ {first}, %{ends[0]} ], [ {second}, %{ends[1]} ]"
            if isinstance(value, Lanes):
                merged.append(value.like(f"phi {value.type} {incoming}"))
            else:
                merged.append(Scalar(out.value(f"phi i64 {incoming}")))
        return tuple(merged) if len(merged) > 1 else merged[0]

    # scalars

    @staticmethod
    def u32(value: Any) -> Any:
        return scalar(value) & 0xFFFFFFFF

    @staticmethod
    def unsigned(value: Any, width: int) -> Any:
        return scalar(value) & ((1 << width) - 1) if width < 64 or isinstance(value, int) else scalar(value)

    @staticmethod
    def signed(value: Any, width: int = 32) -> Any:
        value = scalar(value)
        if isinstance(value, int):
            value &= (1 << width) - 1
            return value - ((value >> (width - 1)) << width)
        return (value << (64 - width)) >> (64 - width) if width < 64 else value

    @staticmethod
    def flag(condition: Any) -> Any:
        return scalar(condition) if isinstance(condition, (Bool, bool)) else int(bool(condition))

    @staticmethod
    def pick(condition: Any, yes: Any, no: Any) -> Any:
        if isinstance(condition, (bool, int)):
            return yes if condition else no
        yes, no = scalar(yes), scalar(no)
        origins = condition.origins.union(*(each.origins for each in (yes, no) if isinstance(each, Scalar)))
        return Scalar(current().value(f"select i1 {i1(condition)}, i64 {i64(yes)}, i64 {i64(no)}"), origins)

    @staticmethod
    def leading_zeros(value: Any) -> Any:
        if isinstance(value, int):
            return 32 - value.bit_length()
        return (
            Scalar(current().intrinsic("llvm.ctlz.i64", "i64", ("i64", value.ref), ("i1", "false")), value.origins) - 32
        )

    @staticmethod
    def known(value: Any, what: str) -> Any:
        if value is None or (isinstance(value, int) and value == UNKNOWN):
            raise EmulationError(f"{what} is not known")
        if isinstance(value, Scalar):
            check = current().check
            if check is None:
                raise NeedsConstant(value.origins)
            check(value != UNKNOWN)
        return value

    @staticmethod
    def constant(value: Any, example: int = 0) -> int:
        if not isinstance(value, int):
            raise NeedsConstant(value.origins, example)
        return value

    @staticmethod
    def choose(value: Any, cases: Collection[int], build: Callable[[int], Any], what: str) -> Any:
        value = IRLanes.constant(value, next(iter(cases)))
        if value not in cases:
            raise EmulationError(f"{what} {value:#x} has no known meaning")
        return build(value)

    # sums of products

    sum_products = staticmethod(products.sum_products)
    sum_by_lane = staticmethod(products.sum_by_lane)
    usual_sum = staticmethod(products.usual_sum)
    float_terms = staticmethod(products.float_terms)
    fp32_terms = staticmethod(products.fp32_terms)

    @staticmethod
    def fold_max(rows: products.Places) -> products.Top:
        return rows.largest()

    @staticmethod
    def fold_add(rows: products.Terms) -> Lanes:
        return rows.total()

    @staticmethod
    def to_fp32(values: Lanes) -> Lanes:
        out = current()
        rounded = out.value(f"fptrunc {values.type} {values.ref} to <{values.count} x float>")
        return Lanes(
            out.value(f"bitcast <{values.count} x float> {rounded} to <{values.count} x i32>"), values.count, "i32"
        )


LANES = IRLanes()
