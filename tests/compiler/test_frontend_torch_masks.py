"""torch's attention with masks of fewer dimensions than Q: broadcast as PyTorch broadcasts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import npuc
from npuc.compiler.frontend import load

Shape = tuple[int, ...]
# name: the shapes of Q, of K and V, and of the mask, and its element type
MASKS: dict[str, tuple[Shape, Shape, Shape, str]] = {
    "of queries and keys": ((2, 3, 6, 8), (2, 3, 5, 8), (6, 5), "f32"),
    "of queries and keys, true where they are kept": ((2, 3, 6, 8), (2, 3, 5, 8), (6, 5), "i1"),
    "where every length is the same": ((4, 4, 4, 4), (4, 4, 4, 4), (4, 4), "f32"),
    "of keys alone": ((2, 3, 6, 8), (2, 3, 5, 8), (1, 5), "i1"),
    "of queries alone": ((2, 3, 6, 8), (2, 3, 5, 8), (6, 1), "f32"),
    "of heads": ((3, 3, 6, 8), (3, 3, 5, 8), (3, 6, 5), "f32"),
    "of all heads, with a dimension for them": ((2, 3, 6, 8), (2, 3, 5, 8), (1, 6, 5), "f32"),
    "of heads without a batch": ((3, 6, 8), (3, 5, 8), (6, 5), "i1"),
    "of groups of heads": ((2, 4, 6, 8), (2, 2, 5, 8), (6, 5), "f32"),
    "of as many dimensions as Q": ((2, 3, 6, 8), (2, 3, 5, 8), (2, 1, 6, 5), "f32"),
}


def source(q: str, k: str, mask: str, grouped: bool) -> str:
    """Sizes as they stand in types."""
    q, k, mask = (f"!torch.vtensor<[{sizes}" for sizes in (f"{q}],f32>", f"{k}],f32>", f"{mask}>"))
    return f"""func.func @main(%q: {q}, %k: {k}, %v: {k}, %m: {mask}) -> {q} {{
      %none = torch.constant.none
      %zero = torch.constant.float 0.0
      %false = torch.constant.bool false
      %grouped = torch.constant.bool {str(grouped).lower()}
      %o = torch.aten.scaled_dot_product_attention %q, %k, %v, %m, %zero, %false, %none, %grouped
        : {q}, {k}, {k}, {mask}, !torch.float, !torch.bool, !torch.none, !torch.bool -> {q}
      return %o : {q}
    }}"""


def sizes(shape: Shape) -> str:
    return ",".join(map(str, shape))


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_broadcast_from_the_last_dimension_on(name: str, tmp_path: Path) -> None:
    of_q, of_k, of_mask, element = MASKS[name]
    group = of_q[-3] // of_k[-3]
    path = tmp_path / "m.mlir"
    path.write_text(source(sizes(of_q), sizes(of_k), f"{sizes(of_mask)}],{element}", group > 1))
    rng = np.random.default_rng(17)
    q, k, v = (rng.standard_normal(shape).astype(np.float32) for shape in (of_q, of_k, of_k))
    mask = rng.standard_normal(of_mask).astype(np.float32)
    if element == "i1":
        mask = mask > -0.5
        mask[..., 0] = True
    with npuc.load(path, backend="reference") as model:
        out = model(q, k, v, mask)
    keys, values = (np.repeat(x, group, -3).astype(np.float64) for x in (k, v))
    scores = q @ keys.swapaxes(-1, -2) / np.sqrt(of_q[-1])
    scores = np.where(mask, scores, -np.inf) if element == "i1" else scores + mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    np.testing.assert_allclose(out, weights / weights.sum(-1, keepdims=True) @ values, rtol=1e-3, atol=1e-5)


def test_a_mask_of_open_lengths_is_one() -> None:
    (found,) = load(source("1,3,?,8", "1,3,?,8", "?,?],f32", False), "m.mlir")
    assert (found.mask, found.heads, found.query_length, found.key_length) == ("add", 3, None, None)
