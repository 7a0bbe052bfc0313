"""npuc.torch: the operation, the context, the compiler's backend; each against PyTorch's own attention."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import npuc

torch = pytest.importorskip("torch", reason="PyTorch is not installed (npuc[torch])")

import npuc.torch  # noqa: E402
from npuc.runtime import notices, on_demand, strides  # noqa: E402
from npuc.runtime.frameworks import torch_attention  # noqa: E402
from npuc.runtime.frameworks.torch_attention import Rules, torchs_own  # noqa: E402

F = torch.nn.functional
OWN = F.scaled_dot_product_attention
BF16 = 2e-2  # of values of size 1
LOWEST = float(torch.finfo(torch.float32).min)


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Nothing is loaded, nothing has been said, and numbers are drawn from the seed."""
    on_demand._loaded.cache_clear()
    monkeypatch.setattr(notices, "_said", set())
    torch.manual_seed(seed)
    torch._dynamo.reset()


def draw(*leading: int, s: int = 5, keys: int = 9, size: int = 16, groups: int | None = None, dtype: Any = None) -> Any:
    dtype = dtype or torch.float32
    shared = leading if groups is None else (*leading[:-1], groups)
    return [torch.randn(*heads, n, size, dtype=dtype) for heads, n in ((leading, s), (shared, keys), (shared, keys))]


def close(ours: Any, theirs: Any, atol: float = 1e-5) -> None:
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours.detach().double().numpy(), theirs.detach().double().numpy(), atol=atol)


def tolerance(dtype: Any) -> float:
    return 1e-5 if dtype == torch.float32 else BF16


# the operation


def samples() -> Any:
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = draw(2, 4, groups=2, dtype=dtype)
        yield (q, k, v), {"enable_gqa": True}
        yield (q, k, v[..., :8], torch.rand(5, 9) < 0.7), {"enable_gqa": True, "softcap": 3.0, "layer": "a"}
        yield (q[0], k[0], v[0]), {"enable_gqa": True, "is_causal": True, "window": 3, "align": "bottom-right"}
        yield (q[0, 0], k[0, 0], v[0, 0]), {"scale": 0.3}
        yield tuple(x.transpose(1, 2) for x in draw(2, 3, s=4, keys=4, dtype=dtype)), {"is_causal": True}


def test_the_operation_is_what_pytorchs_tools_ask_of_one():
    count = 0
    for arguments, named in samples():
        found = torch.library.opcheck(torch.ops.npuc.sdpa.default, arguments, {**named, "backend": "reference"})
        assert set(found.values()) == {"SUCCESS"} and len(found) == 4
        count += 1
    assert count == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("leading", [(), (3,), (2, 4)], ids=str)
def test_it_computes_what_pytorch_does(leading, dtype):
    q, k, v = draw(*leading, dtype=dtype)
    masks = [None, torch.rand(5, 9) < 0.7, torch.randn(5, 9, dtype=dtype), torch.ones(1, 9, dtype=torch.bool)]
    for mask in masks:
        for causal in (True, False) if mask is None else (False,):
            ours = torch.ops.npuc.sdpa(q, k, v, mask, is_causal=causal, scale=0.4, backend="reference")
            close(ours, OWN(q, k, v, mask, is_causal=causal, scale=0.4), tolerance(dtype))
            assert ours.is_contiguous()


def test_the_emulator_serves_tensors_where_they_lie(monkeypatch):
    """The filled part of a cache, and heads that lie behind one another: nothing is copied, and no mask is needed."""
    copied: list[str] = []
    real = strides.to_buffer
    monkeypatch.setattr(strides, "to_buffer", lambda a, array: (copied.append(a.name), real(a, array))[1])
    q = torch.randn(2, 6, 4, 16, dtype=torch.bfloat16).transpose(1, 2)
    cache = torch.zeros(2, 2, 2, 32, 16, dtype=torch.bfloat16)
    cache[..., :11, :] = torch.randn(2, 2, 2, 11, 16)
    cache[..., 11:, :] = torch.nan  # whatever lies in the rest
    mask = (torch.arange(32) <= torch.arange(5, 11)[:, None]).expand(2, 1, 6, 32)
    with npuc.torch.collect() as statistics:
        ours = torch.ops.npuc.sdpa(q, *cache, mask, enable_gqa=True, backend="emulator", layer="third")
    clean = cache.nan_to_num()
    close(ours, OWN(q, *clean, mask, enable_gqa=True), BF16)
    assert copied == [] and npuc.last_stats().emulated
    assert statistics.layers["third"].served == {"emulator": 1}
    assert statistics.layers["third"].cycles == npuc.last_stats().cycles
    (kernel,) = [on_demand._loaded.cache_info().currsize]
    assert kernel == 1
    # One more token, alone, and a prefix without mask: the same kernel.
    one = torch.ops.npuc.sdpa(q[:, :, 5:], *cache, mask[:, :, 5:], enable_gqa=True, backend="emulator")
    close(one, ours[:, :, 5:], BF16)
    prefix = [c[:, :, :6] for c in clean]
    close(
        torch.ops.npuc.sdpa(q, *prefix, is_causal=True, enable_gqa=True, backend="emulator"),
        OWN(q, *prefix, is_causal=True, enable_gqa=True),
        BF16,
    )
    assert on_demand._loaded.cache_info().currsize == 1 and copied == []


def test_gradients_are_refused_with_the_reason():
    q, k, v = draw(2)
    q.requires_grad_()
    out = torch.ops.npuc.sdpa(q, k, v, backend="reference")
    with pytest.raises(npuc.UnsupportedError, match=r"npuc::sdpa has no gradient: kernels compute inference only.*"):
        out.sum().backward()
    with torch.no_grad():
        assert not torch.ops.npuc.sdpa(q, k, v, backend="reference").requires_grad


def test_what_npuc_cannot_serve_pytorch_does_with_the_reason_said_once(caplog):
    q, k, v = draw(2, size=264)
    with caplog.at_level(logging.WARNING, "npuc"), npuc.torch.collect() as statistics:
        for _ in range(2):
            ours = torch.ops.npuc.sdpa(q, k, v, is_causal=True, layer="wide", backend="emulator")
    close(ours, OWN(q, k, v, is_causal=True))
    (said,) = caplog.messages
    assert "head size 264 is above 256" in said and "PyTorch computes it" in said
    assert statistics.layers["wide"].served == {"torch": 2} and npuc.last_stats().backend == "torch"
    assert list(statistics.layers["wide"].reasons.values()) == [2]


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("align", ["top-left", "bottom-right"])
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (False, 3), (True, 2)])
@pytest.mark.parametrize("kind", ["none", "keep", "add"])
def test_pytorchs_operations_mean_what_npucs_rules_do(kind, causal, window, align, softcap):
    """Against the reference, which the attn dialect's tests check."""
    q, k, v = draw(2, 4, groups=2)
    mask = {"none": None, "keep": torch.rand(2, 1, 5, 9) < 0.5, "add": torch.randn(1, 4, 5, 9)}[kind]
    if kind == "keep":
        mask[0, 0, 2] = False
    rules = Rules(causal, 0.3, True, window, softcap, align)
    theirs = torchs_own(q, k, v, mask, rules)
    ours = npuc.attention(
        *(q, k, v, mask), causal=causal, window=window, align=align, softcap=softcap, scale=0.3, backend="reference"
    )
    close(ours, theirs)


def test_wrong_shapes_raise_and_are_never_served():
    q, k, v = draw(2, 4)
    for wrong in (
        (q, k[..., :3], v),
        (q, k, v[:, :, :3]),
        (q[0], k, v),
        (q, k[:1], v[:1]),
        (q[None], k[None], v[None]),
    ):
        with pytest.raises(npuc.InputError, match="do not belong together"):
            torch.ops.npuc.sdpa(*wrong, backend="reference")
    with pytest.raises(npuc.InputError, match="give enable_gqa=True"):
        torch.ops.npuc.sdpa(q, k[:, :2], v[:, :2], backend="reference")
    with pytest.raises(npuc.UsageError):
        torch.ops.npuc.sdpa(q, k, v, backend="npu")
    with pytest.raises(npuc.InputError, match="mask"):
        torch.ops.npuc.sdpa(q, k, v, torch.ones(5, 8, dtype=torch.bool), backend="reference")


# the context


def test_scaled_dot_product_attention_is_npucs_inside_and_pytorchs_outside():
    q, k, v = draw(2, 4, groups=2)
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    with npuc.torch.on_npu("reference") as statistics:
        close(F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), theirs)
        close(OWN(query=q, key=k, value=v, is_causal=True, enable_gqa=True), theirs)
        assert npuc.last_stats().backend == "reference"
        other = threading.Thread(target=lambda: F.scaled_dot_product_attention(q, q, q))
        other.start()
        other.join()
        with npuc.torch.on_npu("reference") as inner, pytest.raises(ZeroDivisionError):
            F.scaled_dot_product_attention(q, q, q)
            raise ZeroDivisionError
    F.scaled_dot_product_attention(q, q, q)
    assert statistics.total.served == {"reference": 3} and inner.total.served == {"reference": 1}
    assert str(statistics) == "attention: 3 by reference"


def refused() -> dict[str, tuple[Any, dict[str, Any], str]]:
    q, k, v = draw(2, 4)
    hidden = torch.zeros(5, 9)
    hidden[2] = LOWEST
    return {
        "dropout": ((q, k, v), {"dropout_p": 0.5}, "dropout"),
        "float64": ([x.double() for x in (q, k, v)], {}, "tensors are float64, float64, float64"),
        "rank 5": ([x[None] for x in (q, k, v)], {}, "tensors have 5 dimensions"),
        "gradients": ((q.clone().requires_grad_(), k, v), {}, "gradients are needed"),
        "batch of one": ((q, k[:1], v[:1]), {}, "do not belong together"),
        "not finite": ((q * torch.inf, k, v), {}, "argument q holds values that are not finite"),
        "two masks": ((q, k, v, torch.ones(5, 9, dtype=torch.bool)), {"is_causal": True}, "is_causal beside a mask"),
        "hidden by numbers": ((q, k, v, hidden), {}, "hides every key by finite numbers"),
        "wide": (draw(2, size=300), {}, "head size 300 is above 256"),
        "meta": ([x.to("meta") for x in (q, k, v)], {}, "tensors lie on meta"),
    }


@pytest.mark.parametrize("kind", refused())
def test_what_it_cannot_serve_is_pytorchs_own_with_the_reason(kind):
    arguments, named, reason = refused()[kind]
    torch.manual_seed(1)
    theirs = OWN(*arguments, **named)
    with npuc.torch.on_npu("emulator") as statistics:
        torch.manual_seed(1)
        ours = F.scaled_dot_product_attention(*arguments, **named)
    assert ours.requires_grad == theirs.requires_grad
    if ours.device.type == "cpu":
        np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())
    assert statistics.total.served == {"torch": 1}
    ((said, count),) = statistics.total.reasons.items()
    assert reason in said and count == 1


def test_a_row_that_sees_no_key_is_zeros_as_pytorchs():
    q, k, v = draw(2, 4)
    for mask in (torch.rand(5, 9) < 0.8, torch.randn(5, 9)):
        mask[3] = False if mask.dtype == torch.bool else -torch.inf
        with npuc.torch.on_npu("reference") as statistics:
            ours = F.scaled_dot_product_attention(q, k, v, mask)
        assert (ours[:, :, 3] == 0).all() and statistics.total.served == {"reference": 1}
        close(ours, OWN(q, k, v, mask))


def test_wrong_calls_fail_as_pytorchs_do():
    q, k, v = draw(2, 4)
    for arguments, named in (
        ((q, k), {}),
        ((q, k[..., :4], v), {}),
        ((q, k, v), {"causal": True}),
        ((q, k, v, torch.ones(4, 9, dtype=torch.bool)), {}),
        ((q, k, v.double()), {}),
    ):
        with pytest.raises((RuntimeError, TypeError)) as theirs:
            OWN(*arguments, **named)
        with npuc.torch.on_npu("reference"), pytest.raises(theirs.type) as ours:
            F.scaled_dot_product_attention(*arguments, **named)
        assert str(ours.value) == str(theirs.value)


def test_modules_of_several_heads_use_it_too():
    x = torch.randn(2, 6, 16)
    module = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    attention = module.self_attn
    with torch.no_grad():
        theirs = module(x), attention(x, x, x, need_weights=False)[0]
        with npuc.torch.on_npu("reference") as statistics:
            ours = module(x), attention(x, x, x, need_weights=False)[0]
            assert not torch.backends.mha.get_fastpath_enabled()
    for mine, other in zip(ours, theirs, strict=True):
        close(mine, other)
    assert statistics.total.served == {"reference": 2}
    assert torch.backends.mha.get_fastpath_enabled() and F.scaled_dot_product_attention is OWN


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(5, 8), (4, 5, 8), (2, 4, 5, 8)], ids=str)
def test_vmap_is_one_call(shape, masked):
    q, k, v = torch.randn(3, *shape), torch.randn(*shape), torch.randn(*shape[:-1], 3, 8)
    mask = torch.rand(3, 5, 5) < 0.7 if masked else None
    many = torch.vmap(F.scaled_dot_product_attention, in_dims=(0, None, len(shape) - 1, 0 if masked else None))
    theirs = many(q, k, v, mask)
    with npuc.torch.on_npu("reference") as statistics:
        close(many(q, k, v, mask), theirs)
        gradient = torch.func.grad(lambda x: F.scaled_dot_product_attention(x, k, k).sum())(k)
    assert gradient.shape == k.shape and statistics.total.served == {"reference": 1, "torch": 1}


# the compiler's backend


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = torch.nn.Linear(16, 48), torch.nn.Linear(16, 16)

    def forward(self, x: Any) -> Any:
        q, k, v = (part.view(*part.shape[:-1], 4, 4).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        return x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("rest", ["eager", "aot_eager"])
def test_a_compiled_model_has_its_attention_on_npuc(rest):
    model = torch.nn.Sequential(Block(), Block()).eval()
    compiled = torch.compile(model, backend="npuc", options={"backend": "reference", "rest": rest}, fullgraph=True)
    with npuc.torch.collect() as statistics, torch.no_grad():
        for length in (5, 7, 9):
            x = torch.randn(2, length, 16)
            close(compiled(x), model(x))
    assert {name: layer.served for name, layer in statistics.layers.items()} == {
        "0": {"reference": 3},
        "1": {"reference": 3},
    }


def test_a_compiled_model_that_trains_keeps_pytorchs_attention(caplog):
    model = torch.nn.Sequential(Block())
    x = torch.randn(2, 5, 16)
    model(x).sum().backward()
    theirs = model[0].qkv.weight.grad.clone()
    model.zero_grad()
    with npuc.torch.collect() as statistics:
        torch.compile(model, backend="npuc", options={"backend": "reference"})(x).sum().backward()
    close(model[0].qkv.weight.grad, theirs)
    assert "gradients are needed" in caplog.text and statistics.layers["0"].served == {"torch": 1}


def test_options_of_the_backend_that_it_does_not_know_are_refused():
    for options in ({"rest": "npuc"}, {"backend": "npu"}, {"mode": 1}):
        with pytest.raises(npuc.UsageError, match="takes no options"):
            npuc.torch.compile_graph(torch.fx.symbolic_trace(torch.nn.Identity()), [], options=options)


def test_functions_compiled_inside_the_context_keep_the_operation_whole():
    q, k, v = draw(2, 4)
    compiled = torch.compile(lambda *x: F.scaled_dot_product_attention(*x) + 1, backend="aot_eager", fullgraph=True)
    with torch.no_grad(), npuc.torch.on_npu("reference") as statistics:
        close(compiled(q, k, v), OWN(q, k, v) + 1)
    assert statistics.total.served == {"reference": 2}
    close(compiled(q, k, v), OWN(q, k, v) + 1)
    assert statistics.total.calls == 2


@pytest.mark.slow
def test_the_rest_may_be_inductors():
    model = torch.nn.Sequential(Block()).eval()
    compiled = torch.compile(model, backend="npuc", options={"backend": "reference", "rest": "inductor"})
    x = torch.randn(2, 5, 16)
    with npuc.torch.collect() as statistics, torch.no_grad():
        close(compiled(x), model(x))
    assert statistics.total.served == {"reference": 1}


# the fallback "gpu", and what is imported


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("kind", ["none", "keep", "add"])
def test_the_fallback_gpu_computes_what_the_reference_does(kind, softcap, monkeypatch):
    """With PyTorch's CPU in the GPU's place."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    arrays = [x.numpy() for x in draw(2, 4, groups=2, size=264)]
    mask = {"none": None, "keep": np.random.default_rng(0).random((5, 9)) < 0.6, "add": np.full((5, 9), 0.5, "f4")}[
        kind
    ]
    limits: dict[str, Any] = {"causal": True, "window": 3, "align": "bottom-right", "softcap": softcap}
    ours = npuc.attention(*arrays, mask, **limits, backend="emulator", fallback=("gpu",))
    assert npuc.last_stats().backend == "gpu"
    np.testing.assert_allclose(ours, npuc.attention(*arrays, mask, **limits, backend="reference"), atol=1e-5)


def test_torch_is_imported_by_who_asks_for_it_alone():
    script = (
        "import sys, npuc, npuc.runtime.on_demand; print('torch' in sys.modules); print(npuc.torch.sdpa is not None)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_only_dtypes_that_kernels_take_are_npucs():
    assert {str(dtype).removeprefix("torch.") for dtype in torch_attention.DTYPES} == {"bfloat16", "float16", "float32"}
