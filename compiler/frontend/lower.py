"""Upstream's lowerings of TOSA, StableHLO and torch to linalg on tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from npuc.compiler.frontend.rewrite_attention_mask import widen_attention_mask
from npuc.compiler.frontend.rewrite_concatenate import keep_concatenate
from npuc.compiler.frontend.rewrite_dot_general import widen_dot_general
from npuc.compiler.frontend.rewrite_iree_attention import expand_iree_attention


@dataclass(frozen=True)
class Lowering:
    """A pass pipeline, run where a module holds operations of one of `marks`, after `rewrites` of what it lacks.

    marks: dialects, operations, or attributes of functions.
    """

    marks: tuple[str, ...]
    passes: str
    rewrites: tuple[Callable[[Any], None], ...] = ()


LOWERINGS = (
    Lowering(("iree_linalg_ext",), "cse", (expand_iree_attention,)),
    Lowering(("torch.onnx_meta.opset_version",), "torch-onnx-to-torch-backend-pipeline"),  # as torch-mlir imports it
    Lowering(
        ("torch", "torch_c"),
        "torch-function-to-torch-backend-pipeline,torch-backend-to-linalg-on-tensors-backend-pipeline",
        (widen_attention_mask,),
    ),
    Lowering(
        ("stablehlo", "chlo"),
        "func.func(stablehlo-legalize-composite-to-call),inline,func.func(chlo-legalize-to-stablehlo),stablehlo-legalize-to-linalg,canonicalize,cse",
        (widen_dot_general, keep_concatenate),
    ),
    Lowering(
        ("tosa",),
        "func.func(tosa-to-linalg-named),canonicalize,"
        "func.func(tosa-to-linalg,tosa-to-arith,tosa-to-tensor),canonicalize,cse",
    ),
    Lowering(("affine",), "lower-affine"),  # of lengths, which the lowering of torch makes
)


def lower(module: Any, note: Callable[[str], None]) -> None:
    """Lower a module in place; `note` is told of each dialect before its passes run.

    What a lowering has no rule for stays as it is. Raises MLIRError where a pass fails.
    """
    from torch_mlir._mlir_libs import _stablehlo
    from torch_mlir.passmanager import PassManager

    for lowering in LOWERINGS:
        if marks(module).isdisjoint(lowering.marks):
            continue
        note(f"lowering {lowering.marks[0].partition('.')[0]}")
        _stablehlo.register_stablehlo_passes()
        with module.context:
            for rewrite in lowering.rewrites:
                rewrite(module)
            PassManager.parse(f"builtin.module({lowering.passes})").run(module.operation)


def marks(module: Any) -> set[str]:
    """What a lowering may go by: dialects and names of a module's operations, attributes of its functions."""
    from torch_mlir import ir

    found: set[str] = set()

    def visit(operation: Any) -> Any:
        found.add(operation.name)
        if operation.name == "func.func":
            found.update(operation.attributes)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return found | dialects(module)


def dialects(module: Any) -> set[str]:
    """The dialects of a module's operations."""
    from torch_mlir import ir

    found: set[str] = set()

    def visit(operation: Any) -> Any:
        found.add(operation.name.partition(".")[0])
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return found
