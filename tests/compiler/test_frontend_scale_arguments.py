"""The scale of each call, and what a function takes without use: arguments that no kernel has."""

from __future__ import annotations

import numpy as np
import pytest
from edited_examples import refusal
from mutants import outcome_of, read
from written_out import (
    CUBE,
    CUBE_MAP,
    EACH,
    PV,
    ROW,
    ROW_MAP,
    SOURCE,
    YIELD,
    contraction,
    elementwise,
    generic,
    written_out,
)

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend import load
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.host import give_bodies
from npuc.compiler.frontend.load import recognise
from npuc.compiler.frontend.parse import parse
from npuc.compiler.frontend.print_attn import to_attn_module
from npuc.runtime.evaluator.source import of_module

SMALL = {"64x64": "5x4"}
NUMBER = "(h, i, j) -> ()"
ONE = "tensor<1x1x1xf32>"
CONSTANT_MAP = "(h, i, j) -> (0, 0, 0)"


def times(body: str, name: str = "x", of: str = "%x0") -> str:
    """The scores element by element, with %scale read as a number from outside."""
    return generic(name, of, CUBE, "%s", CUBE, EACH, body + YIELD)


def beside(body: str, map_: str, type_: str) -> str:
    """The scores element by element, with %scale an operand %b."""
    return generic("x", "%x0, %scale", f"{CUBE}, {type_}", "%s", CUBE, f"{CUBE_MAP}; {map_}; {CUBE_MAP}", body + YIELD)


def scaled_input(name: str, of: str) -> str:
    return times("%n = arith.mulf %a, %root : f32", name, of)


ROOT = "  %root = math.sqrt %scale : f32\n"
# The argument's type, the pieces that differ, and the power of the argument that the scores are multiplied by.
MEANT: dict[str, tuple[str, dict[str, str], float, float]] = {
    "a number": ("f32", {}, 1.0, 1.0),
    "a number of f64": ("f64", {"scaled": times("%f = arith.truncf %scale : f64 to f32; %n = arith.mulf %a, %f : f32")},
                        1.0, 1.0),
    "a number of f16, doubled": (
        "f16", {"scaled": times("%f = arith.extf %scale : f16 to f32; %g = arith.addf %f, %zero : f32;"
                                " %c = arith.constant 2.0 : f32; %h = arith.mulf %g, %c : f32;"
                                " %n = arith.mulf %a, %h : f32")}, 1.0, 2.0),
    "a divisor": ("f32", {"scaled": times("%n = arith.divf %a, %scale : f32")}, -1.0, 1.0),
    "the reciprocal of a divisor": (
        "f32", {"scaled": times("%c = arith.constant 3.0 : f32; %d = arith.divf %c, %scale : f32;"
                                " %n = arith.mulf %a, %d : f32")}, -1.0, 3.0),
    "a root": ("f32", {"scaled": times("%d = math.rsqrt %scale : f32; %n = arith.mulf %a, %d : f32")}, -0.5, 1.0),
    "a negated number": (
        "f32", {"scaled": times("%d = arith.negf %scale : f32; %n = arith.mulf %d, %a : f32")}, 1.0, -1.0),
    "a tensor without dimensions": (
        "tensor<f32>", {"scaled": beside("%n = arith.mulf %a, %b : f32", NUMBER, "tensor<f32>")}, 1.0, 1.0),
    "a tensor of one element": (
        ONE, {"scaled": beside("%n = arith.mulf %b, %a : f32", CONSTANT_MAP, ONE)}, 1.0, 1.0),
    "an element of a tensor of one": (
        "tensor<1xf32>", {"arguments": "  %c0 = arith.constant 0 : index\n"
                          "  %one = tensor.extract %scale[%c0] : tensor<1xf32>",
                          "scaled": times("%n = arith.mulf %a, %one : f32")}, 1.0, 1.0),
    "collapsed to none": (
        ONE, {"arguments": f"  %flat = tensor.collapse_shape %scale [] : {ONE} into tensor<f32>\n"
              "  %one = tensor.extract %flat[] : tensor<f32>",
              "scaled": times("%n = arith.mulf %a, %one : f32")}, 1.0, 1.0),
    "its root on Q and on K": (
        "f32", {"arguments": ROOT + scaled_input("q1", "%q") + "\n" + scaled_input("k1", "%k"), "scaled": "",
                "qk": SOURCE["qk"].replace("%x0", "%x").replace("%q", "%q1").replace("%k", "%k1")}, 1.0, 1.0),
    "repeated to a tensor": (
        "f32", {"arguments": f"  %st = tensor.splat %scale : {CUBE}",
                "scaled": generic("x", "%x0, %st", f"{CUBE}, {CUBE}", "%s", CUBE, f"{EACH}; {CUBE_MAP}",
                                  "%n = arith.mulf %a, %b : f32" + YIELD)}, 1.0, 1.0),
}  # fmt: skip


def text_of(type_: str, pieces: dict[str, str]) -> str:
    return written_out(f"%scale: {type_}", **{"scale": "", **pieces})


@pytest.mark.parametrize("name", MEANT)
def test_a_scale_that_a_call_gives_is_recognised(name: str) -> None:
    type_, pieces, power, constant = MEANT[name]
    text = text_of(type_, pieces)
    (attention,) = load(text, "s.mlir")
    (scale,) = attention.beside
    assert (scale.place, scale.role, scale.power, attention.scale) == (3, "scale", power, constant)
    assert scale.type_text == type_
    assert outcome_of(read(text), 1) == ("equal", "")


@pytest.mark.parametrize("name", MEANT)
def test_its_attn_module_reads_back_and_means_the_same(name: str) -> None:
    type_, pieces, *_ = MEANT[name]
    (attention,) = load(text_of(type_, pieces), "s.mlir")
    written = to_attn_module(attention)
    (again,) = load(written, "again.mlir")
    assert again == attention and Attention.from_json(attention.to_json()) == attention
    assert outcome_of(read(written), 2) == ("equal", "")


def test_a_scale_computed_from_arguments_stays_on_the_host() -> None:
    """What no power says, as a softplus: the host computes it, and the kernel's call has the number."""
    pieces = {"arguments": "  %e = math.exp %scale : f32", "scaled": times("%n = arith.mulf %a, %e : f32")}
    text = text_of("f32", pieces)
    found = recognise(text, "s.mlir")
    (attention,) = found.attentions
    assert attention.within == "main" and [a.role for a in attention.beside] == ["scale"]
    host = parse(found.host(["k"]), "host.mlir")
    give_bodies(host, "host.mlir")
    random = np.random.default_rng(3)
    arrays = [*(random.standard_normal((2, 64, 64)) for _ in range(3)), np.array(-1.5)]
    with host.context:
        got = of_module(host, "host.mlir", "main", arrays).whole()
    source = read(text)
    with source.context:
        wanted = of_module(source, "s.mlir", "main", arrays).whole()
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


REFUSED: dict[str, tuple[str, dict[str, str], str]] = {
    "each row its own": (
        "tensor<2x64xf32>", {"scaled": beside("%n = arith.mulf %a, %b : f32", "(h, i, j) -> (h, i)",
                                              "tensor<2x64xf32>")}, "element by element"),
    "the whole scores squared": (
        "f32", {"scaled": times("%n = arith.mulf %a, %a : f32")}, "element by element"),
    "added": ("f32", {"scaled": times("%n = arith.addf %a, %scale : f32")}, "adds to the scores what is no mask"),
    "an integer": (
        "i32", {"scaled": times("%f = arith.sitofp %scale : i32 to f32; %n = arith.mulf %a, %f : f32")},
        "argument 3 is i32, not a ranked tensor"),
    "after the maximum was taken away": (
        "f32", {"scaled": times("%n = arith.addf %a, %zero : f32"),
                "shift": elementwise("z", "%x", "%m", "%d = arith.subf %a, %b : f32; %n = arith.mulf %d, %scale : f32"
                                     + YIELD, ROW_MAP, ROW)}, "no step of attention"),
    "values": ("f32", {"scale": "  %c = arith.constant 0.1 : f32",
                       "scaled": times("%n = arith.mulf %a, %c : f32"),
                       "pv": scaled_input("v1", "%v").replace("%root", "%scale") + "\n"
                       + contraction("o", "%w", "%v1", PV)}, "multiplied before it is used as V"),
    "two of them": (
        "f32, %more: f32", {"scaled": times("%m = arith.mulf %a, %scale : f32; %n = arith.mulf %m, %more : f32")},
        "arguments 3 and 4 are factors of the scores together"),
    "over itself": (
        "f32", {"scaled": times("%m = arith.mulf %a, %scale : f32; %n = arith.divf %m, %scale : f32")},
        "power of 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_scale_of_a_call_is_refused(name: str) -> None:
    type_, pieces, reason = REFUSED[name]
    message = str(refusal(text_of(type_, pieces)))
    assert reason in message, message


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("a number", np.nan, "is nan, which is no scale"),
        ("a number", -np.inf, "is -inf, which is no scale"),
        ("a number", 1e6, "more than 65536"),
        ("a divisor", 0.0, "no finite number"),
        ("a root", -0.25, "takes a root"),
        ("its root on Q and on K", -0.25, "takes a root"),
    ],
)
def test_a_call_with_no_scale_is_an_error(name: str, value: float, reason: str) -> None:
    type_, pieces, *_ = MEANT[name]
    (attention,) = load(text_of(type_, pieces), "s.mlir")
    with pytest.raises(InputError, match=reason):
        attention.called({"scale": np.array(value)})


HIDDEN = generic("y", "%x, %mask", f"{CUBE}, {CUBE.replace('f32', 'i1')}", "%s", CUBE, f"{EACH}; {CUBE_MAP}",
                 "%n = arith.select %b, %a, %hide : f32" + YIELD).replace("%b: f32", "%b: i1")  # fmt: skip


@pytest.mark.parametrize(("hidden", "most"), [("-1.0e9", 7629.387), ("-3.40282347E+38", 65536.0)])
def test_a_number_that_hides_scores_bounds_the_scale(hidden: str, most: float) -> None:
    """Scores of what Q and K take are below 2^16 times the scale: twice that and some must be above the number."""
    text = written_out(
        f"%scale: f32, %mask: {CUBE.replace('f32', 'i1')}",
        scale=f"  %hide = arith.constant {hidden} : f32",
        max=HIDDEN + "\n" + SOURCE["max"].replace("%x", "%y"),
        shift=SOURCE["shift"].replace("%x", "%y"),
    )
    (attention,) = load(text, "s.mlir")
    assert attention.beside[0].most == pytest.approx(most, rel=1e-4)
    assert outcome_of(read(text), 1) == ("equal", "")


def test_arguments_without_use_are_taken_and_left() -> None:
    """A destination that is written over, a number, token ids."""
    text = written_out(
        f"%out: {CUBE}, %number: f32, %ids: tensor<4xi64>",
        pv="  %oz = linalg.fill ins(%zero : f32) outs(%out : " + CUBE + ") -> " + CUBE + "\n"
        + contraction("o", "%w", "%v", PV, "%oz"),
    )  # fmt: skip
    (attention,) = load(text, "s.mlir")
    assert [(a.name, a.role, a.type_text) for a in attention.beside] == [
        ("unused3", "unused", CUBE),
        ("unused4", "unused", "f32"),
        ("unused5", "unused", "tensor<4xi64>"),
    ]
    assert outcome_of(read(text), 1) == ("equal", "")
    (again,) = load(to_attn_module(attention), "again.mlir")
    assert again == attention


def test_a_destination_that_is_read_is_no_argument_without_use() -> None:
    text = written_out(f"%out: {CUBE}", pv=contraction("o", "%w", "%v", PV, "%out"))
    assert "accumulator starts from an argument, not from zeros" in str(refusal(text))
