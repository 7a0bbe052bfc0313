"""stablehlo.concatenate as tensor.concat: upstream's lowering makes branches of it, element by element."""

from __future__ import annotations

from typing import Any


def keep_concatenate(module: Any) -> None:
    """In place, of ranked tensors."""
    from torch_mlir import ir

    found: list[Any] = []

    def visit(operation: Any) -> Any:
        if operation.name == "stablehlo.concatenate" and isinstance(operation.results[0].type, ir.RankedTensorType):
            found.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    _ = module.context.dialects["tensor"]  # loaded, as operations of it are made now
    for operation in found:
        kept = ir.Operation.create(
            "tensor.concat",
            results=[operation.results[0].type],
            operands=list(operation.operands),
            attributes={"dim": operation.attributes["dimension"]},
            loc=operation.location,
            ip=ir.InsertionPoint(operation),
        )
        operation.results[0].replace_all_uses_with(kept.results[0])
        operation.erase()
