"""Compile attention.mlir, keep the file, run it on arrays, and compare with numpy.

pip install . && python examples/attention.py [emulator|xrt|amdxdna|reference|auto]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import npuc

SOURCE = Path(__file__).with_name("attention.mlir")


def softmax_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """In float64; arrays [batch, heads, length, head size]."""
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True) @ v


def main(backend: str = "emulator") -> int:
    kernel = npuc.compile(SOURCE)
    q, k, v = np.random.default_rng(0).standard_normal((3, 1, 4, 256, 64), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "attention.xclbin"
        kernel.save(file)
        with npuc.load(file, backend=backend, fallback=()) as exe:
            out = np.asarray(exe(q, k, v), np.float64)
            print(exe.stats)
    expected = softmax_attention(*(x.astype(np.float64) for x in (q, k, v)))
    error = np.abs(out - expected).sum() / np.abs(expected).sum()
    print(f"mean relative L1 against float64: {error:.1e}")
    return 0 if error < 1e-2 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
