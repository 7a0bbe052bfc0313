"""The public API on kernel files without a program, served by numpy or by a stand-in device."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from fake_pipeline import FakePipeline
from kernel_files import npua_of, xclbin_of

import npuc
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import xclbin
from npuc.compiler.emit.cdo import Write
from npuc.compiler.emit.npua import read_npua, write_npua
from npuc.compiler.emit.pdi import write_pdi
from npuc.compiler.frontend.attention import Attention
from npuc.runtime import executable
from npuc.runtime.arguments import KernelArgument, draw, from_user, round_to_bf16
from npuc.runtime.backends import open_backend
from npuc.runtime.kernel_file import read_kernel
from npuc.runtime.reference import attention as reference_attention
from npuc.runtime.statistics import RunReport

SHAPE = {"heads": 2, "query_length": 8, "head_dim": 4}
BF16 = ml_dtypes.bfloat16


def described(**changes) -> Attention:
    return Attention.make(**{**SHAPE, **changes})


def arrays(seed, dtype=np.float32, shape=(1, 2, 8, 4)):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype(dtype) for _ in range(3)]


class Device:
    """A backend that fails as often as told, writes garbage when it does, and then fills the output with 1."""

    name = "emulator"

    def __init__(self, failures=0):
        self.failures, self.seen = failures, []

    def run(self, buffers, kernel):
        self.seen = [bytes(b) for b in buffers]
        if self.failures:
            self.failures -= 1
            buffers[0][:] = bytes(len(buffers[0]))
            raise npuc.BackendError("the device fell over")
        buffers[-1][:] = np.ones(len(buffers[-1]) // 2, BF16).tobytes()
        return RunReport(self.name, emulated=True, seconds=1e-6, cycles=1000, clock_hz=10**9)

    def close(self):
        pass


@pytest.fixture
def device(monkeypatch):
    fake = Device()
    real = executable.open_backend
    monkeypatch.setattr(
        executable, "open_backend", lambda name, *rest: fake if name == "emulator" else real(name, *rest)
    )
    return fake


# values at the interface


@pytest.mark.parametrize("make", [xclbin_of, npua_of])
def test_the_reference_backend_serves_both_kinds_of_file(make, seed):
    q, k, v = arrays(seed)
    with npuc.load(make(described(causal=True)), backend="reference") as exe:
        out = exe(q, k, v)
    assert out.dtype == np.float32 and exe.stats.backend == "reference" and not exe.stats.emulated
    rounded = [round_to_bf16(x).astype(np.float64) for x in (q, k, v)]
    np.testing.assert_allclose(out, reference_attention(*rounded, causal=True), atol=1e-2)


@pytest.mark.parametrize("given", [np.float32, np.float64, np.float16, BF16])
def test_float_arrays_of_every_kind_reach_the_kernel_as_bf16(given, seed, device):
    q, k, v = arrays(seed, given)
    npuc.load(xclbin_of(described()), backend="emulator")(q, k=k, v=v)
    assert device.seen[0] == round_to_bf16(q).tobytes() and len(device.seen) == 4


def test_bf16_bits_are_taken_as_they_are(seed, device):
    bits = [round_to_bf16(x).view(np.uint16) for x in arrays(seed)]
    npuc.load(xclbin_of(described()), backend="emulator")(*bits)
    assert device.seen[2] == bits[2].tobytes()


@pytest.mark.parametrize(
    ("interface", "given", "returned"),
    [
        ("bf16", np.float32, np.float32),
        ("bf16", BF16, BF16),
        ("f32", np.float64, np.float32),
        ("f16", BF16, np.float16),
    ],
)
def test_the_output_has_the_type_of_the_interface(interface, given, returned, seed, device):
    out = npuc.load(xclbin_of(described(dtype=interface)), backend="emulator")(*arrays(seed, given))
    assert out.dtype == returned and out.shape == (1, 2, 8, 4) and (out == 1).all()


def test_rounding_to_bf16_is_to_nearest_even_in_one_step():
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-40, -1 - 2**-8 - 2**-40, 3.4e38, 1e39, 1e-46, np.nan])
    expected = [1, 1 + 2**-6, 1 + 2**-7, -1 - 2**-7, np.inf, np.inf, 0, np.nan]
    np.testing.assert_array_equal(round_to_bf16(values).astype(np.float64), expected)


def test_rounding_to_bf16_agrees_with_the_nearest_of_all_values(seed):
    grid = np.arange(0x3F00, 0x4000, dtype=np.uint16).view(BF16).astype(np.float64)
    values = np.random.default_rng(seed).uniform(grid[0], grid[-1], 2000)
    nearest = grid[np.abs(values[:, None] - grid).argmin(axis=1)]
    np.testing.assert_array_equal(round_to_bf16(values).astype(np.float64), nearest)


def test_random_inputs_are_drawn_in_argument_order():
    def argument(name, dtype, direction="in"):
        return KernelArgument(name, name, dtype, dtype, (3, 50), direction, 0)

    drawn = draw((argument("q", "bf16"), argument("m", "i1"), argument("k", "i8"), argument("o", "bf16", "out")), 7)
    generator = np.random.default_rng(7)
    np.testing.assert_array_equal(drawn["q"], round_to_bf16(generator.standard_normal((3, 50))))
    assert drawn["m"].dtype == bool and drawn["m"][:, 0].all() and 0.7 < drawn["m"].mean() < 0.9
    assert drawn["k"].min() >= -127 and list(drawn) == ["q", "m", "k"]


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, bool, complex])
def test_a_wrong_dtype_names_argument_expected_and_got(dtype):
    argument = KernelArgument("k", "k", "f32", "bf16", (2,), "in", 0)
    with pytest.raises(npuc.InputError, match=rf"argument k expects float32.*, got {np.dtype(dtype)}"):
        from_user(argument, np.zeros(2, dtype))


def test_wrong_calls_are_refused_by_name(seed, device):
    q, k, v = arrays(seed)
    exe = npuc.load(xclbin_of(described()), backend="emulator", fallback=())
    with pytest.raises(npuc.InputError, match=r"argument k expects shape \[1, 2, 8, 4\], got \[1, 2, 7, 4\]"):
        exe(q, k[:, :, 1:], v)
    with pytest.raises(npuc.InputError, match="argument v of attention is missing"):
        exe(q, k)
    with pytest.raises(npuc.InputError, match="has no input 'w'"):
        exe(q, k, v, w=v)
    with pytest.raises(npuc.InputError, match="given twice"):
        exe(q, k, v, q=q)
    with pytest.raises(npuc.InputError, match="takes 3 arrays"):
        exe(q, k, v, v)


# fallback


def test_a_failing_device_falls_back_with_a_logged_reason_and_the_true_inputs(seed, device, caplog):
    device.failures = 1
    q, k, v = arrays(seed)
    exe = npuc.load(xclbin_of(described()), backend="emulator", fallback=("gpu", "reference"))
    out = exe(q, k, v)
    assert exe.stats.backend == "reference" and "the device fell over; falling back to gpu" in caplog.text
    assert np.abs(out - reference_attention(q, k, v)).max() < 0.1
    assert (exe(q, k, v) == 1).all(), "the device serves again once it can"


def test_without_fallback_the_failure_is_raised(seed, device):
    device.failures = 1
    exe = npuc.load(xclbin_of(described()), backend="emulator", fallback=())
    with pytest.raises(npuc.BackendError, match="fell over"):
        exe(*arrays(seed))


def test_a_device_that_is_not_there_falls_back_on_loading(seed, caplog):
    exe = npuc.load(xclbin_of(described()), backend="xrt", fallback=("reference",))
    exe(*arrays(seed))
    assert exe.stats.backend == "reference" and "falling back to reference" in caplog.text
    with pytest.raises(npuc.BackendError, match="no NPU"):
        npuc.load(xclbin_of(described()), backend="xrt", fallback=())


@pytest.mark.parametrize("choice", [{"backend": "npu"}, {"fallback": ("xrt",)}, {"fallback": "reference"}])
def test_unknown_backends_are_refused(choice):
    with pytest.raises(npuc.UsageError, match="is not possible"):
        npuc.load(xclbin_of(described()), **choice)


def test_auto_without_an_npu_is_emulated_and_says_so(device):
    exe = npuc.load(xclbin_of(described()))
    assert "running emulated" in exe.notice


def test_a_closed_kernel_refuses_calls(seed, device):
    with npuc.load(xclbin_of(described()), backend="emulator") as exe:
        pass
    with pytest.raises(npuc.BackendError, match="closed"):
        exe(*arrays(seed))


# files


def broken(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"garbage", "XCLBIN"),
        (xclbin_of(described())[:-5], "bytes"),
        (xclbin_of(described())[:100], "bytes"),
        (broken(npua_of(described()), 200), "CRC"),
        (npua_of(described(), columns="many"), "broken metadata"),
        (npua_of(described(), arguments=[]), "not those of its attention"),
        (npua_of(described(), attention={}), "not a description"),
        (npua_of(described(), pdi=b"other program"), "the program was changed"),
        (xclbin_of(described(), pdi=write_pdi([]) + bytes(16)), "the program was changed"),
    ],
)
def test_files_that_cannot_be_trusted_are_refused_with_the_file_named(data, says, tmp_path):
    path = tmp_path / "k.xclbin"
    path.write_bytes(data)
    with pytest.raises(npuc.InputError, match=says) as caught:
        npuc.load(path, backend="reference")
    assert str(caught.value).startswith(str(path))


def test_an_image_or_a_plan_that_is_none_is_told_with_the_file_named(tmp_path):
    path, image = tmp_path / "k.npua", b"no image"
    good = read_npua(npua_of(described()))
    path.write_bytes(write_npua(replace(good, pdi=image, pdi_sha256=hashlib.sha256(image).digest())))
    with pytest.raises(npuc.InputError, match="PDI: offset 0x0: ") as caught:
        npuc.load(path, backend="emulator")
    assert str(caught.value).startswith(str(path))
    with pytest.raises(npuc.InputError, match=r"^k\.npua: not a plan"):
        _ = read_kernel(write_npua(good), "k.npua").plan


def test_one_of_several_kernels_is_chosen_by_name():
    data = xclbin_of(described(function="one"), described(function="two"))
    assert npuc.load(data, backend="reference", kernel="two").kernel.name == "two"
    with pytest.raises(npuc.UsageError, match="2 kernels: one, two"):
        npuc.load(data, backend="reference")
    with pytest.raises(npuc.UsageError, match="there is one, two"):
        npuc.load(data, backend="reference", kernel="three")


def test_compile_takes_files_text_and_descriptions_and_saves(monkeypatch, tmp_path):
    FakePipeline().install(monkeypatch)
    (tmp_path / "a.mlir").write_text("file\n")
    line = "module attributes {a.b = 1} {}"
    for source in (
        tmp_path / "a.mlir",
        str(tmp_path / "a.mlir"),
        "text\n",
        line,
        described(query_length=64, head_dim=64),
    ):
        kernel = npuc.compile(source)
        kernel.save(tmp_path / "k.xclbin")
        assert (tmp_path / "k.xclbin").read_bytes() == b"xclbin of attention"
    kernel.save(tmp_path / "k.npua")
    assert (tmp_path / "k.npua").read_bytes() == b"npua"
    with pytest.raises(npuc.UsageError, match="is not saved as"):
        kernel.save(tmp_path / "k.mlir")


# the check


# PyTorch, against numpy arrays that answer as tensors do


class Tensor(np.ndarray):
    def cuda(self):
        return self

    cpu = cuda

    def numpy(self):
        return np.asarray(self)

    def transpose(self, a, b):
        return self.swapaxes(a, b)

    def repeat_interleave(self, count, dim):
        return self.repeat(count, axis=dim)

    def amax(self, dim, keepdim):
        return self.max(axis=dim, keepdims=keepdim)

    def sum(self, dim, keepdim):
        return np.asarray(self).sum(axis=dim, keepdims=keepdim).view(Tensor)


@pytest.mark.parametrize("rules", [{}, {"causal": True, "softcap": 2.0}, {"window": 2, "align": "bottom-right"}])
@pytest.mark.parametrize("mask", [None, "keep", "add"])
def test_the_gpu_backend_follows_the_reference(rules, mask, seed, monkeypatch):
    torch = SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: True),
        from_numpy=lambda array: array.view(Tensor),
        **{name: getattr(np, name) for name in ("exp", "tanh", "where")},
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    kernel = npuc.load(xclbin_of(described(heads=4, kv_heads=2, mask=mask, **rules)), backend="reference").kernel
    drawn = draw(kernel.arguments, seed)
    results = [open_backend(name, kernel, None).compute(drawn, kernel)[0] for name in ("gpu", "reference")]
    np.testing.assert_allclose(*results, atol=1e-5)


def test_the_gpu_backend_says_when_there_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(npuc.BackendError, match="PyTorch cannot be imported"):
        npuc.load(xclbin_of(described()), backend="gpu", fallback=())


def test_the_emulator_backend_boots_the_image_and_counts_cycles(seed):
    with npuc.load(xclbin_of(described()), backend="emulator", fallback=()) as exe:
        out = exe(*arrays(seed))
    assert exe.stats.emulated and exe.stats.clock_hz == 10**9 and exe.stats.cycles is not None
    assert not out.any(), "a kernel without a program writes nothing"
    with pytest.raises(npuc.UsageError, match="one of phoenix, 8945hs, 8700g"):
        npuc.load(xclbin_of(described()), backend="emulator", machine="z80")


def test_of_several_images_a_kernel_gets_the_one_that_serves_it(monkeypatch):
    """A file joined from two: the first image belongs to another kernel."""
    data = xclbin_of(described())
    file = xclbin.read_xclbin(data)
    other = xclbin.write_xclbin(replace(file, pdi=write_pdi([Write(16, 1)])))
    images = (replace(xclbin.read_xclbin(other).pdis[0], kernel_ids=(0x777,)), *file.pdis)
    monkeypatch.setattr(xclbin, "read_xclbin", lambda _: replace(file, pdi=images[0].pdi, pdis=images))
    assert read_kernel(data).pdi == file.pdi
    monkeypatch.setattr(xclbin, "read_xclbin", lambda _: replace(file, pdis=images[:1]))
    with pytest.raises(InputError, match="kernel attention has no PDI"):
        read_kernel(data)
