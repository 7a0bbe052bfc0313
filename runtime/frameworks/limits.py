"""Masks that say no more than limits do: frameworks hand masks, kernels are faster and shared without them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npuc.runtime.check import hides


@dataclass(frozen=True)
class Limits:
    """Queries see keys first <= j < end, and of those, bottom-right: all, causal ones, or a window of them."""

    first: int
    end: int
    causal: bool = False
    window: int | None = None


def limits_of(mask: np.ndarray, queries: int, keys: int) -> Limits | None:
    """The limits that a mask is; None where it is none, or leaves some query no key.

    mask: bool (true = keep), or added numbers of which each is 0 or hides its key; any shape that broadcasts to
    [..., queries, keys], and alike in all leading dimensions.
    """
    plane = _one_plane(mask)
    keep = None if plane is None else _kept(plane)
    if keep is None:
        return None
    keep = np.broadcast_to(keep, (keep.shape[0], keys))
    first, end = int(keep[0].argmax()), keys - int(keep[-1, ::-1].argmax())
    found = _limits(keep, first, end, queries)
    if not (keep[0, first] and keep[-1, end - 1] and first < end):
        return None
    return found if np.array_equal(keep, kept_by(found, queries, keys)[: len(keep)]) else None


def kept_by(limits: Limits, queries: int, keys: int) -> np.ndarray:
    """[queries, keys], which keys limits leave to which queries."""
    i, j = np.arange(queries)[:, None], np.arange(keys)
    last = i + limits.end - queries if limits.causal else np.full_like(i, limits.end - 1)
    low = limits.first if limits.window is None else np.maximum(limits.first, last - limits.window + 1)
    return (j >= low) & (j <= last)


def hides_a_row_by_numbers(mask: np.ndarray) -> bool:
    """Whether an added mask leaves a query no key though not all of its row is -inf: kernels give 0 there, softmax
    weights as if nothing were hidden."""
    return mask.dtype != np.bool_ and bool((hides(mask).all(-1) & (mask > -np.inf).any(-1)).any())


def _limits(keep: np.ndarray, first: int, end: int, queries: int) -> Limits:
    """The only limits that a mask with these corners can be."""
    if len(keep) == 1:
        return Limits(first, end)
    last_begins = int(keep[-1].argmax())
    window = end - last_begins if last_begins > first else None
    causal = window is not None or (keep.shape[0] > 1 and not keep[0, end - 1])
    return Limits(first, end, causal, window)


def _one_plane(mask: np.ndarray) -> np.ndarray | None:
    """[rows, keys] that all leading dimensions share."""
    mask = mask.reshape((1,) * (2 - mask.ndim) + mask.shape)
    for step in mask.strides[:-2]:
        rest = mask[:1] if step == 0 else mask
        if len(rest) != 1 and not (rest == rest[:1]).all():
            return None
        mask = rest[0]
    return mask


def _kept(plane: np.ndarray) -> np.ndarray | None:
    if plane.dtype == np.bool_:
        return plane
    keep = plane == 0
    return np.asarray(keep) if (keep | hides(plane)).all() else None
