"""What a function does besides an attention of its own arguments is done on the host: before, after and beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import npuc
from npuc.compiler.frontend import load

H, S, T, D = 2, 6, 9, 16
Q, K = f"tensor<{H}x{S}x{D}xf32>", f"tensor<{H}x{T}x{D}xf32>"
ATTEND = f'"attn.sdpa"(%q1, %k1, %v1) : ({Q}, {K}, {K}) -> {Q}'


def source(before: str = "", after: str = "", results: tuple[str, ...] = ("%o",), types: tuple[str, ...] = (Q,)) -> str:
    """A function of Q, K, V and one number; q1, k1 and v1 are attended."""
    made = "\n".join(
        f"  %{x}1 = tensor.cast %{x} : {type_} to {type_}"
        for x, type_ in zip("qkv", (Q, K, K), strict=True)
        if f"%{x}1 =" not in before
    )
    return (
        f"func.func @f(%q: {Q}, %k: {K}, %v: {K}, %x: {Q}) -> ({', '.join(types)}) {{\n{before}\n{made}\n"
        f"  %o = {ATTEND}\n{after}\n  return {', '.join(results)} : {', '.join(types)}\n}}\n"
    )


def softmax(s: np.ndarray) -> np.ndarray:
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    return softmax(q @ k.swapaxes(-1, -2) / np.sqrt(D)) @ v


HALVES = f"tensor<{H}x{S}x8xf32>"
STEPS = {
    "a residual": (
        source(after=f"  %r = arith.addf %o, %x : {Q}", results=("%r",)),
        lambda q, k, v, x: attended(q, k, v) + x,
    ),
    "Q itself added": (
        source(after=f"  %r = arith.addf %q, %o : {Q}", results=("%r",)),
        lambda q, k, v, x: attended(q, k, v) + q,
    ),
    "a number times the result": (
        source(after=f"  %c = arith.constant dense<3.0> : {Q}\n  %r = arith.mulf %o, %c : {Q}", results=("%r",)),
        lambda q, k, v, x: 3 * attended(q, k, v),
    ),
    "something added to Q": (source(f"  %q1 = arith.addf %q, %x : {Q}"), lambda q, k, v, x: attended(q + x, k, v)),
    "V times a number": (
        source(f"  %c = arith.constant dense<0.5> : {K}\n  %v1 = arith.mulf %v, %c : {K}"),
        lambda q, k, v, x: attended(q, k, v / 2),
    ),
    "a second result": (
        source(after=f"  %r = math.tanh %x : {Q}", results=("%r", "%o"), types=(Q, Q)),
        lambda q, k, v, x: (np.tanh(x), attended(q, k, v)),
    ),
    "a part of the result": (
        source(
            after=f"  %r = tensor.extract_slice %o[0, 0, 4] [{H}, {S}, 8] [1, 1, 1] : {Q} to {HALVES}",
            results=("%r",),
            types=(HALVES,),
        ),
        lambda q, k, v, x: attended(q, k, v)[..., 4:12],
    ),
    "one attention after another": (
        source(after=f'  %r = "attn.sdpa"(%o, %k, %v) : ({Q}, {K}, {K}) -> {Q}', results=("%r",)),
        lambda q, k, v, x: attended(attended(q, k, v), k, v),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_attention_is_cut_out_and_the_steps_stay(name: str, tmp_path: Path) -> None:
    text, wanted = STEPS[name]
    assert {a.within for a in load(text, "f.mlir")} == {"f"}
    path = tmp_path / "f.mlir"
    path.write_text(text)
    rng = np.random.default_rng(4)
    given = [rng.standard_normal(shape).astype(np.float32) for shape in ((H, S, D), (H, T, D), (H, T, D), (H, S, D))]
    expected = wanted(*given)
    with npuc.load(path, backend="reference") as model:
        found = model(*given)
    several = isinstance(expected, tuple)
    for one, other in zip(found if several else [found], expected if several else [expected], strict=True):
        assert np.abs(one - other).max() < 1e-4


def test_an_attention_alone_is_cut_from_nothing() -> None:
    (found,) = load(source(), "f.mlir")
    assert found.within is None and [one.place for one in found.beside] == [3]


def test_what_is_of_a_narrower_type_is_widened_on_the_host(tmp_path: Path) -> None:
    narrow = f"tensor<{H}x{T}x{D}xf16>"
    text = source().replace(f"%k: {K}, %v: {K}", f"%k: {narrow}, %v: {narrow}")
    for name in "kv":
        text = text.replace(f"tensor.cast %{name} : {K} to {K}", f"arith.extf %{name} : {narrow} to {K}")
    (found,) = load(text, "f.mlir")
    assert found.within == "f" and {a.dtype for a in found.arguments} == {"f32"}
    path = tmp_path / "f.mlir"
    path.write_text(text)
    rng = np.random.default_rng(4)
    q, k, v, x = (rng.standard_normal(shape) for shape in ((H, S, D), (H, T, D), (H, T, D), (H, S, D)))
    k, v = k.astype(np.float16), v.astype(np.float16)
    with npuc.load(path, backend="reference") as model:
        out = model(q.astype(np.float32), k, v, x.astype(np.float32))
    assert np.abs(out - attended(q, k.astype(np.float64), v.astype(np.float64))).max() < 1e-4


def test_a_length_may_be_read_from_what_is_not_attended() -> None:
    """The mask's storage is as long as x is, from which Q, K and V are made: as they are, so."""
    cube, scores = "tensor<2x?x16xf32>", "tensor<2x?x?xf32>"
    text = f"""
func.func @f(%x: {cube}) -> {cube} {{
  %one = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %low = arith.constant 0xFF800000 : f32
  %n = tensor.dim %x, %one : {cube}
  %e = tensor.empty(%n) : {cube}
  %y = linalg.map ins(%x : {cube}) outs(%e : {cube}) (%in: f32, %init: f32) {{
    %t = math.tanh %in : f32
    linalg.yield %t : f32
  }}
  %z = tensor.empty(%n, %n) : {scores}
  %sz = linalg.fill ins(%zero : f32) outs(%z : {scores}) -> {scores}
  %s = linalg.batch_matmul indexing_maps = [affine_map<(h, i, j, d) -> (h, i, d)>,
      affine_map<(h, i, j, d) -> (h, j, d)>, affine_map<(h, i, j, d) -> (h, i, j)>]
    ins(%y, %y : {cube}, {cube}) outs(%sz : {scores}) -> {scores}
  %m = linalg.map ins(%s : {scores}) outs(%z : {scores}) (%in: f32, %init: f32) {{
    %i = linalg.index 1 : index
    %j = linalg.index 2 : index
    %sees = arith.cmpi sge, %i, %j : index
    %p = arith.select %sees, %in, %low : f32
    linalg.yield %p : f32
  }}
  %p = linalg.softmax dimension(2) ins(%m : {scores}) outs(%z : {scores}) -> {scores}
  %oz = linalg.fill ins(%zero : f32) outs(%e : {cube}) -> {cube}
  %o = linalg.batch_matmul ins(%p, %y : {scores}, {cube}) outs(%oz : {cube}) -> {cube}
  return %o : {cube}
}}
"""
    (found,) = load(text, "f.mlir")
    assert (found.within, found.causal, found.query_length) == ("f", True, None)
    assert found.outlined is not None and "tensor.dim" in found.outlined
