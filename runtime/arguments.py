"""A kernel's arguments: arrays as users hold them, bytes as the kernel sees them, and back.

The interface dtype is what the source says (`f32`, `f16`, `bf16`, `i8`, `i1`); the device dtype is what lies in the
buffer. Rounding to bf16 is to nearest even, from float64 in one step. Arguments without a buffer, as the scale of a
call, stay on the host.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from npuc.compiler.argument_layout import ROW_MAJOR, Layout, layout_from_json, layout_shape
from npuc.compiler.diagnostics import InputError
from npuc.runtime.quantisation import as_seen, quantised

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

INTERFACE_DTYPES: dict[str, np.dtype[Any]] = {
    "bf16": BFLOAT16,
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "i8": np.dtype(np.int8),
    "i1": np.dtype(np.bool_),
}
# What functions with attention inside have besides; kernels have none of them.
WHOLE_DTYPES: dict[str, np.dtype[Any]] = {
    **INTERFACE_DTYPES,
    "f64": np.dtype(np.float64),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
}
INTEGERS = ("i16", "i32", "i64")
_PIECE = 1 << 14  # numbers that are converted at a time, in the cache of the host
DRAWN_INTEGERS = 8  # below this: token ids, positions and lengths are within what they index
DEVICE_DTYPES: dict[str, np.dtype[Any]] = {
    "bf16": BFLOAT16,
    "f32": np.dtype(np.float32),
    "i8": np.dtype(np.int8),
    "i1": np.dtype(np.bool_),
}

_FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64), BFLOAT16)
_BF16_BITS = (np.dtype(np.uint16), np.dtype("V2"))  # the second is bf16 as .npy keeps it

NO_BUFFER = -1
LARGEST_ARGUMENT = 1 << 32  # bytes; what the emulated address map leaves between two


@dataclass(frozen=True)
class KernelArgument:
    """One argument as the kernel's metadata declares it. `buffer` counts the data buffers of the runtime sequence.

    shape: None for sizes that a call gives; what moves data takes arguments without such.
    layout: how callers have it where that is otherwise (`npuc.runtime.layouts`).  inverted: a mask that callers have
    true where it hides.
    """

    name: str
    role: str
    dtype: str
    device_dtype: str
    shape: tuple[Any, ...]
    direction: str
    buffer: int
    layout: Layout = ()
    inverted: bool = False

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> KernelArgument:
        """Raises KeyError, TypeError or ValueError on an entry that is not one."""
        argument = KernelArgument(
            name=str(entry["name"]),
            role=str(entry["role"]),
            dtype=str(entry["dtype"]),
            device_dtype=str(entry.get("device_dtype", entry["dtype"])),
            shape=tuple(None if n is None else int(n) for n in entry["shape"]),
            direction=str(entry["direction"]),
            buffer=int(entry["buffer"]),
            layout=() if entry.get("layout", ROW_MAJOR) == ROW_MAJOR else layout_from_json(entry["layout"]),
            inverted=entry.get("inverted", False) is True,
        )
        if argument.dtype not in INTERFACE_DTYPES or argument.device_dtype not in DEVICE_DTYPES:
            raise ValueError(f"argument {argument.name} has dtype {argument.dtype} on {argument.device_dtype}")
        if argument.closed and argument.nbytes > LARGEST_ARGUMENT:
            raise ValueError(f"argument {argument.name} has {argument.nbytes:,} bytes")
        if (
            argument.direction not in ("in", "out")
            or argument.buffer < 0
            or min(filter(None, argument.shape), default=1) < 0
        ):
            raise ValueError(f"argument {argument.name} is malformed")
        return argument

    @property
    def passed(self) -> bool:
        """Whether the kernel has it: what has no buffer is for the host alone."""
        return self.buffer != NO_BUFFER

    @property
    def given_shape(self) -> tuple[Any, ...]:
        """As callers have it."""
        return layout_shape(self.layout) if self.layout else self.shape

    @property
    def shape_text(self) -> str:
        """As messages write it, `?` for open sizes."""
        return f"[{', '.join('?' if size is None else str(size) for size in self.given_shape)}]"

    @property
    def quantised(self) -> bool:
        """Whether callers have floating numbers and the device integers."""
        return self.device_dtype == "i8" and self.dtype != "i8"

    @property
    def closed(self) -> bool:
        """Whether all its sizes are known."""
        return None not in self.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer on the device."""
        return math.prod(self.shape) * DEVICE_DTYPES[self.device_dtype].itemsize

    def __str__(self) -> str:
        return f"{self.name}: {'x'.join('?' if n is None else str(n) for n in (*self.given_shape, self.dtype))}"


def round_to_bf16(array: np.ndarray) -> np.ndarray:
    """Any float array to bf16, nearest even in one rounding (ml_dtypes goes through float32 and rounds twice)."""
    with np.errstate(over="ignore", invalid="ignore"):
        if array.dtype != np.float64:
            return array.astype(BFLOAT16)
        rounded = np.empty(array.shape, BFLOAT16)
        given, taken = array.reshape(-1), rounded.reshape(-1)
        for first in range(0, array.size, _PIECE):
            piece = slice(first, first + _PIECE)
            taken[piece] = to_float32_odd(given[piece])
        return rounded


def to_float32_odd(array: np.ndarray) -> np.ndarray:
    """float64 to float32, rounding to odd: a later rounding to fewer bits then equals a single one."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = array.astype(np.float32)
        back = single.astype(np.float64)
        inexact = np.isfinite(single) & (back != array)
        too_far = inexact & (np.abs(back) > np.abs(array))
    bits = single.view(np.uint32) - too_far.astype(np.uint32)
    return (bits | inexact.astype(np.uint32)).view(np.float32)


def from_user(argument: KernelArgument, value: Any) -> np.ndarray:
    """An array as a user gives it -> its interface dtype (floats are not yet on the device).

    bf16 and f32 take float16, float32, float64 and bfloat16; bf16 also uint16 (its bits) and 2-byte voids (bf16 as
    .npy keeps it). i8 takes int8, i1 takes bool, wider integers any whole numbers. Raises InputError naming
    argument, expected and got.
    """
    array = np.asarray(value)
    require_fit(argument, array.shape, array.dtype)
    if argument.dtype == "bf16":
        if array.dtype == BFLOAT16:
            return array
        return array.view(BFLOAT16) if array.dtype in _BF16_BITS else round_to_bf16(array)
    with np.errstate(over="ignore"):
        given = array.astype(WHOLE_DTYPES[argument.dtype], copy=argument.dtype in ("f16", "f32"))
    if argument.dtype in INTEGERS and not (given == array).all():
        raise InputError(f"argument {argument.name} holds numbers that {argument.dtype} does not")
    return given


def require_fit(argument: KernelArgument, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raises InputError, naming argument, expected and got, where an array of that shape and type is not the argument.

    Looks at no array, so that a file's header is enough; sizes that the argument leaves open may be any.
    """
    wanted = argument.given_shape
    if len(shape) != len(wanted) or any(s not in (None, n) for s, n in zip(wanted, shape, strict=True)):
        raise InputError(f"argument {argument.name} expects shape {argument.shape_text}, got {list(shape)}")
    if argument.dtype in INTEGERS:
        fits = dtype.kind in "iu"
    elif argument.dtype in ("bf16", "f16", "f32", "f64"):
        fits = dtype in _FLOATS or (argument.dtype == "bf16" and dtype in _BF16_BITS)
    else:
        fits = dtype == WHOLE_DTYPES[argument.dtype]
    if not fits:
        raise InputError(f"argument {argument.name} expects {_accepted(argument.dtype)}, got {dtype}")
    if math.prod(shape) * dtype.itemsize > LARGEST_ARGUMENT:
        raise InputError(f"argument {argument.name} of shape {list(shape)} is larger than {LARGEST_ARGUMENT:,} bytes")


def _accepted(dtype: str) -> str:
    return {
        "bf16": "float32, float64, float16, bfloat16 or uint16 (bf16 bits)",
        "f16": "float16, float32, float64 or bfloat16",
        "f32": "float32, float64, float16 or bfloat16",
        "f64": "float64, float32, float16 or bfloat16",
        **dict.fromkeys(INTEGERS, "whole numbers"),
        "i8": "int8",
        "i1": "bool",
    }[dtype]


def to_device(argument: KernelArgument, array: np.ndarray) -> np.ndarray:
    """An array of the interface dtype -> the device dtype; floats that the device has as integers: what these are."""
    if not argument.passed:
        return array
    if argument.quantised:
        return as_seen(array)
    if argument.device_dtype == "bf16":
        return round_to_bf16(array)
    return array.astype(DEVICE_DTYPES[argument.device_dtype])


def to_buffer(argument: KernelArgument, array: np.ndarray) -> bytearray:
    """An array of the interface dtype -> the bytes the kernel reads, row-major."""
    if argument.quantised:
        return bytearray(quantised(array)[0].tobytes())
    return bytearray(np.ascontiguousarray(to_device(argument, array)).tobytes())


def from_buffer(argument: KernelArgument, data: bytes | bytearray | memoryview) -> np.ndarray:
    """The bytes in a buffer -> an array of the device dtype in the argument's shape (a copy)."""
    dtype = DEVICE_DTYPES[argument.device_dtype]
    return np.frombuffer(memoryview(data)[: argument.nbytes], dtype=dtype).reshape(argument.shape).copy()


def to_interface(argument: KernelArgument, array: np.ndarray) -> np.ndarray:
    """A result in any wide type -> the output's interface dtype; what does not fit it overflows to infinity."""
    if argument.dtype == "bf16":
        return round_to_bf16(array)
    with np.errstate(over="ignore"):
        return array.astype(WHOLE_DTYPES[argument.dtype], copy=False)


def to_user(argument: KernelArgument, array: np.ndarray) -> np.ndarray:
    """A device array -> what files and calls hand out: f16 as float16, bf16 and f32 as float32, i8 as int8."""
    if argument.dtype in ("bf16", "f32"):
        return array.astype(np.float32)
    with np.errstate(over="ignore"):
        return array.astype(WHOLE_DTYPES[argument.dtype])


def draw(arguments: tuple[KernelArgument, ...], seed: int) -> dict[str, np.ndarray]:
    """Inputs by name as `--random SEED` draws them, in argument order from numpy's default_rng(seed).

    Floats, masks that are added too: float64 standard normal, rounded to the argument's type. i8: 32 times that,
    rounded, within -127..127. i1 masks: true with probability 0.8, the first key always. Wider integers, which only
    whole functions take: 0 to 7.
    """
    generator = np.random.default_rng(seed)
    drawn: dict[str, np.ndarray] = {}
    for argument in arguments:
        if argument.direction != "in":
            continue
        if argument.dtype == "i8":
            numbers = np.rint(32.0 * generator.standard_normal(argument.given_shape))
            drawn[argument.name] = np.clip(numbers, -127, 127).astype(np.int8)
        elif argument.dtype in INTEGERS:
            numbers = generator.integers(0, DRAWN_INTEGERS, argument.given_shape)
            drawn[argument.name] = np.asarray(numbers, WHOLE_DTYPES[argument.dtype])
        elif argument.dtype == "i1":
            keep = generator.random(argument.given_shape) < 0.8
            keep[..., :1] = True
            drawn[argument.name] = keep != argument.inverted
        else:
            drawn[argument.name] = from_user(argument, generator.standard_normal(argument.given_shape))
    return drawn
