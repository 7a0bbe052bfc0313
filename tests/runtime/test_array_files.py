"""Arrays in files: whatever is wrong with one is told in one line."""

from __future__ import annotations

import io
import json
import random
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from damage import flipped, truncated

from npuc.compiler.diagnostics import InputError
from npuc.runtime.array_files import read_array, read_arrays


def read_all(path: str) -> dict[str, np.ndarray]:
    """What q and k are, whatever their shape."""
    return read_arrays(path, lambda *_: None, ["q", "k"])


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
        ("long strings", with_header("{'descr': '<U99999999', 'fortran_order': False, 'shape': (1,)}")),
        ("long elements", with_header("{'descr': '|V99999999', 'fortran_order': False, 'shape': (1,)}")),
        ("unknown version", b"\x93NUMPY\x07\x00" + npy(np.zeros(2))[8:]),
        ("header without end", b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(99)),
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
        ("before the data", safetensors(entry(data_offsets=[-24, 0]))),
        ("overlapping its own header", safetensors(entry(shape=[2, 3], data_offsets=[-8, 16]))),
        ("boolean sizes", safetensors(entry(shape=[True, 6]))),
        ("nested without bound", safetensors(b"[" * 100_000)),
        ("header beyond the file", struct.pack("<Q", 1 << 60) + b"{}"),
        ("no header", b"123"),
    ],
)
def test_a_broken_safetensors_is_told(tmp_path, name, data):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError, match="broken .safetensors file"):
        read_all(str(path))


def test_an_encrypted_or_strangely_compressed_npz_is_told(tmp_path):
    data = bytearray(FILES["a.npz"])
    place = data.index(b"PK\x01\x02")
    data[place + 10] = 99  # compression method of the first file
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(InputError, match="broken .npz file"):
        read_all(str(path))


def test_an_archive_that_cannot_be_read_is_told():
    """Not as an error of standard output, which some errors of reading could be."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("no /proc/self/mem, which cannot be read at 0")
    with pytest.raises(InputError, match="^/proc/self/mem: cannot read: Input/output error$"):
        read_arrays("/proc/self/mem", lambda *_: None, ["q"])


def test_members_of_an_npz_that_are_no_arrays_are_left_out(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("q.npy", "no array")
        archive.writestr("notes.txt", "text")
        archive.writestr("k.npy", npy(np.ones(2)))
    assert set(read_all(str(path))) == {"k"}


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_give_arrays_or_input_errors(tmp_path, seed, name):
    generator = random.Random(seed)
    path = tmp_path / name
    read = read_array if name.endswith(".npy") else read_all
    damaged = [*flipped(FILES[name], generator, 200), *truncated(FILES[name], generator, 50)]
    for data in damaged:
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(str(path))
        except InputError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)


# what a file may take


MEMORY = 4 << 20
"""Bytes that reading a small array may take at most, whatever the file says."""


def peak(act) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def only(shape: tuple[int, ...]):
    def fits(name: str, found: tuple[int, ...], dtype: np.dtype) -> None:
        if found != shape:
            raise InputError(f"{name} expects {shape}")

    return fits


@pytest.fixture(scope="module")
def bomb(tmp_path_factory) -> str:
    """150 KB that unpack to 150 MB: q has that size, k is small and has as much behind it."""
    path = tmp_path_factory.mktemp("bomb") / "a.npz"
    big = bytes(150 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("q.npy", npy(np.zeros(1))[:128].replace(b"(1,), }        ", b"(19660800,), } ") + big)
        archive.writestr("k.npy", npy(np.ones(2)) + big)
        archive.writestr("other.npy", npy(np.zeros(1)) + big)
    assert path.stat().st_size < 1 << 20
    return str(path)


def test_an_archive_is_not_unpacked_beyond_what_the_kernel_takes(bomb):
    def refused() -> None:
        with pytest.raises(InputError, match="q expects"):
            read_arrays(bomb, only((2,)), ["q", "k"])

    assert peak(refused) < MEMORY
    assert peak(lambda: read_arrays(bomb, only((2,)), ["k"])) < MEMORY
    np.testing.assert_array_equal(read_arrays(bomb, only((2,)), ["k"])["k"], [1, 1])
    assert len(read_arrays(bomb, only((19660800,)), ["q"])["q"]) == 19660800, "the bomb is one"


@pytest.mark.parametrize("shape", ["(99999999, 9999)", "(4000000000,)"])
def test_a_file_that_claims_what_it_has_not_takes_no_memory(tmp_path, shape):
    path = tmp_path / "a.npy"
    path.write_bytes(with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"))

    def refused() -> None:
        with pytest.raises(InputError, match="ends [0-9,]+ bytes early"):
            read_array(str(path))

    assert peak(refused) < MEMORY


def test_of_a_model_file_only_the_inputs_are_read(tmp_path):
    path = tmp_path / "model.safetensors"
    header = {"weights": {"dtype": "F32", "shape": [1 << 22], "data_offsets": [24, 24 + (1 << 24)]}, **entry()}
    path.write_bytes(safetensors(header, np.arange(6, dtype=np.float32).tobytes() + bytes(1 << 24)))
    assert peak(lambda: read_all(str(path))) < MEMORY
    np.testing.assert_array_equal(read_all(str(path))["q"], np.arange(6).reshape(2, 3))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "i1", "?", "<u2"])
def test_arrays_are_what_numpy_wrote(tmp_path, dtype, order, seed):
    array = np.asarray(np.random.default_rng(seed).integers(0, 2, (3, 4, 5)).astype(dtype), order=order)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", q=array)
    for found in (read_array(str(tmp_path / "a.npy")), read_all(str(tmp_path / "a.npz"))["q"]):
        assert found.dtype == np.dtype(dtype).newbyteorder("=") and found.flags.writeable
        np.testing.assert_array_equal(found, array)
