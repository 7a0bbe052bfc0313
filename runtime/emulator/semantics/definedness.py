"""Values some of whose bits were never defined, and the lane operations on them, for strict mode.

A `Partial` is a value and which of its bits are undefined. It goes through the same semantic functions as any value:
`DefinedLanes` has the operations of `NumpyLanes` and says for each which bits of the result depend on undefined ones,
by means of the operations of the lanes it stands on (numpy, or those that write LLVM IR). What is said is never too
little; where it is more than the truth (all bits of a sum from the lowest undefined one on, whole lanes of maxima,
comparisons and floating-point sums), it is what hardware can do with any bits there.

Deciding on such a value (a rounding mode, a configuration word) is not possible: `Undecided`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache, wraps
from typing import Any, NamedTuple

import numpy as np


class Origin(NamedTuple):
    """Why a value is undefined: what the bundle at that address of that core did."""

    core: str
    address: int
    text: str

    def __str__(self) -> str:
        return f"{self.core}, bundle {self.address:#x}, {self.text}"


class PartialBytes(NamedTuple):
    """Bytes with undefined bits, on their way from one core to another."""

    value: bytes
    undefined: bytes
    origin: Origin | None


class Undecided(Exception):
    """A decision on a value with undefined bits."""

    def __init__(self, value: Partial, what: str) -> None:
        super().__init__(what)
        self.value, self.what = value, what


def _is_mask(value: Any) -> bool:
    """Whether lanes are those of a mask."""
    return getattr(value, "dtype", None) == np.bool_ or getattr(value, "kind", None) == "i1"


def _alike(a: Any, b: Any) -> tuple[Any, Any]:
    """A mask beside lanes as such lanes, 0 and 1."""
    if _is_mask(a) and not _is_mask(b) and not isinstance(b, (int, float)):
        return (b ^ b) | a, b
    if _is_mask(b) and not _is_mask(a) and not isinstance(a, (int, float)):
        return a, (a ^ a) | b
    return a, b


def split(value: Any) -> tuple[Any, Any]:
    """The value and its undefined bits, None where there are none."""
    return (value.value, value.undefined) if isinstance(value, Partial) else (value, None)


def either(a: Any, b: Any) -> Any:
    """The bits undefined in one of two; None: in none."""
    return b if a is None else a if b is None else a | b


class Partial:
    """A value with undefined bits.

    undefined: of the type of the value, 1 where a bit is undefined. whole: the value is floating-point lanes or rows of
    them, and `undefined` a mask of their columns. origin: why, for messages.
    """

    __slots__ = ("origin", "undefined", "value", "whole")
    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None  # numpy leaves operations on it to the methods here

    def __init__(self, value: Any, undefined: Any, origin: Origin | None = None, whole: bool = False) -> None:
        self.value, self.undefined, self.origin, self.whole = value, undefined, origin, whole

    def __bool__(self) -> bool:
        raise Undecided(self, "a condition")

    def _made(self, value: Any, undefined: Any, whole: bool = False) -> Partial:
        return Partial(value, undefined, self.origin, whole)

    def _sum(self, result: Any, other: Any) -> Partial:
        """The result of an operation whose bits depend on those of the operands from themselves down."""
        undefined = either(self.undefined, split(other)[1])
        if self.whole or (isinstance(other, Partial) and other.whole):
            return self._made(result, undefined, True)
        if _is_mask(undefined) and not _is_mask(result):
            undefined = (result ^ result) | undefined
        return self._made(result, undefined | -undefined)

    def __add__(self, other: Any) -> Partial:
        return self._sum(self.value + split(other)[0], other)

    def __radd__(self, other: Any) -> Partial:
        return self._sum(other + self.value, other)

    def __sub__(self, other: Any) -> Partial:
        return self._sum(self.value - split(other)[0], other)

    def __rsub__(self, other: Any) -> Partial:
        return self._sum(other - self.value, other)

    def __mul__(self, other: Any) -> Partial:
        return self._sum(self.value * split(other)[0], other)

    def __rmul__(self, other: Any) -> Partial:
        return self._sum(other * self.value, other)

    def __neg__(self) -> Partial:
        return self._sum(-self.value, 0)

    def __abs__(self) -> Partial:
        return self._made(abs(self.value), self.undefined, True)

    def _aligned(self, other: Any) -> tuple[Any, Any, Any, Any]:
        """Values and undefined bits of both operands of a bitwise operation."""
        b, undefined = split(other)
        a, b = _alike(self.value, b)
        own, _ = _alike(self.undefined, b)
        return a, own, b, None if undefined is None else _alike(undefined, a)[0]

    def __and__(self, other: Any) -> Partial:
        a, own, b, undefined = self._aligned(other)
        bits = own & b if undefined is None else (own & b) | (undefined & a) | (own & undefined)
        return self._made(a & b, bits)

    __rand__ = __and__

    def __or__(self, other: Any) -> Partial:
        a, own, b, undefined = self._aligned(other)
        bits = own & ~b if undefined is None else (own & ~b) | (undefined & ~a) | (own & undefined)
        return self._made(a | b, bits)

    __ror__ = __or__

    def __xor__(self, other: Any) -> Partial:
        a, own, b, undefined = self._aligned(other)
        return self._made(a ^ b, either(own, undefined))

    __rxor__ = __xor__

    def __invert__(self) -> Partial:
        return self._made(~self.value, self.undefined)

    def _shifted(self, result: Any, bits: Any, count: Any) -> Partial:
        """bits: undefined ones, shifted like the value; by an undefined count all are."""
        if isinstance(count, Partial):
            bits = _spread(count.undefined, result) if bits is None else bits | _spread(count.undefined, result)
        return self._made(result, bits)

    def __lshift__(self, count: Any) -> Partial:
        by = split(count)[0]
        return self._shifted(self.value << by, self.undefined << by, count)

    def __rshift__(self, count: Any) -> Partial:
        by = split(count)[0]
        return self._shifted(self.value >> by, self.undefined >> by, count)

    def __rlshift__(self, value: Any) -> Partial:
        return self._shifted(value << self.value, None, self)

    def __rrshift__(self, value: Any) -> Partial:
        return self._shifted(value >> self.value, None, self)

    def _compared(self, result: Any, other: Any) -> Partial:
        undefined = either(self.undefined, split(other)[1])
        return self._made(result, undefined if self.whole or _is_mask(undefined) else undefined != 0)

    def __lt__(self, other: Any) -> Partial:
        return self._compared(self.value < split(other)[0], other)

    def __le__(self, other: Any) -> Partial:
        return self._compared(self.value <= split(other)[0], other)

    def __gt__(self, other: Any) -> Partial:
        return self._compared(self.value > split(other)[0], other)

    def __ge__(self, other: Any) -> Partial:
        return self._compared(self.value >= split(other)[0], other)

    def _equal(self, result: Any, other: Any) -> Partial:
        """Numbers whose defined bits differ are different whatever the others are."""
        if self.whole:
            return self._compared(result, other)
        a, own, b, undefined = self._aligned(other)
        bits = either(own, undefined)
        differ = (a ^ b) & ~(int(bits) if isinstance(bits, bool) else bits)
        if _is_mask(bits):
            return self._made(result, bits & ~differ)
        return self._made(result, (bits != 0) & (differ == 0))

    def __eq__(self, other: Any) -> Partial:  # type: ignore[override]
        return self._equal(self.value == split(other)[0], other)

    def __ne__(self, other: Any) -> Partial:  # type: ignore[override]
        return self._equal(self.value != split(other)[0], other)


def _spread(count: Any, like: Any) -> Any:
    """All bits of a value like `like` where (lanes) or if (a scalar) the number is not 0."""
    if isinstance(count, int):
        return like | ~like if count else like ^ like
    if hasattr(count, "shape") or hasattr(count, "count"):
        return _filled(_lane_mask(count), like)
    return (like ^ like) | -(count if hasattr(count, "number") else count != 0).number()


def _filled(mask: Any, like: Any) -> Any:
    """Lanes like `like`, all ones where the mask holds."""
    return (like ^ like) - mask


def _lane_mask(undefined: Any) -> Any:
    """Which lanes have an undefined bit."""
    return undefined if _is_mask(undefined) else undefined != 0


def _decided(value: Any, what: str) -> Any:
    """A scalar to decide on. Raises Undecided where bits of it are, or may be, undefined."""
    if isinstance(value, Partial):
        if not isinstance(value.undefined, int) or value.undefined:
            raise Undecided(value, what)
        return value.value
    return value


def _operation(method: Callable[..., Any]) -> Callable[..., Any]:
    """Arguments without undefined bits go to the operation of the base."""
    name = method.__name__

    @wraps(method)
    def chosen(self: DefinedLanes, *arguments: Any, **options: Any) -> Any:
        for each in arguments:
            if isinstance(each, Partial):
                result = method(self, *arguments, **options)
                if isinstance(result, Partial) and result.origin is None:
                    result.origin = each.origin
                return result
        return getattr(self.base, name)(*arguments, **options)

    return chosen


def _both(name: str) -> Callable[..., Any]:
    """An operation on the first argument that moves its undefined bits as it moves the others."""

    def method(self: DefinedLanes, value: Any, *arguments: Any, **options: Any) -> Any:
        operation = getattr(self.base, name)
        if not isinstance(value, Partial):
            return operation(value, *arguments, **options)
        return Partial(
            operation(value.value, *arguments, **options),
            operation(value.undefined, *arguments, **options),
            value.origin,
        )

    return method


@lru_cache(maxsize=256)
def _factors(rows: int, inner: int, columns: int, step: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The elements of A and B that meet in each output lane at an inner index; columns 0: lane by lane."""
    if not columns:
        lanes = tuple(range(step * rows, (step + 1) * rows))
        return lanes, lanes
    places = [(row, column) for row in range(rows) for column in range(columns)]
    return tuple(row * inner + step for row, _ in places), tuple(step * columns + column for _, column in places)


class DefinedLanes:
    """The operations of `NumpyLanes` for values with undefined bits; base: for those without."""

    def __init__(self, base: Any) -> None:
        self.base = base

    lanes = _both("lanes")
    nibbles = _both("nibbles")
    join_nibbles = _both("join_nibbles")
    bits = _both("bits")
    resize = _both("resize")
    part = _both("part")
    permute = _both("permute")
    splat = _both("splat")
    mask_to_scalar = _both("mask_to_scalar")
    scalar_to_mask = _both("scalar_to_mask")
    u32 = _both("u32")
    unsigned = _both("unsigned")
    signed = _both("signed")
    flag = _both("flag")

    def zeros(self, width: int) -> Any:
        return self.base.zeros(width)

    def unknown(self, width: int) -> Any:
        """A bit vector that the facts do not tell: undefined."""
        value = self.base.zeros(width)
        return Partial(value, value | ~value)

    @_operation
    def concat(self, low: Any, high: Any) -> Any:
        (a, undefined), (b, more) = split(low), split(high)
        bits = self.base.concat(a ^ a if undefined is None else undefined, b ^ b if more is None else more)
        return Partial(self.base.concat(a, b), bits)

    # lane-wise

    @_operation
    def select(self, mask: Any, yes: Any, no: Any) -> Any:
        base = self.base
        (m, open_mask), (a, undefined), (b, more) = split(mask), split(yes), split(no)
        result = base.select(m, a, b)
        if any(isinstance(each, Partial) and each.whole for each in (yes, no)):
            none = m & ~m
            bits = base.select(m, none if undefined is None else undefined, none if more is None else more)
            return Partial(result, either(bits, open_mask), whole=True)
        bits = None
        if undefined is not None or more is not None:
            bits = base.select(m, 0 if undefined is None else undefined, 0 if more is None else more)
        if open_mask is not None:
            differ = b ^ a if isinstance(a, int) else a ^ b
            other = either(undefined, more)
            bits = base.select(open_mask, either(differ, other), 0 if bits is None else bits)
        return Partial(result, bits)

    def _extreme(self, name: str, a: Any, b: Any) -> Any:
        result = getattr(self.base, name)(split(a)[0], split(b)[0])
        undefined = either(split(a)[1], split(b)[1])
        return Partial(result, _filled(_lane_mask(undefined), result))

    @_operation
    def minimum(self, a: Any, b: Any) -> Any:
        return self._extreme("minimum", a, b)

    @_operation
    def maximum(self, a: Any, b: Any) -> Any:
        return self._extreme("maximum", a, b)

    @_operation
    def extract(self, lanes: Any, index: Any) -> Any:
        (value, undefined), (place, open_index) = split(lanes), split(index)
        result = self.base.extract(value, place)
        bits = None if undefined is None else self.base.extract(undefined, place)
        return Partial(result, bits if open_index is None else either(bits, _spread(open_index, 0)))

    @_operation
    def insert(self, lanes: Any, index: Any, entering: Any) -> Any:
        (value, undefined), (place, open_index), (number, more) = split(lanes), split(index), split(entering)
        result = self.base.insert(value, place, number)
        bits = self.base.insert(value ^ value if undefined is None else undefined, place, 0 if more is None else more)
        return Partial(result, bits if open_index is None else bits | _spread(open_index, result))

    @_operation
    def byte_window(self, value: Any, start: Any, count: int) -> Any:
        (a, undefined), (first, open_start) = split(value), split(start)
        result = self.base.byte_window(a, first, count)
        bits = self.base.byte_window(a ^ a if undefined is None else undefined, first, count)
        return Partial(result, bits if open_start is None else bits | _spread(open_start, result))

    def any(self, mask: Any) -> Any:
        """Whether the mask holds in any lane where it is defined."""
        value, undefined = split(mask)
        return self.base.any(value if undefined is None else value & ~undefined)

    def branch(self, condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        value, undefined = split(condition)
        partial = [undefined is not None]

        def flat(build: Callable[[], Any]) -> tuple[Any, ...]:
            built = build()
            parts: list[Any] = []
            for each in built if isinstance(built, tuple) else (built,):
                a, bits = split(each)
                parts += [a, (0 if isinstance(a, int) else a ^ a) if bits is None else bits]
                partial[0] = partial[0] or bits is not None
            return tuple(parts)

        merged = self.base.branch(value, lambda: flat(yes), lambda: flat(no))
        results = list(merged[::2])
        if partial[0]:
            bits = [
                each if undefined is None else each | _spread(undefined, a)
                for a, each in zip(results, merged[1::2], strict=True)
            ]
            results = [Partial(a, each) for a, each in zip(results, bits, strict=True)]
        return results[0] if len(results) == 1 else tuple(results)

    # scalars

    @_operation
    def pick(self, condition: Any, yes: Any, no: Any) -> Any:
        base = self.base
        (choice, open_choice), (a, undefined), (b, more) = split(condition), split(yes), split(no)
        bits = base.pick(choice, 0 if undefined is None else undefined, 0 if more is None else more)
        if open_choice is not None:
            bits = base.pick(open_choice, either(a ^ b, either(undefined, more)), bits)
        return Partial(base.pick(choice, a, b), bits)

    @_operation
    def leading_zeros(self, value: Any) -> Any:
        return Partial(self.base.leading_zeros(value.value), self.base.pick(value.undefined != 0, -1, 0), value.origin)

    @_operation
    def known(self, value: Any, what: str) -> Any:
        return value

    def constant(self, value: Any) -> int:
        return self.base.constant(_decided(value, "a configuration word"))

    def choose(self, value: Any, cases: Collection[int], build: Callable[[int], Any], what: str) -> Any:
        return self.base.choose(_decided(value, what), cases, build, what)

    # sums of products

    def _product_mask(self, a: Any, b: Any, shape: tuple[int, int, int], exact: bool) -> Any:
        """The outputs of a sum of products that depend on undefined lanes; exact: a factor 0 makes a product 0."""
        rows, inner, columns = shape
        (x, undefined), (y, more) = split(a), split(b)
        open_x = x != x if undefined is None else undefined != 0
        open_y = y != y if more is None else more != 0
        mask = None
        for step in range(inner):
            left, right = _factors(rows, inner, columns, step)
            one, two = self.base.permute(open_x, left), self.base.permute(open_y, right)
            if exact:
                one = one & self.base.permute((y != 0) | open_y, right)
                two = two & self.base.permute((x != 0) | open_x, left)
            mask = either(mask, one | two)
        return mask

    @_operation
    def sum_products(self, a: Any, b: Any, rows: int, inner: int, columns: int) -> Any:
        result = self.base.sum_products(split(a)[0], split(b)[0], rows, inner, columns)
        return Partial(result, _filled(self._product_mask(a, b, (rows, inner, columns), True), result))

    @_operation
    def sum_by_lane(self, a: Any, b: Any, inner: int) -> Any:
        result = self.base.sum_by_lane(split(a)[0], split(b)[0], inner)
        count = getattr(result, "size", None) or result.count
        return Partial(result, _filled(self._product_mask(a, b, (count, inner, 0), True), result))

    def usual_sum(
        self, a: Any, b: Any, shape: tuple[int, int, int], negate: bool, accumulators: Sequence[tuple[Any, bool]]
    ) -> tuple[Any, Callable[[], Any]] | None:
        if any(isinstance(each, Partial) for each in (a, b, *(lanes for lanes, _ in accumulators))):
            return None
        found: tuple[Any, Callable[[], Any]] | None = self.base.usual_sum(a, b, shape, negate, accumulators)
        return found

    def float_terms(
        self, a: Any, b: Any, shape: tuple[int, int, int], negate: bool, accumulators: Sequence[tuple[Any, bool]]
    ) -> tuple[Any, Any]:
        plain = [(split(lanes)[0], negated) for lanes, negated in accumulators]
        values, places = self.base.float_terms(split(a)[0], split(b)[0], shape, negate, plain)
        mask = self._accumulator_mask(accumulators)
        if isinstance(a, Partial) or isinstance(b, Partial):
            mask = either(mask, self._product_mask(a, b, shape, False))
        if mask is None:
            return values, places
        return Partial(values, mask, whole=True), Partial(places, mask, whole=True)

    def fp32_terms(self, accumulators: Sequence[tuple[Any, bool]]) -> tuple[Any, Any]:
        values, places = self.base.fp32_terms([(split(lanes)[0], negated) for lanes, negated in accumulators])
        mask = self._accumulator_mask(accumulators)
        if mask is None:
            return values, places
        return Partial(values, mask, whole=True), Partial(places, mask, whole=True)

    @staticmethod
    def _accumulator_mask(accumulators: Sequence[tuple[Any, bool]]) -> Any:
        mask = None
        for lanes, _ in accumulators:
            if isinstance(lanes, Partial):
                mask = either(mask, lanes.undefined != 0)
        return mask

    @_operation
    def fold_max(self, rows: Any) -> Any:
        return Partial(self.base.fold_max(rows.value), rows.undefined, whole=True)

    @_operation
    def fold_add(self, rows: Any) -> Any:
        return Partial(self.base.fold_add(rows.value), rows.undefined, whole=True)

    @_operation
    def to_fp32(self, values: Any) -> Any:
        result = self.base.to_fp32(values.value)
        return Partial(result, _filled(values.undefined, result))
