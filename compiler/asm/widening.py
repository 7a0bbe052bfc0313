"""Sizes of bundles such that chosen ones begin on a 16-byte line: wider formats in place of further bundles.

Branch targets, return addresses and the first and last bundle of a hardware loop lie on 16-byte lines, and a further
bundle would shift delay slots, so bundles in front are widened (facts/schedule/aie2_hazards.md section 5).
"""

from __future__ import annotations

from collections.abc import Sequence

LINE = 16
"""Bytes: alignment of branch targets and loop bounds, size of a loop's last bundle."""


def sizes_to_line(options: Sequence[Sequence[int]], start: int = 0) -> list[int] | None:
    """One of the sizes of each bundle such that, from address `start`, the sequence ends on a line; None: impossible.

    The total is the least there is; of equal totals the one found first.
    """
    best: dict[int, int] = {start % LINE: 0}
    steps: list[dict[int, int]] = []
    for sizes in options:
        reached: dict[int, int] = {}
        step: dict[int, int] = {}
        for residue in sorted(best):
            for size in sizes:
                into, cost = (residue + size) % LINE, best[residue] + size
                if cost < reached.get(into, 1 << 30):
                    reached[into], step[into] = cost, size
        best = reached
        steps.append(step)
    if 0 not in best:
        return None
    residue, chosen = 0, []
    for step in reversed(steps):
        chosen.append(step[residue])
        residue = (residue - step[residue]) % LINE
    return chosen[::-1]
