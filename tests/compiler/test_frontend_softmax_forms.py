"""Softcaps, log-sum-exp, and masks that come after the row maximum: positives beside what nearly is one."""

from __future__ import annotations

import pytest
from edited_examples import refusal
from mutants import outcome_of, read
from written_out import (
    CUBE,
    CUBE_MAP,
    EACH,
    ROW,
    ROW_MAP,
    SOURCE,
    SUBTRACT,
    YIELD,
    elementwise,
    generic,
    scores,
    written_out,
)

from npuc.compiler.frontend import load
from npuc.compiler.frontend.attention import Attention

CAP = (
    "%f = arith.constant 0.025 : f32; %c = arith.constant {cap} : f32; %s0 = arith.mulf %a, %f : f32; "
    "%t0 = math.tanh %s0 : f32; %n = arith.mulf %t0, %c : f32"
)
PLACES = "%i = linalg.index 1 : index; %j = linalg.index 2 : index; %keep = arith.cmpi {order}, %j, %i : index; "
LOWEST = "%low = arith.constant {number} : f32; "


def causal(value: str, other: str, order: str = "sle") -> str:
    return PLACES.format(order=order) + f"%n = arith.select %keep, {value}, {other} : f32" + YIELD


def row(name: str, of: str, body: str, more: str = "", maps: str = f"{ROW_MAP}; {ROW_MAP}") -> str:
    """A generic over rows."""
    operands, types = (f"{of}, {more}", f"{ROW}, {ROW}") if more else (of, ROW)
    maps = "; ".join(["(h, i) -> (h, i)"] * (3 if more else 2))
    return generic(name, operands, types, "%r", ROW, maps, body, "pp")


def log_sum_exp(
    of_sum: str = "%t", maximum: str = "%m", function: str = "math.log", scores_: str = "%x"
) -> dict[str, str]:
    return {
        "divide": row("ln", of_sum, f"%n = {function} %a : f32" + YIELD)
        + "\n"
        + row("lse", "%ln", "%n = arith.addf %a, %b : f32" + YIELD, maximum)
        + "\n"
        + elementwise("lp", scores_, "%lse", SUBTRACT, ROW_MAP, ROW)
        + "\n"
        + generic("w", "%lp", CUBE, "%s", CUBE, EACH, "%n = math.exp %a : f32" + YIELD)
    }


def log_softmax(of_sum: str = "%t", shifted: str = "%z") -> dict[str, str]:
    """The shifted scores less the logarithm of their sum, and e to the power of that."""
    return {
        "divide": row("ln", of_sum, "%n = math.log %a : f32" + YIELD)
        + "\n"
        + elementwise("lp", shifted, "%ln", SUBTRACT, ROW_MAP, ROW)
        + "\n"
        + generic("w", "%lp", CUBE, "%s", CUBE, EACH, "%n = math.exp %a : f32" + YIELD)
    }


def finite(
    test: str = "oeq", infinity: str = "0x7F800000", number: str = "0.0", order: str = "%number, %a"
) -> dict[str, str]:
    """The row maximum, and a number where it is infinite."""
    body = (
        f"%huge = arith.constant {infinity} : f32; %number = arith.constant {number} : f32; "
        f"%size = math.absf %a : f32; "
        f"%there = arith.cmpf {test}, %size, %huge : f32; %n = arith.select %there, {order} : f32" + YIELD
    )
    return {"max": SOURCE["max"].replace("%m =", "%mm =") + "\n" + row("m", "%mm", body)}


def where(
    hidden: str = "-2.38197633E+38", kept: str = "sle", after: str = "sle", zero: str = "%zero"
) -> dict[str, str]:
    """As jax.nn.softmax does with where=: the maximum of what is kept, exponentials of all, zeros elsewhere."""
    return {
        "scaled": scores("%n = arith.mulf %a, %scale : f32" + YIELD)
        + "\n"
        + generic("xk", "%x", CUBE, "%s", CUBE, EACH, LOWEST.format(number=hidden) + causal("%a", "%low", kept)),
        "max": generic(
            "m", "%xk", CUBE, "%m0", ROW, f"{CUBE_MAP}; {ROW_MAP}",
            "%n = arith.maximumf %a, %o : f32" + YIELD, "ppr",
        ),
        "exp": generic("p0", "%z", CUBE, "%s", CUBE, EACH, "%n = math.exp %a : f32" + YIELD)
        + "\n"
        + generic("p", "%p0", CUBE, "%s", CUBE, EACH, causal("%a", zero, after)),
    }  # fmt: skip


def chosen_maximum(test: str, order: str, start: str = "%lowest") -> dict[str, str]:
    """The larger of the row maximum and what it starts from, by a comparison."""
    body = f"%above = arith.cmpf {test} : f32; %n = arith.select %above, {order} : f32" + YIELD
    made = row("m", "%mm", body.replace("%start", start))
    return {"max": SOURCE["max"].replace("%m =", "%mm =") + "\n" + made}


def where_hidden(summed: str = "sle", kept: str = "sle", zero: str = "%zero") -> dict[str, str]:
    """As jax.nn.softmax does with where= after its steps are in line: scores are masked at once, and so what is summed
    and what is left of the exponentials over their sum."""
    return {
        "scaled": scores("%n = arith.mulf %a, %scale : f32" + YIELD).replace("%x =", "%x1 =")
        + "\n"
        + generic("x", "%x1", CUBE, "%s", CUBE, EACH, causal("%a", "%lowest")),
        "exp": generic("p0", "%z", CUBE, "%s", CUBE, EACH, "%n = math.exp %a : f32" + YIELD)
        + "\n"
        + generic("p", "%p0", CUBE, "%s", CUBE, EACH, causal("%a", zero, summed)),
        "divide": SOURCE["divide"].replace("%p,", "%p0,").replace("%w =", "%w0 =")
        + "\n"
        + generic("w", "%w0", CUBE, "%s", CUBE, EACH, causal("%a", "%zero", kept)),
    }


MEANT: dict[str, tuple[dict[str, str], dict[str, object]]] = {
    "a maximum that starts from -inf, by comparison": (chosen_maximum("ogt, %start, %a", "%start, %a"), {}),
    "a maximum, by the other comparison": (chosen_maximum("olt, %a, %start", "%start, %a"), {}),
    "a maximum, by comparison with -inf": (chosen_maximum("oge, %a, %start", "%a, %start"), {}),
    "zeros where scores are hidden already": (where_hidden(), {"causal": True}),
    "a softcap": ({"scaled": scores(CAP.format(cap="5.0") + YIELD)}, {"softcap": 5.0, "scale": 0.125}),
    "a softcap, and causal": (
        {"scaled": scores(CAP.format(cap="5.0") + YIELD).replace("%x =", "%x1 =")
         + "\n" + generic("x", "%x1", CUBE, "%s", CUBE, EACH, causal("%a", "%lowest"))},
        {"softcap": 5.0, "scale": 0.125, "causal": True}),
    "a softcap of the power of two": (
        {"scaled": scores(CAP.format(cap="5.0") + YIELD),
         "exp": generic("p", "%z", CUBE, "%s", CUBE, EACH, "%n = math.exp2 %a : f32" + YIELD)}, {}),
    "log-sum-exp": (log_sum_exp(), {"scale": 0.125}),
    "log-softmax": (log_softmax(), {"scale": 0.125}),
    "zero for a maximum that is infinite": (finite(), {"scale": 0.125}),
    "the maximum where it is finite": (finite("one", order="%a, %number"), {"scale": 0.125}),
    "the maximum where it is below infinity": (finite("olt", order="%a, %number", number="3.0"), {"scale": 0.125}),
    "log-softmax less a maximum that is finite": (finite() | log_softmax(), {}),
    "zeros where the maximum did not look": (where(), {"causal": True}),
    "zeros where the maximum took -inf": (where("0xFF800000"), {"causal": True}),
}  # fmt: skip

REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "a minimum, by comparison": (chosen_maximum("ogt, %start, %a", "%a, %start"), "it chooses"),
    "the lesser, by comparison": (chosen_maximum("olt, %start, %a", "%start, %a"), "it chooses"),
    "a maximum with zero, by comparison": (
        chosen_maximum("ogt, %start, %a", "%start, %a", "%zero"), "arith.cmpf: no step of attention"),
    "a sum of fewer than are seen": (where_hidden(summed="slt"), "arith.select: no step of attention"),
    "fewer probabilities than are summed": (where_hidden(kept="slt"), "arith.select: no step of attention"),
    "probabilities of the others": (where_hidden(kept="sgt"), "arith.select: no step of attention"),
    "ones where scores are hidden": (
        where_hidden(zero="%one") | {"constants": written_out().split("{\n", 1)[1].split("\n  %scale")[0]
                                     + "\n  %one = arith.constant 1.0 : f32"}, "arith.select: no step of attention"),
    "a softcap below zero": ({"scaled": scores(CAP.format(cap="-5.0") + YIELD)}, "after the hyperbolic tangent"),
    "two softcaps": (
        {"scaled": scores(CAP.format(cap="5.0") + "; %u = math.tanh %n : f32; linalg.yield %u : f32")},
        "math.tanh: no step of attention"),
    "a softcap of masked scores": (
        {"scaled": generic("x1", "%x0", CUBE, "%s", CUBE, EACH, causal("%a", "%lowest"))
         + "\n" + generic("x", "%x1", CUBE, "%s", CUBE, EACH, CAP.format(cap="5.0") + YIELD)},
        "math.tanh: no step of attention"),
    "the logarithm of base two": (log_sum_exp(function="math.log2"), "math.log2: no step of attention"),
    "log-sum-exp without the maximum": (log_sum_exp(maximum="%ln"), "arith.addf: no step of attention"),
    "log-sum-exp of other scores": (log_sum_exp(scores_="%x0"), "it subtracts what other scores sum to"),
    "log-softmax of scores that are not shifted": (log_softmax(shifted="%x"), "not their row maximum"),
    "zero for a maximum that is finite": (finite(order="%a, %number"), "it chooses"),
    "another number than infinity": (finite(infinity="1.0"), "arith.cmpf: no step of attention"),
    "an infinite number for an infinite maximum": (finite(number="0xFF800000"), "it chooses"),
    "the maximum where it is above infinity": (finite("ogt"), "arith.cmpf: no step of attention"),
    "zeros elsewhere than the maximum looked": (where(after="slt"), "other scores than their maximum was taken of"),
    "zeros on the other side": (where(after="sgt"), "other scores than their maximum was taken of"),
    "ones where the maximum did not look": (
        where(zero="%one") | {"constants": written_out().split("{\n", 1)[1].split("\n  %scale")[0]
                              + "\n  %one = arith.constant 1.0 : f32"},
        "it puts a constant in the place of exponentials"),
    "no zeros where the maximum did not look": (
        {**where(), "exp": generic("p", "%z", CUBE, "%s", CUBE, EACH, "%n = math.exp %a : f32" + YIELD)},
        "exponentials of scores that are yet to be masked"),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANT)
def test_a_softmax_of_this_form_is_what_its_operations_compute(name: str) -> None:
    pieces, wanted = MEANT[name]
    text = written_out(**pieces)
    (found,) = load(text, "form.mlir")
    assert isinstance(found, Attention)
    for attribute, value in wanted.items():
        assert getattr(found, attribute) == pytest.approx(value, rel=1e-6), attribute
    module = read(text)
    with module.context:
        assert outcome_of(module, 7) == ("equal", "")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_nearly_one_is_refused(name: str) -> None:
    pieces, reason = REFUSED[name]
    message = str(refusal(written_out(**pieces)))
    assert reason in message, message
