"""What is nearly attention is refused at the operation that makes it something else."""

from __future__ import annotations

import pytest
from edited_examples import AFTER_SCORES, LINALG, PARALLEL4, Q4, S3, S4, TORCH, Edit, before, edited, refusal

SQUARE = ("x128", "x64")  # makes lengths equal to the head size, so that types cannot tell axes apart
SQUARE_SHAPES = (", 128", ", 64")
AFTER_WEIGHTS = "%bit_storage = tensor.empty()"
RETURN = f"return %o : {Q4}"

NEAR_MISSES: dict[str, tuple[str, list[Edit], str]] = {
    "softmax over the queries": (
        LINALG,
        [("dimension(2)", "dimension(1)")],
        "linalg.batch_matmul: the softmax runs along another axis than the one that V is summed over",
    ),
    "softmax over the heads": (
        LINALG,
        [("dimension(2)", "dimension(0)")],
        "linalg.softmax: it normalises along axis H, not along the keys",
    ),
    "maximum over the queries": (
        TORCH,
        [
            SQUARE,
            SQUARE_SHAPES,
            ("#row = affine_map<(b, h, i, j) -> (b, h, i)>", "#row = affine_map<(b, h, i, j) -> (b, h, j)>"),
            (
                "#row, #row],\n                             "
                'iterator_types = ["parallel", "parallel", "parallel", "reduction"]',
                '#row, #row], iterator_types = ["parallel", "parallel", "reduction", "parallel"]',
            ),
        ],
        "arith.subf: it subtracts a row maximum along the wrong axes",
    ),
    "sum over the queries": (
        TORCH,
        [
            SQUARE,
            SQUARE_SHAPES,
            (
                "%sum = linalg.generic {indexing_maps = [#all, #column],\n"
                '                           iterator_types = ["parallel", "parallel", "parallel", "reduction"]}',
                "%sum = linalg.generic {indexing_maps = [#all, affine_map<(b, h, i, j) -> (b, h, j, 0)>],\n"
                'iterator_types = ["parallel", "parallel", "reduction", "parallel"]}',
            ),
        ],
        "linalg.generic: it sums the exponentials along another axis than their maximum was taken",
    ),
    "V from another source": (
        TORCH,
        [
            before("%p_heads = ", f"%other = math.tanh %value : {Q4}"),
            ("collapse_shape %value", "collapse_shape %other"),
        ],
        "math.tanh: no step of attention that is recognised on an argument",
    ),
    "V of constants": (
        TORCH,
        [
            before("%p_heads = ", f"%other = arith.constant dense<2.0> : {Q4}"),
            ("collapse_shape %value", "collapse_shape %other"),
        ],
        "linalg.batch_matmul: no step of attention that is recognised on the probabilities",
    ),
    "V of ones": (
        TORCH,
        [
            before("%p_heads = ", f"%other = arith.constant dense<1.0> : {Q4}"),
            ("collapse_shape %value", "collapse_shape %other"),
        ],
        "linalg.batch_matmul: it takes the sum of the probabilities",
    ),
    "V multiplied": (
        TORCH,
        [
            before(
                "%p_heads = ", f"%half = arith.constant dense<0.5> : {Q4}", f"%other = arith.mulf %value, %half : {Q4}"
            ),
            ("collapse_shape %value", "collapse_shape %other"),
        ],
        "linalg.batch_matmul: argument 2 was multiplied before it is used as V",
    ),
    "sum of the shifted scores": (
        TORCH,
        [(f"ins(%power : {S4}) outs(%sum_start", f"ins(%shifted : {S4}) outs(%sum_start")],
        "linalg.generic: it takes the sum of the scores less their row maximum",
    ),
    "division by the sum of other exponentials": (
        TORCH,
        [
            before(
                "%sum_storage = ",
                f"%half = arith.constant dense<0.5> : {S4}",
                f"%flat = arith.mulf %shifted, %half : {S4}",
                f"%power_2 = math.exp %flat : {S4}",
            ),
            (f"ins(%power : {S4}) outs(%sum_start", f"ins(%power_2 : {S4}) outs(%sum_start"),
        ],
        "arith.divf: it divides the exponentials by the sum of another tensor",
    ),
    "division by the maximum": (
        TORCH,
        [("ins(%power, %sum :", "ins(%power, %max_column :")],
        "arith.divf: it divides the exponentials by the row maximum of the scores, not by their row sum",
    ),
    "no normalisation": (
        TORCH,
        [("collapse_shape %safe", "collapse_shape %power")],
        "func.return: the function returns the exponentials times V without the division by their row sum",
    ),
    "no maximum": (
        TORCH,
        [(f"ins(%shifted : {S4})", f"ins(%s : {S4})")],
        "math.exp: it exponentiates scores whose row maximum was not subtracted",
    ),
    "no softmax": (
        TORCH,
        [("collapse_shape %safe", "collapse_shape %s")],
        "linalg.batch_matmul: it multiplies the scores with an argument",
    ),
    "scores used again": (
        TORCH,
        [
            before("%p_heads = ", f"%more = arith.addf %safe, %s : {S4}"),
            ("collapse_shape %safe", "collapse_shape %more"),
        ],
        "arith.addf: it adds to the scores",
    ),
    "scores returned too": (
        TORCH,
        [(f"-> {Q4} {{\n    %zero", f"-> ({Q4}, {S4}) {{\n    %zero"), (RETURN, f"return %o, %s : {Q4}, {S4}")],
        "function @attention returns 2 values",
    ),
    "probabilities returned": (
        LINALG,
        [
            ("-> tensor<1x4x128x64xbf16> {\n  %zero", f"-> {S3} {{\n  %zero"),
            ("return %o : tensor<1x4x128x64xbf16>", f"return %weights : {S3}"),
        ],
        "the function returns the probabilities, not softmax(Q K^T) V",
    ),
    "maximum of another tensor": (
        TORCH,
        [
            before(AFTER_SCORES, f"%two = arith.constant dense<2.0> : {S4}", f"%s_2 = arith.mulf %s, %two : {S4}"),
            (f"ins(%s : {S4}) outs(%max_start", f"ins(%s_2 : {S4}) outs(%max_start"),
        ],
        "arith.subf: it subtracts the maximum of another tensor from the scores",
    ),
    "minimum": (TORCH, [("arith.maximumf", "arith.minimumf")], "arith.minimumf: this use of the running value"),
    "scale that is not one number": (
        TORCH,
        [
            before("%q_storage = ", "%each = arith.constant dense<[0.1, 0.2]> : tensor<2xf32>"),
            ("#row = ", "#head = affine_map<(b, h, i, j) -> (h)>\n#row = "),
            (
                f"%q = linalg.generic {{indexing_maps = [#all, #all], {PARALLEL4}}}\n"
                f"        ins(%query : {Q4}) outs(%q_storage : {Q4}) {{\n    ^bb0(%in: f32, %out: f32):\n"
                "      %factor = arith.truncf %root : f64 to f32\n",
                f"%q = linalg.generic {{indexing_maps = [#all, #head, #all], {PARALLEL4}}}\n"
                f"        ins(%query, %each : {Q4}, tensor<2xf32>) outs(%q_storage : {Q4}) {{\n"
                "    ^bb0(%in: f32, %factor: f32, %out: f32):\n",
            ),
        ],
        "arith.mulf: it multiplies an argument by a constant that is not one number everywhere",
    ),
    "infinite scale": (
        LINALG,
        [("constant 0.125", "constant 0x7F800000")],
        "arith.mulf: it multiplies the scores by inf",
    ),
    "scale that is no number": (
        LINALG,
        [("constant 0.125", "constant 0x7FC00000")],
        "arith.mulf: it multiplies the scores by nan",
    ),
    "shifted scores turned around": (
        TORCH,
        [
            before("%e = math.exp", "%minus = arith.constant -1.0 : f32", "%x = arith.mulf %in, %minus : f32"),
            ("math.exp %in", "math.exp %x"),
        ],
        "arith.mulf: it multiplies the scores less their row maximum by a number below zero",
    ),
    "row maximum turned around": (
        TORCH,
        [
            before("%less = ", "%minus = arith.constant -1.0 : f32", "%x = arith.mulf %top, %minus : f32"),
            ("arith.subf %in, %top", "arith.subf %in, %x"),
        ],
        "arith.mulf: it multiplies the row maximum of the scores by a number below zero",
    ),
    "maximum from zero": (
        TORCH,
        [("%lowest = arith.constant 0xFF800000", "%lowest = arith.constant 0.0")],
        "linalg.generic: its max of the scores starts from 0, not from -inf",
    ),
    "maximum from a large negative number": (
        TORCH,
        [("%lowest = arith.constant 0xFF800000", "%lowest = arith.constant -1.0e+30")],
        "linalg.generic: its max of the scores starts from -1e+30, not from -inf",
    ),
    "maximum from the lowest number, which scaled scores are below": (
        TORCH,
        [
            ("%lowest = arith.constant 0xFF800000", "%lowest = arith.constant 0xFF7FFFFF"),
            before(
                AFTER_SCORES, f"%huge = arith.constant dense<1.0e+36> : {S4}", f"%s_2 = arith.mulf %s, %huge : {S4}"
            ),
            ("ins(%s, ", "ins(%s_2, "),
            ("ins(%s :", "ins(%s_2 :"),
        ],
        "linalg.generic: its max of the scores starts from -3.40282e+38, not from -inf",
    ),
    "sum from one": (
        TORCH,
        [
            before("%sum_start = ", "%one = arith.constant 1.0 : f32"),
            ("%sum_start = linalg.fill ins(%zero", "%sum_start = linalg.fill ins(%one"),
        ],
        "linalg.generic: its sum of the exponentials starts from 1, not from 0",
    ),
    "product accumulated onto nothing defined": (
        TORCH,
        [("outs(%s_zero :", "outs(%s_storage :")],
        "linalg.batch_matmul: its accumulator starts from an uninitialised tensor, not from zeros",
    ),
    "product accumulated onto ones": (
        LINALG,
        [
            before("%sum_zero = ", "%one = arith.constant 1.0 : f32"),
            ("%sum_zero = linalg.fill ins(%zero", "%sum_zero = linalg.fill ins(%one"),
        ],
        "linalg.batch_matmul: its accumulator starts from 1, not from zeros",
    ),
    "other function than the exponential": (
        TORCH,
        [("math.exp ", "math.expm1 ")],
        "math.expm1: no step of attention that is recognised on the scores less their row maximum",
    ),
    "bias added to the scores": (
        TORCH,
        [
            before("%less = ", "%one = arith.constant 1.0 : f32", "%biased = arith.addf %in, %one : f32"),
            ("arith.subf %in, %top", "arith.subf %biased, %top"),
        ],
        "arith.addf: it adds to the scores",
    ),
    "Q modified": (
        TORCH,
        [before("%q_storage = ", f"%bent = math.tanh %query : {Q4}"), (f"ins(%query : {Q4})", f"ins(%bent : {Q4})")],
        "math.tanh: no step of attention that is recognised on an argument",
    ),
    "Q multiplied by another argument": (
        TORCH,
        [
            (f"%value: {Q4})", f"%value: {Q4}, %w: {Q4})"),
            before("%q_storage = ", f"%bent = arith.mulf %query, %w : {Q4}"),
            (f"ins(%query : {Q4})", f"ins(%bent : {Q4})"),
        ],
        "arith.mulf: it multiplies two tensors element by element",
    ),
    "result modified": (
        TORCH,
        [(RETURN, f"%n = arith.negf %o : {Q4}\n    return %n : {Q4}")],
        "arith.negf: it changes the attention result (return the attention result itself)",
    ),
    "result scaled": (
        TORCH,
        [(RETURN, f"%h = arith.constant dense<0.5> : {Q4}\n%n = arith.mulf %o, %h : {Q4}\n    return %n : {Q4}")],
        "arith.mulf: it changes the attention result",
    ),
    "residual added": (
        TORCH,
        [(RETURN, f"%n = arith.addf %o, %query : {Q4}\n    return %n : {Q4}")],
        "arith.addf: it changes the attention result",
    ),
    "empty rows become ones": (
        TORCH,
        [(f"%zeros = arith.constant dense<0.0> : {S4}", f"%zeros = arith.constant dense<1.0> : {S4}")],
        "arith.select: it replaces probabilities by a constant",
    ),
    "columns become zeros": (
        TORCH,
        [
            SQUARE,
            SQUARE_SHAPES,
            (
                "%row_masked = linalg.generic {indexing_maps = [#all, #column],\n"
                '                                  iterator_types = ["parallel", "parallel", "parallel", "reduction"]}',
                "%row_masked = linalg.generic {indexing_maps = [#all, affine_map<(b, h, i, j) -> (b, h, j, 0)>],\n"
                'iterator_types = ["parallel", "parallel", "reduction", "parallel"]}',
            ),
        ],
        "arith.select: it replaces probabilities where other rows than their own are -inf",
    ),
    "other rows become zeros": (
        TORCH,
        [
            before(AFTER_WEIGHTS, f"%two = arith.constant dense<2.0> : {S4}", f"%s_2 = arith.mulf %s, %two : {S4}"),
            (f"ins(%s : {S4}) outs(%bit_storage", f"ins(%s_2 : {S4}) outs(%bit_storage"),
        ],
        "arith.select: it replaces probabilities where other rows than their own are -inf",
    ),
    "rows that are -inf where the scores are +inf": (
        TORCH,
        [
            before(AFTER_SCORES, f"%negative = arith.negf %s : {S4}"),
            (f"ins(%s : {S4}) outs(%max_start", f"ins(%negative : {S4}) outs(%max_start"),
            ("ins(%s, %max_column", "ins(%negative, %max_column"),
        ],
        "arith.select: it replaces probabilities where other rows than their own are -inf",
    ),
    "rows compared with zero": (
        TORCH,
        [("%lowest_f64 = arith.constant 0xFFF0000000000000", "%lowest_f64 = arith.constant 0.0")],
        "arith.cmpf: no step of attention that is recognised on the scores",
    ),
    "rows with any score of -inf": (
        TORCH,
        [("arith.andi", "arith.ori")],
        "linalg.generic: it takes the or of the test for scores of -inf",
    ),
    "causal by position, with the maximum of all scores": (
        TORCH,
        [
            before(
                "%less = ",
                "%i = linalg.index 2 : index",
                "%j = linalg.index 3 : index",
                "%seen = arith.cmpi sge, %i, %j : index",
                "%kept = arith.select %seen, %in, %lowest : f32",
            ),
            ("arith.subf %in, %top", "arith.subf %kept, %top"),
        ],
        "arith.subf: it subtracts the maximum of another tensor from the scores",
    ),
    "index of the maximum used": (
        TORCH,
        [
            before("%p_heads = ", "%wide = arith.sitofp %max#1 : tensor<1x2x128xi64> to tensor<1x2x128xf32>"),
            before(
                "%shifted = ",
                "%best = arith.sitofp %max#1 : tensor<1x2x128xi64> to tensor<1x2x128xf32>",
                "%best_column = tensor.expand_shape %best [[0], [1], [2, 3]] output_shape [1, 2, 128, 1]"
                " : tensor<1x2x128xf32> into tensor<1x2x128x1xf32>",
            ),
            ("ins(%s, %max_column", "ins(%s, %best_column"),
        ],
        "arith.select: this use of the running value of a reduction is not recognised",
    ),
    "assertion inside": (
        TORCH,
        [before("%p_heads = ", "%no = arith.constant false", 'cf.assert %no, "it never gives a result"')],
        "cf.assert: it always fails",
    ),
    "call inside": (
        TORCH,
        [
            ("module {", "module {\n  func.func private @log()"),
            before("%p_heads = ", "func.call @log() : () -> ()"),
        ],
        "func.call: operations of the dialect func are not recognised",
    ),
    "call inside a body": (
        TORCH,
        [("module {", "module {\n  func.func private @log()"), before("%share = ", "func.call @log() : () -> ()")],
        "func.call: operations of the dialect func are not recognised",
    ),
    "branches": (
        TORCH,
        [(RETURN, f"cf.br ^done\n  ^done:\n    return %o : {Q4}")],
        "cf.br: control flow is not recognised",
    ),
    "argument without use that no call can give": (
        TORCH,
        [(f"%value: {Q4})", f"%value: {Q4}, %w: complex<f32>)")],
        "argument 3 (complex<f32>) has no part in the attention (remove it)",
    ),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_nearly_attention_is_refused(name: str) -> None:
    example, edits, reason = NEAR_MISSES[name]
    assert reason in str(refusal(edited(example, *edits)))


def test_the_place_is_the_operation_that_blocks() -> None:
    text = edited(TORCH, ("arith.divf", "arith.mulf"))
    line = next(i for i, line in enumerate(text.splitlines(), 1) if "arith.mulf %in, %total" in line)
    error = refusal(text)
    assert (error.place.line, error.place.column) == (line, 16)  # type: ignore[union-attr]
