"""A few kernels take no more cycles than are recorded in `cycles.json`: what makes one slower fails, and says so.

Cycles are the emulator's and the same on every machine. After a change that makes kernels faster
`python tests/test_cycles.py` writes the new figures. A change that rightly makes one slower does the same and says why.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import npuc
from npuc.compiler.frontend.attention import Attention
from npuc.runtime.arguments import draw

RECORDED = Path(__file__).with_name("cycles.json")
LARGE = {"heads": 8, "kv_heads": 4, "query_length": 256, "head_dim": 128}
INTEGERS = {**LARGE, "dtype": "i8", "precision": "int8", "o_scale": (1 / 256,)}
CASES: dict[str, dict[str, Any]] = {
    "4 heads of 256, D 64": {"heads": 4, "query_length": 256, "head_dim": 64},
    "8 heads on 4 of 256, D 128": LARGE,
    "8 heads on 4 of 512, D 128": {**LARGE, "query_length": 512},
    "fast": {**LARGE, "recipe": "fast"},
    "causal": {**LARGE, "causal": True},
    "softcap": {**LARGE, "softcap": 50.0},
    "mask that is added": {**LARGE, "mask": "add"},
    "one query, 1,024 keys": {**LARGE, "query_length": 1, "key_length": 1024},
    "int8": INTEGERS,
    "int8, fast": {**INTEGERS, "recipe": "fast"},
}


def cycles(case: str) -> int:
    kernel = npuc.compile(Attention.make(**CASES[case]))
    with kernel.load(backend="emulator", fallback=()) as executable:
        executable.run(executable.prepare(draw(executable.kernel.arguments, 0)))
        assert executable.stats is not None and executable.stats.cycles is not None
        return executable.stats.cycles


@pytest.mark.parametrize("case", CASES)
def test_no_kernel_is_slower_than_recorded(case: str) -> None:
    recorded = json.loads(RECORDED.read_text())[case]
    found = cycles(case)
    assert found <= recorded, f"{found:,} cycles, recorded are {recorded:,} ({found / recorded - 1:+.2%})"


if __name__ == "__main__":
    RECORDED.write_text(json.dumps({case: cycles(case) for case in CASES}, indent=2) + "\n")
