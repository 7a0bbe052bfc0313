"""Scores masked in several ways, or in one that attn.sdpa has no words for: one mask, made on the host."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edited_examples import reason
from mutants import outcome_of, read
from written_out import (
    COLUMN_MAP,
    CUBE,
    CUBE_MAP,
    DIVIDE,
    EACH,
    ROW,
    SOURCE,
    SUBTRACT,
    YIELD,
    contraction,
    elementwise,
    generic,
    reduction,
    written_out,
)

import npuc
from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend import load

TRUTHS = "tensor<2x64x64xi1>"
LOW = "%low = arith.constant {number} : f32; "
BIAS, KEEP, ALSO = f"%bias: {CUBE}", f"%keep: {TRUTHS}", f"%also: {TRUTHS}"
HIDE = "%n = arith.select %b, %a, %low : f32"
ADD = "%n = arith.addf %a, %b : f32"
HALF = "%c = arith.constant 0.5 : f32; "
PLACES = (
    "%i = linalg.index 1 : index; %j = linalg.index 2 : index; %ii = arith.index_cast %i : index to i32; "
    "%jj = arith.index_cast %j : index to i32; %d = arith.subi %ii, %jj : i32; "
)


def step(n: int, other: str, body: str, of: str) -> str:
    """%y<n> of a tensor and another."""
    type_ = TRUTHS if other in ("%keep", "%also") else CUBE
    text = generic(f"y{n}", f"{of}, {other}", f"{CUBE}, {type_}", "%s", CUBE, f"{EACH}; {CUBE_MAP}", body + YIELD)
    return text.replace("%b: f32", "%b: i1") if type_ == TRUTHS else text


def source(parameters: str, *steps: tuple[str, str], storage: str = "%s") -> str:
    """steps: the second operand, empty where there is none, and what is done to the scores; storage: of results of
    steps without a second operand."""
    lines, at = [], "%x"
    for n, (other, body) in enumerate(steps):
        if other:
            lines.append(step(n, other, body, at))
        else:
            lines.append(generic(f"y{n}", at, CUBE, storage, CUBE, EACH, body + YIELD))
        at = f"%y{n}"
    return written_out(
        parameters,
        max="\n".join([*lines, SOURCE["max"].replace("%x", at)]),
        shift=SOURCE["shift"].replace("%x", at),
    )


def places() -> np.ndarray:
    return np.arange(64)[:, None] - np.arange(64)[None]


INF = "0xFF800000"
Scores = np.ndarray
MEANT: dict[str, tuple[str, Callable[..., Scores]]] = {
    "a bias, and then a mask": (
        source(f"{BIAS}, {KEEP}", ("%bias", ADD), ("%keep", LOW.format(number=INF) + HIDE)),
        lambda s, bias, keep: np.where(keep, s + bias, -np.inf),
    ),
    "a mask of the lowest number after a bias": (
        source(f"{BIAS}, {KEEP}", ("%bias", ADD), ("%keep", LOW.format(number="0xFF7FFFFF") + HIDE)),
        lambda s, bias, keep: np.where(keep, s + bias, -np.inf),
    ),
    "two masks": (
        source(
            f"{KEEP}, {ALSO}",
            ("%keep", LOW.format(number=INF) + HIDE),
            ("%also", LOW.format(number="-1.0e9") + HIDE),
        ),
        lambda s, keep, also: np.where(keep & also, s, -np.inf),
    ),
    "a bias that is subtracted": (
        source(BIAS, ("%bias", "%n = arith.subf %a, %b : f32")),
        lambda s, bias: s - bias,
    ),
    "a mask, and scores and mask multiplied": (
        source(
            f"{KEEP}, {BIAS}",
            ("%bias", ADD),
            ("%keep", LOW.format(number=INF) + "%m = arith.select %b, %a, %low : f32; %c = arith.constant 0.5 : f32; "
             "%n = arith.mulf %m, %c : f32"),
        ),
        lambda s, keep, bias: np.where(keep, (s + bias) / 2, -np.inf),
    ),
    "a window to both sides": (
        source(
            "",
            ("", PLACES + "%c = arith.constant 9 : i32; %o1 = arith.constant -5 : i32; "
             "%up = arith.cmpi sle, %d, %c : i32; %dn = arith.cmpi sge, %d, %o1 : i32; "
             "%both = arith.andi %up, %dn : i1; "
             + LOW.format(number=INF) + "%n = arith.select %both, %a, %low : f32"),
        ),
        lambda s: np.where((places() <= 9) & (places() >= -5), s, -np.inf),
    ),
    "keys from the query on": (
        source(
            "",
            ("", PLACES + "%from = arith.cmpi sle, %ii, %jj : i32; " + LOW.format(number=INF)
             + "%n = arith.select %from, %a, %low : f32"),
        ),
        lambda s: np.where(places() <= 0, s, -np.inf),
    ),
    "a bias, and keys from the query on": (
        source(
            BIAS,
            ("%bias", ADD),
            ("", PLACES + "%from = arith.cmpi sle, %ii, %jj : i32; " + LOW.format(number=INF)
             + "%n = arith.select %from, %a, %low : f32"),
        ),
        lambda s, bias: np.where(places() <= 0, s + bias, -np.inf),
    ),
    "a bias of positions and a bias": (
        source(
            BIAS,
            ("", PLACES + "%f = arith.sitofp %d : i32 to f32; %c = arith.constant 0.25 : f32; "
             "%g = arith.mulf %f, %c : f32; %n = arith.subf %a, %g : f32"),
            ("%bias", ADD),
        ),
        lambda s, bias: s - 0.25 * places() + bias,
    ),
    "a bias in the place of the scores, which the step does not read": (
        source(
            BIAS,
            ("", PLACES + "%f = arith.sitofp %d : i32 to f32; %n = arith.addf %f, %a : f32"),
            ("%bias", ADD),
            storage="%x",
        ),
        lambda s, bias: s + places() + bias,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANT)
def test_they_are_one_mask_that_is_added(name: str, tmp_path: Path) -> None:
    text, masked = MEANT[name]
    (found,) = load(text, "m.mlir")
    assert (found.within, found.mask, found.causal, found.window) == ("main", "add", False, None)
    assert outcome_of(read(text), 3) == ("equal", "within")
    path = tmp_path / "m.mlir"
    path.write_text(text)
    rng = np.random.default_rng(5)
    q, k, v = (rng.standard_normal((2, 64, 64)).astype(np.float32) for _ in range(3))
    more = []
    for parameter in text.partition(")")[0].split(", ")[3:]:
        if "i1" in parameter:
            keep = rng.random((2, 64, 64)) < 0.7
            keep[..., :2] = True
            more.append(keep)
        else:
            more.append(rng.standard_normal((2, 64, 64)).astype(np.float32))
    with npuc.load(path, backend="reference") as model:
        out = model(q, k, v, *more)
    scores = masked(0.125 * q.astype(np.float64) @ k.swapaxes(1, 2), *more)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    np.testing.assert_allclose(out, weights / weights.sum(-1, keepdims=True) @ v, rtol=1e-3, atol=1e-5)


NEAR = {
    "a number that a bias may show": source(
        f"{BIAS}, {KEEP}", ("%bias", ADD), ("%keep", LOW.format(number="-1.0e9") + HIDE)
    ),
    "a number that hides no row": source(
        f"{KEEP}, {ALSO}", ("%keep", LOW.format(number="-1.0e6") + HIDE), ("%also", LOW.format(number=INF) + HIDE)
    ),
    "scores turned round after a mask": source(
        f"{KEEP}, {BIAS}",
        ("%keep", LOW.format(number=INF) + HIDE),
        ("%bias", "%m = arith.negf %a : f32; %n = arith.addf %m, %b : f32"),
    ),
    "a bias less the scores": source(
        f"{BIAS}, {KEEP}", ("%bias", "%n = arith.subf %b, %a : f32"), ("%keep", LOW.format(number=INF) + HIDE)
    ),
    "scores times a bias": source(
        f"{BIAS}, {KEEP}", ("%bias", "%n = arith.mulf %a, %b : f32"), ("%keep", LOW.format(number=INF) + HIDE)
    ),
    "scores that replace themselves": source(
        f"{BIAS}, {KEEP}", ("%bias", ADD), ("%keep", "%m = arith.addf %a, %a : f32; %n = arith.select %b, %a, %m : f32")
    ),
    "a hyperbolic tangent after a bias": source(
        f"{BIAS}, {KEEP}",
        ("%bias", "%m = arith.addf %a, %b : f32; %n = math.tanh %m : f32"),
        ("%keep", LOW.format(number=INF) + HIDE),
    ),
    "scores and the tangent of what they were": source(
        "", ("", HALF + "%m = arith.mulf %a, %c : f32; %t = math.tanh %a : f32; %n = arith.addf %m, %t : f32")
    ),
    "scores and the tangent of them": source(
        BIAS, ("%bias", "%m = arith.addf %a, %b : f32; %t = math.tanh %m : f32; %n = arith.addf %m, %t : f32")
    ),
    "scores twice": source(BIAS, ("%bias", "%m = arith.addf %a, %b : f32; %n = arith.addf %m, %a : f32")),
    "scores less half of them": source("", ("", HALF + "%m = arith.mulf %a, %c : f32; %n = arith.subf %a, %m : f32")),
    "scores that say where they are hidden": source(
        "",
        (
            "",
            HALF + LOW.format(number=INF) + "%m = arith.mulf %a, %c : f32; %t = arith.cmpf ogt, %a, %c : f32; "
            "%n = arith.select %t, %m, %low : f32",
        ),
    ),
    "scores that a branch takes": source(
        f"{BIAS}, {KEEP}",
        ("%bias", ADD),
        (
            "%keep",
            "%m = scf.if %b -> (f32) { scf.yield %a : f32 } else { scf.yield %zero : f32 }; "
            "%n = arith.addf %a, %m : f32",
        ),
    ),
    "scores that are added to themselves as storage": source(
        "", ("", HALF + "%m = arith.mulf %a, %c : f32; %n = arith.addf %m, %o : f32"), storage="%x"
    ),
    "scores of the diagonal, added to each row": source(
        "",
        (
            "",
            "%h = linalg.index 0 : index; %i = linalg.index 1 : index; "
            f"%m = tensor.extract %x[%h, %i, %i] : {CUBE}; %n = arith.addf %a, %m : f32",
        ),
    ),
    "scores of before a bias, taken by a later step": source(
        BIAS,
        ("%bias", ADD),
        (
            "",
            "%h = linalg.index 0 : index; %i = linalg.index 1 : index; "
            f"%m = tensor.extract %x[%h, %i, %i] : {CUBE}; %n = arith.addf %a, %m : f32",
        ),
    ),
    "scores of the diagonal in a bias": written_out(
        BIAS,
        max="\n".join([
            generic("y0", "%x", CUBE, "%bias", CUBE, "(h, i) -> (h, i, i); (h, i) -> (h, i, i)",
                    HALF + "%n = arith.addf %a, %c : f32" + YIELD, "pp"),
            SOURCE["max"].replace("%x", "%y0"),
        ]),
        shift=SOURCE["shift"].replace("%x", "%y0"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR)
def test_what_is_no_sum_of_scores_and_a_mask_is_refused(name: str) -> None:
    with pytest.raises(InputError) as refused:
        load(NEAR[name], "near.mlir")
    assert str(refused.value) == str(reason(NEAR[name]))


TWO_MASKS = source(
    f"{KEEP}, {ALSO}, %u: {CUBE}",
    ("%keep", LOW.format(number=INF) + HIDE),
    ("%also", LOW.format(number="-1.0e9") + HIDE),
)
# A softmax of the scores %y1 once more, along the keys and along the queries, with other values.
ALONG_KEYS = "\n".join(SOURCE[piece] for piece in ("max", "shift", "exp", "sum", "divide", "pv")).replace("%v", "%u")
ALONG_QUERIES = "\n".join([
    reduction("m", "%x", "%m0", "arith.maximumf", f"{CUBE_MAP}; {COLUMN_MAP}", "prp"),
    elementwise("z", "%x", "%m", SUBTRACT, COLUMN_MAP, ROW),
    SOURCE["exp"],
    reduction("t", "%p", "%t0", "arith.addf", f"{CUBE_MAP}; {COLUMN_MAP}", "prp"),
    elementwise("w", "%p", "%t", DIVIDE, COLUMN_MAP, ROW),
    contraction("o", "%w", "%u", "(h, i, d, j) -> (h, j, i); (h, i, d, j) -> (h, j, d); (h, i, d, j) -> (h, i, d)"),
])  # fmt: skip


def attended(scores: Scores, values: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True) @ values)


BESIDE: dict[str, tuple[str, str, Callable[[Scores, np.ndarray], np.ndarray]]] = {
    "a softmax with other values": (ALONG_KEYS, "%o2", attended),
    "a softmax along the queries": (ALONG_QUERIES, "%o2", lambda scores, u: attended(scores.swapaxes(1, 2), u)),
    "where the scores are the number that hides": (
        generic("h", "%x", CUBE, "%s", CUBE, EACH,
                LOW.format(number="-1.0e9") + "%c = arith.cmpf oeq, %a, %low : f32; "
                "%n = arith.uitofp %c : i1 to f32" + YIELD),
        "%h",
        lambda scores, u: scores == -1e9,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_masked_scores_have_other_uses(name: str, tmp_path: Path) -> None:
    steps, result, meant = BESIDE[name]
    steps = re.sub(r"%([mzptwo])\b", r"%\g<1>2", steps).replace("%x", "%y1")
    text = TWO_MASKS.replace(f") -> {CUBE} {{", f") -> ({CUBE}, {CUBE}) {{")
    text = text.replace(f"  return %o : {CUBE}", f"{steps}\n  return %o, {result} : {CUBE}, {CUBE}")
    path = tmp_path / "m.mlir"
    path.write_text(text)
    rng = np.random.default_rng(8)
    q, k, v, u = (rng.standard_normal((2, 64, 64)).astype(np.float32) for _ in range(4))
    keep, also = (rng.random((2, 64, 64)) < 0.7 for _ in range(2))
    for mask in (keep, also):
        mask[..., 0] = mask[:, 0] = True
    with npuc.load(path, backend="reference") as model:
        out, beside = model(q, k, v, keep, also, u)
    scores = np.where(also, np.where(keep, 0.125 * q.astype(np.float64) @ k.swapaxes(1, 2), -np.inf), -1e9)
    np.testing.assert_allclose(out, attended(scores, v), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(beside, meant(scores, u), rtol=1e-3, atol=1e-5)


GROUPED = """
func.func @main(%q: tensor<2x8x4x16xf32>, %k: tensor<2x9x2x16xf32>, %v: tensor<2x9x2x16xf32>, %b: tensor<4x8x9xf32>,
    %m: tensor<2x8x9xi1>) -> tensor<2x2x2x16x8xf32> {
  %q5 = stablehlo.reshape %q : (tensor<2x8x4x16xf32>) -> tensor<2x8x2x2x16xf32>
  %s0 = stablehlo.dot_general %q5, %k, batching_dims = [0, 2] x [0, 2], contracting_dims = [4] x [3]
    : (tensor<2x8x2x2x16xf32>, tensor<2x9x2x16xf32>) -> tensor<2x2x8x2x9xf32>
  %s = stablehlo.transpose %s0, dims = [3, 0, 1, 2, 4] : (tensor<2x2x8x2x9xf32>) -> tensor<2x2x2x8x9xf32>
  %b5 = stablehlo.reshape %b : (tensor<4x8x9xf32>) -> tensor<2x2x8x9xf32>
  %bb = stablehlo.broadcast_in_dim %b5, dims = [2, 0, 3, 4] : (tensor<2x2x8x9xf32>) -> tensor<2x2x2x8x9xf32>
  %x = stablehlo.add %s, %bb : tensor<2x2x2x8x9xf32>
  %mb = stablehlo.broadcast_in_dim %m, dims = [1, 3, 4] : (tensor<2x8x9xi1>) -> tensor<2x2x2x8x9xi1>
  %low = stablehlo.constant dense<0xFF800000> : tensor<2x2x2x8x9xf32>
  %y = stablehlo.select %mb, %x, %low : tensor<2x2x2x8x9xi1>, tensor<2x2x2x8x9xf32>
  %least = stablehlo.constant dense<0xFF800000> : tensor<f32>
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %a = stablehlo.reduce(%y init: %least) applies stablehlo.maximum across dimensions = [4]
    : (tensor<2x2x2x8x9xf32>, tensor<f32>) -> tensor<2x2x2x8xf32>
  %ab = stablehlo.broadcast_in_dim %a, dims = [0, 1, 2, 3] : (tensor<2x2x2x8xf32>) -> tensor<2x2x2x8x9xf32>
  %d = stablehlo.subtract %y, %ab : tensor<2x2x2x8x9xf32>
  %e = stablehlo.exponential %d : tensor<2x2x2x8x9xf32>
  %l = stablehlo.reduce(%e init: %zero) applies stablehlo.add across dimensions = [4]
    : (tensor<2x2x2x8x9xf32>, tensor<f32>) -> tensor<2x2x2x8xf32>
  %lb = stablehlo.broadcast_in_dim %l, dims = [0, 1, 2, 3] : (tensor<2x2x2x8xf32>) -> tensor<2x2x2x8x9xf32>
  %p = stablehlo.divide %e, %lb : tensor<2x2x2x8x9xf32>
  %o = stablehlo.dot_general %v, %p, batching_dims = [0, 2] x [1, 2], contracting_dims = [1] x [4]
    : (tensor<2x9x2x16xf32>, tensor<2x2x2x8x9xf32>) -> tensor<2x2x16x2x8xf32>
  %r = stablehlo.transpose %o, dims = [0, 1, 3, 2, 4] : (tensor<2x2x16x2x8xf32>) -> tensor<2x2x2x16x8xf32>
  return %r : tensor<2x2x2x16x8xf32>
}
"""


def test_a_mask_of_grouped_heads_is_made_in_their_order(tmp_path: Path) -> None:
    """Scores are [group, B, heads of K, S, Skv], in which no call gives a mask."""
    (found,) = load(GROUPED, "m.mlir")
    assert (found.within, found.mask, found.heads, found.kv_heads) == ("main", "add", 4, 2)
    path = tmp_path / "m.mlir"
    path.write_text(GROUPED)
    rng = np.random.default_rng(6)
    shapes = ((2, 8, 4, 16), (2, 9, 2, 16), (2, 9, 2, 16), (4, 8, 9))
    q, k, v, bias = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    keep = rng.random((2, 8, 9)) < 0.7
    keep[..., 0] = True
    with npuc.load(path, backend="reference") as model:
        out = model(q, k, v, bias, keep)
    heads_k, heads_v = (np.repeat(x.transpose(0, 2, 1, 3), 2, 1).astype(np.float64) for x in (k, v))
    scores = q.transpose(0, 2, 1, 3) @ heads_k.swapaxes(2, 3) + bias
    weights = np.exp(np.where(keep[:, None], scores, -np.inf))
    wanted = weights / weights.sum(-1, keepdims=True) @ heads_v
    np.testing.assert_allclose(out, wanted.reshape(2, 2, 2, 8, 16).swapaxes(3, 4), rtol=1e-3, atol=1e-5)
