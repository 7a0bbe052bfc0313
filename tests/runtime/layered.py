"""Functions with attentions inside: self-attention with projections and a residual, one after another."""

from __future__ import annotations

import numpy as np

S, E, H = 16, 32, 2


def product(name: str, left: str, right: str, shape: tuple[int, int, int]) -> str:
    """%name [m, n] = %left [m, k] x %right [k, n], shape (m, n, k)."""
    m, n, k = shape
    t = f"tensor<{m}x{n}xf32>"
    return (
        f"  %{name}_e = tensor.empty() : {t}\n"
        f"  %{name}_z = linalg.fill ins(%zero : f32) outs(%{name}_e : {t}) -> {t}\n"
        f"  %{name} = linalg.matmul ins(%{left}, %{right} : tensor<{m}x{k}xf32>, tensor<{k}x{n}xf32>)"
        f" outs(%{name}_z : {t}) -> {t}\n"
    )


def heads(name: str, of: str, count: int) -> str:
    """%name [H, S, D] of %of [S, H*D], of so many heads."""
    H, D = count, E // count
    return (
        f"  %{name}_p = tensor.expand_shape %{of} [[0], [1, 2]] output_shape [{S}, {H}, {D}]"
        f" : tensor<{S}x{E}xf32> into tensor<{S}x{H}x{D}xf32>\n"
        f"  %{name}_s = tensor.empty() : tensor<{H}x{S}x{D}xf32>\n"
        f"  %{name} = linalg.transpose ins(%{name}_p : tensor<{S}x{H}x{D}xf32>)"
        f" outs(%{name}_s : tensor<{H}x{S}x{D}xf32>) permutation = [1, 0, 2]\n"
    )


def attention(number: int, of: str, scale: float, count: int) -> str:
    """One self-attention with residual: %out<number> [S, E]."""
    H, D = count, E // count
    n, cube, full = number, f"tensor<{H}x{S}x{D}xf32>", f"tensor<{H}x{S}x{S}xf32>"
    text = "".join(product(f"{x}{n}m", of, f"w{x}{n}", (S, E, E)) + heads(f"{x}{n}", f"{x}{n}m", count) for x in "qkv")
    return text + (
        f"  %c{n} = arith.constant {scale} : f32\n"
        f"  %s{n}e = tensor.empty() : {full}\n"
        f"  %s{n}z = linalg.fill ins(%zero : f32) outs(%s{n}e : {full}) -> {full}\n"
        f"  %s{n} = linalg.batch_matmul indexing_maps = [#l, #r, #s] ins(%q{n}, %k{n} : {cube}, {cube})"
        f" outs(%s{n}z : {full}) -> {full}\n"
        f"  %t{n} = linalg.map ins(%s{n} : {full}) outs(%s{n}e : {full})\n"
        f"    (%in: f32, %init: f32) {{ %m = arith.mulf %in, %c{n} : f32\n linalg.yield %m : f32 }}\n"
        f"  %p{n} = linalg.softmax dimension(2) ins(%t{n} : {full}) outs(%s{n}e : {full}) -> {full}\n"
        f"  %o{n}e = tensor.empty() : {cube}\n"
        f"  %o{n}z = linalg.fill ins(%zero : f32) outs(%o{n}e : {cube}) -> {cube}\n"
        f"  %o{n} = linalg.batch_matmul ins(%p{n}, %v{n} : {full}, {cube}) outs(%o{n}z : {cube}) -> {cube}\n"
        f"  %b{n}e = tensor.empty() : tensor<{S}x{H}x{D}xf32>\n"
        f"  %b{n} = linalg.transpose ins(%o{n} : {cube}) outs(%b{n}e : tensor<{S}x{H}x{D}xf32>)"
        f" permutation = [1, 0, 2]\n"
        f"  %y{n} = tensor.collapse_shape %b{n} [[0], [1, 2]] : tensor<{S}x{H}x{D}xf32> into tensor<{S}x{E}xf32>\n"
        f"  %out{n} = arith.addf %y{n}, %{of} : tensor<{S}x{E}xf32>\n"
    )


def layers(*scales: float, counts: tuple[int, ...] = ()) -> str:
    """A function of x and of three weights a layer. counts: of heads, H each where it is empty."""
    weights = ", ".join(f"%w{x}{n}: tensor<{E}x{E}xf32>" for n in range(len(scales)) for x in "qkv")
    text = (
        "#l = affine_map<(h, i, j, d) -> (h, i, d)>\n#r = affine_map<(h, i, j, d) -> (h, j, d)>\n"
        "#s = affine_map<(h, i, j, d) -> (h, i, j)>\n"
        f"func.func @model(%x: tensor<{S}x{E}xf32>, {weights}) -> tensor<{S}x{E}xf32> {{\n"
        "  %zero = arith.constant 0.0 : f32\n"
    )
    last = "x"
    for n, scale in enumerate(scales):
        text += attention(n, last, scale, counts[n] if counts else H)
        last = f"out{n}"
    return text + f"  return %{last} : tensor<{S}x{E}xf32>\n}}\n"


def wanted(scales: tuple[float, ...], x: np.ndarray, *weights: np.ndarray, counts: tuple[int, ...] = ()) -> np.ndarray:
    x, weights = x.astype(np.float64), tuple(w.astype(np.float64) for w in weights)
    for n, scale in enumerate(scales):
        of = counts[n] if counts else H
        q, k, v = ((x @ w).reshape(S, of, E // of).swapaxes(0, 1) for w in weights[3 * n : 3 * n + 3])
        scores = np.exp(scale * (q @ k.swapaxes(1, 2)))
        x = x + ((scores / scores.sum(-1, keepdims=True)) @ v).swapaxes(0, 1).reshape(S, E)
    return x
