"""Bank conflicts in native code: the rule of `MemoryAccess._bank_stall` for the tile's own memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npuc.runtime.emulator.native.ir import current, i64


def _mask(place: Any, size: int) -> str:
    """The banks that an access takes, one bit each."""
    out = current()
    bank_pair = out.value(f"lshr i64 {i64(place)}, 13")  # 2 * (place >> 14): every two banks share 16 KiB
    shift = out.value(f"and i64 {bank_pair}, 6")
    if size > 16:
        return out.value(f"shl i64 3, {shift}")
    half = out.value(f"and i64 {out.value(f'lshr i64 {i64(place)}, 4')}, 1")
    return out.value(f"shl i64 1, {out.value(f'or i64 {shift}, {half}')}")


def stall(accesses: Sequence[tuple[Any, int]]) -> str:
    """The cycles lost when these accesses (offset in the tile's memory, bytes) meet in one cycle, as an i64."""
    out = current()
    masks = [_mask(place, size) for place, size in accesses]
    if len(masks) == 2:
        meet = out.value(f"and i64 {masks[0]}, {masks[1]}")
        return out.value(f"zext i1 {out.value(f'icmp ne i64 {meet}, 0')} to i64")
    waiting = ["true"] * len(masks)
    total = "0"
    for _ in range(len(masks) - 1):
        taken, losers, any_loser = "0", [], "false"
        for mask, waits in zip(masks, waiting, strict=True):
            wanted = out.value(f"select i1 {waits}, i64 {mask}, i64 0")
            meet = out.value(f"and i64 {taken}, {wanted}")
            loses = out.value(f"icmp ne i64 {meet}, 0")
            granted = out.value(f"select i1 {loses}, i64 0, i64 {wanted}")
            taken = out.value(f"or i64 {taken}, {granted}")
            losers.append(loses)
            any_loser = out.value(f"or i1 {any_loser}, {loses}")
        waiting = losers
        total = out.value(f"add i64 {total}, {out.value(f'zext i1 {any_loser} to i64')}")
    return total
