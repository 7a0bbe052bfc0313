"""The copy of a mask that the array reads: where it lies is said in `passes/attention/masks.py`."""

from __future__ import annotations

import numpy as np

from npuc.compiler.diagnostics import UnsupportedError
from npuc.passes.attention.masks import HIDDEN_BITS, MaskCopy
from npuc.runtime.arguments import LARGEST_ARGUMENT, round_to_bf16
from npuc.runtime.check import hides


def left_keys(mask: np.ndarray) -> tuple[int, int] | None:
    """The first key that a mask leaves to any query and the end of them; None where those are all it has, or one."""
    keys = mask.shape[-1]
    seen = np.zeros(keys, np.bool_)
    if keys == 1 or (_leaves(mask[..., :1]).any() and _leaves(mask[..., -1:]).any()):
        return None
    rows = mask.shape[-2] if mask.ndim > 1 else 1
    for plane in mask.reshape(-1, rows, keys):
        seen |= _leaves(plane).any(axis=0)
        if seen[0] and seen[-1]:
            return None
    first, behind = (int(np.argmax(order)) for order in (seen, seen[::-1]))
    return (first, keys - behind) if seen.any() else (0, 1)


def _leaves(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == np.bool_ else ~hides(values)


def copied_mask(copy: MaskCopy, mask: np.ndarray) -> bytearray:
    """The copy of a mask, boolean (true = keep) or added, of any shape that broadcasts to the call's scores.

    Raises UnsupportedError where it is larger than an argument may be.
    """
    if copy.nbytes > LARGEST_ARGUMENT:
        raise UnsupportedError(
            f"the mask's copy on the device takes {copy.nbytes:,} bytes, an argument {LARGEST_ARGUMENT:,} at most",
            remedy="give a mask that heads or batch share, or use the reference backend",
        )
    sizes = (1,) * (4 - mask.ndim) + mask.shape
    copied = np.empty(copy.shape, np.uint16)
    for batch, heads in enumerate(mask.reshape(sizes)):
        for head, rows in enumerate(heads):
            if copy.per_query:
                rows = np.pad(rows, ((0, copy.rows - len(rows)), (0, 0)), mode="edge")
            _fill(copied[batch, head], copy, rows)
    return bytearray(copied.tobytes())


def _fill(copied: np.ndarray, copy: MaskCopy, rows: np.ndarray) -> None:
    """[rows, blocks, parts, key_block] from [rows or 1, keys or 1]."""
    for part, (bits, beyond) in enumerate(zip(_parts(rows, copy.parts), (HIDDEN_BITS, 0), strict=False)):
        keys = np.full((len(rows), copy.blocks * copy.key_block), beyond, np.uint16)
        keys[:, : copy.keys] = bits
        copied[:, :, part] = keys.reshape(len(rows), copy.blocks, copy.key_block)


def _parts(rows: np.ndarray, parts: int) -> list[np.ndarray]:
    """bf16 bits whose sum is the mask, `HIDDEN_BITS` and zeros where it hides a key."""
    if rows.dtype == np.bool_:
        return [np.where(rows, np.uint16(0), np.uint16(HIDDEN_BITS)), np.zeros(rows.shape, np.uint16)][:parts]
    hidden = hides(rows)
    values = rows.astype(np.float32)
    rest = np.where(hidden, np.float32(0), values)
    found = []
    for part in range(parts):
        high = round_to_bf16(rest)
        rest = rest - high.astype(np.float32)
        found.append(np.where(hidden, np.uint16(0 if part else HIDDEN_BITS), high.view(np.uint16)))
    return found
