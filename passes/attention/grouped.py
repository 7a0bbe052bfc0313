"""Query heads that share K and V, where all queries see the same keys: together they are the rows of one head's items.

Q [B, H, S, D] with H = G Hkv, where it lies, is [B, Hkv, G S, D], and so is O.  The keys that all of these queries see
are cut out of K and V then: those of one query (decoding), and any where no limit hides a key.  K and V are read for G
times as many rows at once.  Heads whose queries see different keys share items otherwise (`shares`).
"""

from __future__ import annotations

from dataclasses import replace

from npuc.passes.attention.call import LENGTH_LIMIT, NO_DIAGONAL, NO_WINDOW, Call
from npuc.passes.attention.transfers import LONGEST_STEP, Operand, Operands


def grouped_call(call: Call, rows: int) -> Call:
    """The call of Hkv heads that computes the same in fewer items of `rows` rows, else `call`; for no mask operand."""
    keys = call.keys_of_all
    if len(call.quantities) > 1:  # rows of an item have the factors of one head
        return call
    together = call.heads // call.kv_heads * call.query_length
    if (
        not keys
        or together > LENGTH_LIMIT
        or call.kv_heads * -(-together // rows) >= call.heads * -(-call.query_length // rows)
    ):
        return call
    return replace(
        call,
        heads=call.kv_heads,
        query_length=together,
        key_length=len(keys),
        diagonal=NO_DIAGONAL,
        window=NO_WINDOW,
    )


def grouped(call: Call, operands: Operands, rows: int) -> tuple[Call, Operands]:
    """The same with its operands; as they are where the rows of a group of heads do not lie in even steps."""
    found, keys = grouped_call(call, rows), call.keys_of_all
    q, o = (_rows_of_groups(operand, call) for operand in (operands.q, operands.o))
    if found is call or not keys or operands.mask is not None or q is None or o is None:
        return call, operands
    k, v = (replace(operand, offset=operand.place(0, 0, keys.start)) for operand in (operands.k, operands.v))
    return found, replace(operands, q=q, k=k, v=v, o=o)


def _rows_of_groups(operand: Operand, call: Call) -> Operand | None:
    row = operand.head if call.query_length == 1 else operand.row
    if operand.head != call.query_length * row or not 0 < row <= LONGEST_STEP:
        return None
    return replace(operand, head=call.heads // call.kv_heads * operand.head, row=row)
