"""Attention written out with one step in other words: recognised, beside each near miss of its kind."""

from __future__ import annotations

import pytest
from written_out import (
    ADD,
    CUBE,
    CUBE_MAP,
    DIVIDE,
    HALVES,
    PV,
    QK,
    ROW,
    ROW_MAP,
    SOURCE,
    YIELD,
    after_product,
    contraction,
    elementwise,
    filled,
    generic,
    reduction,
    scores,
    two_results,
    written_out,
)

from npuc.compiler.frontend import Argument, Attention, load


def rows(name: str, operands: str, operation: str) -> str:
    """An elementwise operation on two tensors of rows."""
    body = f"%n = {operation} : f32" + YIELD
    return generic(name, operands, f"{ROW}, {ROW}", "%r", ROW, f"{ROWS}; {ROWS}; {ROWS}", body, "pp")


ROWS = "(h, i) -> (h, i)"
ONLINE_CORRECTION = (
    rows("g0", "%m0, %m", "arith.subf %a, %b")
    + "\n"
    + generic("g", "%g0", ROW, "%r", ROW, f"{ROWS}; {ROWS}", "%n = math.exp %a : f32" + YIELD, "pp")
    + "\n"
    + rows("tc", "%t0, %g", "arith.mulf %a, %b")
)


def corrected_zeros(zeros: str) -> str:
    return elementwise("oc", zeros, "%g", "%n = arith.mulf %a, %b : f32" + YIELD, ROW_MAP, ROW)


SAME_MEANING: dict[str, dict[str, str]] = {
    "as it stands": {},
    "two results, each with its own running value": {
        "sum": two_results(
            f"{CUBE_MAP}; {ROW_MAP}; {ROW_MAP}",
            "%t0, %m0",
            "%n = arith.addf %a, %o0 : f32; %e = arith.maximumf %a, %o1 : f32; linalg.yield %n, %e : f32, f32",
            name="t",
        ),
        "divide": SOURCE["divide"].replace("%t :", "%t#0 :"),
    },
    "a running value first": {
        "sum": reduction("t", "%p", "%t0", "arith.addf").replace("arith.addf %a, %o", "arith.addf %o, %a")
    },
    "zeros in the whole accumulator": {
        "weights": filled("init", CUBE_MAP, "ppp"),
        "pv": contraction("o", "%w", "%v", PV, "%init"),
    },
    "zeros written through a permutation": {
        "weights": filled("init", "(h, i, j) -> (j, h, i)", "ppp", start="%e").replace(CUBE, "tensor<64x2x64xf32>")
        + "\n  %it = tensor.empty() : "
        + CUBE
        + f"\n  %turned = linalg.transpose ins(%init : tensor<64x2x64xf32>) outs(%it : {CUBE}) permutation = [1, 2, 0]",
        "arguments": "  %e = tensor.empty() : tensor<64x2x64xf32>",
        "pv": contraction("o", "%w", "%v", PV, "%turned"),
    },
    "zeros of the other sign": {
        "weights": "  %nz = arith.constant -0.0 : f32\n"
        f"  %init = linalg.fill ins(%nz : f32) outs(%s : {CUBE}) -> {CUBE}",
        "pv": contraction("o", "%w", "%v", PV, "%init"),
    },
    "a maximum from the lowest finite number": {"constants": SOURCE["constants"].replace("0xFF800000", "0xFF7FFFFF")},
    "a maximum that is raised to -inf": {
        "shift": elementwise(
            "z", "%x", "%m", "%e = arith.maximumf %b, %lowest : f32; %n = arith.subf %a, %e : f32" + YIELD, ROW_MAP, ROW
        )
    },
    "zero added to the scores, one divided from them": {
        "scaled": scores(
            "%e = arith.addf %zero, %a : f32; %c = arith.constant 1.0 : f32; %y = arith.divf %e, %c : f32; "
            "%u = arith.mulf %c, %y : f32; %n = arith.mulf %u, %scale : f32" + YIELD
        )
    },
    "the sign turned twice": {
        "scaled": scores("%e = arith.negf %a : f32; %u = arith.negf %scale : f32; %n = arith.mulf %e, %u : f32" + YIELD)
    },
    "a scale of integers, in their types": {
        "scale": "  %d = arith.constant 64 : i8\n  %i = arith.index_cast %d : i8 to index\n"
        "  %w64 = arith.index_cast %i : index to i64\n  %df = arith.uitofp %w64 : i64 to f16\n"
        "  %h = math.rsqrt %df : f16\n  %scale = arith.extf %h : f16 to f32"
    },
    "the division after V": after_product("%t"),
    "the reciprocal after V": after_product(
        "%t", "%c = arith.constant 1.0 : f32; %e = arith.divf %c, %b : f32; %n = arith.mulf %e, %a : f32" + YIELD
    ),
    "the division after V, converted on the way": after_product(
        "%t",
        "%e = arith.truncf %a : f32 to bf16; %u = arith.extf %e : bf16 to f32; %n = arith.divf %u, %b : f32" + YIELD,
    ),
    "a reduction over one more dimension of one element": {
        "arguments": "  %one = tensor.empty() : tensor<1xf32>",
        "sum": generic("t", "%p, %one", f"{CUBE}, tensor<1xf32>", "%t0", ROW, HALVES, ADD, "pprr"),
    },
    "one block of an online update": {
        "max": reduction("m1", "%x", "%m0", "arith.maximumf") + "\n" + rows("m", "%m0, %m1", "arith.maximumf %a, %b"),
        "sum": ONLINE_CORRECTION + "\n" + reduction("t", "%p", "%tc", "arith.addf"),
        "divide": "",
        "pv": corrected_zeros("%sz") + "\n" + contraction("o1", "%p", "%v", PV, "%oc"),
        "result": elementwise("o", "%o1", "%t", DIVIDE, ROW_MAP, ROW),
    },
    "an online update from the lowest number, added afterwards": {
        "constants": SOURCE["constants"].replace("0xFF800000", "0xFF7FFFFF"),
        "max": reduction("m1", "%x", "%m0", "arith.maximumf") + "\n" + rows("m", "%m1, %m0", "arith.maximumf %a, %b"),
        "sum": ONLINE_CORRECTION
        + "\n"
        + reduction("t1", "%p", "%t0", "arith.addf")
        + "\n"
        + rows("t", "%tc, %t1", "arith.addf %a, %b"),
    },
    "whole slices, casts and a destination": {
        "arguments": f"  %kd = tensor.cast %k : {CUBE} to tensor<?x64x?xf32>\n"
        f"  %ks = tensor.cast %kd : tensor<?x64x?xf32> to {CUBE}\n"
        f"  %vs = tensor.extract_slice %v[0, 0, 0] [2, 64, 64] [1, 1, 1] : {CUBE} to {CUBE}\n"
        f"  %into = tensor.splat %zero : {CUBE}",
        "qk": contraction("x0", "%q", "%ks", QK, "%into"),
        "pv": contraction("o1", "%w", "%vs", PV),
        "result": f"  %o = tensor.insert_slice %o1 into %q[0, 0, 0] [2, 64, 64] [1, 1, 1] : {CUBE} into {CUBE}",
    },
    "a slice without its dimensions of one element": {
        "arguments": f"  %k4 = tensor.expand_shape %k [[0, 1], [2], [3]] output_shape [1, 2, 64, 64] : {CUBE}"
        " into tensor<1x2x64x64xf32>\n"
        "  %k1 = tensor.extract_slice %k4[0, 0, 0, 0] [1, 2, 64, 64] [1, 1, 1, 1] : tensor<1x2x64x64xf32>"
        f" to {CUBE}",
        "qk": contraction("x0", "%q", "%k1", QK),
    },
    "the result plus zero, times one": {
        "result": f"  %c = arith.constant dense<1.0> : {CUBE}\n  %o2 = arith.mulf %o, %c : {CUBE}\n"
        f"  %n0 = arith.constant dense<0.0> : {CUBE}\n  %o3 = arith.subf %o2, %n0 : {CUBE}",
        "return": f"  return %o3 : {CUBE}",
    },
}


@pytest.mark.parametrize("name", SAME_MEANING)
def test_the_same_in_other_words_is_recognised(name: str) -> None:
    shape = (2, 64, 64)
    arguments = tuple(Argument(n, "f32", shape, r) for n, r in (("q", "q"), ("k", "k"), ("v", "v"), ("o", "out")))
    wanted = Attention("main", arguments, 1, 2, 2, 64, 64, 64, 0.125)
    assert load(written_out(**SAME_MEANING[name]), "x.mlir") == (wanted,)
