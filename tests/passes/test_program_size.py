"""Core programs fit program memory, whatever features come together."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from npuc.compiler.frontend.attention import Attention
from npuc.compiler.target.npu1.geometry import PROGRAM_MEMORY_SIZE
from npuc.passes.attention import choose, core
from npuc.passes.attention.supported import RECIPES
from npuc.passes.machine import codegen
from npuc.passes.options import Options

MASKS: dict[int, dict[str, Any]] = {
    0: {},
    1: {"mask": "keep"},
    2: {"mask": "add", "dtype": "f32"},
}  # by parts of the mask's numbers
HEAD_SIZES = (8, 16, 24, 32, 40, 64, 72, 96, 128, 192, 200, 256)
KINDS = [
    (recipe, cap, parts, split)
    for recipe, cap, parts, split in product(RECIPES, (None, 30.0, 100.0), MASKS, ("0", "1"))
    if parts == 0 or split == "0"
]
# Loops of head size 64 at 64 queries a core are unrolled most.
LONGEST = [kind for kind in KINDS if kind[1] is not None and (kind[2] == 2 or kind[3] == "1")]


def fits(kind: tuple[str, float | None, int, str], head_dim: int, queries: int, **options: str) -> bool:
    recipe, softcap, parts, split = kind
    attention = Attention.make(
        heads=4, query_length=queries, key_length=512, head_dim=head_dim, recipe=recipe, softcap=softcap, **MASKS[parts]
    )
    plan = choose.make_plan(attention, Options(options={"split": split, **options}))
    assert plan.mask_parts == parts
    program = codegen.generate(core.build(plan, recipe, softcap is not None).program)
    return 0 < len(program.code) <= PROGRAM_MEMORY_SIZE


@pytest.mark.parametrize("kind", LONGEST, ids=str)
def test_the_longest_programs_fit(kind: tuple[str, float | None, int, str]) -> None:
    assert fits(kind, 64, 4096, query_block="64")


@pytest.mark.slow
@pytest.mark.parametrize("queries", [8, 4096])
@pytest.mark.parametrize("head_dim", HEAD_SIZES)
def test_all_programs_fit(head_dim: int, queries: int) -> None:
    assert all(fits(kind, head_dim, queries) for kind in KINDS)
