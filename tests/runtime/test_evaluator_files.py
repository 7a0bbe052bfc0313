"""Whole sources against numpy models of them: the examples, and files of front ends where they are there."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest

from npuc.runtime.evaluator import Source, load, schedule

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("NPUC_FACTS", ROOT.parent / "shared" / "facts")).parent


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    """[B, H, S, D], K and V of fewer heads repeated."""
    repeats = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, repeats, 1), np.repeat(v, repeats, 1)
    return softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + bias) @ v


def model(name: str, q: np.ndarray, k: np.ndarray, v: np.ndarray, *masks: np.ndarray) -> np.ndarray:
    """What the name of a file says that it computes."""
    bias: np.ndarray | float = 0.0
    if "jax" in name:
        q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # [B, S, H, D]
    i, j = np.arange(q.shape[2])[:, None], np.arange(k.shape[2])[None, :]
    if "window" in name:
        bias = np.where((j <= i) & (i - j <= 32), 0.0, -np.inf)
    elif "causal" in name:
        bias = np.where(j <= i, 0.0, -np.inf)
    elif masks:
        bias = np.where(masks[0], 0.0, -np.inf) if masks[0].dtype == np.bool_ else masks[0]
    out = attention(q, k, v, bias)
    return out.swapaxes(1, 2) if "jax" in name else out


def arguments(text: str, seed: int) -> list[np.ndarray]:
    """Arrays for the first function; lengths that the types leave open are 48."""
    generator = np.random.default_rng(seed)
    signature = re.search(r"func\.func[^@]*@\w+\((.*?)\)\s*->", text, re.DOTALL)
    assert signature is not None
    arrays = []
    for lengths, element in re.findall(r"tensor<((?:[\d?]+x)+)(\w+)>", signature[1]):
        shape = [48 if n == "?" else int(n) for n in lengths.rstrip("x").split("x")]
        if element == "i1":
            keep = generator.random(shape) < 0.7
            keep[..., 0] = True
            arrays.append(keep)
        else:
            arrays.append(generator.standard_normal(shape))
    return arrays


def opened(path: Path) -> str:
    return gzip.open(path, "rt").read() if path.suffix == ".gz" else path.read_text()


def source(path: Path, arrays: list[np.ndarray]) -> Source:
    text = opened(path)
    name = re.search(r"func\.func (?:public )?@(\w+)", text)
    assert name is not None
    return load(text, path.name, name[1], arrays)


SMALL = [
    "jax_dpa_b1s128h8d64_f32.linalg_from_jax",
    "jax_dpa_window_b1s128h8d64_f32.stablehlo_jax", "manual_b1h2s128d64_f32.tosa", "manual_causal_b1h4s256d64_f16",
    "sdpa_b1h1s256d128_f32", "sdpa_b1h4s256d64_bf16.stablehlo", "sdpa_causal_b1h4s256d64_f16.stablehlo",
    "sdpa_causal_b2h4s256d64_bf16", "sdpa_cross_b1h4s128sk256d64_f32", "sdpa_decode_b1h8s1sk256d128_bf16",
    "sdpa_dynamic_b1h4d64_f32", "sdpa_gqa_causal_b1h8hk2s300d64_bf16", "sdpa_mask_add_full_b2h4s300d64_f16",
    "sdpa_mask_bool_b1h2s128d64_f32", "sdpa_mask_bool_b1h4s128d64_bf16.tosa",
    "sdpa_nodecomp_causal_b1h8s256d128_f16",
]  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_a_front_end_file_computes_what_its_name_says(name: str, seed: int) -> None:
    path = SHARED / "inputs" / f"{name}.mlir"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the folder of front ends' files beside the fact sheets (NPUC_FACTS)")
    arrays = arguments(opened(path), seed)
    # Scales are constants of their own type: f32 where nothing else is said, bf16 and f16 in some files.
    largest = 1e-3 if "bf16" in name or "f16" in name else 1e-6
    np.testing.assert_allclose(source(path, arrays).whole(), model(name, *arrays), atol=largest)


@pytest.mark.parametrize("name", ["attention_torch.mlir", "attention_linalg.mlir", "attention.mlir"])
def test_an_example_is_attention_whole_and_in_any_part(name: str, seed: int) -> None:
    path = ROOT / "examples" / name
    arrays = arguments(opened(path), seed)
    found = source(path, arrays)
    wanted = attention(*arrays)
    np.testing.assert_allclose(found.whole(), wanted, atol=1e-6)
    generator = np.random.default_rng(seed)
    part = [np.flatnonzero(generator.random(n) < 0.3) for n in wanted.shape]
    part[0] = np.array([0])
    np.testing.assert_allclose(found.part(part), wanted[np.ix_(*part)], atol=1e-6)


def rotated(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    half = x.shape[-1] // 2
    return x * cos + np.concatenate([-x[..., half:], x[..., :half]], -1) * sin


def test_a_whole_attention_module_with_its_weights(seed: int) -> None:
    """Projections by dense resources, rotary embedding, two heads of K and V for four of Q, a mask, a projection."""
    path = SHARED / "inputs" / "hf_llama_attention_sdpa_mask_s128_f32.mlir.gz"
    if not path.exists():
        pytest.skip("the module is not in the folder of front ends' files beside the fact sheets (NPUC_FACTS)")
    text = opened(path)
    weights = {}
    for name, bits in re.findall(r'(torch_tensor_\d+_\d+_torch\.float32\w*): "0x([0-9A-F]+)"', text):
        rows, columns = map(int, name.split("_")[2:4])
        weights[name] = np.frombuffer(bytes.fromhex(bits)[4:], "<f4").reshape(rows, columns).astype(np.float64)
    x, cos, sin, mask = arguments(text, seed)
    wq, wk = weights["torch_tensor_256_256_torch.float32"], weights["torch_tensor_128_256_torch.float32"]
    wv, wo = weights["torch_tensor_128_256_torch.float32_1"], weights["torch_tensor_256_256_torch.float32_1"]
    q, k, v = ((x @ w.T).reshape(1, 128, -1, 64).swapaxes(1, 2) for w in (wq, wk, wv))
    attended = attention(rotated(q, cos, sin), rotated(k, cos, sin), v, mask)
    wanted = attended.swapaxes(1, 2).reshape(1, 128, 256) @ wo.T
    np.testing.assert_allclose(source(path, [x, cos, sin, mask]).whole(), wanted, atol=1e-6)


TURNED = {
    "crossed_accumulators": "its sum is of another running value",
    "partial_write_row_test": "rows that are tested are overwritten in part",
    "partial_write_zeros": "the zeros that P V starts from are overwritten in part",
    "sitofp_true": "true is -1",
}


@pytest.mark.parametrize("name", TURNED)
def test_what_only_looks_like_attention_is_not(name: str, seed: int) -> None:
    path = SHARED / "cases" / "mlir" / "right_or_refused" / f"{name}.mlir"
    if not path.exists():
        pytest.skip("the cases are not beside the fact sheets (NPUC_FACTS)")
    q, k, v = arguments(opened(path), seed)
    found = source(path, [q, k, v]).whole()
    if name == "sitofp_true":
        np.testing.assert_allclose(found, softmax(-(q @ k.swapaxes(-1, -2))) @ v, atol=1e-12)
        return
    lead = q.reshape(-1, *q.shape[-2:]), k.reshape(-1, *k.shape[-2:]), v.reshape(-1, *v.shape[-2:])
    plain = attention(*(x[None] for x in lead)).reshape(q.shape)
    assert np.abs(found - plain).max() > 1e-2
    if name == "partial_write_zeros":
        start = v.copy()
        start[:, :, 0] = 0.0
        np.testing.assert_allclose(found, plain + start, atol=1e-6)


def test_memory_stays_bounded_whatever_the_size() -> None:
    """32 heads of 2,048 queries and keys: no part of the work takes more than 128 MiB."""
    text = opened(ROOT / "examples" / "attention_torch.mlir")
    for old, new in (("1x2x", "1x32x"), ("<2x", "<32x"), ("[1, 2,", "[1, 32,"), ("x128", "x2048"), (", 128", ", 2048")):
        text = text.replace(old, new)
    q = np.broadcast_to(np.float32(0.0), (1, 32, 2048, 64))
    (result,) = load(text, "large.mlir", "attention", [q, q, q]).results
    part, tasks = next(schedule._parts(result, tuple(map(range, result.shape)), {}))
    assert schedule.peak_bytes(tasks) <= schedule.PART_BYTES
    parts = [len(indices) for indices in part]
    assert parts[:2] == [1, 1] and parts[2] >= 128 and parts[3] == 64
