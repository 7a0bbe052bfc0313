"""npuc.attention: arguments, PyTorch's names, shapes, arrays of other libraries, what it says."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
import threading
import weakref
from types import ModuleType, SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from kernel_files import xclbin_of
from test_reference import one_query_at_a_time

import npuc
from npuc.compiler.frontend.attention import Attention
from npuc.runtime import dlpack, executable, executor, notices, on_demand
from npuc.runtime.statistics import RunReport

BF16 = np.dtype(ml_dtypes.bfloat16)
ONLY_REFERENCE: dict[str, Any] = {"backend": "reference"}


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is loaded, and nothing has been said."""
    on_demand._loaded.cache_clear()
    monkeypatch.setattr(notices, "_said", set())


def draw(seed: int, *, heads: int = 2, groups: int = 2, s: int = 6, keys: int = 8, size: int = 4, wide: int = 4) -> Any:
    r = np.random.default_rng(seed)
    shapes = (1, heads, s, size), (1, groups, keys, size), (1, groups, keys, wide)
    return [r.standard_normal(shape).astype(np.float32) for shape in shapes]


class Device:
    """An emulator that fills the output with 1."""

    name = "emulator"

    def run(self, buffers: Any, kernel: Any) -> RunReport:
        buffers[-1][:] = np.ones(len(buffers[-1]) // 2, BF16).tobytes()
        return RunReport(self.name, emulated=True, seconds=1e-6, cycles=1000, clock_hz=10**9)

    def close(self) -> None:
        pass


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> list[Attention]:
    """Kernels compile to nothing and run on the device above; what was compiled."""
    compiled: list[Attention] = []
    real = executable.open_backend

    def opened(name: str, kernel: Any, settings: Any) -> Any:
        return Device() if name == "emulator" and kernel.refusal is None else real(name, kernel, settings)

    def compile_description(attention: Attention) -> Any:
        compiled.append(attention)
        return SimpleNamespace(xclbin=xclbin_of(attention), host=None)

    monkeypatch.setattr(executable, "open_backend", opened)
    monkeypatch.setattr(executor.driver, "compile_description", compile_description)
    return compiled


# what it computes


def test_a_kernel_is_compiled_once_a_shape_class(seed, device):
    q, k, v = draw(seed)
    bits = [x.astype(BF16) for x in (q, k, v)]
    assert (npuc.attention(*bits, backend="emulator") == 1).all()
    assert npuc.attention(*bits, backend="emulator").dtype == BF16
    out = npuc.attention(q, k, v, causal=True, window=3, backend="emulator")
    assert out.dtype == np.float32 and out.flags.writeable
    longer = [np.concatenate([array, array], axis=2) for array in (q, k, v)]
    assert npuc.attention(*longer, causal=True, scale=0.1, backend="emulator").shape == longer[0].shape
    assert [(a.open_dimensions, a.argument("q").dtype) for a in device] == [
        (("B", "S", "Skv"), "bf16"),
        (("B", "S", "Skv"), "f32"),
    ]


def test_softcaps_share_a_kernel_but_for_very_large_ones(seed, device):
    arrays = draw(seed)
    for softcap in (0.5, 30.0, 64.0, 65.0, 1e6):
        assert (npuc.attention(*arrays, softcap=softcap, backend="emulator") == 1).all()
    small, large = (a.softcap for a in device)
    assert small <= 64.0 < large


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, BF16])
@pytest.mark.parametrize(
    "rules",
    [{}, {"causal": True}, {"scale": -0.3}, {"scale": 0}, {"window": 3, "align": "bottom-right"}, {"softcap": 1.5}],
    ids=str,
)
def test_the_reference_serves_every_rule_in_the_type_of_q(seed, rules, dtype):
    q, k, v = (x.astype(dtype) for x in draw(seed, heads=4))
    out = npuc.attention(q, k, v, **rules, **ONLY_REFERENCE)
    assert out.dtype == (np.float32 if dtype is np.float64 else dtype) and out.flags.writeable
    if rules.get("scale") == 0:
        rules = {"scale": 1e-300}
    expected = one_query_at_a_time(*(x.astype(float) for x in (q, k, v)), **rules)
    rounding = {2: 1e-3 if dtype is np.float16 else 1e-2}.get(out.dtype.itemsize, 1e-5)
    np.testing.assert_allclose(out.astype(float), expected, atol=rounding)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_leading_dimensions_may_be_left_out(seed, rank):
    q, k, v = draw(seed, heads=1 if rank == 2 else 4, groups=1 if rank == 2 else 2)
    out = npuc.attention(*(x.reshape(x.shape[4 - rank :]) for x in (q, k, v)), causal=True, **ONLY_REFERENCE)
    assert out.shape == q.shape[4 - rank :]
    np.testing.assert_allclose(out, one_query_at_a_time(q, k, v, causal=True).reshape(out.shape), atol=1e-5)


@pytest.mark.parametrize(("size", "wide"), [(4, 7), (7, 4)])
def test_heads_of_v_may_have_another_width(seed, size, wide, device):
    q, k, v = draw(seed, size=size, wide=wide)
    out = npuc.attention(q, k, v, **ONLY_REFERENCE)
    np.testing.assert_allclose(out, one_query_at_a_time(q, k, v), atol=1e-5)
    assert npuc.attention(q, k, v, backend="emulator").shape == (1, 2, 6, wide) and device[0].head_dim == 7


MASKS = [(8,), (1, 8), (6, 1), (6, 8), (2, 6, 8), (2, 1, 8), (1, 2, 6, 8), (1, 1, 6, 8), (1, 1, 1, 1), ()]


@pytest.mark.parametrize("kind", ["keep", "add"])
@pytest.mark.parametrize("shape", MASKS)
def test_masks_of_any_shape_that_broadcasts_are_taken(seed, shape, kind, caplog):
    q, k, v = draw(seed)
    r = np.random.default_rng(seed)
    mask = r.random(shape) < 0.6 if kind == "keep" else np.where(r.random(shape) < 0.3, -np.inf, r.random(shape))
    mask = np.asarray(mask if kind == "keep" else mask.astype(np.float32))
    out = npuc.attention(q, k, v, mask, **ONLY_REFERENCE)
    seen = np.broadcast_to(mask, (1, 2, 6, 8))
    np.testing.assert_allclose(out, one_query_at_a_time(q, k, v, seen), atol=1e-5)
    assert not caplog.records, "an ordinary mask, and nothing odd about it"
    if shape == (8,):
        npuc.attention(q, k, v, mask)
        assert "broadcast" not in caplog.text


# PyTorch's names


def test_pytorchs_names_mean_the_same(seed):
    q, k, v = draw(seed, heads=4)
    mask = np.random.default_rng(seed).random((6, 8)) < 0.7
    mine = npuc.attention(q, k, v, mask, causal=True, **ONLY_REFERENCE)
    theirs = npuc.attention(q, k, v, attn_mask=mask, dropout_p=0.0, is_causal=True, enable_gqa=True, **ONLY_REFERENCE)
    np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(npuc.UsageError, match="two names of one argument"):
        npuc.attention(q, k, v, mask, attn_mask=mask)
    with pytest.raises(npuc.InputError, match="give enable_gqa=True"):
        npuc.attention(q, k, v, enable_gqa=False)
    with pytest.raises(npuc.InputError, match="without dropout"):
        npuc.attention(q, k, v, dropout_p=0.1)


# wrong arguments


WRONG: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"window": -5}, npuc.InputError),
    ({"window": 0}, npuc.InputError),
    ({"window": 2.5}, TypeError),
    ({"window": True}, TypeError),
    ({"window": "3"}, TypeError),
    ({"softcap": 0}, npuc.InputError),
    ({"softcap": -1.0}, npuc.InputError),
    ({"softcap": float("nan")}, npuc.InputError),
    ({"softcap": float("inf")}, npuc.InputError),
    ({"softcap": "2"}, TypeError),
    ({"scale": float("nan")}, npuc.InputError),
    ({"scale": float("inf")}, npuc.InputError),
    ({"scale": "0.1"}, TypeError),
    ({"scale": 1j}, TypeError),
    ({"causal": "no"}, TypeError),
    ({"causal": 2}, TypeError),
    ({"is_causal": None}, TypeError),
    ({"align": "middle"}, npuc.InputError),
    ({"backend": "npu"}, npuc.UsageError),
    ({"fallback": "reference"}, npuc.UsageError),
    ({"fallback": ("xrt",)}, npuc.UsageError),
    ({"fallback": None}, TypeError),
    ({"temperature": 1.0}, TypeError),
    ({"mask": np.ones((6, 7), bool)}, npuc.InputError),
    ({"mask": np.ones((5, 8), bool)}, npuc.InputError),
    ({"mask": np.ones((1, 1, 1, 6, 8), bool)}, npuc.InputError),
    ({"mask": np.ones((6, 8), int)}, npuc.InputError),
    ({"mask": np.ones((6, 8), complex)}, npuc.InputError),
]


@pytest.mark.parametrize(("arguments", "error"), WRONG, ids=str)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_wrong_arguments_raise_and_are_never_served(seed, backend, arguments, error):
    with pytest.raises(error) as caught:
        npuc.attention(*draw(seed), **{"backend": backend, **arguments})
    assert not isinstance(caught.value, npuc.UnsupportedError)


def changed(arrays: Any, which: int, change: Any) -> list[Any]:
    return [change(x) if i == which else x for i, x in enumerate(arrays)]


@pytest.mark.parametrize(
    ("which", "change"),
    [
        (0, lambda x: x[..., :3]),
        (1, lambda x: x[:, :, :5]),
        (2, lambda x: x[:, :, :5]),
        (1, lambda x: np.concatenate([x, x])),
        (0, lambda x: x[:, :1].repeat(3, axis=1)),
        (1, lambda x: x[0]),
        (0, lambda x: x.reshape(-1)),
        (0, lambda x: x[None]),
        (0, lambda x: x[:, :, :0]),
        (2, lambda x: x[..., :0]),
        (0, lambda x: x.astype(np.int32)),
        (1, lambda x: x.astype(bool)),
        (2, lambda x: x.astype(object)),
        (2, lambda x: None),
        (0, lambda x: "q"),
    ],
)
def test_arrays_that_do_not_belong_together_raise(seed, which, change):
    with pytest.raises(npuc.InputError) as caught:
        npuc.attention(*changed(draw(seed), which, change))
    assert not isinstance(caught.value, npuc.UnsupportedError)


# what is said


def test_what_kernels_do_not_support_falls_back_with_a_reason_said_once(seed, caplog):
    q, k, v = draw(seed, size=264, wide=264)
    with caplog.at_level(logging.WARNING, "npuc"):
        for _ in range(3):
            out = npuc.attention(q, k, v)
    np.testing.assert_allclose(out, one_query_at_a_time(q, k, v), atol=1e-5)
    (said,) = caplog.messages
    assert said.startswith("emulator cannot serve attention: ") and "falling back to reference" in said
    assert "head size 264 is above 256" in said and npuc.last_stats().backend == "reference"
    with pytest.raises(npuc.UnsupportedError, match="head size 264 is above 256"):
        npuc.attention(q, k, v, fallback=())


def test_a_length_that_no_kernel_takes_falls_back_call_by_call(seed, device, caplog):
    r = np.random.default_rng(seed)
    q, k, v = (r.standard_normal((1, 1, 1, 8)), *(r.standard_normal((1, 1, 8200, 8)) for _ in range(2)))
    out = npuc.attention(q, k, v, backend="emulator")
    assert npuc.last_stats().backend == "reference" and "key length 8200 is above 8192" in caplog.text
    np.testing.assert_allclose(out, one_query_at_a_time(q, k, v), atol=1e-5)
    assert (npuc.attention(q, k[:, :, :9], v[:, :, :9], backend="emulator") == 1).all() and len(device) == 1
    with pytest.raises(npuc.UnsupportedError, match="key length 8200"):
        npuc.attention(q, k, v, backend="emulator", fallback=())


@pytest.mark.parametrize("backend", ["auto", "emulator"])
def test_emulation_is_said_once_a_process(seed, backend, device, caplog):
    with caplog.at_level(logging.WARNING, "npuc"):
        for _ in range(3):
            npuc.attention(*draw(seed), backend=backend)
            npuc.attention(*draw(seed), backend="emulator", causal=True)
    assert len(caplog.messages) == 1 and "emulat" in caplog.text
    assert npuc.last_stats().emulated and npuc.last_stats().cycles == 1000


def test_the_last_calls_statistics_are_those_of_the_thread(seed, device):
    npuc.attention(*draw(seed), backend="emulator")
    other: list[str] = []

    def work() -> None:
        with pytest.raises(npuc.UsageError, match="not called in this thread"):
            npuc.last_stats()
        npuc.attention(*draw(seed), **ONLY_REFERENCE)
        other.append(npuc.last_stats().backend)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert other == ["reference"] and npuc.last_stats().backend == "emulator"


# other libraries' arrays


class Array:
    """An array of another library: it gives out its memory by DLPack and is otherwise nothing that numpy knows."""

    def __init__(self, array: np.ndarray, code: int | None = None, device: int = dlpack.CPU) -> None:
        self.array, self.code, self.device = array, code, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, stream: object = None) -> Any:
        capsule = self.array.__dlpack__()
        if self.code is not None:  # numpy has no code for bf16: its int16 capsule is given another
            pointer = ctypes.pythonapi.PyCapsule_GetPointer
            pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
            place = pointer(capsule, b"dltensor")
            assert ctypes.c_uint8.from_address(place + 20).value == 0 and place  # signed integers
            ctypes.c_uint8.from_address(place + 20).value = self.code
        return capsule

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("cannot be read by numpy")


def bf16(array: np.ndarray) -> Array:
    return Array(array.astype(BF16).view(np.int16), 4)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package of Array, with a from_dlpack that understands bf16."""

    def from_dlpack(exporter: Any) -> Array:
        assert exporter.__dlpack_device__() == (1, 0)
        array = dlpack.as_numpy("result", exporter)
        return bf16(array) if array.dtype == BF16 else Array(array)

    package = ModuleType("arrays_of_others")
    package.from_dlpack = from_dlpack  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "arrays_of_others", package)
    monkeypatch.setattr(Array, "__module__", "arrays_of_others.tensor")
    return package


def test_arrays_of_another_library_are_taken_and_given_back(seed, library):
    q, k, v = draw(seed, heads=4)
    mask = np.random.default_rng(seed).random((6, 8)) < 0.7
    expected = npuc.attention(q, k, v, mask, **ONLY_REFERENCE)
    out = npuc.attention(Array(q), Array(k), Array(v), Array(mask), **ONLY_REFERENCE)
    assert isinstance(out, Array) and out.array.dtype == np.float32
    np.testing.assert_array_equal(out.array, expected)
    mixed = npuc.attention(q, Array(k), v, mask, **ONLY_REFERENCE)
    assert isinstance(mixed, np.ndarray)
    np.testing.assert_array_equal(mixed, expected)


def test_bf16_of_another_library_is_taken_and_given_back(seed, library):
    arrays = [x.astype(BF16) for x in draw(seed)]
    out = npuc.attention(*map(bf16, arrays), causal=True, **ONLY_REFERENCE)
    assert isinstance(out, Array) and out.code == 4
    expected = npuc.attention(*arrays, causal=True, **ONLY_REFERENCE)
    assert expected.dtype == BF16
    np.testing.assert_array_equal(out.array.view(BF16), expected)


def test_a_loaded_kernel_takes_them_too(seed):
    arrays = draw(seed)
    described = Attention.make(heads=2, query_length=6, key_length=8, head_dim=4)
    with npuc.load(xclbin_of(described), backend="reference") as exe:
        np.testing.assert_array_equal(exe(*map(bf16, arrays)), exe(*(x.astype(BF16) for x in arrays)))


@pytest.mark.parametrize("order", ["C", "F", "reversed", "steps", "one", "none"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "?"])
def test_memory_of_any_strides_is_read_as_it_is(seed, dtype, order):
    array = np.random.default_rng(seed).integers(0, 2, (4, 6, 8)).astype(dtype)
    shaped = {
        "C": array,
        "F": np.asfortranarray(array),
        "reversed": array[::-1, :, ::-2],
        "steps": array[1:, ::3, ::2],
        "one": np.broadcast_to(array[:1, :, :1], (3, 6, 5)).copy()[:, :, :1],
        "none": array[:, :0],
    }[order]
    got = dlpack.as_numpy("x", Array(shaped))
    np.testing.assert_array_equal(got, shaped)
    assert got.dtype == shaped.dtype and not (got.size and got.flags.writeable)
    assert np.shares_memory(got, shaped) == bool(shaped.size), "read where it lies"


def test_memory_of_another_library_lives_as_long_as_a_view_of_it(seed):
    array = np.random.default_rng(seed).standard_normal((64, 64))
    expected, owner = array[::2].copy(), weakref.ref(array)
    got = dlpack.as_numpy("x", Array(array))[::2]
    del array
    gc.collect()
    assert owner() is not None
    np.testing.assert_array_equal(got, expected)
    del got
    gc.collect()
    assert owner() is None


def test_what_cannot_be_read_is_told(seed):
    q, k, v = draw(seed)
    with pytest.raises(npuc.InputError, match="q lies on another device .DLPack type 2.*move it to the CPU"):
        npuc.attention(Array(q, device=2), k, v)
    with pytest.raises(npuc.InputError, match="k has elements of DLPack type code 5, 64 bits"):
        npuc.attention(q, Array(k.astype(np.complex64)), v)
    with pytest.raises(npuc.InputError, match="v has elements of DLPack type code 17"):
        npuc.attention(q, k, Array(v.astype(np.int8), 17))

    class Attached(Array):
        def __dlpack__(self, stream: object = None) -> Any:
            raise BufferError("Can't export tensors that require gradient")

    with pytest.raises(npuc.InputError, match="v is not given out by its library: Can't export .*detach it"):
        npuc.attention(q, k, Attached(v))


def test_torch_tensors_come_and_go(seed):
    torch = pytest.importorskip("torch")
    arrays = draw(seed)
    expected = npuc.attention(*arrays, causal=True, **ONLY_REFERENCE)
    out = npuc.attention(*map(torch.from_numpy, arrays), is_causal=True, **ONLY_REFERENCE)
    assert isinstance(out, torch.Tensor) and out.dtype == torch.float32
    np.testing.assert_array_equal(out.numpy(), expected)
    out = npuc.attention(*(torch.from_numpy(x).bfloat16() for x in arrays), is_causal=True, **ONLY_REFERENCE)
    assert out.dtype == torch.bfloat16
    np.testing.assert_allclose(out.float().numpy(), expected, atol=2e-2)
