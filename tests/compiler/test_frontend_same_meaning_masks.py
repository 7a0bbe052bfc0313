"""Masks and limits by position, in the words of many front ends: recognised, beside each near miss of its kind."""

from __future__ import annotations

from typing import Any

import pytest
from written_out import CUBE, CUBE_MAP, SOURCE, YIELD, elementwise, generic, scores, written_out

from npuc.compiler.frontend import Argument, Attention, load

PLAIN = SOURCE["scaled"].replace("%x =", "%x1 =")
SQUARE, SQUARE_MAP = "tensor<64x64xf32>", "(h, i, j) -> (i, j)"
I1 = CUBE.replace("f32", "i1")
HIDES = "%hidden = arith.constant 0xFF800000 : f32; "
SELECT = HIDES + "%n = arith.select %b, %a, %hidden : f32" + YIELD
PLUS = "%n = arith.addf %a, %b : f32" + YIELD
PLACES = "%i = linalg.index 1 : index; %j = linalg.index 2 : index; "
CAUSAL = "%keep = arith.cmpi sle, %j, %i : index; "
CHOSEN = HIDES + "%n = arith.select %keep, %a, %hidden : f32" + YIELD
IOTA = (
    "  %e1 = tensor.empty() : tensor<64xi32>\n  %at = linalg.generic {indexing_maps = [affine_map<(n) -> (n)>], "
    'iterator_types = ["parallel"]} outs(%e1 : tensor<64xi32>) {\n  ^bb0(%o: i32):\n    %i = linalg.index 0 : index\n'
    "    %n = arith.index_cast %i : index to i32\n    linalg.yield %n : i32\n  } -> tensor<64xi32>\n"
)
MASK = ("add", "f32", (2, 64, 64))


def typed(text: str, **elements: str) -> str:
    """With other element types of %a, %b, ..."""
    for letter, type_ in elements.items():
        text = text.replace(f"%{letter}: f32", f"%{letter}: {type_}")
    return text


def masked(
    body: str, type_: str = CUBE, map_: str = CUBE_MAP, element: str = "f32", mask: str = "%mask"
) -> dict[str, str]:
    """The scaled scores together with a mask."""
    return {"scaled": PLAIN + "\n" + typed(elementwise("x", "%x1", mask, body, map_, type_), b=element)}


def limited(body: str) -> dict[str, str]:
    """Scaled scores, then a body in which %a is the score and its indices are at hand."""
    return {"scaled": PLAIN + "\n" + generic("x", "%x1", CUBE, "%s", CUBE, f"{CUBE_MAP}; {CUBE_MAP}", body)}


def iotas(compare: str) -> dict[str, str]:
    """Scores chosen where two iotas compare so; %a the score, %b the query's, %c the key's."""
    body = f"{compare}; {CHOSEN}"
    maps = f"{CUBE_MAP}; (h, i, j) -> (i); (h, i, j) -> (j); {CUBE_MAP}"
    types = f"{CUBE}, tensor<64xi32>, tensor<64xi32>"
    made = typed(generic("x", "%x1, %at, %at", types, "%s", CUBE, maps, body), b="i32", c="i32")
    return {"scaled": PLAIN + "\n" + IOTA + made}


def of_type(mask: tuple[str, str, tuple[int, ...]]) -> str:
    return "%mask: tensor<" + "".join(f"{n}x" for n in mask[2]) + f"{mask[1]}>"


# name: the pieces, the mask (kind, element type, shape), what else the attention has
RAISED: dict[str, tuple[dict[str, str], tuple[str, str, tuple[int, ...]] | None, dict[str, Any]]] = {
    "a mask added": (masked(PLUS), MASK, {}),
    "a mask added first": (masked("%n = arith.addf %b, %a : f32" + YIELD), MASK, {}),
    "a mask of all heads": (masked(PLUS, SQUARE, SQUARE_MAP), ("add", "f32", (64, 64)), {}),
    "a mask with a dimension of one element": (
        masked(PLUS, "tensor<1x64x64xf32>", "(h, i, j) -> (0, i, j)"), ("add", "f32", (1, 64, 64)), {}),
    "a mask of keys": (
        masked(PLUS, "tensor<2x1x64xf32>", "(h, i, j) -> (h, 0, j)"), ("add", "f32", (2, 1, 64)), {}),
    "a mask that is widened": (
        masked("%e = arith.extf %b : bf16 to f32; %n = arith.addf %a, %e : f32" + YIELD, CUBE.replace("f32", "bf16"),
               element="bf16"), ("add", "bf16", (2, 64, 64)), {}),
    "a mask with log2 e and a power of two": (
        masked(PLUS) | {"exp": generic(
            "p", "%z", CUBE, "%s", CUBE, f"{CUBE_MAP}; {CUBE_MAP}",
            "%c = arith.constant 1.44269504 : f32; %e = arith.mulf %a, %c : f32; %n = math.exp2 %e : f32" + YIELD)},
        MASK, {}),
    "a choice of scores": (
        masked(SELECT, I1, element="i1"), ("keep", "i1", (2, 64, 64)), {}),
    "a choice of scores or the lowest number": (
        masked(SELECT.replace("0xFF800000", "0xFF7FFFFF"), I1, element="i1"),
        ("keep", "i1", (2, 64, 64)), {}),
    "a choice turned round twice": (
        masked("%y = arith.constant true; %u = arith.xori %b, %y : i1; " + HIDES
               + "%n = arith.select %u, %hidden, %a : f32" + YIELD, I1, element="i1"),
        ("keep", "i1", (2, 64, 64)), {}),
    "zero or a billion less added": (
        masked("%c = arith.constant -1.0e9 : f32; %e = arith.select %b, %zero, %c : f32; %n = arith.addf %a, %e : f32"
               + YIELD, I1, element="i1"), ("keep", "i1", (2, 64, 64)), {}),
    "a billion less, under a power of two": (
        masked(SELECT.replace("0xFF800000", "-1.0e9"), I1, element="i1")
        | {"scale": "  %scale = arith.constant 0.180336880 : f32",
           "exp": SOURCE["exp"].replace("math.exp ", "math.exp2 ")}, ("keep", "i1", (2, 64, 64)), {}),
    "a billion less in bf16": (
        masked(SELECT.replace("0xFF800000", "-998244352.0"), I1, element="i1"), ("keep", "i1", (2, 64, 64)), {}),
    "a choice, then a factor": (
        masked(SELECT.replace("%n = arith.select %b, %a, %hidden : f32", "%e = arith.select %b, %a, %hidden : f32; "
                              "%c = arith.constant 2.0 : f32; %n = arith.mulf %e, %c : f32"),
               I1, element="i1"), ("keep", "i1", (2, 64, 64)), {"scale": 0.25}),
    "an argument and causal": (
        masked(PLACES + CAUSAL + "%both = arith.andi %b, %keep : i1; " + SELECT.replace("%b", "%both"),
               I1, element="i1"), ("keep", "i1", (2, 64, 64)), {"causal": True}),
    "causal, an argument and a window": (
        masked(PLACES + CAUSAL + "%w = arith.constant 16 : index; %l = arith.addi %j, %w : index; "
               "%k1 = arith.cmpi slt, %i, %l : index; %b1 = arith.andi %keep, %b : i1; "
               "%both = arith.andi %k1, %b1 : i1; " + SELECT.replace("%b", "%both"),
               I1, element="i1"), ("keep", "i1", (2, 64, 64)), {"causal": True, "window": 16}),
    "a mask added, then causal with the lowest number": (
        {"scaled": masked(PLUS)["scaled"].replace("%x =", "%x2 =") + "\n"
         + generic("x", "%x2", CUBE, "%s", CUBE, f"{CUBE_MAP}; {CUBE_MAP}",
                   PLACES + CAUSAL + CHOSEN.replace("0xFF800000", "-2.38197633E+38"))}, MASK, {"causal": True}),
    "causal": (limited(PLACES + CAUSAL + CHOSEN), None, {"causal": True}),
    "causal, the other way round": (
        limited(PLACES + "%keep = arith.cmpi sgt, %j, %i : index; " + HIDES
                + "%n = arith.select %keep, %hidden, %a : f32" + YIELD), None, {"causal": True}),
    "causal without signs": (limited(PLACES + CAUSAL.replace("sle", "ule") + CHOSEN), None, {"causal": True}),
    "causal by twice the difference": (
        limited(PLACES + "%d = arith.subi %j, %i : index; %c = arith.constant 2 : index; "
                "%t = arith.muli %c, %d : index; %one = arith.constant 1 : index; "
                "%keep = arith.cmpi sle, %t, %one : index; " + CHOSEN),
        None, {"causal": True}),
    "a window": (
        limited(PLACES + CAUSAL.replace("%keep", "%k0") + "%w = arith.constant 16 : index; "
                "%l = arith.addi %j, %w : index; %k1 = arith.cmpi slt, %i, %l : index; "
                "%keep = arith.andi %k0, %k1 : i1; " + CHOSEN),
        None, {"causal": True, "window": 16}),
    "a window, what is hidden by either": (
        limited(PLACES + "%k0 = arith.cmpi sgt, %j, %i : index; %w = arith.constant 16 : index; "
                "%l = arith.addi %j, %w : index; %k1 = arith.cmpi sge, %i, %l : index; %u = arith.ori %k0, %k1 : i1; "
                + HIDES + "%n = arith.select %u, %hidden, %a : f32" + YIELD), None, {"causal": True, "window": 16}),
    "iotas": (iotas("%keep = arith.cmpi sge, %b, %c : i32"), None, {"causal": True}),
    "causal and a mask": (
        {"scaled": PLAIN + "\n" + limited(PLACES + CAUSAL + CHOSEN)["scaled"].replace(PLAIN, "").replace("%x =",
        "%x2 =")
         + "\n" + elementwise("x", "%x2", "%mask", PLUS)}, MASK, {"causal": True}),
    "what is always so": (
        limited(PLACES + "%c = arith.constant 63 : index; %keep = arith.cmpi sle, %j, %c : index; "
            "" + CHOSEN), None, {}),
}  # fmt: skip


def text_of(name: str) -> str:
    pieces, mask, _ = RAISED[name]
    return written_out("" if mask is None else of_type(mask), **pieces)


MASKED_TEXTS = {name: text_of(name) for name in RAISED}


@pytest.mark.parametrize("name", RAISED)
def test_a_mask_in_other_words_is_recognised(name: str) -> None:
    _, mask, more = RAISED[name]
    arguments = [Argument(role, "f32", (2, 64, 64), role) for role in "qkv"]
    if mask is not None:
        arguments.append(Argument("mask", mask[1], mask[2], "mask"))
        more = {"mask": mask[0], **more}
    arguments.append(Argument("o", "f32", (2, 64, 64), "out"))
    wanted = Attention("main", tuple(arguments), 1, 2, 2, 64, 64, 64, **{"scale": 0.125, **more})
    (found,) = load(MASKED_TEXTS[name], "x.mlir")
    assert found == wanted


def constant(numbers: list[list[str]], element: str) -> dict[str, str]:
    text = "[" + ", ".join("[" + ", ".join(row) + "]" for row in numbers) + "]"
    made = f"  %mask = arith.constant dense<{text}> : tensor<64x64x{element}>\n"
    body = PLUS if element == "f32" else SELECT
    pieces = masked(body, f"tensor<64x64x{element}>", SQUARE_MAP, element)
    return {"scaled": made + pieces["scaled"]}


@pytest.mark.parametrize("element", ["f32", "i1"])
def test_a_band_that_is_written_out_is_a_window(element: str) -> None:
    words = ("0xFF800000", "0.0") if element == "f32" else ("false", "true")
    band = [[words[0 <= i - j < 5] for j in range(64)] for i in range(64)]
    (found,) = load(written_out(**constant(band, element)), "x.mlir")
    assert (found.causal, found.window, found.mask) == (True, 5, None)


def test_a_scale_after_the_choice_is_as_one_before() -> None:
    body = "%c = arith.constant 2.0 : f32; %n = arith.mulf %a, %c : f32" + YIELD
    before = scores(
        "%e = arith.mulf %a, %scale : f32; %c = arith.constant 2.0 : f32; %n = arith.mulf %e, %c : f32" + YIELD
    )
    after = limited(PLACES + CAUSAL + CHOSEN)["scaled"].replace("%x =", "%x2 =")
    after += "\n" + generic("x", "%x2", CUBE, "%s", CUBE, f"{CUBE_MAP}; {CUBE_MAP}", body)
    (wanted,) = load(written_out(scaled=before), "x.mlir")
    (found,) = load(written_out(scaled=after), "x.mlir")
    assert found.scale == wanted.scale and found.causal and not wanted.causal


OPEN = """
#q = affine_map<(h, i, j, d) -> (h, i, d)>
#k = affine_map<(h, i, j, d) -> (h, j, d)>
#s = affine_map<(h, i, j, d) -> (h, i, j)>
#all = affine_map<(h, i, j) -> (h, i, j)>
func.func @main(%q: ROWS, %k: ROWS, %v: ROWS) -> ROWS {
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %scale = arith.constant 0.125 : f32
  %hid = arith.constant 0xFF800000 : f32
  %s = tensor.dim %q, %c1 : ROWS
  %t = tensor.dim %k, %c1 : ROWS
  %e = tensor.empty(%s, %t) : SCORES
  %z = linalg.fill ins(%zero : f32) outs(%e : SCORES) -> SCORES
  %x0 = linalg.contract indexing_maps = [#q, #k, #s] ins(%q, %k : ROWS, ROWS) outs(%z : SCORES) -> SCORES
  %x = linalg.generic {
      indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%x0 : SCORES) outs(%e : SCORES) {
  ^bb0(%a: f32, %o: f32):
    %i = linalg.index 1 : index
    %j = linalg.index 2 : index
    %w = arith.constant WINDOW : index
    %m = arith.mulf %a, %scale : f32
    %ahead = arith.constant AHEAD : index
    %last = arith.addi %i, %ahead : index
    %k0 = arith.cmpi sle, %j, %last : index
    %d = arith.subi %i, %j : index
    %k1 = arith.cmpi slt, %d, %w : index
    %kk = arith.andi %k0, %k1 : i1
    %r = arith.select %kk, %m, %hid : f32
    linalg.yield %r : f32
  } -> SCORES
  %p = linalg.softmax dimension(2) ins(%x : SCORES) outs(%e : SCORES) -> SCORES
  %eo = tensor.empty(%s) : ROWS
  %zo = linalg.fill ins(%zero : f32) outs(%eo : ROWS) -> ROWS
  %o = linalg.contract indexing_maps = [#s, #k, #q] ins(%p, %v : SCORES, ROWS) outs(%zo : ROWS) -> ROWS
  return %o : ROWS
}
"""


def open_lengths(window: int, ahead: int = 0) -> str:
    """Open S and Skv: keys up to `ahead` beyond the query, fewer than `window` before it."""
    text = OPEN.replace("WINDOW", str(window)).replace("AHEAD", str(ahead))
    return text.replace("ROWS", "tensor<2x?x64xf32>").replace("SCORES", "tensor<2x?x?xf32>")


def test_limits_of_open_lengths_start_at_the_first_query() -> None:
    (found,) = load(open_lengths(20), "x.mlir")
    assert (found.causal, found.window, found.align, found.mask) == (True, 20, "top-left", None)
    assert found.query_length is None and found.key_length is None
