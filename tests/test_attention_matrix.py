"""Shapes times distributions of inputs, from MLIR to the checked output of the emulated device.

The small shapes run always; all of them with `pytest -m slow tests/test_attention_matrix.py`.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from npuc.compiler import cli
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.print_attn import to_attn_module

Arrays = dict[str, np.ndarray]
LARGEST_LOGIT = 60.0


def normal(attention: Attention, rng: np.random.Generator) -> Arrays:
    return {role: rng.standard_normal(attention.argument(role).shape) for role in ("q", "k", "v")}


def logits_to_60(attention: Attention, rng: np.random.Generator) -> Arrays:
    """Q scaled so that the largest scaled score of every head is +-60."""
    arrays = normal(attention, rng)
    scores = attention.scale * arrays["q"] @ arrays["k"].swapaxes(-1, -2)
    arrays["q"] *= LARGEST_LOGIT / np.abs(scores).max(axis=(-1, -2), keepdims=True)
    return arrays


def equal_rows(attention: Attention, rng: np.random.Generator) -> Arrays:
    """Every query alike and every key alike: all scores of a head are equal."""
    arrays = normal(attention, rng)
    for role in ("q", "k"):
        arrays[role][:] = arrays[role][:, :, :1, :]
    return arrays


def outliers(attention: Attention, rng: np.random.Generator) -> Arrays:
    """One huge number in every row of Q and K."""
    arrays = normal(attention, rng)
    for role in ("q", "k"):
        rows = arrays[role].reshape(-1, attention.head_dim)
        rows[np.arange(len(rows)), rng.integers(0, attention.head_dim, len(rows))] = 300.0
    return arrays


DISTRIBUTIONS = (normal, logits_to_60, equal_rows, outliers)
SMALL = (dict(heads=1, query_length=64, head_dim=64), dict(heads=1, query_length=64, head_dim=128))
LARGE = (
    *(dict(heads=h, query_length=s, head_dim=d) for h, s, d in itertools.product((1, 3, 4), (64, 192, 256), (64, 128))),
    dict(heads=8, query_length=512, head_dim=64),
    dict(heads=2, query_length=64, key_length=192, head_dim=64),
    dict(heads=2, query_length=192, key_length=64, head_dim=128),
    dict(heads=3, query_length=128, key_length=256, head_dim=128, batch=2),
    dict(heads=1, query_length=64, head_dim=64, batch=2),
    dict(heads=2, query_length=64, key_length=1024, head_dim=64),
    dict(heads=2, query_length=2048, head_dim=128),
)


def checked(attention: Attention, arrays: Arrays, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder / "attention.mlir"
    source.write_text(to_attn_module(attention))
    words = ["run", str(source), "--backend", "emulator", "--check", "--json"]
    for role, array in arrays.items():
        np.save(folder / f"{role}.npy", array.astype(np.float32))
        words += ["--input", f"{attention.argument(role).name}={folder / role}.npy"]
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])  # after the seed
    assert end.value.code == 0 and report["check"]["passed"], report
    assert report["emulated"] and report["cycles"] > 0 and 0 < report["utilization"] < 1
    assert math.prod(attention.argument("out").shape) == report["check"]["elements"]


@pytest.mark.parametrize("make", DISTRIBUTIONS)
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_small_attention_is_within_tolerance(
    shape: dict[str, int],
    make: Callable[[Attention, np.random.Generator], Arrays],
    seed: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    attention = Attention.make(**shape)
    checked(attention, make(attention, np.random.default_rng(seed)), tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("number", (1, 2), ids="seed{}".format)
@pytest.mark.parametrize("make", DISTRIBUTIONS)
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_attention_is_within_tolerance(
    shape: dict[str, int],
    make: Callable[[Attention, np.random.Generator], Arrays],
    number: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    print(f"seed {number}")
    attention = Attention.make(**shape)
    checked(attention, make(attention, np.random.default_rng(number)), tmp_path, capsys)
