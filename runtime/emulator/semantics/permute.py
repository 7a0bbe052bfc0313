"""Permutes, broadcasts, extraction and insertion of lanes (facts/semantics/vector_misc.md section 1)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from npuc.runtime.emulator.semantics.registry import rule
from npuc.runtime.emulator.semantics.vector_alu import dynamic_sign

# Mode pairs n, n + 1 of vshuffle that transpose the concatenation of both operands, as rows x columns of elements of
# that many bits, and give the low (n) or high (n + 1) half: facts/semantics/vshuffle_modes.json.
_PAIR_MODES = {
    0: (8, 64, 2),
    2: (16, 32, 2),
    4: (32, 16, 2),
    6: (64, 8, 2),
    8: (128, 4, 2),
    10: (256, 2, 2),
    12: (128, 2, 4),
    14: (64, 2, 8),
    16: (32, 2, 16),
    18: (16, 2, 32),
    20: (8, 2, 64),
    22: (512, 1, 2),
    24: (16, 16, 4),
    26: (16, 4, 16),
    30: (32, 8, 4),
    32: (32, 4, 8),
}
# Modes that transpose every block of rows x columns elements of the first operand.
_BLOCK_MODES = {
    28: (16, 8, 4),
    29: (16, 4, 8),
    34: (32, 4, 4),
    35: (8, 8, 8),
    36: (8, 16, 4),
    37: (8, 4, 16),
    39: (16, 4, 4),
    40: (16, 4, 2),
    41: (16, 2, 4),
    42: (16, 8, 2),
    43: (16, 2, 8),
    44: (16, 16, 2),
    45: (16, 2, 16),
    46: (8, 8, 4),
    47: (8, 4, 8),
}
_SWAP_MODE = 38


def _transposed(rows: int, columns: int) -> list[int]:
    return [(o % rows) * columns + o // rows for o in range(rows * columns)]


@lru_cache(maxsize=64)
def shuffle_elements(mode: int) -> tuple[int, tuple[int, ...]]:
    """(element bits, source element of each output position in the concatenation) of modes 0..47."""
    if mode == _SWAP_MODE:
        return 16, tuple(i ^ 1 for i in range(32))
    if mode in _BLOCK_MODES:
        bits, rows, columns = _BLOCK_MODES[mode]
        block = _transposed(rows, columns)
        return bits, tuple(base + i for base in range(0, 512 // bits, len(block)) for i in block)
    bits, rows, columns = _PAIR_MODES[mode & ~1]
    indices = _transposed(rows, columns)
    half = len(indices) // 2
    return bits, tuple(indices[half:] if mode & 1 else indices[:half])


@lru_cache(maxsize=64)
def _shuffle_lanes(mode: int) -> tuple[int, tuple[int, ...], bool]:
    """The mode on lanes of at most 64 bits: lane width, indices, whether the second operand is used."""
    bits, elements = shuffle_elements(mode)
    width = min(bits, 64)
    parts = bits // width
    indices = tuple(element * parts + part for element in elements for part in range(parts))
    return width, indices, max(indices) >= 512 // width


def shuffle_mode(v: Any, a: Any, b: Any, mode: int) -> Any:
    """vshuffle with a known mode; modes 48..63 give byte 0 of a and 63 zero bytes."""
    if mode >= 48:
        return v.byte_window(v.part(a, 0, 1), 0, 64)
    width, indices, both = _shuffle_lanes(mode)
    return v.bits(v.permute(v.lanes(v.concat(a, b) if both else a, width), indices))


@rule(r"vshuffle")
def shuffle(v: Any, a: Any, b: Any, mode: int) -> Any:
    return v.choose(mode & 63, range(64), lambda known: shuffle_mode(v, a, b, known), "vshuffle mode")


@rule(r"vbcstshfl\.(?P<width>8|16|32|64)")
def broadcast_and_shuffle(v: Any, value: int, mode: int, *, width: int) -> Any:
    return shuffle(v, v.bits(v.splat(value, width)), v.zeros(512), mode)


@rule(r"vshift")
def shift_bytes(v: Any, a: Any, b: Any, count: int) -> Any:
    """Bytes count .. count + 63 of a, b, zeros."""
    return v.byte_window(v.concat(a, b), v.pick(count > 128, 128, count), 64)


@rule(r"vshift\.align")
def shift_aligned(v: Any, a: Any, step: int, b: Any, count: int) -> Any:
    """A step of 0 is a plain shift (UG1583, Shift); from 128 bytes on nothing is left, whatever the step."""
    relevant = v.pick(count > 127, 0, step & 63)
    return v.choose(
        relevant,
        (0,),
        lambda _: shift_bytes(v, a, b, count),
        "a vshift.align (facts/semantics/vector_misc.md section 1 has no steps) with step",
    )


@rule(r"vsel\.(?P<width>8|16|32)")
def select(v: Any, a: Any, b: Any, mask: int, *, width: int) -> Any:
    return v.bits(v.select(v.scalar_to_mask(mask, 512 // width), v.lanes(b, width), v.lanes(a, width)))


@rule(r"vbcst\.(?P<width>8|16|32|64)")
def broadcast(v: Any, value: int, *, width: int) -> Any:
    return v.bits(v.splat(value, width))


@rule(r"vextbcst\.(?P<width>8|16|32|64)")
def broadcast_lane(v: Any, a: Any, index: int, *, width: int) -> Any:
    return v.bits(v.splat(v.extract(v.lanes(a, width), index), width))


@rule(
    r"vextract\.(?P<kind>s|d)(?P<width>8|16|32|64)",
    reads="crVaddSign",
    doubt="a vextract of a lane that the vector does not have: facts/semantics/vector_misc.md section 1 does not say "
    "what it gives",
    refused=True,
)
def extract(v: Any, a: Any, index: int, *sign: int, kind: str, width: int) -> Any:
    def build(signed: bool) -> Any:
        return v.unsigned(v.extract(v.lanes(a, width, signed), index), max(width, 32))

    return dynamic_sign(v, kind, sign, build, "crVaddSign"), v.flag(index >= 512 // width)


@rule(r"vinsert\.(?P<width>8|16|32|64)")
def insert(v: Any, a: Any, index: int, value: int, *, width: int) -> Any:
    return v.bits(v.insert(v.lanes(a, width), index, value))


@rule(r"vpush\.lo\.(?P<width>8|16|32|64)")
def push_low(v: Any, value: int, a: Any, *, width: int) -> Any:
    entering = v.part(v.bits(v.splat(value, width)), 0, width // 8)
    return v.concat(entering, v.part(a, 0, 64 - width // 8))


@rule(r"vpush\.hi\.(?P<width>8|16|32|64)")
def push_high(v: Any, a: Any, value: int, *, width: int) -> Any:
    entering = v.part(v.bits(v.splat(value, width)), 0, width // 8)
    return v.concat(v.part(a, width // 8, 64 - width // 8), entering)
