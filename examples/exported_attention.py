"""Attention written in PyTorch, exported with its length open, compiled to one xclbin and run.

pip install '.[torch]' && python examples/exported_attention.py [emulator|xrt|reference|auto]
"""

from __future__ import annotations

import sys

import torch

import npuc.torch


class Attention(torch.nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.2)


def draw(length: int) -> list[torch.Tensor]:
    return [torch.randn(1, 2, length, 32, dtype=torch.bfloat16) for _ in range(3)]


def main(backend: str = "emulator") -> int:
    torch.manual_seed(0)
    length = torch.export.Dim("length", min=2, max=4096)
    program = torch.export.export(Attention(), tuple(draw(16)), dynamic_shapes={name: {2: length} for name in "qkv"})
    kernel = npuc.torch.compile_exported(program)
    print(kernel)
    worst = 0.0
    with kernel.load(backend=backend, fallback=()) as exe:
        for n in (16, 50):
            arrays = draw(n)
            ours = torch.from_numpy(exe(*arrays).astype("float32"))
            worst = max(worst, float((ours - Attention()(*arrays).float()).abs().max()))
            print(f"length {n}: {exe.stats}")
    print(f"largest difference from PyTorch's own: {worst:.2e}")
    return 0 if worst < 2e-2 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
