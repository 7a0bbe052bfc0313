"""Constants that are written out number by number, where they are no more than positions say."""

from __future__ import annotations

from typing import Any

import numpy as np

from npuc.compiler.frontend.attributes import attribute_of
from npuc.compiler.frontend.constants import element_type
from npuc.compiler.frontend.number_formats import integer_width
from npuc.compiler.frontend.positions import affine, spread
from npuc.compiler.frontend.values import Affine, Atom, Axes, MaskBias, Positions, Predicate, Value

MOST = 1 << 18  # elements that are looked at


def pattern(operation: Any) -> Value | None:
    """Integers in arithmetic progression; i1, or 0 and one number that hides, in a band about a diagonal."""
    type_ = element_type(operation.results[0].type)
    array = _array(operation, type_)
    if array is None:
        return None
    axes = tuple((Atom(f"#{d}.0", n),) if n != 1 else () for d, n in enumerate(array.shape))
    if type_ != "i1" and integer_width(type_) is not None:
        return _progression(array, axes, type_)
    if type_ == "i1":
        holds = _band(array, axes)
        return None if holds is None else Predicate(axes, holds)
    hidden = array.min()
    if not hidden < 0 or not np.all((array == 0) | (array == hidden)):
        return None
    visible = _band(array == 0, axes)
    return None if visible is None else MaskBias(axes, None, visible, float(hidden))


def _array(operation: Any, type_: str) -> np.ndarray | None:
    from torch_mlir import ir

    attribute = attribute_of(operation, "value")
    shape = getattr(operation.results[0].type, "shape", None)
    if not isinstance(attribute, ir.DenseElementsAttr) or attribute.is_splat or not shape:
        return None
    if not 0 < int(np.prod(shape)) <= MOST:
        return None
    try:
        array = np.array(attribute)
    except (TypeError, ValueError):  # elements that the bindings cannot represent
        return None
    kinds = "b" if type_ == "i1" else "i" if integer_width(type_) is not None else "f"
    return array.reshape(shape) if array.size == np.prod(shape) and array.dtype.kind in kinds else None


def _progression(array: np.ndarray, axes: Axes, type_: str) -> Positions | None:
    start = int(array.flat[0])
    terms: dict[str, int] = {}
    for d, n in enumerate(array.shape):
        if n != 1:
            terms[f"#{d}.0"] = int(np.moveaxis(array, d, 0).reshape(n, -1)[1, 0]) - start
    form, width = affine(terms, start), integer_width(type_)
    low, high = spread(form, axes)
    assert width is not None
    if not -(1 << width - 1) <= low <= high < 1 << width - 1:
        return None
    steps = np.array([terms.get(f"#{d}.0", 0) for d in range(array.ndim)], dtype=np.int64)
    if not np.array_equal(start + np.tensordot(steps, np.indices(array.shape), 1), array):
        return None
    used = {label for label, _ in form.terms}
    kept = tuple(axis if any(atom.label in used for atom in axis) else () for axis in axes)
    return Positions(kept, form, type_)


def _band(keep: np.ndarray, axes: Axes) -> tuple[Affine, ...] | None:
    """Forms that hold where `keep` does, over the two dimensions of more than one element."""
    long = [d for d, axis in enumerate(axes) if axis]
    if len(long) != 2 or not keep.any():
        return None
    plane = keep.reshape(tuple(keep.shape[d] for d in long))
    apart = np.arange(plane.shape[1])[None, :] - np.arange(plane.shape[0])[:, None]
    low, high = int(apart[plane].min()), int(apart[plane].max())
    if not np.array_equal(plane, (apart >= low) & (apart <= high)):
        return None
    i, j = (f"#{d}.0" for d in long)
    forms = []
    if high < plane.shape[1] - 1:
        forms.append(affine({i: 1, j: -1}, high))
    if low > 1 - plane.shape[0]:
        forms.append(affine({i: -1, j: 1}, -low))
    return tuple(forms)
