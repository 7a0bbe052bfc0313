"""Attention written out with one step changed: what means something else is refused at the operation that differs."""

from __future__ import annotations

import pytest
from edited_examples import refusal
from written_out import (
    ADD,
    COLUMN_MAP,
    CUBE,
    CUBE_MAP,
    DIVIDE,
    EACH,
    HALVES,
    PV,
    QK,
    ROW,
    ROW_MAP,
    SOURCE,
    SUBTRACT,
    YIELD,
    after_product,
    contraction,
    elementwise,
    exponentials,
    filled,
    generic,
    permuted,
    reduction,
    scores,
    two_results,
    written_out,
)

TWICE = two_results(
    f"{CUBE_MAP}; {ROW_MAP}; {ROW_MAP}",
    "%t0, %t0",
    "%n = arith.addf %a, %o1 : f32; linalg.yield %n, %o1 : f32, f32",
)
ROWS = "(h, i) -> (h, i); (h, i) -> (h, i); (h, i) -> (h, i)"
OPEN, HALF = "tensor<2x?x64xf32>", "tensor<2x32x64xf32>"

NEAR_MISSES: dict[str, tuple[dict[str, str], str]] = {
    # Structure: who writes what, from which running value.
    "the sum of a result's neighbour": (
        {"sum": TWICE.replace("t2:2", "t:2"), "divide": SOURCE["divide"].replace("%t ", "%t#0 ")
         .replace("%t :", "%t#0 :")},
        "linalg.generic: its result 0 is made from the running value of another result",
    ),
    "a running value that is not combined": (
        {"sum": reduction("t", "%p", "%t0", "arith.addf").replace("linalg.yield %n", "linalg.yield %o")},
        "linalg.generic: its reduction is no sum, maximum or conjunction",
    ),
    "the last element instead of the sum": (
        {"sum": reduction("t", "%p", "%t0", "arith.addf").replace("linalg.yield %n", "linalg.yield %a")},
        "linalg.generic: its reduction is no sum, maximum or conjunction",
    ),
    "a sum that doubles": (
        {"sum": generic("t", "%p", CUBE, "%t0", ROW, f"{CUBE_MAP}; {ROW_MAP}",
                        "%e = arith.addf %o, %o : f32; %n = arith.addf %e, %a : f32" + YIELD, "ppr")},
        "arith.addf: this use of the running value of a reduction is not recognised",
    ),
    "a sum that counts twice": (
        {"sum": generic("t", "%p", CUBE, "%t0", ROW, f"{CUBE_MAP}; {ROW_MAP}",
                        "%e = arith.addf %o, %a : f32; %n = arith.addf %e, %a : f32" + YIELD, "ppr")},
        "arith.addf: this use of the running value of a reduction is not recognised",
    ),
    "a sum that takes away": (
        {"sum": reduction("t", "%p", "%t0", "arith.addf").replace("arith.addf %a, %o", "arith.subf %o, %a")},
        "arith.subf: this use of the running value of a reduction is not recognised",
    ),
    "a product instead of a sum": (
        {"sum": reduction("t", "%p", "%t0", "arith.mulf")},
        "arith.mulf: this use of the running value of a reduction is not recognised",
    ),
    "a sum that is converted on the way": (
        {"sum": generic("t", "%p", CUBE, "%t0", ROW, f"{CUBE_MAP}; {ROW_MAP}",
                        "%e = arith.addf %a, %o : f32; %n = math.sqrt %e : f32" + YIELD, "ppr")},
        "math.sqrt: this use of the running value of a reduction is not recognised",
    ),
    "a sum over the keys twice over": (
        {"arguments": "  %two = tensor.empty() : tensor<2xf32>",
         "sum": generic("t", "%p, %two", f"{CUBE}, tensor<2xf32>", "%t0", ROW, HALVES, ADD, "pprr")},
        "linalg.generic: it takes the sum of the exponentials along 2 dimensions",
    ),
    "a sum whose iterator is parallel": (
        {"sum": reduction("t", "%p", "%t0", "arith.addf", kinds="ppp")},
        "linalg.generic: a loop dimension that its results do not keep is declared parallel",
    ),
    "zeros in one row of the accumulator": (
        {"weights": filled("init", "(h, i) -> (h, i, 0)", "pp"), "pv": contraction("o", "%w", "%v", PV, "%init")},
        "linalg.generic: it writes only a part of its result: the indexing map is",
    ),
    "zeros on the diagonal of the accumulator": (
        {"weights": filled("init", "(h, i) -> (h, i, i)", "pp"), "pv": contraction("o", "%w", "%v", PV, "%init")},
        "linalg.generic: it writes only a diagonal of its result",
    ),
    "zeros in the second row": (
        {"weights": filled("init", "(h, i) -> (h, 1, i)", "pp"), "pv": contraction("o", "%w", "%v", PV, "%init")},
        "linalg.generic: it writes only a part of its result",
    ),
    "a maximum that starts from -inf in one head only": (
        {"starts": filled("m0", "(i) -> (0, i)", "p", "%lowest", "%r", ROW)
         + f"\n  %t0 = linalg.fill ins(%zero : f32) outs(%r : {ROW}) -> {ROW}"},
        "linalg.generic: it writes only a part of its result",
    ),
    "scores written in one row": (
        {"qk": generic("x0", "%q, %k", f"{CUBE}, {CUBE}", "%sz", CUBE,
                       "(h, i, d) -> (h, i, d); (h, i, d) -> (h, i, d); (h, i, d) -> (h, i, 0)",
                       "%e = arith.mulf %a, %b : f32; %n = arith.addf %e, %o : f32" + YIELD, "ppr")},
        "linalg.generic: it writes only a part of its result",
    ),
    "the first query for all": (
        {"arguments": generic("q1", "%q", CUBE, "%s", CUBE, f"(h, i, j) -> (h, 0, j); {CUBE_MAP}",
                              "linalg.yield %a : f32"),
         "qk": contraction("x0", "%q1", "%k", QK)},
        "linalg.generic: its indexing map reads (0)",
    ),
    "the diagonal of Q": (
        {"arguments": generic("q1", "%q", CUBE, "%s", CUBE, f"(h, i, j) -> (h, i, i); {CUBE_MAP}",
                              "linalg.yield %a : f32"),
         "qk": contraction("x0", "%q1", "%k", QK)},
        "linalg.generic: its indexing map reads a diagonal",
    ),
    "the first row of K for all keys": (
        {"arguments": generic("k1", "%k", CUBE, "%s", CUBE, f"(h, i, j) -> (h, 0, j); {CUBE_MAP}",
                              "linalg.yield %a : f32"),
         "qk": contraction("x0", "%q", "%k1", QK)},
        "linalg.generic: its indexing map reads (0)",
    ),
    "V upside down": (
        {"arguments": generic("v1", "%v", CUBE, "%s", CUBE, f"(h, i, j) -> (h, -i + 63, j); {CUBE_MAP}",
                              "linalg.yield %a : f32"),
         "pv": contraction("o", "%w", "%v1", PV)},
        "linalg.generic: its indexing map reads (",
    ),
    "the storage instead of the exponentials": (
        {"exp": exponentials("%n = math.exp %a : f32; linalg.yield %o : f32")},
        "linalg.generic: it takes the sum of an uninitialised tensor",
    ),
    "Q in the place of the exponentials": (
        {"exp": generic("p", "%z", CUBE, "%q", CUBE, EACH, "linalg.yield %o : f32")},
        "linalg.generic: it takes the sum of an argument",
    ),
    # Row maximum and shift.
    "the maximum of the bare product": (
        {"max": reduction("m", "%x0", "%m0", "arith.maximumf")},
        "arith.subf: it subtracts the maximum of another tensor from the scores",
    ),
    "the maximum over the queries": (
        {"max": reduction("m", "%x", "%m0", "arith.maximumf", f"{CUBE_MAP}; {COLUMN_MAP}", "prp")},
        "arith.subf: it subtracts a row maximum along the wrong axes",
    ),
    "the maximum over the heads": (
        {"max": generic("m", "%x", CUBE, "%mh", "tensor<64x64xf32>", "(h, i, j) -> (h, i, j); (h, i, j) -> (i, j)",
                        "%n = arith.maximumf %a, %o : f32" + YIELD, "rpp"),
         "starts": "  %eh = tensor.empty() : tensor<64x64xf32>\n  %mh = linalg.fill ins(%lowest : f32) "
         "outs(%eh : tensor<64x64xf32>) -> tensor<64x64xf32>\n" + SOURCE["starts"],
         "shift": elementwise("z", "%x", "%m", SUBTRACT, "(h, i, j) -> (i, j)", "tensor<64x64xf32>")},
        "linalg.generic: it takes the max of the scores along axis H, not along the keys",
    ),
    "the maximum read along the keys": (
        {"shift": elementwise("z", "%x", "%m", SUBTRACT, COLUMN_MAP, ROW)},
        "arith.subf: it subtracts a row maximum along the wrong axes",
    ),
    "the maximum of the magnitudes": (
        {"max": generic("m", "%x", CUBE, "%m0", ROW, f"{CUBE_MAP}; {ROW_MAP}",
                        "%b = math.absf %a : f32; %n = arith.maximumf %b, %o : f32" + YIELD, "ppr")},
        "math.absf: no step of attention that is recognised on the scores",
    ),
    "a maximum that starts from half the lowest number": (
        {"constants": SOURCE["constants"].replace("0xFF800000", "-1.7e+38")},
        "linalg.generic: its max of the scores starts from -1.7e+38, not from -inf, or the lowest number",
    ),
    "a maximum that starts from the lowest bf16": (
        {"constants": SOURCE["constants"].replace("0xFF800000", "-3.389531389e+38")},
        "linalg.generic: its max of the scores starts from -3.38953e+38, not from",
    ),
    "a maximum that starts from +inf": (
        {"constants": SOURCE["constants"].replace("0xFF800000", "0x7F800000")},
        "linalg.generic: its max of the scores starts from inf, not from",
    ),
    "a maximum that starts from NaN": (
        {"constants": SOURCE["constants"].replace("0xFF800000", "0x7FC00000")},
        "linalg.generic: its max of the scores starts from nan, not from",
    ),
    "a maximum that starts from the sum's start": (
        {"max": reduction("m", "%x", "%t0", "arith.maximumf")},
        "linalg.generic: its max of the scores starts from 0, not from",
    ),
    "the shift the other way around": (
        {"shift": elementwise("z", "%x", "%m", "%n = arith.subf %b, %a : f32" + YIELD, ROW_MAP, ROW)},
        "arith.subf: no step of attention that is recognised on the row maximum of the scores",
    ),
    "the maximum added": (
        {"shift": elementwise("z", "%x", "%m", "%n = arith.addf %a, %b : f32" + YIELD, ROW_MAP, ROW)},
        "arith.addf: it adds to the scores",
    ),
    "the shift twice": (
        {"exp": elementwise("z2", "%z", "%m", SUBTRACT, ROW_MAP, ROW)
         + "\n" + SOURCE["exp"].replace("ins(%z :", "ins(%z2 :")},
        "arith.subf: no step of attention that is recognised on the scores less their row maximum",
    ),
    # Scores.
    "scores that are cut off below zero": (
        {"scaled": scores("%e = arith.mulf %a, %scale : f32; %n = arith.maximumf %e, %zero : f32" + YIELD)},
        "arith.maximumf: no step of attention that is recognised on the scores",
    ),
    "scores that are cut off above": (
        {"scaled": scores("%e = arith.mulf %a, %scale : f32; %n = arith.minimumf %e, %scale : f32" + YIELD)},
        "arith.minimumf: no step of attention that is recognised on the scores",
    ),
    "scores squared": (
        {"scaled": scores("%e = arith.mulf %a, %scale : f32; %n = arith.mulf %e, %e : f32" + YIELD)},
        "linalg.generic: it multiplies two tensors element by element: the scores and the scores",
    ),
    "a hyperbolic tangent of one": (
        {"scaled": scores("%t = math.tanh %a : f32; %n = math.tanh %t : f32" + YIELD)},
        "math.tanh: no step of attention that is recognised on the scores",
    ),
    "a scale that is divided by zero": (
        {"scaled": scores("%n = arith.divf %a, %zero : f32" + YIELD)},
        "arith.divf: it divides by 0",
    ),
    "a number divided by the scores": (
        {"scaled": scores("%n = arith.divf %scale, %a : f32" + YIELD)},
        "arith.divf: no step of attention that is recognised on the scores",
    ),
    "one taken from the scores": (
        {"scaled": scores("%e = arith.mulf %a, %scale : f32; %n = arith.subf %e, %scale : f32" + YIELD)},
        "arith.subf: it subtracts a constant from the scores, not their row maximum",
    ),
    "scores taken from zero": (
        {"scaled": scores("%e = arith.mulf %a, %scale : f32; %n = arith.subf %zero, %e : f32" + YIELD)},
        "arith.subf: no step of attention that is recognised on the scores",
    ),
    "scores transposed for the maximum": (
        {"scaled": SOURCE["scaled"] + "\n" + permuted("xt", "%x", "0, 2, 1"),
         "max": reduction("m", "%xt", "%m0", "arith.maximumf")},
        "arith.subf: it subtracts a row maximum along the wrong axes",
    ),
    "a square root of the head size that wraps around": (
        {"scale": "  %d = arith.constant 64 : i8\n  %four = arith.constant 4 : i8\n  %all = arith.muli %d, %four : i8\n"
         "  %df = arith.sitofp %all : i8 to f32\n  %scale = math.rsqrt %df : f32"},
        "arith.mulf: it multiplies the scores by inf",
    ),
    "a scale beyond its type": (
        {"scale": "  %big = arith.constant 6.0e+4 : f16\n  %sum = arith.addf %big, %big : f16\n"
         "  %scale = arith.extf %sum : f16 to f32"},
        "arith.mulf: it multiplies the scores by inf",
    ),
    "a scale that is divided by zero as an integer": (
        {"scale": "  %d = arith.constant 64 : i32\n  %none = arith.constant 0 : i32\n"
         "  %part = arith.divsi %d, %none : i32\n  %scale = arith.sitofp %part : i32 to f32"},
        "arith.divsi: its value is not defined: it divides by zero",
    ),
    "a scale that is shifted away": (
        {"scale": "  %d = arith.constant 64 : i32\n  %far = arith.constant 32 : i32\n"
         "  %part = arith.shrui %d, %far : i32\n  %scale = arith.sitofp %part : i32 to f32"},
        "arith.shrui: its value is not defined: it shifts by its width or more",
    ),
    "a scale a head": (
        {"scale": "  %scales = arith.constant dense<[0.125, 0.25]> : tensor<2xf32>",
         "scaled": generic("x", "%x0, %scales", f"{CUBE}, tensor<2xf32>", "%s", CUBE,
                           f"{CUBE_MAP}; (h, i, j) -> (h); {CUBE_MAP}", "%n = arith.mulf %a, %b : f32" + YIELD)},
        "arith.mulf: it multiplies the scores by a constant that is not one number everywhere",
    ),
    "a scale from an argument's element": (
        {"scale": "  %at = arith.constant 0 : index\n"
         f"  %scale = tensor.extract %q[%at, %at, %at] : {CUBE}"},
        "tensor.extract: no step of attention that is recognised",
    ),
    # The contraction of Q and K.
    "Q and K summed over the heads": (
        {"qk": generic("x0", "%q, %k", f"{CUBE}, {CUBE}", "%sz", CUBE,
                       "(g, h, i, j, d) -> (h, i, d); (g, h, i, j, d) -> (h, j, d); (g, h, i, j, d) -> (g, i, j)",
                       "%e = arith.mulf %a, %b : f32; %n = arith.addf %e, %o : f32" + YIELD, "prppr")},
        "linalg.generic: it sums over 2 dimensions, not one",
    ),
    "Q and K of other heads": (
        {"qk": generic("x0", "%q, %kh", f"{CUBE}, {CUBE}", "%sz", CUBE, QK,
                       "%e = arith.mulf %a, %b : f32; %n = arith.addf %e, %o : f32" + YIELD, "pppr"),
         "arguments": generic("kh", "%k", CUBE, "%s", CUBE, f"(h, i, j) -> (-h + 1, i, j); {CUBE_MAP}",
                              "linalg.yield %a : f32")},
        "linalg.generic: its indexing map reads (",
    ),
    "Q added to K": (
        {"arguments": f"  %q1 = arith.addf %q, %k : {CUBE}", "qk": contraction("x0", "%q1", "%k", QK)},
        "arith.addf: no step of attention that is recognised on an argument",
    ),
    "one added to Q": (
        {"arguments": f"  %ones = arith.constant dense<1.0> : {CUBE}\n  %q1 = arith.addf %q, %ones : {CUBE}",
         "qk": contraction("x0", "%q1", "%k", QK)},
        "arith.addf: no step of attention that is recognised on an argument",
    ),
    "the product added to a product": (
        {"qk": contraction("y", "%q", "%k", QK) + "\n" + contraction("x0", "%q", "%k", QK, "%y")},
        "linalg.contract: its accumulator starts from the scores, not from zeros",
    ),
    "the product added to V": (
        {"pv": contraction("o", "%w", "%v", PV, "%v")},
        "linalg.contract: its accumulator starts from an argument, not from zeros",
    ),
    "a difference instead of a product": (
        {"qk": generic("x0", "%q, %k", f"{CUBE}, {CUBE}", "%sz", CUBE, QK,
                       "%e = arith.subf %a, %b : f32; %n = arith.addf %e, %o : f32" + YIELD, "pppr")},
        "arith.subf: no step of attention that is recognised on an argument",
    ),
    "the largest product instead of their sum": (
        {"qk": generic("x0", "%q, %k", f"{CUBE}, {CUBE}", "%sz", CUBE, QK,
                       "%e = arith.mulf %a, %b : f32; %n = arith.maximumf %e, %o : f32" + YIELD, "pppr")},
        "linalg.generic: it takes the max of a product of two tensors",
    ),
    # Exponentials and their sum.
    "exponentials doubled": (
        {"exp": exponentials("%e = math.exp %a : f32; %n = arith.addf %e, %e : f32" + YIELD)},
        "arith.addf: no step of attention that is recognised on the exponentials",
    ),
    "exponentials multiplied": (
        {"exp": exponentials("%e = math.exp %a : f32; %n = arith.mulf %e, %scale : f32" + YIELD)},
        "arith.mulf: no step of attention that is recognised on the exponentials",
    ),
    "exponentials squared before their sum": (
        {"sum": generic("t", "%p", CUBE, "%t0", ROW, f"{CUBE_MAP}; {ROW_MAP}",
                        "%e = arith.mulf %a, %a : f32; %n = arith.addf %e, %o : f32" + YIELD, "ppr")},
        "linalg.generic: it multiplies the exponentials with the exponentials",
    ),
    "exponentials of exponentials": (
        {"exp": exponentials("%e = math.exp %a : f32; %n = math.exp %e : f32" + YIELD)},
        "math.exp: no step of attention that is recognised on the exponentials",
    ),
    "the sum over the queries": (
        {"sum": reduction("t", "%p", "%t0", "arith.addf", f"{CUBE_MAP}; {COLUMN_MAP}", "prp"),
         "divide": elementwise("w", "%p", "%t", DIVIDE, COLUMN_MAP, ROW)},
        "linalg.generic: it sums the exponentials along another axis than their maximum was taken",
    ),
    "the sum read along the keys": (
        {"divide": elementwise("w", "%p", "%t", DIVIDE, COLUMN_MAP, ROW)},
        "arith.divf: it divides the exponentials by a row sum along the wrong axes",
    ),
    "a sum that starts from the maximum": (
        {"sum": reduction("t", "%p", "%m", "arith.addf")},
        "linalg.generic: its sum of the exponentials starts from the row maximum of the scores, not from 0",
    ),
    "a sum with a small number added": (
        {"divide": elementwise("w", "%p", "%t", "%e = arith.addf %b, %scale : f32; "
                               "%n = arith.divf %a, %e : f32" + YIELD, ROW_MAP, ROW)},
        "arith.addf: no step of attention that is recognised on the row sum of the exponentials",
    ),
    "the sum multiplied": (
        {"divide": elementwise("w", "%p", "%t", "%n = arith.mulf %a, %b : f32" + YIELD, ROW_MAP, ROW)},
        "arith.mulf: no step of attention that is recognised on the exponentials",
    ),
    "the sum divided by the exponentials": (
        {"divide": elementwise("w", "%p", "%t", "%n = arith.divf %b, %a : f32" + YIELD, ROW_MAP, ROW)},
        "arith.divf: no step of attention that is recognised on the row sum of the exponentials",
    ),
    "two over the sum": (
        {"divide": elementwise("w", "%p", "%t", "%c = arith.constant 2.0 : f32; %e = arith.divf %c, %b : f32; "
                               "%n = arith.mulf %a, %e : f32" + YIELD, ROW_MAP, ROW)},
        "arith.divf: no step of attention that is recognised on the row sum of the exponentials",
    ),
    "the reciprocal twice": (
        {"divide": elementwise("w", "%p", "%t", "%c = arith.constant 1.0 : f32; %e = arith.divf %c, %b : f32; "
                               "%y = arith.mulf %a, %e : f32; %n = arith.mulf %y, %e : f32" + YIELD, ROW_MAP, ROW)},
        "arith.mulf: no step of attention that is recognised on the probabilities",
    ),
    "the division twice": (
        {"weights": elementwise("w2", "%w", "%t", DIVIDE, ROW_MAP, ROW), "pv": contraction("o", "%w2", "%v", PV)},
        "arith.divf: no step of attention that is recognised on the probabilities",
    ),
    "the shifted scores instead of the probabilities": (
        {"pv": contraction("o", "%z", "%v", PV)},
        "linalg.contract: no step of attention that is recognised on the scores less their row maximum",
    ),
    # Probabilities times V.
    "the probabilities transposed": (
        {"pv": contraction("o", "%w", "%v", PV.replace("(h, i, j);", "(h, j, i);"))},
        "linalg.contract: the softmax runs along another axis than the one that V is summed over",
    ),
    "the probabilities of another head": (
        {"weights": generic("wh", "%w", CUBE, "%s", CUBE, f"(h, i, j) -> (-h + 1, i, j); {CUBE_MAP}",
                            "linalg.yield %a : f32"),
         "pv": contraction("o", "%wh", "%v", PV)},
        "linalg.generic: its indexing map reads (",
    ),
    "the probabilities twice": (
        {"pv": contraction("o1", "%w", "%v", PV), "result": contraction("o", "%w", "%o1", PV)},
        "linalg.contract: no step of attention that is recognised on the probabilities",
    ),
    # The division after the product with V.
    "after V: the division by the maximum": (
        after_product("%m"),
        "arith.divf: it divides the exponentials times V without the division by their row sum by the row maximum",
    ),
    "after V: the sum read along the head size": (
        after_product("%t", DIVIDE, COLUMN_MAP),
        "arith.divf: it divides the exponentials times V without the division by their row sum by a row sum along",
    ),
    "after V: the sum multiplied": (
        after_product("%t", "%n = arith.mulf %a, %b : f32" + YIELD),
        "arith.mulf: no step of attention that is recognised on the exponentials times V",
    ),
    "after V: the sum taken away": (
        after_product("%t", "%n = arith.subf %a, %b : f32" + YIELD),
        "arith.subf: no step of attention that is recognised on the exponentials times V",
    ),
    "after V: the division turned around": (
        after_product("%t", "%n = arith.divf %b, %a : f32" + YIELD),
        "arith.divf: no step of attention that is recognised on the row sum of the exponentials",
    ),
    "after V: the division before and after": (
        {"pv": contraction("o1", "%w", "%v", PV), "result": elementwise("o", "%o1", "%t", DIVIDE, ROW_MAP, ROW)},
        "arith.divf: it changes the attention result",
    ),
    "after V: the sum of other exponentials": (
        {**after_product("%t"), "sum": exponentials("%e = arith.addf %a, %a : f32; %n = math.exp %e : f32" + YIELD)
         .replace("%p =", "%p2 =") + "\n" + reduction("t", "%p2", "%t0", "arith.addf")},
        "arith.addf: no step of attention that is recognised on the scores less their row maximum",
    ),
    "after V: the sum of flatter exponentials": (
        {**after_product("%t"), "sum": exponentials("%e = arith.mulf %a, %scale : f32; %n = math.exp %e : f32" + YIELD)
         .replace("%p =", "%p2 =") + "\n" + reduction("t", "%p2", "%t0", "arith.addf")},
        "arith.divf: it divides the exponentials times V without the division by their row sum by the sum of another",
    ),
    "after V: nothing": (
        {"divide": "", "pv": contraction("o", "%p", "%v", PV)},
        "func.return: the function returns the exponentials times V without the division by their row sum",
    ),
    # Online updates: what was accumulated before, and how it is corrected.
    "a correction of what is not zero": (
        {"sum": generic("g", "%m0, %m", f"{ROW}, {ROW}", "%r", ROW, ROWS,
                        "%e = arith.subf %a, %b : f32; %u = math.exp %e : f32; "
                        "%n = arith.mulf %u, %scale : f32" + YIELD, "pp")
         + "\n" + reduction("t", "%p", "%g", "arith.addf")},
        "arith.mulf: no step of attention that is recognised on the correction of what was accumulated before",
    ),
    "a correction from another start": (
        {"sum": generic("g", "%t0, %m", f"{ROW}, {ROW}", "%r", ROW, ROWS,
                        "%e = arith.subf %a, %b : f32; %u = math.exp %e : f32; "
                        "%n = arith.mulf %u, %zero : f32" + YIELD, "pp")
         + "\n" + reduction("t", "%p", "%g", "arith.addf")},
        "arith.subf: no step of attention that is recognised on the row maximum of the scores",
    ),
    # Slices and casts.
    "a slice from the second head on": (
        {"arguments": "  %k1 = tensor.extract_slice %k[1, 0, 0] [1, 64, 64] [1, 1, 1]"
         f" : {CUBE} to tensor<1x64x64xf32>\n"
         "  %ke = tensor.empty() : tensor<2x64x64xf32>\n"
         + generic("k2", "%k1", "tensor<1x64x64xf32>", "%ke", CUBE, f"(h, i, j) -> (0, i, j); {CUBE_MAP}",
                   "linalg.yield %a : f32"),
         "qk": contraction("x0", "%q", "%k2", QK)},
        "tensor.extract_slice: it takes a part of a tensor",
    ),
    "every second row": (
        {"arguments": f"  %k1 = tensor.extract_slice %k[0, 0, 0] [2, 32, 64] [1, 2, 1] : {CUBE} to {HALF}\n"
         f"  %k2 = tensor.insert_slice %k1 into %q[0, 0, 0] [2, 32, 64] [1, 1, 1] : {HALF} into {CUBE}",
         "qk": contraction("x0", "%q", "%k2", QK)},
        "tensor.insert_slice: it replaces a part of a tensor",
    ),
    "a result put into a part": (
        {"result": f"  %part = tensor.extract_slice %o[0, 0, 0] [2, 64, 32] [1, 1, 1] : {CUBE} to tensor<2x64x32xf32>\n"
         f"  %o2 = tensor.insert_slice %part into %q[0, 0, 32] [2, 64, 32] [1, 1, 1] : tensor<2x64x32xf32> into {CUBE}",
         "return": f"  return %o2 : {CUBE}"},
        "tensor.insert_slice: it replaces a part of a tensor",
    ),
    "a cast to another length": (
        {"arguments": f"  %k1 = tensor.cast %k : {CUBE} to {OPEN}\n  %k2 = tensor.cast %k1 : {OPEN} to {HALF}\n"
         f"  %k3 = tensor.cast %k2 : {HALF} to {OPEN}\n  %k4 = tensor.cast %k3 : {OPEN} to {CUBE}",
         "qk": contraction("x0", "%q", "%k4", QK)},
        "tensor.cast: it gives a dimension another length",
    ),
    # The result.
    "the storage returned": (
        {"result": generic("o2", "%o", CUBE, "%s", CUBE, EACH, "linalg.yield %o9 : f32").replace("%o: f32", "%o9: f32"),
         "return": f"  return %o2 : {CUBE}"},
        "func.return: the function returns an uninitialised tensor",
    ),
    "V returned": ({"return": f"  return %v : {CUBE}"}, "func.return: the function returns an argument"),
    "the scores returned": ({"return": f"  return %x : {CUBE}"}, "func.return: the function returns the scores"),
    "the result less itself": (
        {"result": f"  %o2 = arith.subf %o, %o : {CUBE}", "return": f"  return %o2 : {CUBE}"},
        "arith.subf: it changes the attention result",
    ),
    "the result of slightly more": (
        {"result": f"  %c = arith.constant dense<1.0001> : {CUBE}\n  %o2 = arith.mulf %o, %c : {CUBE}",
         "return": f"  return %o2 : {CUBE}"},
        "arith.mulf: it changes the attention result",
    ),
    "the maximum of the result and zero": (
        {"result": f"  %c = arith.constant dense<0.0> : {CUBE}\n  %o2 = arith.maximumf %o, %c : {CUBE}",
         "return": f"  return %o2 : {CUBE}"},
        "arith.maximumf: it changes the attention result",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_a_changed_step_is_refused_at_its_operation(name: str) -> None:
    pieces, reason = NEAR_MISSES[name]
    message = str(refusal(written_out(**pieces)))
    assert reason in message, message
