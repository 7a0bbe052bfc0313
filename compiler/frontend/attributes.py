"""Reading attributes of operations: the bindings have no value for some that MLIR allows."""

from __future__ import annotations

from typing import Any


def attribute_of(operation: Any, name: str) -> Any:
    """The attribute, or None where there is none or the bindings cannot represent it.

    Those are dense constants of complex numbers, arrays of integers of unusual width, and locations.
    """
    if name not in operation.attributes:
        return None
    try:
        return operation.attributes[name]
    except TypeError:
        return None


def indexing_maps(operation: Any) -> list[Any] | None:
    """The affine maps of a linalg operation, an operand each; None where it has none."""
    # The package of the dialect takes a tenth of a second to import.
    from torch_mlir._mlir_libs._mlirDialectsLinalg import get_indexing_maps

    maps = get_indexing_maps(operation)
    return None if maps is None else [map_.value for map_ in maps]
