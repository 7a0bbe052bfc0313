"""A module's text stands for all of it, regions that named operations hide included."""

from __future__ import annotations

import pytest
from torch_mlir import ir

from npuc.compiler.frontend.module_text import module_text

NAMED = """
func.func @f(%a: tensor<2x3xf32>, %b: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %e = tensor.empty() : tensor<2x3xf32>
  %r = linalg.OP ins(%a, %b : tensor<2x3xf32>, tensor<2x3xf32>) outs(%e : tensor<2x3xf32>) -> tensor<2x3xf32>
  return %r : tensor<2x3xf32>
}
"""


def generic(module: ir.Module) -> str:
    text: str = module.operation.get_asm(print_generic_op_form=True)
    return text


@pytest.mark.parametrize(
    "name, inside, other", [("sub", "subf", "addf"), ("mul", "mulf", "maximumf"), ("add", "addf", "subf")]
)
def test_a_hidden_region_that_is_another_is_written(name: str, inside: str, other: str) -> None:
    with ir.Context():
        plain = ir.Module.parse(NAMED.replace("OP", name))
        assert module_text(plain) == str(plain)
        odd = ir.Module.parse(generic(plain).replace(f'"arith.{inside}"', f'"arith.{other}"'))
        assert str(odd) == str(plain)  # what the short form hides
        assert generic(ir.Module.parse(module_text(odd))) == generic(odd)
