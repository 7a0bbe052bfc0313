"""The mask operand as the shims read it: a copy of the caller's mask in bf16 parts, made for each call.

Rows of the copy are as long as all key blocks: for each block its part of the mask, in `parts` pieces of `key_block`
numbers, the high parts and then what they leave of the values.  Keys beyond the last are hidden.  From rows that the
parts do not hold exactly the largest number that their query sees is subtracted, which changes no softmax.  A size of 1
stays one in front; a mask alike for all queries has as many rows as a column takes of an item, which all items read
(limits may leave these queries such different numbers that the runtime gives each a row).  Where items have rows of
several heads, or rows again, its rows are those of the items, one behind the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import InputError
from npuc.passes.attention.call import Call
from npuc.passes.attention.plan import CORES_PER_COLUMN, ELEMENT_BYTES, WORD_BYTES, Plan
from npuc.passes.attention.shares import plan_work
from npuc.passes.attention.work import Work

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

HIDDEN_BITS = 0xFF00
"""bf16 -2^127: this key is hidden, whatever its score; the further parts are 0 then."""
HIDES = -1e9
"""Values up to this, rounded to the mask's own type, hide a key, as -inf does."""
# 16 bits of mantissa where the values have more than bf16's eight: all of f16.
PARTS = {"i1": 1, "bf16": 1, "f32": 2, "f16": 2}


def mask_parts(attention: Attention) -> int:
    """bf16 numbers to an element of the mask; 0 where there is none."""
    return PARTS[attention.argument("mask").dtype] if attention.mask is not None else 0


@dataclass(frozen=True)
class MaskCopy:
    """Where what lies in the copy: [batch, heads (or sets of them), rows, blocks, parts, key_block] bf16.

    keys: of the call.  per_query: row i is query i's; else all rows are alike, whichever the queries are.  by_rows:
    they are the rows of `work`'s items, round by round; of one where queries are alike.
    """

    batch: int
    heads: int
    rows: int
    blocks: int
    parts: int
    key_block: int
    keys: int
    per_query: bool
    by_rows: bool
    work: Work

    @property
    def shape(self) -> tuple[int, int, int, int, int, int]:
        return (self.batch, self.heads, self.rows, self.blocks, self.parts, self.key_block)

    @property
    def row_words(self) -> int:
        return self.blocks * self.parts * self.block_words

    @property
    def block_words(self) -> int:
        """32-bit words of a row in one part of a block."""
        return self.key_block * ELEMENT_BYTES // WORD_BYTES

    @property
    def nbytes(self) -> int:
        return self.batch * self.heads * self.rows * self.row_words * WORD_BYTES


def mask_copy(plan: Plan, call: Call, shape: Sequence[int]) -> MaskCopy:
    """The copy of a mask of that shape.  Raises InputError where it does not broadcast to the call's scores."""
    full = (call.batch, call.heads, call.query_length, call.key_length)
    sizes = (1,) * (4 - len(shape)) + tuple(shape)
    if len(sizes) != 4 or any(given not in (1, size) for given, size in zip(sizes, full, strict=True)):
        raise InputError(f"mask shape {list(shape)} does not broadcast to the scores {list(full)}")
    batch, heads, rows, _ = sizes
    per_query, work = rows > 1, plan_work(plan, call, masked=True)
    shared = work.share.heads > 1
    by_rows = (per_query and (shared or not work.fills)) or (shared and heads > 1)
    if by_rows:
        held = (work.rounds if per_query else 1) * work.rows
    else:
        held = call.query_length if per_query else CORES_PER_COLUMN * plan.query_block
    return MaskCopy(
        batch=batch,
        heads=1 if heads == 1 else work.per_round // call.batch,
        rows=held,
        blocks=-(-call.key_length // plan.key_block),
        parts=plan.mask_parts,
        key_block=plan.key_block,
        keys=call.key_length,
        per_query=per_query,
        by_rows=by_rows,
        work=work,
    )


def shape_of_keys(shape: Sequence[int], first: int, end: int) -> tuple[int, ...]:
    """The shape of a mask without the keys before `first` and from `end` on."""
    return (*shape[:-1], min(shape[-1], end - first))
