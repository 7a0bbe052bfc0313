"""The copy of a mask that the array reads: where it lies is said in `passes/attention/masks.py`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npuc.compiler.diagnostics import UnsupportedError
from npuc.passes.attention.call import Call, Left
from npuc.passes.attention.masks import HIDDEN_BITS, MaskCopy
from npuc.runtime.arguments import LARGEST_ARGUMENT, round_to_bf16
from npuc.runtime.check import hides

LARGE = 2.0**16
"""Beyond it fp32 sums of a core, of mask and reference, have no place for what is small beside scores."""
NEAR = 2.0**11
"""Two bf16 parts are within 2^-7 of numbers up to it."""
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
    if end == 0 and keys >= WORTH:
        return Left(0, 1)
    first, end = first if first >= WORTH else 0, end if keys - end >= WORTH else keys
    limits = (
        low if rows > 1 and low + rows - 1 >= first + WORTH else None,
        high if rows > 1 and high + WORTH < end else None,
    )
    return None if (first, end, *limits) == (0, keys, None, None) else Left(first, end, *limits)


def seen_keys(left: Left | None, mask: np.ndarray) -> np.ndarray:
    """The mask without the keys that it hides from all queries."""
    return mask if left is None or mask.shape[-1:] in ((), (1,)) else mask[..., left.first : left.end]


def _leaves(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == np.bool_ else ~hides(values)


def wants_rows_apart(copy: MaskCopy, mask: np.ndarray) -> bool:
    """Whether a mask alike for all queries is to be copied for each of them: limits leave them different keys, and
    there is no number that may be subtracted for all."""
    if copy.per_query or mask.dtype == np.bool_:
        return False
    whole = np.atleast_1d(mask)
    limits = _limits(copy.work.call)
    for plane in whole.reshape(-1, 1, whole.shape[-1]):
        values, hidden = _added(plane)
        if _subtracted(values, hidden, _split(values, copy.parts)[1], *limits, shared=True)[1].any():
            return True
    return False


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
    low, high = _limits(copy.work.call)
    if copy.by_rows and copy.per_query:
        query = [query for _, query in copy.work.in_order(copy.work.rounds)]
        low, high = low[query], high[query]
    for batch, heads in enumerate(mask.reshape(sizes)):
        for place, rows in enumerate(_by_rows(copy, heads) if copy.by_rows else heads):
            _fill(copied[batch, place], copy, rows, low, high)
    return bytearray(copied.tobytes())


def _by_rows(copy: MaskCopy, heads: np.ndarray) -> Iterator[np.ndarray]:
    """[heads or 1, queries or 1, keys or 1] as rows of items, set by set of the heads."""
    work = copy.work
    head, query = np.array(work.in_order(work.rounds if copy.per_query else 1)).T
    for first in work.set_heads()[: copy.heads]:
        yield heads[first + head if len(heads) > 1 else 0, query if copy.per_query else 0]


def _limits(call: Call) -> tuple[np.ndarray, np.ndarray]:
    """Of each query: the first key that causal and window limits let it see, and the one behind the last."""
    last = np.arange(call.query_length) + call.diagonal
    return np.clip(last - call.window + 1, 0, call.key_length), np.clip(last + 1, 0, call.key_length)


def _fill(copied: np.ndarray, copy: MaskCopy, rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """[rows, blocks, parts, key_block] from [rows or 1, keys or 1]; low, high: limits of rows, or of all queries."""
    for part, (bits, beyond) in enumerate(zip(_parts(rows, copy, low, high), (HIDDEN_BITS, 0), strict=False)):
        keys = np.full((len(rows), copy.blocks * copy.key_block), beyond, np.uint16)
        keys[:, : copy.keys] = bits
        copied[:, :, part] = keys.reshape(len(rows), copy.blocks, copy.key_block)


def _parts(rows: np.ndarray, copy: MaskCopy, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """bf16 bits whose sum is the mask, less one number a row, `HIDDEN_BITS` and zeros where it hides a key."""
    if rows.dtype == np.bool_:
        return [np.where(rows, np.uint16(0), np.uint16(HIDDEN_BITS)), np.zeros(rows.shape, np.uint16)][: copy.parts]
    values, hidden = _added(rows)
    split, inexact = _split(values, copy.parts)
    less, _ = _subtracted(values, hidden, inexact, low, high, shared=not copy.per_query)
    if less.any():
        split, _ = _split(np.where(hidden, np.float32(0), values - less), copy.parts)
    return [
        np.where(hidden, np.uint16(0 if number else HIDDEN_BITS), part.view(np.uint16))
        for number, part in enumerate(split)
    ]


def _added(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """fp32 numbers of an added mask, and where it hides a key: 0 there."""
    hidden = hides(rows)
    return np.where(hidden, np.float32(0), rows.astype(np.float32)), hidden


def _subtracted(
    values: np.ndarray, hidden: np.ndarray, inexact: np.ndarray, low: np.ndarray, high: np.ndarray, shared: bool
) -> tuple[np.ndarray, np.ndarray]:
    """[rows, 1]: what is subtracted from each row of an added mask, and where no number serves.

    inexact: rows that the parts do not hold. low, high: what limits let each row see, or each of the queries that
    share all rows.

    Softmax is the same whatever is subtracted from a whole row.  Rows that the parts hold exactly stay as they are up
    to LARGE; of others the largest number that their query sees is subtracted, whatever limits hide beside it, or,
    where queries share a row, one within NEAR of the largest of each.  The error of a number is then below 2^-16 (of
    bf16 masks 2^-8, and none near the largest) of how far it is from what was subtracted: one that is far below the
    largest counts only where its score makes up for that.
    """
    none = np.zeros((len(values), 1), np.float32)
    if not inexact.any() and float(np.abs(values).max()) <= LARGE:
        return none, none > 0
    values = np.where(hidden, np.float32(-np.inf), values)
    seen = _largest_for_each(values, low, high) if shared else _largest_of_each(values, low, high)
    some = np.isfinite(seen)
    least, most = (
        np.where(some.any(axis=-1, keepdims=True), end, np.float32(0))
        for end in (
            np.where(some, seen, np.float32(np.inf)).min(axis=-1, keepdims=True),
            np.where(some, seen, np.float32(-np.inf)).max(axis=-1, keepdims=True),
        )
    )
    wanted = inexact | (np.maximum(np.abs(least), np.abs(most)) > LARGE)
    apart = wanted & (most - least > 2 * NEAR)
    return np.where(wanted & ~apart, most - (most - least) / 2, none), apart


def _largest_of_each(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """[rows, 1]: the largest of values[row, low[row] : high[row]]; -inf where there is none."""
    keys = values.shape[1]
    if keys > 1 and (low.max() > 0 or high.min() < keys):
        key = np.arange(keys)
        values = np.where((key >= low[:, None]) & (key < high[:, None]), values, np.float32(-np.inf))
    return np.asarray(values.max(axis=-1, keepdims=True))


def _largest_for_each(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """[rows, queries]: the largest of values[:, low[query] : high[query]], which both rise with the query; -inf where
    there is none."""
    keys = values.shape[1]
    if keys == 1:
        return values
    if low[0] == low[-1] and high[0] == high[-1]:
        low, high = low[:1], high[:1]
    found = np.full((len(values), len(low)), -np.inf, np.float32)
    width, of_width = 1, values  # the largest of so many keys from each on: two such reach over up to twice as many
    while True:
        fits = (high - low >= width) & (high - low < 2 * width)
        found[:, fits] = np.maximum(of_width[:, low[fits]], of_width[:, high[fits] - width])
        if keys < 2 * width:
            return found
        of_width = np.maximum(of_width[:, :-width], of_width[:, width:])
        width *= 2


def _split(values: np.ndarray, parts: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Numbers as sums of bf16 numbers, and in which rows, [rows, 1], these are not all."""
    found, rest = [], values
    for _ in range(parts):
        found.append(round_to_bf16(rest))
        rest = rest - found[-1].astype(np.float32)
    return found, (rest != 0).any(axis=-1, keepdims=True)
