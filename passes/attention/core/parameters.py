"""What a call tells the cores: the words that the runtime sequence writes into `params` before it raises `start`.

Behind them lie the core's own variables.  Lengths and limits are signed words; the factors of the scores come as sums
of bf16 numbers, two to a word (low half first), so that fp32 products can be formed from bf16 ones.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from enum import IntEnum

from npuc.compiler.diagnostics import UnsupportedError
from npuc.passes.attention.integer_factors import head_words
from npuc.passes.attention.work import Work


class Word(IntEnum):
    """Numbers of the 32-bit words in the buffer `params`."""

    # Written by the runtime sequence.
    ITEMS = 0  # work items of this column group
    STEPS = 1  # halves: number of the first one in its round, and from each to the next (the column groups there are)
    SPAN = 2  # queries of an item, after which its rows begin again with the first
    PER_ROUND = 3  # items of a round: heads of all batches, or sets of them
    ROUNDS = 4
    QUERIES = 5  # S
    KEYS = 6  # Skv
    OFFSET = 7  # query i sees no key beyond i + offset
    WINDOW = 8  # nor any at or before i + offset - window
    LANE = 9  # halves: where this core's rows begin in an item, and with which of its queries
    # With a softcap words 10 to 15 are those of `softcap_words` or `capped_words`.
    FACTOR = 10  # |scale| * log2 e, first and second part
    FACTOR_REST = 11  # third part; -(rest / first part), for scores in two parts
    INVERSE = 12  # -1 / (|scale| * log2 e), first and second part
    INVERSE_REST = 13  # third part; scores beyond which the reference moves
    REFINE = 14  # scores beyond which the maximum is refined; what a mask's numbers count, first part
    FLAGS = 15  # of Q's bits; what a mask's numbers count, second part
    # The core's own.
    POSITION = 16  # number of the item in its round
    ROUND = 17
    FIRST_QUERY = 18  # of the item
    FIRST_KEY = 19  # of the item's first block in order
    BLOCKS = 20
    HIDDEN_ABOVE = 21  # a block that begins beyond this key is hidden from this core's rows
    HIDDEN_BELOW = 22  # so is one that begins before this one
    WHOLE_ABOVE = 23  # a block that begins beyond this key is hidden in part
    WHOLE_BELOW = 24  # so is one that begins before this one
    LEFT = 25  # items of the call that have not begun
    TAKEN = 26  # whether the next item's Q was taken before the last one's output was done
    END_KEY = 27  # behind the item's last block as they lie
    BACK = 28  # from there to the first one


# How many words all cores of a column have in common, but for LANE and how many cores are in the north.
ALIKE = int(Word.POSITION)
# Where LANE of the cores in the north comes, which learn of the call from this one, the next one's first: in the place
# of the core's own words, which begin when that was passed on.
LANES_NORTH = tuple(Word(ALIKE + north) for north in range(3))
WORDS = ALIKE + len(LANES_NORTH)  # of a call
PARAMETER_BYTES = 128

# FLAGS: Q changes its sign; Q counts as zero; an item's Q comes whether or not the output of the one before is out.
# From bit SHORT_ITEM on a byte: an item of fewer blocks makes its output before the next one's Q is taken.
NEGATIVE, ZERO, AHEAD = 1, 2, 4
# In bits of NORTHERN, NORTH times: the cores that this one, and those that it tells of the call, tell of it.
NORTH, NORTHERN = 16, 48
SHORT_ITEM, MOST_SHORT = 8, 255
HEAD_TABLE = 8  # of int8: each head has factors of its own, in the buffer `heads`

# With a bounded softcap FLAGS have the last coefficient in the upper half, whose uppermost bits, from CAPPED_SHIFT on,
# say by how many places more than the least the slope of capped scores moves down, MOST at most.
CAPPED_SHIFT, LEAST_CAPPED_SHIFT, MOST_CAPPED_SHIFT = 28, 14, 15
LAST_COEFFICIENT = (1 << CAPPED_SHIFT - 16) - 1  # its bits

REBASE_THRESHOLD = 24.0
"""The reference moves when a score exceeds it by more than this, in base 2: far below what fp32 and bf16 exponents can
hold, far above what ordinary scores reach, so that rescaling O stays rare."""
REFINE_BEYOND = 2048.0
"""Base 2: above, bf16's eight bits leave the maximum too coarse."""
# Bounds of |scale| * log2(e) within which factor, inverse and limits stay normal bf16 numbers.
FACTOR_RANGE = (2.0**-60, 2.0**60)


def bf16_bits(value: float) -> int:
    """Round to nearest even (finite values)."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) & 0xFFFF


def bf16_value(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


LARGEST_BF16 = bf16_value(0x7F7F)


def bf16_split(value: float, parts: int) -> tuple[float, ...]:
    """`value` as a sum of bf16 numbers, largest first."""
    result = []
    for _ in range(parts):
        piece = bf16_value(bf16_bits(value))
        result.append(piece)
        value -= piece
    return tuple(result)


def head_table(work: Work, head_dim: int, lane_row: int) -> tuple[int, ...]:
    """Words of the head of a lane in every item of a round, of a call with int8 tensors; () where all have those of the
    call's words."""
    quantities = work.call.quantities
    if len(quantities) < 2:
        return ()
    each = [head_words(one, head_dim) for one in quantities]
    own, _ = work.place(lane_row)
    return tuple(word for first in work.set_heads() for word in each[(first + own) % len(each)])


def parameter_words(
    work: Work,
    group: int,
    lane_row: int,
    ahead: bool = False,
    head_dim: int = 0,
    short: int = 0,
    north: Sequence[int] = (),
    bounded: bool = False,
) -> tuple[int, ...]:
    """All words of a call for the core of `group` whose lane begins at row `lane_row` of an item.

    head_dim: wanted for int8.  ahead: the sequence sends for an item's Q without waiting for the output of the one
    before.  short: items of fewer blocks make their output before they take the next one's Q.  north: where the
    lanes begin of the cores above that learn of the call from this one.  bounded: the core's program is that of
    bounded softcaps.
    """
    call = work.call
    factors: tuple[int, ...]
    if call.quantities:
        factors = (*head_words(call.quantities[0], head_dim), HEAD_TABLE if len(call.quantities) > 1 else 0)
    else:
        factors = _factor_words(call.scale, call.softcap, bounded)
    lanes = [work.words(group, row)[Word.LANE] for row in north]
    words = [*work.words(group, lane_row), *factors, *lanes, *[0] * (len(LANES_NORTH) - len(lanes))]
    words[Word.FLAGS] |= (AHEAD | min(short, MOST_SHORT) << SHORT_ITEM) if ahead else 0
    words[Word.FLAGS] |= len(north) * NORTH
    return tuple(word & 0xFFFFFFFF for word in words)


def _factor_words(scale: float, softcap: float, bounded: bool) -> tuple[int, ...]:
    if not softcap:
        return scale_words(scale)
    return capped_words(scale, softcap) if bounded else softcap_words(scale, softcap)


def factors_of(scale: float, softcap: float = 0.0) -> tuple[float, ...]:
    """What the core multiplies by: what scores count in base 2; with a softcap 2^16 X for a score (`softcap`), and the
    capped score in base 2 for 2^15 times the tanh.  Signs are left out, and a scale of 0 counts as 1 (Q is 0 then)."""
    size = abs(scale) if scale else 1.0
    if not softcap:
        return (size * math.log2(math.e),)
    return size / (2 * softcap) * 2.0**16, softcap * math.log2(math.e) * 2.0**-15


def representable(scale: float, softcap: float = 0.0) -> bool:
    """Whether all factors are inside FACTOR_RANGE."""
    return all(FACTOR_RANGE[0] <= factor <= FACTOR_RANGE[1] for factor in factors_of(scale, softcap))


# tanh(2 X) by a polynomial where |X| = |scale q k / (2 softcap)| stays below NARROW, by a finer one below SMALL; what
# scores are compared with is rounded to bf16.
NARROW, NARROW_TESTED = 0.95, 0.94
SMALL, SMALL_TESTED = 0.375, 0.372


def softcap_words(scale: float, softcap: float) -> tuple[int, ...]:
    """Words FACTOR to FLAGS for scores softcap * tanh(scale * q k / softcap), which the core computes in base 2.

    Raises UnsupportedError where a factor is outside FACTOR_RANGE.
    """
    inner, outer = _softcap_factors(scale, softcap)
    narrow, small = (min(tested * 2.0**16 / inner, LARGEST_BF16) for tested in (NARROW_TESTED, SMALL_TESTED))
    unit = bf16_split(math.log2(math.e), 2)  # capped scores are in base 2
    return (_in_two(inner), _in_two(outer), _pair(narrow, small), 0, *_last_words(scale, 0.0, unit))


def _softcap_factors(scale: float, softcap: float) -> tuple[float, ...]:
    if not representable(scale, softcap):
        raise UnsupportedError(
            f"softcap {softcap:g} with scale {scale:g} is outside what the kernel represents",
            remedy="use the reference backend",
        )
    return factors_of(scale, softcap)


MOST_BOUNDED = 64.0
"""The largest softcap without references: powers of two of capped scores, and sums of them, stay inside fp32's range
with some 2^30 to spare on either side."""
# tanh(t) / t for |t| <= 2, of powers of (t / 2)^2, and fraction bits of what cores have of them.
TANH = (0.9997291, -1.3214448, 1.9784529, -2.5095081, 2.2740609, -1.2283774, 0.2891179)
TANH_BITS = (15, 14, 14, 13, 13, 13, 13)


def capped_words(scale: float, softcap: float) -> tuple[int, ...]:
    """The same for a softcap that is bounded: what x counts and the polynomial of x are in 16 bits (`capped`).

    Raises UnsupportedError where a factor is outside FACTOR_RANGE.
    """
    inner, outer = _softcap_factors(scale, softcap)
    # t for x = 2^15: in [1, 2], but for rounding; and how cores count the slope of the capped score at zero.
    unit = inner / 2.0 ** (math.frexp(bf16_value(bf16_bits(inner)))[1] - 1)
    slope = outer * 2.0**22 * unit
    places = min(max(15 - math.frexp(slope)[1], 0), MOST_CAPPED_SHIFT)
    largest = slope * 2.0 ** (places - 15)
    numbers = [
        round(c * largest * (unit / 2.0) ** (2 * i) * 2.0**bits)
        for i, (c, bits) in enumerate(zip(TANH, TANH_BITS, strict=True))
    ]
    halves = [number & 0xFFFF for number in numbers]
    words = [low | high << 16 for low, high in zip(halves[0:6:2], halves[1:6:2], strict=True)]
    flags = _sign_flags(scale) | places << CAPPED_SHIFT | halves[6] << 16
    return (_in_two(inner), _in_two(outer), *words, flags)


def _sign_flags(scale: float) -> int:
    return (NEGATIVE if scale < 0 else 0) | (ZERO if scale == 0 else 0)


def _last_words(scale: float, refine: float, unit: tuple[float, ...]) -> tuple[int, int]:
    """REFINE and FLAGS.  unit: of a mask's numbers, in the unit of the scores."""
    return _pair(refine, unit[0]), _sign_flags(scale) | bf16_bits(unit[1]) << 16


def _in_two(factor: float) -> int:
    """(first part, -(rest / first part)): for products by `Context.scale`."""
    first, rest = bf16_split(factor, 2)
    return _pair(first, -rest / first)


def scale_words(scale: float) -> tuple[int, ...]:
    """Words FACTOR to FLAGS for scores that count `scale` times.

    Raises UnsupportedError for a scale other than 0 whose magnitude, times log2 e, is outside FACTOR_RANGE.
    """
    (factor,) = factors_of(scale)
    if not representable(scale):
        raise UnsupportedError(
            f"scale {scale:g} is outside what the kernel represents",
            remedy="use 0 or 1e-18 <= |scale| <= 7e17, or the reference backend",
        )
    first, second, third = bf16_split(factor, 3)
    inverse = bf16_split(-1.0 / factor, 3)
    rest = bf16_split(factor, 2)[1]
    threshold = min(REBASE_THRESHOLD / factor, LARGEST_BF16)
    refine = min(REFINE_BEYOND / factor, LARGEST_BF16)
    return (
        _pair(first, second),
        _pair(third, -rest / first),
        _pair(inverse[0], inverse[1]),
        _pair(inverse[2], threshold),
        *_last_words(scale, refine, bf16_split(math.log2(math.e) / factor, 2)),
    )


def _pair(low: float, high: float) -> int:
    return bf16_bits(low) | bf16_bits(high) << 16
