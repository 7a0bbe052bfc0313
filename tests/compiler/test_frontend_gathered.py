"""Tensors that are read by positions which another loop nest made: what lies where they say, or refused.

Every length is 8, so that no extent tells one loop from another.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edited_examples import refusal
from mutants import outcome_of, read
from written_out import CUBE, CUBE_MAP, QK, SOURCE, YIELD, contraction, generic, written_out

import npuc

PLAIN = SOURCE["scaled"].replace("%x =", "%x1 =")
LINE, SQUARE = "tensor<64xf32>", "tensor<64x64xf32>"
IOTA = """  %e1 = tensor.empty() : tensor<64xindex>
  %at = linalg.generic {indexing_maps = [affine_map<(n) -> (n)>], iterator_types = ["parallel"]}
      outs(%e1 : tensor<64xindex>) {
  ^bb0(%o: index):
    %n = linalg.index 0 : index
    linalg.yield %n : index
  } -> tensor<64xindex>"""
REPEATED = """  %e1 = tensor.empty() : tensor<64x64xindex>
  %at = linalg.generic {indexing_maps = [affine_map<(n, m) -> (n, m)>], iterator_types = ["parallel", "parallel"]}
      outs(%e1 : tensor<64x64xindex>) {
  ^bb0(%o: index):
    %n = linalg.index 1 : index
    linalg.yield %n : index
  } -> tensor<64x64xindex>"""
WRITTEN = f"  %at = arith.constant dense<{list(range(8))}> : tensor<64xindex>"
INDICES = "%h = linalg.index 0 : index; %i = linalg.index 1 : index; %j = linalg.index 2 : index; "


def gathered(name: str, made: str, of: str, map_: str, body: str) -> str:
    """%name from `of` (%a) and from positions (%b) that `made` makes and `map_` reads."""
    type_ = "tensor<64x64xindex>" if made == REPEATED else "tensor<64xindex>"
    maps = f"{CUBE_MAP}; {map_}; {CUBE_MAP}"
    text = generic(name, f"{of}, %at", f"{CUBE}, {type_}", "%s", CUBE, maps, INDICES + body + YIELD)
    return made + "\n" + text.replace("%b: f32", "%b: index")


def small(text: str) -> str:
    return text.replace("2x64", "8x8").replace("64", "8")


def biased(made: str, map_: str, type_: str, indices: str) -> str:
    body = f"%e = tensor.extract %bias[{indices}] : {type_}; %n = arith.addf %a, %e : f32"
    return small(written_out(f"%bias: {type_}", scaled=PLAIN + "\n" + gathered("x", made, "%x1", map_, body)))


def queries(made: str, map_: str, indices: str) -> str:
    """Q[h, i, j] read from %q by other indices."""
    body = f"%n = tensor.extract %q[{indices}] : {CUBE}"
    read_from = gathered("q1", made, "%q", map_, body)
    return small(written_out("", arguments=read_from, qk=contraction("x0", "%q1", "%k", QK)))


Meaning = Callable[..., np.ndarray]
KEYS, QUERIES, BOTH = "(h, i, j) -> (j)", "(h, i, j) -> (i)", "(h, i, j) -> (i, j)"
MEANT: dict[str, tuple[str, Meaning, Meaning]] = {  # Q and scores, by numpy
    "a bias of keys": (
        biased(IOTA, KEYS, LINE, "%b"), lambda q: q, lambda s, bias: s + bias),
    "a bias of keys, by numbers that are written out": (
        biased(WRITTEN, KEYS, LINE, "%b"), lambda q: q, lambda s, bias: s + bias),
    "a bias of keys, by a table that repeats": (
        biased(REPEATED, BOTH, LINE, "%b"), lambda q: q, lambda s, bias: s + bias),
    "a bias of queries and keys": (
        biased(IOTA, QUERIES, SQUARE, "%b, %j"), lambda q: q, lambda s, bias: s + bias),
    "a bias of queries and keys, the keys by a table": (
        biased(IOTA, KEYS, SQUARE, "%i, %b"), lambda q: q, lambda s, bias: s + bias),
    "a bias of heads and keys": (
        biased(IOTA, "(h, i, j) -> (h)", SQUARE, "%b, %j"), lambda q: q, lambda s, bias: s + bias[:, None]),
    "the queries themselves": (
        queries(IOTA, QUERIES, "%h, %b, %j"), lambda q: q, lambda s: s),
    "heads and queries exchanged": (
        queries(IOTA, QUERIES, "%b, %h, %j"), lambda q: q.swapaxes(0, 1), lambda s: s),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANT)
def test_what_positions_say_is_read(name: str, tmp_path: Path) -> None:
    text, of_q, masked = MEANT[name]
    assert outcome_of(read(text), 3)[0] == "equal"
    path = tmp_path / "m.mlir"
    path.write_text(text)
    rng = np.random.default_rng(11)
    q, k, v = (rng.standard_normal((8, 8, 8)).astype(np.float32) for _ in range(3))
    shapes = [(8,) * rank for rank, type_ in ((1, LINE), (2, SQUARE)) if f"%bias: {small(type_)}" in text]
    more = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    with npuc.load(path, backend="reference") as model:
        out = model(q, k, v, *more)
    scores = masked(0.125 * of_q(q).astype(np.float64) @ k.swapaxes(1, 2), *more)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    np.testing.assert_allclose(out, weights / weights.sum(-1, keepdims=True) @ v, rtol=1e-3, atol=1e-5)


OTHER_ORDER = "tensor.extract: it reads elements of a tensor in another order than they are in"
REFUSED = {
    "a diagonal of Q": (queries(IOTA, KEYS, "%b, %i, %j"), OTHER_ORDER),
    "a diagonal of Q, by two tables": (queries(IOTA, QUERIES, "%b, %b, %j"), OTHER_ORDER),
    "positions that are added to others": (
        queries(IOTA, QUERIES, "%b, %b, %j").replace("%n = tensor.extract %q[%b, %b",
        "%l = arith.addi %b, %h : index\n    %n = tensor.extract %q[%h, %l"), OTHER_ORDER),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_they_read_in_another_order_is_refused(name: str) -> None:
    text, reason = REFUSED[name]
    assert reason in str(refusal(text))
