"""Arrays in files: .npy, .npz and .safetensors. Nothing is read or unpacked beyond what the arrays may take."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any

import ml_dtypes
import numpy as np

from npuc.compiler.diagnostics import InputError
from npuc.compiler.files import reason, write_bytes

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
SAFETENSORS_HEADER = 100 << 20  # the most the format allows
NPY_HEADER = 1 << 16  # numpy writes some 120 bytes
# What numpy itself writes; the others want memory by what the file says.
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Fits = Callable[[str, tuple[int, ...], np.dtype[Any]], None]
"""Raises InputError where an array of that name may not have that shape and type; asked before the array is read."""


def read_array(path: str, name: str = "", fits: Fits | None = None) -> np.ndarray:
    """One .npy file (`-`: standard input). name: the array's, for `fits`. Raises InputError on anything else."""
    with _opened(path) as stream, _told("broken .npy file", path):
        if stream.read(6) != b"\x93NUMPY":
            raise InputError("not a .npy file", place=path)
        return _read_npy(stream, name, fits)


def read_arrays(path: str, fits: Fits, names: list[str]) -> dict[str, np.ndarray]:
    """Those arrays of one .npz or .safetensors file that have one of the names. Raises InputError."""
    with _opened(path) as stream:
        with _told("broken file of arrays", path):
            if not stream.seekable():
                stream = io.BytesIO(stream.read())
            beginning = stream.read(2)
            stream.seek(0)
        if beginning == b"PK":
            with _told("broken .npz file", path):
                return _read_npz(stream, fits, names)
        if path.endswith(".safetensors"):
            with _told("broken .safetensors file", path):
                return _read_safetensors(stream, fits, names)
    raise InputError("neither .npz nor .safetensors", place=path, remedy="give single arrays as --input NAME=FILE.npy")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = open(path, "rb")
    except OSError as error:
        raise InputError(f"cannot read: {reason(error)}", place=path) from error
    with stream:
        yield stream


@contextlib.contextmanager
def _told(what: str, path: str) -> Iterator[None]:
    """Whatever is wrong with a file is an InputError with its path."""
    try:
        yield
    except InputError as error:
        raise InputError(error.message, place=error.place or path, remedy=error.remedy) from error
    except OSError as error:
        raise InputError(f"cannot read: {reason(error)}", place=path) from error
    except Exception as error:  # numpy, zipfile, zlib and json each have their own, and promise little
        raise InputError(f"{what}: {_one_line(error)}", place=path) from error


def _read_npy(stream: IO[bytes], name: str, fits: Fits | None) -> np.ndarray:
    """The array behind the magic of a .npy file, once its header was looked at."""
    version = tuple(_exactly(stream, 2))
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"format version {'.'.join(map(str, version))} is not known")
    length = _exactly(stream, 2 if version == (1, 0) else 4)
    size = int.from_bytes(length, "little")
    if size > NPY_HEADER:
        raise ValueError(f"its header has {size:,} bytes")
    header = io.BytesIO(length + _exactly(stream, size))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(header)
    if dtype.hasobject or dtype.kind not in "biufcV" or dtype.itemsize > 32:
        raise ValueError(f"its elements are {dtype}, which is not read")
    if not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError(f"its shape is {shape}")
    if fits is not None:
        fits(name, shape, dtype)
    array = np.frombuffer(_exactly(stream, math.prod(shape) * dtype.itemsize), dtype)
    return array.astype(dtype.newbyteorder("="), copy=False).reshape(shape, order="F" if by_columns else "C")


def _exactly(stream: IO[bytes], count: int) -> bytearray:
    """That many bytes; a piece at a time, so that a file that only claims to have them takes no memory."""
    data = bytearray()
    while len(data) < count:
        piece = stream.read(min(count - len(data), 1 << 20))
        if not piece:
            raise ValueError(f"it ends {count - len(data):,} bytes early")
        data += piece
    return data


def _read_npz(stream: IO[bytes], fits: Fits, names: list[str]) -> dict[str, np.ndarray]:
    arrays = {}
    with zipfile.ZipFile(stream) as archive:
        for name in names:
            for member in archive.infolist():
                if member.filename != f"{name}.npy":
                    continue
                if member.compress_type not in ZIP_METHODS:
                    raise ValueError(f"member {member.filename} is compressed by method {member.compress_type}")
                with archive.open(member) as content:
                    if content.read(6) == b"\x93NUMPY":  # else it is no array
                        arrays[name] = _read_npy(content, name, fits)
                        content.read(1)  # the end of the data, where zipfile compares the checksum
    return arrays


def _read_safetensors(stream: IO[bytes], fits: Fits, names: list[str]) -> dict[str, np.ndarray]:
    size = int.from_bytes(_exactly(stream, 8), "little")
    if size > SAFETENSORS_HEADER:
        raise ValueError(f"its header has {size:,} bytes")
    header = json.loads(_exactly(stream, size))
    arrays = {}
    for name in names:
        entry = header.get(name)
        if entry is None or entry["dtype"] not in SAFETENSORS_DTYPES:
            continue
        dtype, shape = np.dtype(SAFETENSORS_DTYPES[entry["dtype"]]), tuple(entry["shape"])
        first, last = entry["data_offsets"]
        if not all(type(n) is int and n >= 0 for n in (*shape, first, last)):
            raise ValueError(f"tensor {name} has shape {list(shape)} at {first} to {last}")
        fits(name, shape, dtype)
        if last - first != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"tensor {name} has {last - first:,} bytes for shape {list(shape)}")
        stream.seek(8 + size + first)
        arrays[name] = np.frombuffer(_exactly(stream, last - first), dtype).reshape(shape)
    return arrays


def write_array(path: str, array: np.ndarray) -> None:
    """One .npy file, written whole or not at all (`-`: standard output)."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    write_bytes(path, stream.getvalue())


def _one_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
