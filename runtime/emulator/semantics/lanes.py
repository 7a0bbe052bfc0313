"""The small set of lane operations that the semantics are written in, on numpy values.

Every semantic function takes this interface as its first argument `v`, so that the same function can be run on
other values (LLVM IR) by handing it an object with the same methods. Values are

* scalars: Python ints, the register's bits as an unsigned number (pairs of r registers: 64 bits), immediates signed;
* bit vectors: numpy uint8, lowest byte first, as registers and memory hold them;
* lanes: a bit vector seen as numbers of one width (`lanes`), on which + - * & | ^ ~ << >> and comparisons work lane
  by lane and wrap; `bits` turns lanes back into a bit vector.

Decisions on scalar modes (rounding mode, configuration word) go through `choose`, never through a bare `if`, so that
a translator may turn them into a switch or specialise on a known word.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from npuc.runtime.emulator.errors import EmulationError

DTYPES = {
    (bits, signed): np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    for bits in (8, 16, 32, 64)
    for signed in (False, True)
}


@lru_cache(maxsize=4096)
def _indices(indices: tuple[int, ...]) -> np.ndarray:
    return np.array(indices, dtype=np.intp)


def _extended(patterns: np.ndarray) -> np.ndarray:
    """fp32 patterns (uint32) as float64 in which exponent 255 is 2^128 times the significand."""
    wide = patterns.astype(np.uint64)
    bits = ((wide & 0x7FFFFFFF) << np.uint64(29)) | ((wide & 0x80000000) << np.uint64(32))
    return bits.view(np.float64) * 2.0**896


def _bf16_tables() -> tuple[np.ndarray, np.ndarray]:
    """For each bf16 bit pattern its value and its place 2^e as float64; exponent 255 is a number like any other.

    The place of a denormal is 2^-126 and zero has none (0), facts/silicon/bf16_mac_model.md.
    """
    patterns = np.arange(65536, dtype=np.uint32) << 16
    values = _extended(patterns)
    fields = np.maximum((patterns >> 23) & 0xFF, 1).astype(np.float64)
    return values, np.where(values == 0, 0.0, np.exp2(fields - 127))


BF16_TERMS = np.stack(_bf16_tables())
_SMALLEST_PLACE = np.float32(2.0**-126)
_EXPONENT = np.uint32(0x7F800000)
_ONES = [np.ones(count) for count in range(16)]


class NumpyLanes:
    """The operations on numpy values: the reference interpretation."""

    # views and widths

    @staticmethod
    def lanes(value: np.ndarray, width: int, signed: bool = False) -> np.ndarray:
        """The bit vector as lanes of `width` bits (8, 16, 32, 64)."""
        return value.view(DTYPES[width, signed])

    @staticmethod
    def nibbles(value: np.ndarray, signed: bool = False) -> np.ndarray:
        """The bit vector as 4-bit lanes, low nibble first, each widened to 8 bits."""
        result = np.empty(2 * value.size, dtype=np.uint8)
        result[0::2] = value & 15
        result[1::2] = value >> 4
        return ((result ^ 8) - np.uint8(8)).view(np.int8) if signed else result

    @staticmethod
    def join_nibbles(lanes: np.ndarray) -> np.ndarray:
        """8-bit lanes to a bit vector of their low nibbles."""
        low = lanes.view(np.uint8) & 15
        return low[0::2] | (low[1::2] << 4)

    @staticmethod
    def bits(lanes: np.ndarray) -> np.ndarray:
        """Lanes back to a bit vector."""
        return lanes.view(np.uint8)

    @staticmethod
    def resize(lanes: np.ndarray, width: int, signed: bool = False) -> np.ndarray:
        """Sign- or zero-extends (by the lanes' own kind) or truncates each lane to `width` bits."""
        return lanes.astype(DTYPES[width, signed])

    @staticmethod
    def zeros(width: int) -> np.ndarray:
        """A bit vector of `width` bits, all 0."""
        return np.zeros(width // 8, dtype=np.uint8)

    @staticmethod
    def unknown(width: int) -> np.ndarray:
        """A bit vector whose bits no fact tells: 0, undefined in strict mode."""
        return NumpyLanes.zeros(width)

    @staticmethod
    def concat(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The bit vector of low, then high."""
        return np.concatenate((low, high))

    @staticmethod
    def part(value: np.ndarray, first: int, count: int) -> np.ndarray:
        """count elements from the first."""
        return value[first : first + count]

    # lane-wise

    @staticmethod
    def select(mask: np.ndarray, yes: Any, no: Any) -> np.ndarray:
        """Per lane: yes where the mask holds, else no."""
        return np.where(mask, yes, no)

    minimum = staticmethod(np.minimum)
    maximum = staticmethod(np.maximum)

    @staticmethod
    def permute(lanes: np.ndarray, indices: tuple[int, ...]) -> np.ndarray:
        """Output lane i is input lane indices[i]; the indices are constants."""
        return lanes.take(_indices(indices))

    @staticmethod
    def splat(value: int, width: int, total: int = 512) -> np.ndarray:
        """The low `width` bits of a scalar in every lane of a vector of `total` bits."""
        return np.full(total // width, value & ((1 << width) - 1), dtype=DTYPES[width, False])

    @staticmethod
    def extract(lanes: np.ndarray, index: int) -> int:
        """Lane index modulo the number of lanes, as the number it is."""
        return int(lanes[index % lanes.size])

    @staticmethod
    def insert(lanes: np.ndarray, index: int, value: int) -> np.ndarray:
        """The lanes with lane index modulo their number replaced by the low bits of value."""
        result = lanes.copy()
        result[index % lanes.size] = value & ((1 << 8 * lanes.itemsize) - 1)
        return result

    @staticmethod
    def byte_window(value: np.ndarray, start: int, count: int) -> np.ndarray:
        """count bytes from byte start; bytes past the end are 0."""
        result = np.zeros(count, dtype=np.uint8)
        piece = value[start : start + count]
        result[: piece.size] = piece
        return result

    # masks

    @staticmethod
    def mask_to_scalar(mask: np.ndarray) -> int:
        """One bit per lane, lane 0 = bit 0."""
        return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")

    @staticmethod
    def scalar_to_mask(value: int, count: int) -> np.ndarray:
        """Lane i = bit i of value."""
        raw = np.frombuffer((value & ((1 << count) - 1)).to_bytes(count // 8, "little"), dtype=np.uint8)
        return np.unpackbits(raw, bitorder="little").view(np.bool_)

    @staticmethod
    def any(mask: np.ndarray) -> Any:
        """Whether the mask holds in any lane."""
        return mask.any()

    @staticmethod
    def branch(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """yes() where the scalar condition holds, else no(): lanes of one type, or tuples of lanes and scalars of the
        same types; only one side is computed."""
        return yes() if condition else no()

    # scalars

    @staticmethod
    def u32(value: int) -> int:
        """The number modulo 2^32."""
        return value & 0xFFFFFFFF

    @staticmethod
    def unsigned(value: int, width: int) -> int:
        """The number modulo 2^width."""
        return value & ((1 << width) - 1)

    @staticmethod
    def signed(value: int, width: int = 32) -> int:
        """The low `width` bits as a two's complement number."""
        value &= (1 << width) - 1
        return value - ((value >> (width - 1)) << width)

    @staticmethod
    def flag(condition: bool) -> int:
        """1 or 0."""
        return 1 if condition else 0

    @staticmethod
    def pick(condition: Any, yes: Any, no: Any) -> Any:
        """The scalar select: both sides are computed."""
        return yes if condition else no

    @staticmethod
    def leading_zeros(value: int) -> int:
        """Of a 32-bit number; 32 for 0."""
        return 32 - value.bit_length()

    @staticmethod
    def known(value: int | None, what: str) -> int:
        """The value of a register that an instruction may have left in a state that is not known (None)."""
        if value is None:
            raise EmulationError(f"{what} is not known: facts/semantics does not describe it")
        return value

    @staticmethod
    def constant(value: int) -> int:
        """A scalar as a Python int, to decide on: a translator specialises on it."""
        return value

    @staticmethod
    def choose(value: int, cases: Collection[int], build: Callable[[int], Any], what: str) -> Any:
        """build(value) for one of the known cases. Raises EmulationError naming `what` for any other value."""
        if value not in cases:
            raise EmulationError(f"{what} {value:#x}: facts/semantics does not say what it does")
        return build(value)

    # sums of products

    @staticmethod
    def sum_products(a: np.ndarray, b: np.ndarray, rows: int, inner: int, columns: int) -> np.ndarray:
        """The matrix product, wrapping, as one row of rows * columns lanes."""
        return np.matmul(a.reshape(rows, inner), b.reshape(inner, columns)).reshape(-1)

    @staticmethod
    def sum_by_lane(a: np.ndarray, b: np.ndarray, inner: int) -> np.ndarray:
        """Lane-wise products summed over `inner` groups of lanes, wrapping."""
        product = a * b
        return product if inner == 1 else product.reshape(inner, -1).sum(axis=0, dtype=product.dtype)

    @staticmethod
    def usual_sum(
        a: np.ndarray,
        b: np.ndarray,
        shape: tuple[int, int, int],
        negate: bool,
        accumulators: Sequence[tuple[np.ndarray, bool]],
    ) -> tuple[Any, Callable[[], np.ndarray]] | None:
        """A short cut for operands of usual size: whether these are not, and what gives the sum's patterns where they
        are; None where there is no short cut. Arguments as those of `float_terms`."""
        return None

    @staticmethod
    def float_terms(
        a: np.ndarray,
        b: np.ndarray,
        shape: tuple[int, int, int],
        negate: bool,
        accumulators: Sequence[tuple[np.ndarray, bool]],
    ) -> tuple[np.ndarray, np.ndarray]:
        """All products of bf16 lanes (uint16), then the fp32 accumulators (uint32 lanes, negated or not), as rows.

        shape: rows, inner, columns of the matrix product; columns 0: lane by lane with `rows` outputs. Two float64
        arrays of shape (inner + accumulators, outputs): the values, negated where asked, and their places
        (2^exponent; of a product the sum of exponents; 0 for zero). Exponent 255 is a number like any other.
        """
        rows, inner, columns = shape
        x, y = BF16_TERMS.take(a, axis=1), BF16_TERMS.take(b, axis=1)
        if columns:
            terms = np.empty((2, inner + len(accumulators), rows * columns))
            np.multiply(
                x.reshape(2, rows, inner).transpose(0, 2, 1)[:, :, :, None],
                y.reshape(2, inner, 1, columns),
                out=terms.reshape(2, -1, rows, columns)[:, :inner],
            )
        else:
            terms = np.empty((2, inner + len(accumulators), rows))
            np.multiply(x.reshape(2, inner, rows), y.reshape(2, inner, rows), out=terms[:, :inner])
        if negate:
            np.negative(terms[0, :inner], out=terms[0, :inner])
        NumpyLanes._add_accumulators(terms, inner, accumulators)
        return terms[0], terms[1]

    @staticmethod
    def fp32_terms(accumulators: Sequence[tuple[np.ndarray, bool]]) -> tuple[np.ndarray, np.ndarray]:
        """The rows of `float_terms` for accumulators alone."""
        terms = np.empty((2, len(accumulators), accumulators[0][0].size))
        NumpyLanes._add_accumulators(terms, 0, accumulators)
        return terms[0], terms[1]

    @staticmethod
    def _add_accumulators(terms: np.ndarray, row: int, accumulators: Sequence[tuple[np.ndarray, bool]]) -> None:
        for lanes, negated in accumulators:
            exponents = lanes & _EXPONENT
            value = lanes.view(np.float32)
            if (exponents == _EXPONENT).any():
                value = _extended(lanes)
            terms[0, row] = -value if negated else value
            np.maximum(_extended(exponents), (value != 0) * _SMALLEST_PLACE, out=terms[1, row])
            row += 1

    @staticmethod
    def fold_max(rows: np.ndarray) -> np.ndarray:
        """The largest of each column."""
        return np.maximum.reduce(rows)

    @staticmethod
    def fold_add(rows: np.ndarray) -> np.ndarray:
        """The sum of each column, in any order: the caller's terms share a grid of at most 32 bits, so it is exact."""
        return _ONES[len(rows)].dot(rows)

    @staticmethod
    def to_fp32(values: np.ndarray) -> np.ndarray:
        """float64 rounded half to even to fp32 bit patterns (uint32)."""
        return values.astype(np.float32).view(np.uint32)


NUMPY = NumpyLanes()
