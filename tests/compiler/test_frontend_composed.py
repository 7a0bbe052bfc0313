"""Attention put together at random is recognised as what it was put together to be."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import campaigns
import pytest
from composed import composed

from npuc.compiler.frontend import load


def check_composed(seed: int | str, count: int) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        text, wanted = composed(rng)
        (found,) = load(text, "composed.mlir")
        assert replace(found, scale=wanted.scale) == wanted, text
        assert found.scale == pytest.approx(wanted.scale, rel=1e-6), text


def test_attention_in_any_order_is_recognised(seed: int) -> None:
    check_composed(seed, 40)


def check_batch(batch: tuple[str, int]) -> None:
    check_composed(*batch)


@pytest.mark.slow
def test_thousands_of_orders(seed: int, processes: dict[str, Any]) -> None:
    campaigns.run(check_batch, campaigns.batches(seed + 1, 4000, 200), processes)
