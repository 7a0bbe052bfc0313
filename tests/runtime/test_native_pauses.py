"""A core whose runs are short for a while is interpreted for a while, and no longer."""

from __future__ import annotations

import pytest
from core_programs import Cores


def counted(start: int, times: int, body: list[str]) -> list[str]:
    """A loop that begins at that bundle of 16 bytes; empty lines are empty bundles."""
    count = f"movxm r4, #{times}"
    return [count, *body, "add r4, r4, #-1", f"jnz r4, #{16 * (start + 1):#x}", *[""] * 6]


def test_a_core_that_leaves_its_neighbours_memory_goes_back_to_native_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPUC_ENGINE", "native")
    first = counted(0, 100, ["lda r2, [p0, #0]", *[""] * 7])
    locks = ["movx r0, #53", "mov r1, #1", "rel r0, r1", "mov r1, #-1", "acq r0, r1", *[""] * 20]
    cores = Cores(1)
    unit = cores.load(0, 3, "\n".join([*first, *counted(len(first), 400, locks), "done"]), p0=0x40000)
    cores.load(0, 2, "done")
    cores.run()
    assert unit.core.finished and unit.core.bundles > 400 * len(locks)
    assert unit.core.native_bundles > unit.core.bundles // 2
