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
