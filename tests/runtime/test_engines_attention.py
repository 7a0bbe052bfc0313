"""Attention from end to end: outputs, cycles and every counter are the same on both engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import npuc
from npuc.runtime.arguments import draw
from npuc.runtime.emulator.engines import ENGINES

TEXT = """
func.func @attention(%q: tensor<1x{heads}x{length}x64xbf16>, %k: tensor<1x{heads}x{length}x64xbf16>,
                     %v: tensor<1x{heads}x{length}x64xbf16>) -> tensor<1x{heads}x{length}x64xbf16> {{
  %o = "attn.sdpa"(%q, %k, %v)
       : (tensor<1x{heads}x{length}x64xbf16>, tensor<1x{heads}x{length}x64xbf16>, tensor<1x{heads}x{length}x64xbf16>)
       -> tensor<1x{heads}x{length}x64xbf16>
  return %o : tensor<1x{heads}x{length}x64xbf16>
}}
"""


def _outcome(text: str, engine: str, seed: int) -> tuple[bytes, Any]:
    """Output bytes, and what the run reports."""
    kernel = npuc.compile(text)
    with npuc.load(kernel, backend="emulator", fallback=(), engine=engine) as executable:
        inputs = executable.prepare(draw(executable.kernel.arguments, seed))
        raw = executable.run(inputs)
        return b"".join(np.asarray(raw[name]).tobytes() for name in sorted(raw)), executable.stats


@pytest.mark.parametrize(("heads", "length"), [(1, 64), pytest.param(4, 256, marks=pytest.mark.slow)])
def test_attention_is_the_same_on_both_engines(heads: int, length: int, seed: int) -> None:
    text = TEXT.format(heads=heads, length=length)
    first, second = (_outcome(text, engine, seed) for engine in ENGINES)
    assert first == second
    assert any(first[0])
