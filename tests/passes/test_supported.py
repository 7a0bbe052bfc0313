"""What is not supported is refused by name, with a remedy."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from npuc.compiler.diagnostics import InputError, Place, UnsupportedError
from npuc.compiler.frontend import Attention, load
from npuc.passes.attention.supported import ELEMENT_TYPES, LENGTH_LIMIT, check_supported

PLAIN: dict[str, Any] = {"heads": 4, "query_length": 256, "head_dim": 64}
INTEGERS: dict[str, Any] = {"dtype": "i8", "precision": "int8", "o_scale": (0.5,)}


@pytest.mark.parametrize("head_dim", [8, 20, 64, 128, 256])
@pytest.mark.parametrize("recipe", ["fast", "balanced", "accurate"])
@pytest.mark.parametrize("limits", [{}, {"causal": True, "align": "bottom-right"}, {"window": 5}], ids=str)
def test_int8_is_supported(head_dim: int, recipe: str, limits: dict[str, Any]) -> None:
    sizes = {"batch": 2, "heads": 6, "kv_heads": 2, "query_length": 17, "key_length": LENGTH_LIMIT}
    for factors in ({}, {"q_scale": (0.1, 0.2, 0.01, 0.1, 0.3, 0.2), "v_scale": (0.5, 0.1)}):
        check_supported(Attention.make(**sizes, **INTEGERS, **limits, **factors, head_dim=head_dim, recipe=recipe))


@pytest.mark.parametrize("dtype", ELEMENT_TYPES)
@pytest.mark.parametrize("head_dim", [8, 40, 64, 128, 256])
@pytest.mark.parametrize("lengths", [(1, LENGTH_LIMIT), (LENGTH_LIMIT, 1), (17, 1000)])
@pytest.mark.parametrize("limits", [{}, {"causal": True, "align": "bottom-right"}, {"window": 5}], ids=str)
def test_supported(dtype: str, head_dim: int, lengths: tuple[int, int], limits: dict[str, Any]) -> None:
    query, key = lengths
    sizes = {"batch": 2, "heads": 6, "kv_heads": 2, "query_length": query, "key_length": key, "head_dim": head_dim}
    for scale in (0.3, 0.0, -5.0):
        check_supported(Attention.make(**sizes, dtype=dtype, scale=scale, **limits))


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"head_dim": 264}, "head size 264 is above 256"),
        ({"query_length": 8193, "key_length": 64}, "query length 8193 is above 8192"),
        ({"key_length": 8193}, "key length 8193 is above 8192"),
        ({"scale": 1e-30}, "scale 1e-30"),
        ({"softcap": 1e-30}, "softcap 1e-30"),
        ({"precision": "int8", "softcap": 5.0}, "softcap with int8"),
        ({"precision": "int8", "batch": 33}, "int8 of floating tensors takes 128 heads"),
        ({**INTEGERS, "softcap": 5.0}, "softcap with int8"),
        ({**INTEGERS, "scale": 60.0}, "scale 60 with the factors of int8"),
        ({**INTEGERS, "o_scale": (1e-9,)}, "with the factors of int8"),
        ({**INTEGERS, "batch": 64, "q_scale": (0.1, 0.2, 0.3, 0.4)}, "128 heads of all batches"),
    ],
)
def test_unsupported(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        check_supported(Attention.make(**{**PLAIN, **changes}))
    assert problem in caught.value.message and "@attention" in caught.value.message
    assert caught.value.exit_code == 3
    assert caught.value.remedy and not re.search("leave|remove|without|omit|drop", caught.value.remedy)


def test_queries_that_see_keys_by_position_are_not_to_be_split() -> None:
    long = {**PLAIN, "query_length": 8200, "key_length": 64}
    with pytest.raises(UnsupportedError, match="several calls"):
        check_supported(Attention.make(**long))
    with pytest.raises(UnsupportedError, match="--backend reference"):
        check_supported(Attention.make(**long, causal=True))


def test_the_operation_is_named_by_its_place_in_the_source() -> None:
    text = """
func.func @f(%q: tensor<1x4x64x64xbf16>, %k: tensor<1x4x64x64xbf16>, %v: tensor<1x4x64x64xbf16>)
    -> tensor<1x4x64x64xbf16> {
  %o = "attn.sdpa"(%q, %k, %v) {precision = "int8", softcap = 5.0 : f64}
       : (tensor<1x4x64x64xbf16>, tensor<1x4x64x64xbf16>, tensor<1x4x64x64xbf16>) -> tensor<1x4x64x64xbf16>
  return %o : tensor<1x4x64x64xbf16>
}"""
    (attention,) = load(text, "x.mlir")
    with pytest.raises(UnsupportedError) as caught:
        check_supported(attention)
    assert caught.value.place == Place("x.mlir", 4, 8)


def test_the_place_is_no_part_of_a_description() -> None:
    made = Attention.make(**PLAIN)
    placed = replace(made, place=Place("x.mlir", 1, 1))
    assert placed == made and placed.to_json() == made.to_json()
    assert Attention.from_json(placed.to_json()) == made


def test_a_result_of_another_type_is_not_supported() -> None:
    made = Attention.make(**PLAIN)
    *inputs, out = made.arguments
    with pytest.raises(InputError, match="a result of f32 from bf16 arguments"):
        check_supported(replace(made, arguments=(*inputs, replace(out, dtype="f32"))))


def test_one_argument_in_two_roles_is_not_supported() -> None:
    made = Attention.make(**PLAIN)
    q, k, _, out = made.arguments
    with pytest.raises(InputError, match="one argument serves as K, V"):
        check_supported(replace(made, arguments=(q, replace(k, also=("v",)), out)))


def test_work_beyond_the_instruction_heap_is_refused_before_it_is_planned():
    check_supported(Attention.make(batch=64, heads=64, query_length=1024, head_dim=64))
    with pytest.raises(InputError, match="1,000,000 blocks of 64 queries .* 65,536 .*split the batch"):
        check_supported(Attention.make(batch=1_000_000, heads=1, query_length=64, head_dim=64))


@pytest.mark.parametrize("scale", [1e-30, -1e30])
def test_scales_beyond_the_kernel_are_refused_and_point_to_the_reference(scale: float) -> None:
    with pytest.raises(UnsupportedError, match="scale .* not supported .*--backend reference"):
        check_supported(Attention.make(**PLAIN, scale=scale))


def test_open_lengths_are_supported() -> None:
    check_supported(Attention.make(heads=4, batch=None, query_length=None, head_dim=64))
