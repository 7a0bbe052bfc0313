"""Masks of truths that hide where they are true, as PyTorch's masked_fill has them, and masks made of arguments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from edited_examples import refusal
from mutants import outcome_of, read
from written_out import CUBE, CUBE_MAP, EACH, SOURCE, YIELD, generic, written_out

import npuc
from npuc.compiler.cli import group
from npuc.compiler.frontend import load
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.load import recognise
from npuc.compiler.frontend.print_attn import to_attn_module

TRUTHS = CUBE.replace("f32", "i1")
KEYS = "tensor<64xi1>"


def masked(
    body: str = "%n = arith.select %b, %hide, %a : f32",
    hidden: str = "0xFF800000",
    type_: str = TRUTHS,
    map_: str = CUBE_MAP,
    arguments: str = "",
    mask: str = "%mask",
) -> str:
    """Scores of which a mask %b, of that type through that map, takes some away."""
    step = generic("y", f"%x, {mask}", f"{CUBE}, {type_}", "%s", CUBE, f"{CUBE_MAP}; {map_}; {CUBE_MAP}", body + YIELD)
    return written_out(
        f"%mask: {type_}",
        scale=f"{SOURCE['scale']}\n  %hide = arith.constant {hidden} : f32",
        arguments=arguments,
        max=step.replace("%b: f32", "%b: i1") + "\n" + SOURCE["max"].replace("%x", "%y"),
        shift=SOURCE["shift"].replace("%x", "%y"),
    )


MEANT = {
    "filled with -inf": masked(),
    "filled with a large number": masked(hidden="-1.0e9"),
    "of keys alone": masked(type_=KEYS, map_="(h, i, j) -> (j)"),
    "turned round twice": masked(
        "%t = arith.constant true; %c = arith.xori %b, %t : i1; %d = arith.xori %c, %t : i1; "
        "%n = arith.select %d, %hide, %a : f32"
    ),
    "its opposite keeps": masked(
        "%t = arith.constant true; %c = arith.xori %b, %t : i1; %n = arith.select %c, %a, %hide : f32"
    ),
    "a bias where it is true": masked("%m = arith.select %b, %hide, %zero : f32; %n = arith.addf %a, %m : f32"),
}


@pytest.mark.parametrize("name", MEANT)
def test_a_mask_that_hides_where_it_is_true_is_turned_round(name: str) -> None:
    (attention,) = load(MEANT[name], "m.mlir")
    assert attention.mask == "keep" and attention.argument("mask").inverted
    assert outcome_of(read(MEANT[name]), 1) == ("equal", "")
    written = to_attn_module(attention)
    (again,) = load(written, "again.mlir")
    assert again == attention == Attention.from_json(attention.to_json())
    assert outcome_of(read(written), 2) == ("equal", "")


def test_one_that_keeps_is_taken_as_it_is() -> None:
    (attention,) = load(masked("%n = arith.select %b, %a, %hide : f32"), "m.mlir")
    assert attention.mask == "keep" and not attention.argument("mask").inverted


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("%n = arith.select %b, %a, %a : f32", "no mask that is recognised"),
        ("%m = arith.select %b, %hide, %a : f32; %n = arith.select %b, %m, %hide : f32", "masked already"),
        ("%c = arith.constant 1.0 : f32; %n = arith.select %b, %c, %a : f32", "does not hide them"),
    ],
)
def test_what_is_no_mask_is_refused(body: str, reason: str) -> None:
    assert reason in str(refusal(masked(body)))


def test_calls_give_it_as_the_source_has_it(tmp_path: Path) -> None:
    path = tmp_path / "m.mlir"
    path.write_text(MEANT["filled with -inf"])
    random = np.random.default_rng(2)
    q, k, v = (random.standard_normal((2, 64, 64)).astype(np.float32) for _ in range(3))
    hidden = random.random((2, 64, 64)) < 0.3
    hidden[..., 0] = False
    scores = np.where(hidden, -np.inf, 0.125 * q @ k.swapaxes(1, 2))
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    with npuc.load(path, backend="reference") as executable:
        out = executable(q, k, v, hidden)
    np.testing.assert_allclose(out, weights / weights.sum(-1, keepdims=True) @ v, rtol=1e-3, atol=1e-5)
    run = CliRunner().invoke(group, ["run", str(path), "--backend", "reference", "--check", "--random", "1"])
    assert run.exit_code == 0 and "rows left out" not in run.output, run.output


def test_a_mask_of_a_masks_numbers_is_made_on_the_host() -> None:
    """(1 - mask) * -1e9, as BERT's models add it."""
    made = generic("bias", "%mask", CUBE, "%s", CUBE, EACH, "%one = arith.constant 1.0 : f32; %d = arith.subf %one, %a"
                   " : f32; %c = arith.constant -1.0e9 : f32; %n = arith.mulf %d, %c : f32" + YIELD)  # fmt: skip
    added = generic("y", "%x, %bias", f"{CUBE}, {CUBE}", "%s", CUBE, f"{EACH}; {CUBE_MAP}",
                    "%n = arith.addf %a, %b : f32" + YIELD)  # fmt: skip
    text = written_out(
        f"%mask: {CUBE}", arguments=made, max=added + "\n" + SOURCE["max"].replace("%x", "%y"),
        shift=SOURCE["shift"].replace("%x", "%y"),
    )  # fmt: skip
    (attention,) = recognise(text, "m.mlir").attentions
    assert (attention.within, attention.mask) == ("main", "add")
