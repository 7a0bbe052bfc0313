"""Where native code keeps the state of a core: byte offsets in one buffer, its only argument beside data memory."""

from __future__ import annotations

from npuc.runtime.emulator.register_file import SCALAR_INDEX, VECTOR_BYTES

SCALARS = 0
"""Scalar registers, one i64 each, by SCALAR_INDEX."""
SCALAR_COUNT = len(SCALAR_INDEX)

_CONTROL = 2048
CYCLE, LIMIT, BUNDLES, MAC_BUNDLES, EXIT, TARGET, LOCK_ACQUIRE, LOCK_NUMBER, LOCK_VALUE, TIMER_ORIGIN, STALL = (
    _CONTROL + 8 * i for i in range(11)
)
"""Array cycle; where to stop; counters; address of the exit taken; target of a computed jump; lock request; the cycle
at which the timer was 0; stall cycles of the block so far."""
UNWARNED = _CONTROL + 8 * 16
"""For each kind of warning (semantics.WARNINGS) a word: all ones until the core has warned, 0 from then on."""

WRITTEN, STACK_LOW, STACK_HIGH = (_CONTROL + 8 * i for i in range(32, 35))
"""Strict mode: the address of the map of defined bytes of data memory; where the stack may move unseen."""

PLAIN = 4096
"""Vector registers, and their bypassed copy (register_file.py)."""
BYPASSED = PLAIN + 2048

UNDER_WAY = 8192
"""Values under way between blocks, in the order in which their block names them."""
SLOT = 128
"""Bytes of a slot: the widest vector."""
UNDER_WAY_SLOTS = 128
SCRATCH = UNDER_WAY + SLOT * UNDER_WAY_SLOTS
"""Values under way inside a block."""
SCRATCH_SLOTS = 160
SCRATCH_END = SCRATCH + SLOT * SCRATCH_SLOTS

UNDEFINED_SCALARS = SCRATCH_END
"""Strict mode: the undefined bits of scalar registers, by SCALAR_INDEX."""
UNDEFINED = UNDEFINED_SCALARS + 2048 - PLAIN
"""From a byte of a vector register to its undefined bits."""
STATE_BYTES = PLAIN + UNDEFINED + 4096

assert SCALARS + 8 * SCALAR_COUNT <= _CONTROL and VECTOR_BYTES <= BYPASSED - PLAIN and SCRATCH_END % 64 == 0
