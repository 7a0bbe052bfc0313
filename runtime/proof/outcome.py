"""What a rung of the ladder finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class Differs(Exception):
    """What the machine computed is not what the emulator did. sentence: what is wrong, without the rung's name."""

    def __init__(self, sentence: str, place: str = "") -> None:
        super().__init__(sentence)
        self.sentence, self.place = sentence, place


@dataclass
class Findings:
    """What a rung reports beside having passed.

    times: cycles or seconds measured here, with the prediction beside them where there is one; never judged.
    settled: assumptions of the emulator with what was assumed and seen. counts: what was compared.
    """

    times: list[dict[str, Any]] = field(default_factory=list)
    settled: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    words_compared: int = 0

    def cycles(self, what: str, measured: int, predicted: int) -> None:
        self.times.append({"what": what, "unit": "core cycles", "measured": measured, "predicted": predicted})

    def seconds(self, what: str, measured: float, predicted: float | None = None, **more: Any) -> None:
        self.times.append({"what": what, "unit": "s", "measured": measured, "predicted": predicted, **more})

    def unsettled(self, assumption: str, why: str) -> None:
        """A program that did not end tells that the assumption does not hold, and no more."""
        self.settled.append({"assumption": assumption, "holds": False, "assumed": [], "seen": [], "failed": why})

    def settle(self, assumption: str, assumed: Sequence[int] | np.ndarray, seen: Sequence[int] | np.ndarray) -> None:
        self.settled.append({
            "assumption": assumption, "holds": list(assumed) == list(seen),
            "assumed": [hex(word) for word in assumed], "seen": [hex(word) for word in seen],
        })  # fmt: skip


def words(data: bytes | bytearray) -> np.ndarray:
    """Of 32 bits each, shape [words]."""
    return np.frombuffer(bytes(data), "<u4")


def first_difference(found: np.ndarray, expected: np.ndarray) -> int | None:
    """Where two runs of words part; None where they do not."""
    places = np.flatnonzero(found != expected)
    return int(places[0]) if len(places) else None
