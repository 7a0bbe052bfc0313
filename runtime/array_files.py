"""Arrays in files: .npy, .npz and .safetensors."""

from __future__ import annotations

import io
import json
from typing import Any

import ml_dtypes
import numpy as np

from npuc.compiler.diagnostics import InputError
from npuc.compiler.files import read_bytes, write_bytes

# Names of the safetensors format, https://huggingface.co/docs/safetensors ("Format").
SAFETENSORS_DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I8": np.int8,
    "U8": np.uint8,
    "U16": np.uint16,
    "BOOL": np.bool_,
}


def read_array(path: str) -> np.ndarray:
    """One .npy file (`-`: standard input). Raises InputError on anything else."""
    data = read_bytes(path)
    if not data.startswith(b"\x93NUMPY"):
        raise InputError("not a .npy file", place=path)
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # numpy promises nothing about what it raises for a malformed file
        raise InputError(f"broken .npy file: {_one_line(error)}", place=path) from error


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """All arrays of one .npz or .safetensors file by name."""
    data = read_bytes(path)
    if data.startswith(b"PK"):
        return _read_npz(data, path)
    if path.endswith(".safetensors"):
        return _read_safetensors(data, path)
    raise InputError("neither .npz nor .safetensors", place=path, remedy="give single arrays as --input NAME=FILE.npy")


def _read_npz(data: bytes, path: str) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            members = {name: archive[name] for name in archive.files}
        return {name: array for name, array in members.items() if isinstance(array, np.ndarray)}  # others are bytes
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise InputError(f"broken .npz file: {_one_line(error)}", place=path) from error


def _read_safetensors(data: bytes, path: str) -> dict[str, np.ndarray]:
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        if start > len(data):
            raise ValueError(f"header ends at {start} of {len(data)} bytes")
        header = json.loads(data[8:start])
        arrays = {}
        for name, entry in header.items():
            if name == "__metadata__" or entry["dtype"] not in SAFETENSORS_DTYPES:
                continue
            first, last = entry["data_offsets"]
            dtype = np.dtype(SAFETENSORS_DTYPES[entry["dtype"]])
            arrays[name] = np.frombuffer(data[start + first : start + last], dtype).reshape(entry["shape"])
        return arrays
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"broken .safetensors file: {_one_line(error)}", place=path) from error


def write_array(path: str, array: np.ndarray) -> None:
    """One .npy file, written whole or not at all (`-`: standard output)."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    write_bytes(path, stream.getvalue())


def _one_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
