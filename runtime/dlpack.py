"""Arrays of other libraries (PyTorch, JAX, CuPy, ...) by the DLPack protocol, bf16 included, which numpy does not take.

https://dmlc.github.io/dlpack/latest/c_api.html and .../python_spec.html; only memory of the CPU is read.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from npuc.compiler.diagnostics import InputError

CPU, CUDA_HOST = 1, 3  # DLDeviceType: kDLCPU, kDLCUDAHost
INT, UNSIGNED, FLOAT, BFLOAT, BOOL = 0, 1, 2, 4, 6  # DLDataTypeCode
DTYPES: dict[tuple[int, int], np.dtype[Any]] = {
    (INT, 8): np.dtype(np.int8),
    (INT, 16): np.dtype(np.int16),
    (INT, 32): np.dtype(np.int32),
    (INT, 64): np.dtype(np.int64),
    (UNSIGNED, 8): np.dtype(np.uint8),
    (UNSIGNED, 16): np.dtype(np.uint16),
    (FLOAT, 16): np.dtype(np.float16),
    (FLOAT, 32): np.dtype(np.float32),
    (FLOAT, 64): np.dtype(np.float64),
    (BFLOAT, 16): np.dtype(ml_dtypes.bfloat16),
    (BOOL, 8): np.dtype(np.bool_),
}
MOST_DIMENSIONS = 32


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


# Where a DLTensor lies in what a capsule of that name points to (DLManagedTensor, DLManagedTensorVersioned).
_OFFSETS = {b"dltensor": 0, b"dltensor_versioned": 8 + 3 * 8}


def is_foreign(value: object) -> bool:
    """Whether it is another library's array."""
    return not isinstance(value, np.ndarray | np.generic) and hasattr(value, "__dlpack__")


def as_numpy(name: str, value: Any) -> np.ndarray:
    """Another library's array where it lies, to be read only; the view keeps its memory. name: for messages.

    Raises InputError where it cannot be read.
    """
    try:
        device = int(value.__dlpack_device__()[0])
        if device not in (CPU, CUDA_HOST):
            raise InputError(f"{name} lies on another device (DLPack type {device})", remedy="move it to the CPU")
        capsule = value.__dlpack__()
    except (BufferError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{name} is not given out by its library: {reason}", remedy="detach it, on the CPU") from error
    return _view(name, *_tensor(capsule))


def like(model: object, array: np.ndarray) -> Any:
    """The array as the library of `model` has it; where that cannot be told, as it is."""
    make = _maker(model) if is_foreign(model) else None
    return array if make is None else make(_Exporter(array))


def _maker(model: Any) -> Callable[[Any], Any] | None:
    """The function of an array's library that takes what others give out: its array namespace's (JAX), its type's, or
    its package's (PyTorch)."""
    kind = type(model)
    places = [kind, sys.modules.get(kind.__module__.partition(".")[0])]
    if hasattr(model, "__array_namespace__"):
        places.insert(0, model.__array_namespace__())
    found = (getattr(place, "from_dlpack", None) for place in places)
    return next((make for make in found if callable(make)), None)


def _tensor(capsule: object) -> tuple[object, _Tensor]:
    """What a capsule holds; the capsule keeps it alive."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    valid = ctypes.pythonapi.PyCapsule_IsValid
    valid.restype, valid.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]
    for name, offset in _OFFSETS.items():
        if valid(capsule, name):
            return capsule, _Tensor.from_address(get(capsule, name) + offset)
    raise InputError("what __dlpack__ gave is no DLPack capsule")


def _view(name: str, capsule: object, tensor: _Tensor) -> np.ndarray:
    dtype = DTYPES.get((tensor.code, tensor.bits))
    if dtype is None or tensor.lanes != 1 or not 0 <= tensor.ndim <= MOST_DIMENSIONS:
        raise InputError(f"{name} has elements of DLPack type code {tensor.code}, {tensor.bits} bits")
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    if 0 in shape:
        return np.zeros(shape, dtype)
    strides = [tensor.strides[i] for i in range(tensor.ndim)] if tensor.strides else _compact(shape)
    reaches = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    low, high = sum(min(0, reach) for reach in reaches), sum(max(0, reach) for reach in reaches)
    start = (tensor.data or 0) + tensor.byte_offset + low * dtype.itemsize
    memory = (ctypes.c_char * ((high - low + 1) * dtype.itemsize)).from_address(start)
    memory.held = capsule  # type: ignore[attr-defined]  # numpy keeps `memory` for as long as there are views of it
    steps = [stride * dtype.itemsize for stride in strides]
    view = np.ndarray(shape, dtype, memory, -low * dtype.itemsize, steps)
    view.flags.writeable = False
    return view


def _compact(shape: tuple[int, ...]) -> list[int]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return strides[::-1]


class _Exporter:
    """Gives out a numpy array to another library; its memory lives as long as anybody uses it."""

    def __init__(self, array: np.ndarray) -> None:
        self._bf16 = array.dtype == ml_dtypes.bfloat16
        self._array = np.ascontiguousarray(array.view(np.uint16) if self._bf16 else array)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0

    def __dlpack__(self, **_: Any) -> Any:
        capsule = self._array.__dlpack__()
        if self._bf16:
            _tensor(capsule)[1].code = BFLOAT
        return capsule
