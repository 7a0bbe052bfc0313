"""Masks and limits by position that attn.sdpa has no words for, or that are none: refused where they are used."""

from __future__ import annotations

import pytest
from edited_examples import refusal
from test_frontend_same_meaning_masks import (
    CAUSAL,
    CHOSEN,
    I1,
    MASK,
    PLACES,
    PLUS,
    SELECT,
    SQUARE_MAP,
    constant,
    iotas,
    limited,
    masked,
    of_type,
    open_lengths,
)
from written_out import CUBE, CUBE_MAP, SOURCE, YIELD, elementwise, generic, written_out

from npuc.compiler.frontend import load

KEEP = ("keep", "i1", (2, 64, 64))
TURNED = "(h, i, j) -> (h, j, i)"
EACH = f"{CUBE_MAP}; {CUBE_MAP}"


def chosen_by(compare: str) -> dict[str, str]:
    return limited(PLACES + compare + CHOSEN)


def then(pieces: dict[str, str], body: str) -> dict[str, str]:
    """A further body on the masked scores."""
    more = generic("x", "%x2", CUBE, "%s", CUBE, EACH, body)
    return {**pieces, "scaled": pieces["scaled"].replace("%x =", "%x2 =") + "\n" + more}


HIDING: list[list[str]] = [["0xFF800000" if j > i else "0.0" for j in range(64)] for i in range(64)]
HOLED = [["true" if j <= i and (i, j) != (9, 5) else "false" for j in range(64)] for i in range(64)]

# name: the pieces, the mask's parameter, a part of the message
REFUSED: dict[str, tuple[dict[str, str], tuple[str, str, tuple[int, ...]] | None, str]] = {
    "two masks": (
        {"scaled": masked(PLUS)["scaled"].replace("%x =", "%x2 =") + "\n" + elementwise("x", "%x2", "%mask", PLUS)},
        MASK, "it masks scores that are masked already"),
    "a mask that is doubled": (
        masked("%c = arith.constant 2.0 : f32; %e = arith.mulf %b, %c : f32; "
            "%n = arith.addf %a, %e : f32" + YIELD), MASK,
        "argument 3 was multiplied before it is added"),
    "a mask taken away": (
        masked("%n = arith.subf %a, %b : f32" + YIELD), MASK, "it subtracts an argument from the scores"),
    "a scale after the mask": (
        then(masked(PLUS), "%c = arith.constant 2.0 : f32; %n = arith.mulf %a, %c : f32" + YIELD), MASK,
        "argument 3 is multiplied by 2 after it was added"),
    "a power of two of masked scores": (
        masked(PLUS) | {"exp": SOURCE["exp"].replace("math.exp ", "math.exp2 ")}, MASK,
        "argument 3 is multiplied by 0.693147 after it was added"),
    "a sign after the choice": (
        then(masked(SELECT, I1, element="i1"), "%n = arith.negf %a : f32" + YIELD), KEEP,
        "it multiplies masked scores by -1"),
    "the mask is V too": (
        masked(PLUS) | {"pv": SOURCE["pv"].replace("%v", "%mask")}, MASK,
        "the mask is Q, K or V too"),
    "the mask is K too": (masked(PLUS) | {"scaled": masked(PLUS)["scaled"].replace("%mask", "%k")}, None,
                          "the mask is Q, K or V too"),
    "a number that does not hide": (
        masked(SELECT.replace("0xFF800000", "-1.0e4"), I1, element="i1"), KEEP,
        "-10000 does not hide a score for certain"),
    "less than a billion": (
        masked(SELECT.replace("0xFF800000", "-9.9e8"), I1, element="i1"), KEEP, "does not hide a score for certain"),
    "the lowest number of f16 and a mask that may hide a row": (
        masked(SELECT.replace("0xFF800000", "-65504.0"), I1, element="i1"), KEEP, "-65504 does not hide a score"),
    "a number above zero": (
        masked(SELECT.replace("0xFF800000", "1.0e9"), I1, element="i1"), KEEP, "which does not hide them"),
    "hidden scores raised to a number": (
        then(masked(PLUS), "%c = arith.constant -1.0e9 : f32; %n = arith.maximumf %a, %c : f32" + YIELD), MASK,
        "-1e+09 does not hide a score for certain"),
    "the maximum before the mask": (
        masked(PLUS) | {"max": SOURCE["max"].replace("%x ", "%x1 ")}, MASK,
        "it subtracts the maximum of another tensor from the scores"),
    # Positions.
    "keys from the query on": (chosen_by("%keep = arith.cmpi sge, %j, %i : index; "), None, "neither causal"),
    "keys before the query": (chosen_by("%keep = arith.cmpi slt, %j, %i : index; "), None, "up to -1 from i"),
    "the query itself": (chosen_by("%keep = arith.cmpi eq, %j, %i : index; "), None, "arith.cmpi: no step"),
    "a window without an end": (
        chosen_by("%w = arith.constant 16 : index; %l = arith.addi %j, %w : index; "
            "%keep = arith.cmpi slt, %i, %l : index; "),
        None, "neither causal from a corner nor a window"),
    "a window about the query": (
        chosen_by("%w = arith.constant 4 : index; %l = arith.addi %i, %w : index; "
            "%keep = arith.cmpi sle, %j, %l : index; "),
        None, "up to +4 from i"),
    "positions without signs that are below zero": (
        chosen_by("%d = arith.subi %j, %i : index; %c = arith.constant 1 : index; "
            "%keep = arith.cmpi ult, %d, %c : index; "),
        None, "arith.cmpi: no step"),
    "positions that wrap": (
        chosen_by("%p = arith.index_cast %j : index to i8; %w = arith.index_cast %i : index to i8; "
                  "%d = arith.muli %p, %w : i8; %keep = arith.cmpi sle, %d, %w : i8; "), None, "arith.muli: no step"),
    "positions beyond their type": (
        chosen_by("%p = arith.index_cast %j : index to i8; %c = arith.constant 3 : i8; %d = arith.muli %p, %c : i8; "
                  "%keep = arith.cmpi sle, %d, %c : i8; "), None, "arith.muli: no step"),
    "heads and keys": (
        chosen_by("%h = linalg.index 0 : index; %keep = arith.cmpi sle, %j, %h : index; "), None,
        "along other axes than queries and keys"),
    "keys up to the same one": (
        chosen_by("%c = arith.constant 40 : index; %keep = arith.cmpi sle, %j, %c : index; "), None,
        "is not one of the query's with the key's"),
    "either of two": (
        chosen_by(CAUSAL.replace("%keep", "%k0") + "%c = arith.constant 40 : index; "
            "%k1 = arith.cmpi sge, %j, %c : index; "
                  "%keep = arith.ori %k0, %k1 : i1; "), None, "where several comparisons of positions hold"),
    "iotas of one another's axes": (iotas("%keep = arith.cmpi sle, %b, %c : i32"), None, "neither causal"),
    "no key at all": (
        chosen_by("%c = arith.constant 64 : index; %l = arith.addi %j, %c : index; "
            "%keep = arith.cmpi sle, %l, %i : index; "),
        None, "no query sees a key"),
    "a number that does not hide later keys": (
        limited(PLACES + CAUSAL + CHOSEN.replace("0xFF800000", "-1.0e4")), None, "-10000 does not hide"),
    "a wider scale than the lowest number of f16 hides": (
        then(limited(PLACES + CAUSAL + CHOSEN.replace("0xFF800000", "-65504.0")),
             "%c = arith.constant 0.01 : f32; %n = arith.mulf %a, %c : f32" + YIELD), None, "does not hide"),
    "an argument or causal": (
        masked(PLACES + CAUSAL + "%both = arith.ori %b, %keep : i1; " + SELECT.replace("%b", "%both"), I1,
               element="i1"), KEEP, "arith.ori: no step of attention"),
    "an argument and causal, where scores are hidden": (
        masked(PLACES + CAUSAL + "%both = arith.andi %b, %keep : i1; "
               + SELECT.replace("%b, %a, %hidden", "%both, %hidden, %a"), I1, element="i1"), KEEP,
        "it replaces some scores by what is no mask"),
    "a mask added, then causal with a billion": (
        {"scaled": masked(PLUS)["scaled"].replace("%x =", "%x2 =") + "\n"
         + generic("x", "%x2", CUBE, "%s", CUBE, EACH, PLACES + CAUSAL + CHOSEN.replace("0xFF800000", "-1.0e9"))},
        MASK, "does not hide a score for certain"),
    "a lower triangle by columns": (
        {"scaled": constant(HIDING, "f32")["scaled"].replace(SQUARE_MAP, "(h, i, j) -> (j, i)")}, None,
        "neither causal"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_mask_of_another_meaning_is_refused(name: str) -> None:
    pieces, mask, reason = REFUSED[name]
    message = str(refusal(written_out("" if mask is None else of_type(mask), **pieces)))
    assert reason in message, message


def test_a_constant_mask_that_is_no_band_stays_on_the_host() -> None:
    (found,) = load(written_out("", **constant(HOLED, "i1")), "holed.mlir")
    mask = found.argument("mask")
    assert found.within == "main" and (found.mask, mask.dtype, mask.source_shape) == ("keep", "i1", (64, 64))


def test_a_corner_of_open_lengths_is_known_for_the_first_query_only() -> None:
    assert "query i sees keys up to +3 from i" in str(refusal(open_lengths(20, ahead=3)))
