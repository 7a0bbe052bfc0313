"""Element types: how their values are held in numpy, rounded and wrapped.

Floating-point values are float64 whatever their type, integers are held in the signed type of their width (i1 as
bool), `index` has 64 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from npuc.runtime.arguments import BFLOAT16, to_float32_odd

_FLOATS: dict[str, Any] = {
    "f64": np.float64,
    "f32": np.float32,
    "f16": np.float16,
    "bf16": BFLOAT16,
    "f8E5M2": ml_dtypes.float8_e5m2,
    "f8E4M3": ml_dtypes.float8_e4m3,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn,
    "f8E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "f8E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "f8E4M3B11FNUZ": ml_dtypes.float8_e4m3b11fnuz,
    "f8E3M4": ml_dtypes.float8_e3m4,
}
_NATURAL = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
_UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


@dataclass(frozen=True)
class ElementType:
    """A scalar type by its name in MLIR. width: bits of an integer, 0 for floats."""

    name: str
    width: int = 0

    @property
    def is_float(self) -> bool:
        return self.width == 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """How values are held."""
        if self.is_float:
            return np.dtype(np.float64)
        return np.dtype(np.bool_) if self.width == 1 else np.dtype(_NATURAL.get(self.width, np.int64))

    @property
    def storage(self) -> np.dtype[Any]:
        """The type's own bits, as constants and buffers have them; integers in the next larger type."""
        return np.dtype(_FLOATS[self.name]) if self.is_float else self.dtype

    @property
    def limits(self) -> tuple[int, int]:
        """The least and greatest signed value of an integer."""
        return -(1 << (self.width - 1)), (1 << (self.width - 1)) - 1

    def rounded(self, array: np.ndarray) -> np.ndarray:
        """float64 to the nearest values of this floating-point type, ties to even, as float64."""
        if self.name == "f64":
            return array
        if self.name not in ("f16", "f32"):
            array = to_float32_odd(np.asarray(array, np.float64))
        return array.astype(self.storage).astype(np.float64)

    def signed(self, array: np.ndarray) -> np.ndarray:
        """Integers as int64, read as signed: i1 true is -1."""
        return -array.astype(np.int64) if self.width == 1 else array.astype(np.int64, copy=False)

    def unsigned(self, array: np.ndarray) -> np.ndarray:
        """Integers as uint64, read as unsigned: i8 -1 is 255."""
        if self.width == 1:
            return array.astype(np.uint64)
        if self.width in _NATURAL:
            return array.view(_UNSIGNED[self.width]).astype(np.uint64, copy=False)
        return array.astype(np.uint64) & np.uint64((1 << self.width) - 1)

    def wrapped(self, array: np.ndarray) -> np.ndarray:
        """64-bit integers to this width, upper bits lost."""
        if self.width == 1:
            return (array & array.dtype.type(1)).astype(np.bool_)
        if self.width in _NATURAL:
            return array.astype(self.dtype)
        unused = np.int64(64 - self.width)
        return (array.astype(np.int64) << unused) >> unused


INDEX = ElementType("index", 64)
BOOLEAN = ElementType("i1", 1)


def element_type(name: str) -> ElementType | None:
    """The type of an MLIR name such as `bf16`, `i8` or `index`; None for types that are not computed with."""
    if name == "index":
        return INDEX
    if name in _FLOATS:
        return ElementType(name)
    if name.startswith("i") and name[1:].isdigit() and 1 <= int(name[1:]) <= 64:
        return ElementType(name, int(name[1:]))
    return None
