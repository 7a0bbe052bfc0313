"""How much the ladder does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """repetitions: of one attention. submissions: of a sequence of nothing, timed. bandwidth_bytes: of each way.

    kernels: how many attentions of each rung run, all where it is None.
    """

    seed: int = 12
    repetitions: int = 1000
    submissions: int = 200
    bandwidth_bytes: int = 16 << 20
    kernels: int | None = None


EMULATED = Settings(repetitions=5, submissions=5, bandwidth_bytes=256 << 10)
"""Where an emulator computes, times say nothing."""
