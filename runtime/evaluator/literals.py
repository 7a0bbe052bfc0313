"""Constants of MLIR as arrays in their own types."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from npuc.runtime.evaluator.elements import ElementType

_UNSIGNED_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def literal(attribute: Any, type_: ElementType, shape: tuple[int, ...], resource: Callable[[str], bytes]) -> Any:
    """The array of the `value` of an arith.constant, or None for a kind of attribute that is not known.

    resource: the bytes of a dense resource of the module by name, as it is printed.
    """
    from torch_mlir import ir

    if isinstance(attribute, ir.BoolAttr | ir.FloatAttr | ir.IntegerAttr):
        return np.full(shape, _held(attribute.value, type_), type_.storage)
    if not isinstance(attribute, ir.DenseElementsAttr):
        # The bindings hand resources out as attributes of no particular kind.
        text = str(attribute)
        if not text.startswith("dense_resource<"):
            return None
        contents = resource(text[len("dense_resource<") : text.index(">")])
        return _from_bits(contents[4:], type_).reshape(shape)  # behind the alignment
    if attribute.is_splat:
        return np.broadcast_to(np.array(_held(attribute.get_splat_value().value, type_), type_.storage), shape)
    try:
        return np.array(attribute).astype(type_.storage, copy=False)
    except TypeError:
        return _from_text(str(attribute), type_, shape)


def _held(value: Any, type_: ElementType) -> Any:
    if type_.is_float:
        return value
    return bool(value) if type_.width == 1 else type_.wrapped(np.array(value, np.int64))


def _from_bits(data: bytes, type_: ElementType) -> np.ndarray:
    return np.frombuffer(data, type_.storage.newbyteorder("<") if type_.storage.kind != "V" else type_.storage)


def _from_text(text: str, type_: ElementType, shape: tuple[int, ...]) -> np.ndarray | None:
    """The printed elements, for types that the bindings do not hand out: numbers that round to them, or their bits."""
    hexadecimal = re.match(r'dense<"0x([0-9A-Fa-f]*)">', text)
    if hexadecimal and type_.storage.itemsize * 8 != type_.width and not type_.is_float:
        return None
    if hexadecimal:
        return _from_bits(bytes.fromhex(hexadecimal[1]), type_).reshape(shape)
    contents = text[len("dense<") : text.rindex("> : ")]
    numbers = re.findall(r"[^\[\], ]+", contents)
    if not type_.is_float:
        return type_.wrapped(np.array([int(n) for n in numbers], np.int64)).reshape(shape)
    bits = _UNSIGNED_BITS[type_.storage.itemsize]
    elements = [
        np.array(int(n, 16), bits).view(type_.storage) if n.startswith("0x") else type_.rounded(np.array(float(n)))
        for n in numbers
    ]
    return np.array([float(e) for e in elements]).astype(type_.storage).reshape(shape)
