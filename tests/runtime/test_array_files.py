"""Arrays in files: whatever is wrong with one is told in one line."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile

import numpy as np
import pytest
from damage import flipped, truncated

from npuc.compiler.diagnostics import InputError
from npuc.runtime.array_files import read_array, read_arrays


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(save=np.savez) -> bytes:
    stream = io.BytesIO()
    save(stream, q=np.zeros((2, 3), np.float32), k=np.ones(5))
    return stream.getvalue()


def safetensors(header: object, data: bytes = bytes(32)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes: object) -> dict[str, object]:
    return {"q": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **changes}}


FILES = {
    "a.npy": npy(np.arange(12.0).reshape(3, 4)),
    "a.npz": npz(),
    "compressed.npz": npz(np.savez_compressed),
    "a.safetensors": safetensors(entry()),
}


def with_header(text: str) -> bytes:
    """A .npy file of that header."""
    padded = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + bytes(64)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("nan shape", with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (nan,)}")),
        ("float shape", with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2.0,)}")),
        ("negative shape", with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}")),
        ("boundless shape", with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 99999999999)}")),
        ("open header", with_header("{'descr': '<f4', (")),
        ("code in the header", with_header("__import__('os').abort()")),
        ("pickled", npy(np.array([{"a": 1}], dtype=object))),
        ("short", npy(np.zeros(9))[:-1]),
    ],
)
def test_a_broken_npy_is_told(tmp_path, name, data):
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    with pytest.raises(InputError, match="broken .npy file") as error:
        read_array(str(path))
    assert error.value.place is not None and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("shape and bytes differ", safetensors(entry(shape=[2, 4]))),
        ("negative shape", safetensors(entry(shape=[-1, -6]))),
        ("boundless shape", safetensors(entry(shape=[1 << 40, 1 << 40]))),
        ("text as offsets", safetensors(entry(data_offsets=["0", "24"]))),
        ("one offset", safetensors(entry(data_offsets=[0]))),
        ("beyond the end", safetensors(entry(data_offsets=[24, 48]))),
        ("dtype is a list", safetensors(entry(dtype=["F32"]))),
        ("no dtype", safetensors({"q": {}})),
        ("an array for an object", safetensors({"q": []})),
        ("nested without bound", safetensors(b"[" * 100_000)),
        ("header beyond the file", struct.pack("<Q", 1 << 60) + b"{}"),
        ("no header", b"123"),
    ],
)
def test_a_broken_safetensors_is_told(tmp_path, name, data):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError, match="broken .safetensors file"):
        read_arrays(str(path))


def test_an_encrypted_or_strangely_compressed_npz_is_told(tmp_path):
    data = bytearray(FILES["a.npz"])
    place = data.index(b"PK\x01\x02")
    data[place + 10] = 99  # compression method of the first file
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(InputError, match="broken .npz file"):
        read_arrays(str(path))


def test_members_of_an_npz_that_are_no_arrays_are_left_out(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("q.npy", "no array")
        archive.writestr("notes.txt", "text")
        archive.writestr("k.npy", npy(np.ones(2)))
    assert set(read_arrays(str(path))) == {"k"}


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_give_arrays_or_input_errors(tmp_path, seed, name):
    generator = random.Random(seed)
    path = tmp_path / name
    read = read_array if name.endswith(".npy") else read_arrays
    damaged = [*flipped(FILES[name], generator, 200), *truncated(FILES[name], generator, 50)]
    for data in damaged:
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(str(path))
        except InputError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
