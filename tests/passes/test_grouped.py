"""Query heads that share K and V as rows of one head: the same attention, row by row, in fewer items."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npuc
from npuc.passes.attention.call import NO_DIAGONAL, NO_WINDOW, Call
from npuc.passes.attention.grouped import grouped, grouped_call
from npuc.passes.attention.transfers import Operand, Operands

LENGTHS = st.sampled_from((1, 1, 1, 2, 7, 31, 32, 33, 64, 100, 257))


@st.composite
def operand(draw: st.DrawFn, argument: int, heads: int, length: int) -> Operand:
    """[B, H, S, D] of rows of 32 words: row-major, as [B, S, H, D], or the filled part of a cache."""
    held = length + draw(st.sampled_from((0, 0, 5)))
    by_rows = draw(st.booleans())
    head, row = (32, 32 * heads) if by_rows else (32 * held, 32)
    return Operand(argument, draw(st.sampled_from((0, 64))), 32 * heads * held, head, row)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Call, Operands, int]:
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    queries, keys = draw(LENGTHS), draw(LENGTHS)
    diagonal = draw(st.sampled_from((NO_DIAGONAL, 0, keys - queries, keys, -queries)))
    window = draw(st.sampled_from((NO_WINDOW, 1, 40, 1000)))
    call = Call(draw(st.integers(1, 2)), kv_heads * group, kv_heads, queries, keys, 0.1, diagonal, window, 2.0)
    q, o = (draw(operand(number, call.heads, queries)) for number in (0, 3))
    k, v = (draw(operand(number, kv_heads, keys)) for number in (1, 2))
    return call, Operands(q, k, v, o), draw(st.sampled_from((32, 128, 256)))


def described(call: Call, operands: Operands) -> dict[int, tuple[int, frozenset[tuple[int, int]]]]:
    """By the place of each row of O: its row of Q, and the rows of K and V that it sees (i - w + d < j <= i + d)."""
    found = {}
    for batch in range(call.batch):
        for head in range(call.heads):
            shared = head * call.kv_heads // call.heads
            for i in range(call.query_length):
                last = i + call.diagonal
                keys = [j for j in range(call.key_length) if last - call.window < j <= last]
                seen = ((operands.k.place(batch, shared, j), operands.v.place(batch, shared, j)) for j in keys)
                found[operands.o.place(batch, head, i)] = operands.q.place(batch, head, i), frozenset(seen)
    return found


def items(call: Call, rows: int) -> int:
    return call.batch * call.heads * -(-call.query_length // rows)


@given(calls())
def test_every_row_is_computed_from_the_same_rows(case: tuple[Call, Operands, int]) -> None:
    call, operands, rows = case
    done, where = grouped(call, operands, rows)
    assert described(done, where) == described(call, operands)
    assert (done.scale, done.softcap, done.batch) == (call.scale, call.softcap, call.batch)
    assert (done, where) == (call, operands) or items(done, rows) < items(call, rows)


@given(calls())
def test_one_query_of_each_head_is_grouped_wherever_it_sees_a_key(case: tuple[Call, Operands, int]) -> None:
    call, operands, rows = case
    call = replace(call, query_length=1)
    sees = any(-call.window < j - call.diagonal <= 0 for j in range(call.key_length))
    done = grouped_call(call, rows)
    assert (done.heads == call.kv_heads) == (sees or call.heads == call.kv_heads)
    assert (grouped(call, operands, rows)[0] is call) == (done is call)


def test_rows_in_uneven_steps_stay_apart() -> None:
    call = Call(1, 4, 2, 8, 64, 1.0)
    dense = Operand(0, 0, 0, 8 * 32, 32)
    operands = Operands(dense, dense, dense, dense)
    assert grouped(call, operands, 128)[0].query_length == 16
    for role in ("q", "o"):
        uneven = replace(operands, **{role: replace(dense, head=9 * 32)})
        assert grouped(call, uneven, 128) == (call, uneven)


SEEN = (  # arguments of npuc.attention, keys that one query of 150 sees
    ({}, range(150)),
    ({"causal": True}, range(1)),
    ({"causal": True, "align": "bottom-right"}, range(150)),
    ({"window": 70, "align": "bottom-right"}, range(80, 150)),
)


@pytest.mark.parametrize(("limits", "seen"), SEEN)
@pytest.mark.parametrize("by_rows", [False, True])
def test_decoding_reads_keys_once_for_a_group(limits: dict, seen: range, by_rows: bool, seed: int) -> None:
    """One query of 6 heads on 2, against numpy; words that the shims send, against what the tensors have."""
    generator = np.random.default_rng(seed)
    shapes = ((2, 6, 1, 64), (2, 2, 150, 64), (2, 2, 150, 64))
    q, k, v = (generator.standard_normal(shape, np.float32).astype(ml_dtypes.bfloat16) for shape in shapes)
    if by_rows:  # [B, S, H, D] seen as [B, H, S, D]
        q, k, v = (np.ascontiguousarray(each.swapaxes(1, 2)).swapaxes(1, 2) for each in (q, k, v))
    out = npuc.attention(q, k, v, backend="emulator", fallback=(), enable_gqa=True, **limits)
    wide = [np.repeat(each.astype(np.float64)[:, :, seen.start : seen.stop], 3, axis=1) for each in (k, v)]
    scores = np.einsum("bhqd,bhkd->bhqk", q.astype(np.float64), wide[0]) / 8
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("bhqk,bhkd->bhqd", weights / weights.sum(-1, keepdims=True), wide[1])
    assert np.abs(out.astype(np.float64) - expected).max() < 0.03
    sent = sum(c["words"] for c in npuc.last_stats().dma if c["row"] == 0 and c["direction"] == "mm2s")
    keys_values = 2 * 2 * 2 * -(-len(seen) // 32) * 32 * 32  # batch, heads, K and V; blocks of 32 rows of 32 words
    rows, rest = divmod(sent - keys_values, 2 * 2 * 32)  # of Q, for each of the 4 items
    assert rest == 0 and rows % 32 == 0 and 32 <= rows <= 1024
