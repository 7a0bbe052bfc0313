"""Steps as exporters leave them: powers of two, truths compared with false, maxima with the lowest number, weights that
are masked again or replaced where they are no numbers. Positives beside what nearly is one."""

from __future__ import annotations

import pytest
from edited_examples import reason
from mutants import outcome_of, read
from written_out import CUBE, CUBE_MAP, EACH, SOURCE, YIELD, exponentials, generic, written_out

from npuc.compiler.frontend import load
from npuc.compiler.frontend.attention import Attention

MASK = "tensor<2x64x64xi1>"
HIDE = "%hide = arith.constant {number} : f32; "
LOWEST = "0xFF7FFFFF"


def kept(body: str, name: str = "y", of: str = "%x") -> str:
    """A tensor and the mask, element by element."""
    text = generic(name, f"{of}, %mask", f"{CUBE}, {MASK}", "%s", CUBE, f"{EACH}; {CUBE_MAP}", body)
    return text.replace("%b: f32", "%b: i1")


def masked(body: str, number: str = LOWEST, **pieces: str) -> str:
    """The scores are masked by `body`, of %b."""
    of = {"max": SOURCE["max"], "shift": SOURCE["shift"]} | {k: pieces.pop(k) for k in ("max", "shift") if k in pieces}
    first = kept(HIDE.format(number=number) + body + YIELD)
    return written_out(
        f"%mask: {MASK}",
        max=first + "\n" + of["max"].replace("%x", "%y"),
        shift=of["shift"].replace("%x", "%y"),
        **pieces,
    )


SELECT = "%n = arith.select %b, %a, %hide : f32"


def power(base: str, factor: str) -> str:
    """base to the power of the shifted scores, times a factor."""
    return exponentials(
        f"%c = arith.constant {base} : f32; %f = arith.constant {factor} : f32; %e = arith.mulf %a, %f : f32; "
        "%n = math.powf %c, %e : f32" + YIELD
    )


def again(body: str, of: str = "%w0") -> dict[str, str]:
    """The weights, masked once more."""
    return {"divide": SOURCE["divide"].replace("%w =", "%w0 ="), "weights": kept(body + YIELD, "w", of)}


OPPOSITE = "%true = arith.constant true; %not = arith.xori %b, %true : i1; "
TRUE, FALSE = "%yes = arith.constant true; ", "%f0 = arith.constant false; "
ZERO = "%zz = arith.constant 0.0 : f32; "
NO_NUMBER = "%zz = arith.constant {number} : f32; %no = arith.cmpf {test}, %a, %a : f32; "
NEVER = "%big = arith.constant 0x7F800000 : f32; %inf = arith.cmpf oeq, %a, %big : f32; "


def numbered(body: str) -> dict[str, str]:
    return {
        "divide": SOURCE["divide"].replace("%w =", "%w0 ="),
        "weights": generic("w", "%w0", CUBE, "%s", CUBE, EACH, body + YIELD),
    }


MEANT = {
    "2 to a power": (written_out(exp=power("2.0", "1.0")), {"scale": 0.125 * 0.6931471805599453}),
    "2 to a power of log2(e) times the scores": (written_out(exp=power("2.0", "1.442695040888963")), {"scale": 0.125}),
    "10 to a power": (written_out(exp=power("10.0", "0.5")), {"scale": 0.125 * 0.5 * 2.302585092994046}),
    "the weights masked again": (
        masked(SELECT, **again(ZERO + "%n = arith.select %b, %a, %zz : f32")),
        {"mask": "keep"},
    ),
    "the weights hidden where the opposite holds": (
        masked(
            SELECT,
            **again(ZERO + OPPOSITE + "%n = arith.select %not, %zz, %a : f32"),
        ),
        {"mask": "keep"},
    ),
    "a truth compared with false": (
        masked(FALSE + "%not = arith.cmpi eq, %b, %f0 : i1; %n = arith.select %not, %hide, %a : f32"),
        {"mask": "keep"},
    ),
    "a truth compared with true": (
        masked(TRUE + "%same = arith.cmpi eq, %b, %yes : i1; %n = arith.select %same, %a, %hide : f32"),
        {"mask": "keep"},
    ),
    "a truth that is not false": (
        masked(FALSE + "%same = arith.cmpi ne, %b, %f0 : i1; %n = arith.select %same, %a, %hide : f32"),
        {"mask": "keep"},
    ),
    "at least the lowest number": (
        masked(f"%low = arith.constant {LOWEST} : f32; %n0 = arith.select %b, %a, %hide : f32; "
               "%n = arith.maximumf %n0, %low : f32", "0xFF800000"),
        {"mask": "keep"},
    ),
    "the lowest number where scores are not above it": (
        masked(f"%low = arith.constant {LOWEST} : f32; %n0 = arith.select %b, %a, %hide : f32; "
               "%up = arith.cmpf ogt, %n0, %low : f32; %n = arith.select %up, %n0, %low : f32"),
        {"mask": "keep"},
    ),
    "zeros where weights are no numbers": (
        written_out(**numbered(NO_NUMBER.format(number=0.0, test="une") + "%n = arith.select %no, %zz, %a : f32")),
        {"mask": None},
    ),
    "numbers where weights are none, or infinite": (
        written_out(**numbered(NO_NUMBER.format(number=0.5, test="uno") + NEVER
                    + "%n0 = arith.select %no, %zz, %a : f32; %n = arith.select %inf, %big, %n0 : f32")),
        {"mask": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANT)
def test_it_is_the_attention_that_it_means(name: str) -> None:
    text, wanted = MEANT[name]
    (found,) = load(text, "m.mlir")
    assert isinstance(found, Attention) and found.within is None
    for key, value in wanted.items():
        own = getattr(found, key)
        assert own == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)
    assert outcome_of(read(text), 3) == ("equal", "")


NEAR = {
    "a fraction to a power": (written_out(exp=power("0.5", "1.0")), "math.powf"),
    "a negative number to a power": (written_out(exp=power("-2.0", "1.0")), "math.powf"),
    "the scores to a power": (
        written_out(exp=exponentials("%c = arith.constant 2.0 : f32; %n = math.powf %a, %c : f32" + YIELD)),
        "math.powf",
    ),
    "the weights masked by what did not mask the scores": (
        written_out(f"%mask: {MASK}", **again(ZERO + "%n = arith.select %b, %a, %zz : f32")),
        "arith.select",
    ),
    "the weights hidden where scores are kept": (
        masked(SELECT, **again(ZERO + "%n = arith.select %b, %zz, %a : f32")),
        "arith.select",
    ),
    "ones in place of weights": (
        masked(SELECT, **again("%zz = arith.constant 1.0 : f32; %n = arith.select %b, %a, %zz : f32")),
        "arith.select",
    ),
    "at least a number that hides nothing": (
        masked("%low = arith.constant -5.0 : f32; %n0 = arith.select %b, %a, %hide : f32; "
               "%n = arith.maximumf %n0, %low : f32"),
        "-5 does not hide a score for certain",
    ),
    "another number where scores are not above one": (
        masked(f"%low = arith.constant {LOWEST} : f32; %up = arith.cmpf ogt, %a, %low : f32; "
               "%n0 = arith.select %b, %a, %hide : f32; %n = arith.select %up, %n0, %low : f32"),
        "arith.cmpf",
    ),
    "the lower of the two": (
        masked(f"%low = arith.constant {LOWEST} : f32; %n0 = arith.select %b, %a, %hide : f32; "
               "%up = arith.cmpf olt, %n0, %low : f32; %n = arith.select %up, %n0, %low : f32"),
        "arith.select: it chooses",
    ),
    "the mask where weights are no numbers": (
        written_out(**numbered(NO_NUMBER.format(number=0.5, test="une") + "%n = arith.select %no, %a, %zz : f32")),
        "arith.select",
    ),
    "a number where weights are numbers": (
        written_out(**numbered(NO_NUMBER.format(number=0.5, test="ord") + "%n = arith.select %no, %zz, %a : f32")),
        "arith.cmpf",
    ),
    "a number where weights are equal to themselves": (
        written_out(**numbered(NO_NUMBER.format(number=0.5, test="oeq") + "%n = arith.select %no, %zz, %a : f32")),
        "arith.cmpf",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR)
def test_what_nearly_is_one_is_refused(name: str) -> None:
    text, message = NEAR[name]
    assert message in str(reason(text))
    assert outcome_of(read(text), 4)[0] in ("refused", "equal")
