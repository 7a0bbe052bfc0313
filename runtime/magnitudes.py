"""What of a call's values kernels cannot represent, from one pass over them.

The pass takes the largest magnitude of each argument, and costs what reading it from memory costs: a float's bits,
taken as an integer, grow with its magnitude, and infinities and NaN are the largest of all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from npuc.compiler.frontend.attention import Attention
from npuc.passes.attention.image_class import bounded_softcap

LARGEST_SCORE = 1e9
"""Of |scale| * D * max|q| * max|k|: kernels are right up to it, whatever the spread of the scores."""
LARGEST_BF16 = float.fromhex("0x1.fep127")
SMALLEST_VALUE = 2.0**-104
"""Of max|v|: below it products with probabilities, of which the largest are 2^-14 or so, are flushed to zero."""
SMALLEST_PRODUCT = 2.0**-120
"""Of max|v| and probabilities that are taken of capped scores as they are, without a reference."""
PIECE = 1 << 16
"""Elements looked at twice in a row, while they are in the processor's cache."""


@dataclass(frozen=True)
class Magnitudes:
    """The largest magnitude of q, k and v; inf where there is an infinity or NaN. score: no score is above it.

    problem: why kernels cannot take the values, as one line that is the same for all values of that kind; None where
    they can.
    """

    q: float
    k: float
    v: float
    score: float
    problem: str | None


def magnitudes(attention: Attention, arrays: Mapping[str, np.ndarray]) -> Magnitudes:
    """Of a call with these arrays, by the names of the attention's arguments, in their interface types."""
    found = {role: largest_magnitude(arrays[attention.argument(role).name]) for role in ("q", "k", "v")}
    factors = {"q": attention.q_scale, "k": attention.k_scale, "v": attention.v_scale}
    for role, factor in factors.items():
        if factor is not None:
            found[role] *= max(factor)
    with np.errstate(over="ignore", invalid="ignore"):
        score = float(np.float64(abs(attention.scale)) * attention.head_dim * found["q"] * found["k"])
    return Magnitudes(found["q"], found["k"], found["v"], score, _problem(attention, arrays, found, score))


def _problem(
    attention: Attention, arrays: Mapping[str, np.ndarray], found: Mapping[str, float], score: float
) -> str | None:
    for role, magnitude in found.items():
        name = attention.argument(role).name
        if magnitude == np.inf:
            return f"argument {name} holds values that are not finite"
        if magnitude > LARGEST_BF16:
            return f"argument {name} holds values that bf16 rounds to infinity"
    if 0 < found["v"] < _smallest_value(attention, score):
        return f"argument {attention.argument('v').name} holds values so small that products leave the range of fp32"
    if not score <= LARGEST_SCORE:
        return f"scores may be above {LARGEST_SCORE:g} (|scale| * D * max|q| * max|k|)"
    if attention.mask == "add":
        mask = arrays[attention.argument("mask").name]
        # -inf hides a key, as any number far below zero does; what is added beyond the bound of scores is as they are.
        if mask.size and not float(mask.max()) <= LARGEST_SCORE:  # NaN is the maximum where there is one
            return f"the mask holds NaN or values above {LARGEST_SCORE:g}"
    return None


def _smallest_value(attention: Attention, score: float) -> float:
    if attention.precision == "int8":
        return 0.0
    if attention.softcap is None or not bounded_softcap(attention):
        return SMALLEST_VALUE
    return max(SMALLEST_VALUE, SMALLEST_PRODUCT * math.exp(min(attention.softcap, score)))


def largest_magnitude(array: np.ndarray) -> float:
    """The largest absolute value; inf where there is an infinity or NaN; 0 of an empty array."""
    if not array.size:
        return 0.0
    if array.dtype.kind in "iu":
        return float(max(abs(int(array.max())), abs(int(array.min()))))
    if not array.flags.c_contiguous:
        array = array.transpose(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))
    if not array.flags.c_contiguous:
        if array.ndim > 1 and array.size > PIECE:
            return max(largest_magnitude(part) for part in array)
        array = np.ascontiguousarray(array)
    flat = array.reshape(-1)
    return max(_of_bits(flat[first : first + PIECE]) for first in range(0, flat.size, PIECE))


def _of_bits(array: np.ndarray) -> float:
    """Signed, the bits of positive numbers are the largest; unsigned, those of negative ones."""
    width = array.dtype.itemsize
    signs = 1 << (8 * width - 1)
    positive = int(array.view(f"i{width}").max())
    negative = int(array.view(f"u{width}").max()) & (signs - 1)
    bits = max(positive, negative if negative else 0, 0)
    value = float(np.array(bits, dtype=f"u{width}").view(array.dtype)[()])
    return value if np.isfinite(value) else np.inf


def overflows(array: np.ndarray) -> bool:
    """Whether a result holds what is not finite."""
    return array.dtype.kind not in "iub" and largest_magnitude(array) == np.inf
