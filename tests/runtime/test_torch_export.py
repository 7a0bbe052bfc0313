"""npuc.torch.compile_exported: attention as people write it in PyTorch, exported, compiled and run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npuc

torch = pytest.importorskip("torch", reason="PyTorch is not installed (npuc[torch])")
pytest.importorskip("torch_mlir.fx", reason="torch-mlir has no importer of exported programs")

import npuc.torch  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SDPA = torch.nn.functional.scaled_dot_product_attention


class Whole(torch.nn.Module):
    def forward(self, q: Any, k: Any, v: Any) -> Any:
        return SDPA(q, k, v, is_causal=True, scale=0.3)


class Masked(torch.nn.Module):
    def forward(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
        return SDPA(q, k, v, attn_mask=mask)


class SpeltOut(torch.nn.Module):
    def forward(self, q: Any, k: Any, v: Any) -> Any:
        return torch.softmax(torch.matmul(q, k.transpose(-1, -2)) / q.shape[-1] ** 0.5, dim=-1) @ v


class Nothing(torch.nn.Module):
    def forward(self, q: Any, k: Any, v: Any) -> Any:
        return q + k + v


def draw(seed: int, length: int = 12, keys: int = 12) -> list[Any]:
    torch.manual_seed(seed)
    return [torch.randn(1, 2, n, 16) for n in (length, keys, keys)]


def close(ours: np.ndarray, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-2)


@pytest.mark.parametrize("module", [Whole, SpeltOut])
def test_an_exported_program_is_compiled_and_run(seed, module):
    arrays = draw(seed)
    kernel = npuc.torch.compile_exported(torch.export.export(module(), tuple(arrays)))
    with kernel.load(backend="emulator", fallback=()) as exe:
        close(exe(*arrays), module()(*arrays))


def test_masks_are_arguments(seed):
    arrays = [*draw(seed, 12, 20), torch.rand(12, 20) < 0.7]
    kernel = npuc.torch.compile_exported(torch.export.export(Masked(), tuple(arrays)))
    with kernel.load(backend="emulator", fallback=()) as exe:
        close(exe(*arrays), Masked()(*arrays))


def test_lengths_may_be_left_open(seed):
    length = torch.export.Dim("length", min=2, max=4096)
    shapes = {name: {2: length} for name in "qkv"}
    program = torch.export.export(Whole(), tuple(draw(seed)), dynamic_shapes=shapes)
    with npuc.torch.compile_exported(program).load(backend="emulator", fallback=()) as exe:
        for n in (12, 21):
            arrays = draw(seed, n, n)
            close(exe(*arrays), Whole()(*arrays))


def test_text_in_two_forms(seed):
    program = torch.export.export(Whole(), tuple(draw(seed)))
    assert "torch.aten.scaled_dot_product_attention" in npuc.torch.to_mlir(program)
    decomposed = npuc.torch.to_mlir(program, decomposed=True)
    assert "scaled_dot_product_attention" not in decomposed and "torch.aten.bmm" in decomposed
    for text in (npuc.torch.to_mlir(program), decomposed):
        found = npuc.compile(text).result.summary["kernels"][0]["attention"]
        assert (found["causal"], found["heads"], found["head_dim"]) == (True, 2, 16)
        assert found["scale"] == pytest.approx(0.3, rel=1e-7), "whole, or its root on either side"


def test_what_is_no_attention_is_refused_with_the_reason(seed):
    with pytest.raises(npuc.InputError, match="wanted is a function of Q, K and V"):
        npuc.torch.compile_exported(torch.export.export(Nothing(), tuple(draw(seed))))
    with pytest.raises(npuc.UsageError, match="a Whole is no exported program .give what torch.export.export gave"):
        npuc.torch.compile_exported(Whole())  # type: ignore[arg-type]


def test_the_example_agrees(capsys):
    spec = importlib.util.spec_from_file_location("exported", REPOSITORY / "examples" / "exported_attention.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert example.main("emulator") == 0
    assert "length 50: <npuc.RunReport emulator, " in capsys.readouterr().out
