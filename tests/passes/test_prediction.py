"""Cycles that the model of sequences foresees, beside the emulator's; calls where the order of sending decides.

The long form, over many kernels, is `tests/test_attention_matrix.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

import npuc
from npuc.compiler.frontend.attention import Attention
from npuc.passes.attention import sequence
from npuc.passes.attention.predict import predicted_cycles
from npuc.runtime.arguments import draw

LIMIT = 0.1

CALLS: dict[str, dict[str, Any]] = {
    "one block of keys, Q on all columns": {"heads": 2, "query_length": 1023, "key_length": 1, "head_dim": 200},
    "most rows see no key": {
        "heads": 1, "query_length": 2049, "key_length": 257, "head_dim": 128, "causal": True, "align": "bottom-right"
    },
    "a window that ends before most rows": {
        "heads": 2, "query_length": 2048, "key_length": 63, "head_dim": 128, "window": 5
    },
    "eight blocks": {"heads": 2, "query_length": 256, "head_dim": 128},
}  # fmt: skip


def cycles(attention: Attention, **options: str) -> tuple[int, int]:
    """Emulated ones, and those predicted."""
    kernel = npuc.compile(attention, options=options, use_cache=False)  # a kernel has the sequence of its call
    with kernel.load(backend="emulator", fallback=()) as executable:
        executable.run(executable.prepare(draw(executable.kernel.arguments, 0)))
        assert executable.stats is not None and executable.stats.cycles is not None
        return executable.stats.cycles, predicted_cycles(executable.kernel.plan, attention)


@pytest.mark.parametrize("split", ["0", "1"])
@pytest.mark.parametrize("call", CALLS)
def test_short_items_are_predicted(call: str, split: str) -> None:
    emulated, predicted = cycles(Attention.make(recipe="fast", **CALLS[call]), split=split)
    print(f"{call}: {emulated:,} cycles, predicted {predicted / emulated:.2f} of that")
    assert abs(predicted / emulated - 1) < LIMIT


def test_output_of_short_items_does_not_wait_for_the_next_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their Q is sent for when an output is known to be out: were that made among the blocks of Q, each waited for the
    other."""
    attention = Attention.make(recipe="fast", **CALLS["most rows see no key"])
    first, predicted_first = cycles(attention, split="1")
    monkeypatch.setattr(sequence._Sequence, "_short_item", lambda self: 0)
    among, predicted_among = cycles(attention, split="1")
    assert first < 0.9 * among
    assert abs(predicted_first / first - 1) < LIMIT and abs(predicted_among / among - 1) < LIMIT


@pytest.mark.parametrize("recipe", ["fast", "accurate"])
def test_heads_with_a_scale_each_are_predicted(recipe: str) -> None:
    """Floating tensors as int8: heads that share K and V have no rows of one item together."""
    shape = dict(heads=5, kv_heads=1, query_length=129, key_length=300, head_dim=128, dtype="f32", precision="int8")
    emulated, predicted = cycles(Attention.make(recipe=recipe, **shape))
    print(f"{recipe}: {emulated:,} cycles, predicted {predicted / emulated:.2f} of that")
    assert abs(predicted / emulated - 1) < LIMIT
