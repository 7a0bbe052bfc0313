"""The cascade: 512-bit queues from a core to its neighbour in the south or east (facts/schedule/aie2_timing_hw.md).

Direction: Accumulator_Control of both tiles, bit 0 input (0 from north, 1 from west), bit 1 output (0 to south, 1 to
east), facts/platform/device_npu1.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from npuc.runtime.emulator.semantics.definedness import PartialBytes

ACCUMULATOR_CONTROL = 0x36060  # facts/platform/device_npu1.md
INPUT_SIDES = ("north", "west")
OUTPUT_SIDES = ("south", "east")
STEPS = {"south": (0, -1), "west": (-1, 0), "north": (0, 1), "east": (1, 0)}
OPPOSITE = {"south": "north", "east": "west", "north": "south", "west": "east"}
DEPTH = 4
"""Entries between two cores: two at each end (facts/schedule/aie2_timing_hw.md)."""


def input_side(control: int) -> str:
    """Where a core with this Accumulator_Control reads from."""
    return INPUT_SIDES[control & 1]


def output_side(control: int) -> str:
    """Where it writes to."""
    return OUTPUT_SIDES[control >> 1 & 1]


class CascadeQueue:
    """Entries on their way into one core from one side, with who waits for an entry and for room.

    hop: cycles until a written entry can be read.
    """

    def __init__(self, hop: int) -> None:
        self._hop = hop
        self._entries: deque[tuple[int, bytes | PartialBytes]] = deque()
        self._waiting: dict[str, list[Callable[[], None]]] = {"entry": [], "room": []}

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[tuple[int, bytes | PartialBytes]]:
        """The cycles at which entries can be read, and the entries."""
        return list(self._entries)

    def put(self, data: bytes | PartialBytes, cycle: int) -> bool:
        """Adds 64 bytes written at `cycle`; False when there is no room."""
        if len(self._entries) >= DEPTH:
            return False
        self._entries.append((cycle + self._hop, data))
        self._wake("entry")
        return True

    def take(self, cycle: int) -> bytes | PartialBytes | None:
        """The oldest entry, when it has arrived."""
        if not self._entries or self._entries[0][0] > cycle:
            return None
        data = self._entries.popleft()[1]
        self._wake("room")
        return data

    def wait(self, what: str, wake: Callable[[], None]) -> None:
        """Call `wake` once, when the next entry is written (`entry`) or taken (`room`)."""
        self._waiting[what].append(wake)

    def arrival(self) -> int | None:
        """The cycle at which the oldest entry can be read."""
        return self._entries[0][0] if self._entries else None

    def _wake(self, what: str) -> None:
        woken, self._waiting[what] = self._waiting[what], []
        for wake in woken:
            wake()
