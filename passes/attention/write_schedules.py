"""Write the book of loop schedules anew: `python -m npuc.passes.attention.write_schedules`.

To be run whenever core programs change; compilations work without, but search what the book lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from npuc.compiler.frontend.attention import Attention
from npuc.passes.attention import choose
from npuc.passes.attention import core as attention_kernel
from npuc.passes.machine import codegen, schedule_book
from npuc.passes.machine.ir import Program
from npuc.passes.options import Options

HEAD_SIZES = (8, 16, 24, 32, 48, 64, 72, 128, 192, 256)  # others have the loops of these
RECIPES = ("balanced", "accurate", "fast")  # the last where scores are 16-bit numbers, else as the first
SOFTCAPS = (None, 50.0, 100.0)  # the last where programs for large ones differ
INTEGER_LENGTHS = (2048, 16, 8)  # all with these head sizes, the first with others
INTEGER_SIZES, FURTHER_SIZES = (8, 64, 128, 256), (32, 48, 72, 80, 96, 112, 160, 192)
MASKS = ((None, "bf16"), ("add", "bf16"), ("add", "f32"))  # what is done to scores, elements: none, one part, two


def kinds() -> Iterator[Attention]:
    """What differs in its core program, at the tile sizes that are chosen for many and for few queries."""
    for head_dim, recipe, softcap, length, (mask, dtype) in product(HEAD_SIZES, RECIPES, SOFTCAPS, (2048, 1), MASKS):
        made = Attention.make(
            heads=4,
            query_length=length,
            head_dim=head_dim,
            key_length=2048,
            recipe=recipe,
            softcap=softcap,
            mask=mask,
            dtype=dtype,
        )
        large = softcap == SOFTCAPS[-1]
        as_balanced = recipe == "fast" and (mask is not None or large)
        as_small = large and (mask is not None or recipe == "accurate")
        if not (as_balanced or as_small) and (mask is None or head_dim in (16, 64, 128, 256)):
            yield made


def integer_kinds() -> Iterator[Attention]:
    """The same of int8, whose loops depend on the head size, the blocks of queries and keys and the result's type."""
    sizes = [*product(INTEGER_SIZES, INTEGER_LENGTHS), *product(FURTHER_SIZES, INTEGER_LENGTHS[:1])]
    for (head_dim, length), recipe, output in product(sizes, ("fast", "balanced"), ("i8", "bf16")):
        made = Attention.make(
            heads=4,
            query_length=length,
            key_length=2048,
            head_dim=head_dim,
            recipe=recipe,
            dtype="i8",
            precision="int8",
            o_scale=(1.0,),
        )
        if output == "bf16":
            arguments = tuple(replace(a, dtype="bf16") if a.role == "out" else a for a in made.arguments)
            made = replace(made, arguments=arguments, o_scale=None)
        yield made


def core_program(attention: Attention) -> Program:
    plan = choose.make_plan(attention, Options())
    return attention_kernel.build(plan, attention.recipe, attention.softcap is not None).program


def main() -> None:
    with schedule_book.recording() as found:
        for attention in (*kinds(), *integer_kinds()):
            codegen.generate(core_program(attention))
    schedule_book.write(found)
    print(f"{schedule_book.BOOK.name}: {len(found)} schedules")


if __name__ == "__main__":
    main()
