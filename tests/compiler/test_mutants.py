"""Accepted sources, changed at random: refused, or recognised as what they then compute (mutants.py has the rest).

NPUC_MUTANTS says how many; 100,000 take an hour.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import Any

import mutants
import pytest
from mutant_sources import sources
from mutations import MUTATIONS
from torch_mlir import ir

from npuc.compiler.frontend.context import new_context
from npuc.compiler.frontend.load import of_module as recognise

COUNT = int(os.environ.get("NPUC_MUTANTS", 160))
QUICK = ("attention.mlir", "attention_linalg.mlir", "attention_torch.mlir", "two results", "K first")


def texts() -> dict[str, str]:
    """All sources for a long campaign, a few for a short one."""
    found = sources()
    return mutants.accepted(found if COUNT > 1000 else {name: found[name] for name in QUICK})


def test_a_mutant_is_refused_or_is_what_is_recognised(seed: int, processes: dict[str, Any]) -> None:
    figures = mutants.campaign(texts(), seed, COUNT, **processes)
    print(dict(figures.outcomes))
    assert not figures.findings, f"{len(figures.findings)} found, one: {figures.findings[0].report()}"
    assert figures.outcomes["equal"] >= COUNT // 20 and figures.outcomes["refused"] >= COUNT // 20


FAULTS = {
    "a scale that is slightly off": lambda a: replace(a, scale=a.scale * (1 + 1e-4)),
    "a causal limit": lambda a: replace(a, causal=not a.causal),
    "bottom-right limits": lambda a: replace(a, window=1, align="bottom-right"),
    "a softcap": lambda a: replace(a, softcap=50.0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_recognised_wrongly_is_found(fault: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutants, "recognise", lambda *words: tuple(map(FAULTS[fault], recognise(*words))))
    (name, text), *_ = texts().items()
    rng = random.Random(seed)
    for _ in range(8):
        found = mutants.small(text, rng)
        assert found is not None
        module, attention = found
        if attention.query_length > 1 and attention.key_length > 1:
            with module.context:
                outcomes = [mutants.outcome_of(module, number)[0] for number in range(4)]
            assert "wrong" in outcomes, name
            return
    raise AssertionError("no module of more than one query")


@pytest.mark.parametrize("mutation", sorted(set(MUTATIONS), key=lambda m: m.__name__), ids=lambda m: m.__name__)
def test_every_change_makes_valid_modules_too(mutation: object, seed: int) -> None:
    rng = random.Random(seed)
    name = "attention.mlir" if "attention" in mutation.__name__ else "two results"  # type: ignore[attr-defined]
    text, valid = sources()[name], 0
    with new_context(b"attn."), ir.Location.unknown():
        base = ir.Module.parse(text)
        for _ in range(40):
            module = base.operation.clone()
            (function,) = (operation.operation for operation in module.regions[0].blocks[0].operations)
            if mutation(function, rng) is not None:  # type: ignore[operator]
                valid += mutants._valid(module) and str(module) != str(base)
    assert valid
