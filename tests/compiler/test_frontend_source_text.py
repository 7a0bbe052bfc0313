"""Sources as files hold them: text, MLIR bytecode, and both compressed."""

from __future__ import annotations

import gzip
import io

import pytest
from torch_mlir import ir

from npuc.compiler.diagnostics import InputError
from npuc.compiler.driver import recognise_bytes
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.context import new_context
from npuc.compiler.frontend.print_attn import to_attn_module

TENSOR = "tensor<2x16x8xf32>"
WHOLE = f"""func.func @f(%a: {TENSOR}, %m: tensor<2x16x16xf32>) -> {TENSOR} {{
  %r = tm_tensor.attention {{scale = 0.5 : f64}} ins(%a, %a, %a, %m : {TENSOR}, {TENSOR}, {TENSOR}, tensor<2x16x16xf32>)
    outs(%a : {TENSOR}) -> {TENSOR}
  return %r : {TENSOR}
}}"""
TEXTS = {
    "attn.sdpa": to_attn_module(Attention.make(heads=2, query_length=16, head_dim=8, causal=True)),
    "open lengths": to_attn_module(Attention.make(heads=2, query_length=None, head_dim=8)),
    "tm_tensor": WHOLE,
}


def bytecode(text: str) -> bytes:
    buffer = io.BytesIO()
    with new_context(text.encode()):
        ir.Module.parse(text).operation.write_bytecode(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", TEXTS)
def test_bytecode_and_compressed_files_mean_what_their_text_means(name: str) -> None:
    text = TEXTS[name]
    found = recognise_bytes(text.encode(), "x.mlir")
    assert recognise_bytes(bytecode(text), "x.mlirbc") == found
    assert recognise_bytes(gzip.compress(text.encode()), "x.mlir.gz") == found
    assert recognise_bytes(gzip.compress(bytecode(text)), "x.mlirbc.gz") == found


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_damaged_files_are_refused_in_one_line(share: float) -> None:
    whole = bytecode(TEXTS["attn.sdpa"])
    packed = gzip.compress(TEXTS["attn.sdpa"].encode())
    for data, file in (
        (whole[: int(len(whole) * share) + 4], "x.mlirbc"),
        (packed[: int(len(packed) * share) + 2], "x"),
    ):
        with pytest.raises(InputError) as caught:
            recognise_bytes(data, file)
        assert "\n" not in str(caught.value) and caught.value.place is not None


def test_the_scale_of_an_attention_that_is_kept_whole_is_read() -> None:
    found = recognise_bytes(WHOLE.encode(), "x.mlir")
    assert (found.scale, found.mask) == (0.5, "add")
    with pytest.raises(InputError, match="its attribute is_causal is not understood"):
        recognise_bytes(WHOLE.replace("scale = 0.5 : f64", "is_causal = true").encode(), "x.mlir")


def test_a_portable_artifact_of_stablehlo_is_read() -> None:
    from torch_mlir._mlir_libs import _stablehlo

    t, s = "tensor<2x4x4xf32>", "tensor<2x4xf32>"
    text = f"""func.func @f(%q: {t}, %k: {t}, %v: {t}) -> {t} {{
      %x = stablehlo.dot_general %q, %k, batching_dims = [0] x [0], contracting_dims = [2] x [2] : ({t}, {t}) -> {t}
      %low = stablehlo.constant dense<0xFF800000> : tensor<f32>
      %zero = stablehlo.constant dense<0.0> : tensor<f32>
      %m = stablehlo.reduce(%x init: %low) applies stablehlo.maximum across dimensions = [2] : ({t}, tensor<f32>) -> {s}
      %mb = stablehlo.broadcast_in_dim %m, dims = [0, 1] : ({s}) -> {t}
      %d = stablehlo.subtract %x, %mb : {t}
      %e = stablehlo.exponential %d : {t}
      %n = stablehlo.reduce(%e init: %zero) applies stablehlo.add across dimensions = [2] : ({t}, tensor<f32>) -> {s}
      %nb = stablehlo.broadcast_in_dim %n, dims = [0, 1] : ({s}) -> {t}
      %p = stablehlo.divide %e, %nb : {t}
      %o = stablehlo.dot_general %p, %v, batching_dims = [0] x [0], contracting_dims = [2] x [1] : ({t}, {t}) -> {t}
      return %o : {t}
    }}"""
    artifact = _stablehlo.serialize_portable_artifact_str(text, _stablehlo.get_current_version())
    found = recognise_bytes(artifact, "exported.mlirbc")
    assert found == recognise_bytes(text.encode(), "exported.mlir") and found.scale == 1.0
    with pytest.raises(InputError):
        recognise_bytes(artifact[:200], "cut.mlirbc")
