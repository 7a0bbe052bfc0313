"""The copy of a mask that the array reads: where it lies is said in `passes/attention/masks.py`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npuc.compiler.diagnostics import UnsupportedError
from npuc.passes.attention.call import Left
from npuc.passes.attention.masks import HIDDEN_BITS, MaskCopy
from npuc.runtime.arguments import LARGEST_ARGUMENT, round_to_bf16
from npuc.runtime.check import hides

LARGE = 2.0**16
"""bf16 numbers beyond it are 512 apart: of a row's largest number and those below it only differences count."""


WORTH = 32
"""Keys: fewer than a block are not left out."""


def what_is_left(mask: np.ndarray) -> Left | None:
    """What a mask leaves to all queries together; None where that is hardly less than all, or its keys are alike."""
    keys, rows = mask.shape[-1], mask.shape[-2] if mask.ndim > 1 else 1
    if keys == 1:
        return None
    first, end, low, high = keys, 0, keys, -rows
    for plane in mask.reshape(-1, rows, keys):
        leaves = _leaves(plane)
        query = np.flatnonzero(leaves.any(axis=1))
        if query.size:
            begins = leaves.argmax(axis=1)[query]
            ends = keys - leaves[:, ::-1].argmax(axis=1)[query]
            first, end = min(first, int(begins.min())), max(end, int(ends.max()))
            low, high = min(low, int((begins - query).min())), max(high, int((ends - query).max()) - 1)
        if first == 0 and end == keys and (rows == 1 or (low <= 1 - rows and high >= keys - 1)):
            return None
    if end == 0 and keys > WORTH:
        return Left(0, 1)
    first, end = first if first >= WORTH else 0, end if keys - end >= WORTH else keys
    limits = (
        low if rows > 1 and low + rows - 1 >= first + WORTH else None,
        high if rows > 1 and high + WORTH < end else None,
    )
    return None if (first, end, *limits) == (0, keys, None, None) else Left(first, end, *limits)


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
        for place, rows in enumerate(_by_rows(copy, heads) if copy.by_rows else heads):
            _fill(copied[batch, place], copy, rows)
    return bytearray(copied.tobytes())


def _by_rows(copy: MaskCopy, heads: np.ndarray) -> Iterator[np.ndarray]:
    """[heads or 1, queries or 1, keys or 1] as rows of items, set by set of the heads."""
    work = copy.work
    head, query = np.array(work.in_order(work.rounds if copy.per_query else 1)).T
    for first in work.set_heads()[: copy.heads]:
        yield heads[first + head if len(heads) > 1 else 0, query if copy.per_query else 0]


def _fill(copied: np.ndarray, copy: MaskCopy, rows: np.ndarray) -> None:
    """[rows, blocks, parts, key_block] from [rows or 1, keys or 1]."""
    for part, (bits, beyond) in enumerate(zip(_parts(rows, copy.parts), (HIDDEN_BITS, 0), strict=False)):
        keys = np.full((len(rows), copy.blocks * copy.key_block), beyond, np.uint16)
        keys[:, : copy.keys] = bits
        copied[:, :, part] = keys.reshape(len(rows), copy.blocks, copy.key_block)


def _shift(values: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """[rows, 1]: the largest number of a row where it is so large that scores beside it lose their own digits.

    Softmax is the same whatever is subtracted from a whole row; below a large number all that counts are differences.
    """
    largest = np.where(hidden, np.float32(-np.inf), values).max(axis=-1, keepdims=True)
    return np.where(np.isfinite(largest) & (np.abs(largest) > LARGE), largest, np.float32(0))


def _parts(rows: np.ndarray, parts: int) -> list[np.ndarray]:
    """bf16 bits whose sum is the mask, `HIDDEN_BITS` and zeros where it hides a key."""
    if rows.dtype == np.bool_:
        return [np.where(rows, np.uint16(0), np.uint16(HIDDEN_BITS)), np.zeros(rows.shape, np.uint16)][:parts]
    hidden = hides(rows)
    values = rows.astype(np.float32)
    rest = np.where(hidden, np.float32(0), values - _shift(values, hidden))
    found = []
    for part in range(parts):
        high = round_to_bf16(rest)
        rest = rest - high.astype(np.float32)
        found.append(np.where(hidden, np.uint16(0 if part else HIDDEN_BITS), high.view(np.uint16)))
    return found
