"""Memory around a call's arrays: runs of the emulator get them inside larger buffers, whose rest is NaN and must stay.

Reads beyond an array then give NaN in bf16, f16 and f32, and true in masks; writes beyond one are seen afterwards. A
result's own buffer is NaN until it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from npuc.compiler.emit.txn import DdrPatch, Operation
from npuc.runtime.emulator.device import Device

GUARD = 1 << 14  # bytes before and behind each array: more than a key block of the widest heads
NOT_A_NUMBER = b"\xff\x7f"  # in bf16 and f16, twice in f32; as bytes of a mask both are true


@contextmanager
def guarded_memory(outputs: Sequence[int]) -> Iterator[None]:
    """Inside, every run of a device finds its arguments guarded. outputs: the arguments it may write."""
    plain = Device.run

    def run(device: Device, operations: Sequence[Operation], arguments: Sequence[Any], *rest: Any) -> Any:
        moved = [replace(one, offset=one.offset + GUARD) if isinstance(one, DdrPatch) else one for one in operations]
        guard = NOT_A_NUMBER * (GUARD // 2)
        held = []
        for number, argument in enumerate(arguments):
            fill = -len(argument) % 4  # a buffer begins and ends with a word
            inside = NOT_A_NUMBER * (len(argument) // 2) + b"\xff" * (len(argument) % 2)
            inside = inside if number in outputs else bytes(argument)
            held.append(bytearray(guard + inside + b"\xff" * fill + guard))
        before = [bytes(buffer) for buffer in held]
        statistics = plain(device, moved, held, *rest)
        for number, (argument, buffer) in enumerate(zip(arguments, held, strict=True)):
            end = GUARD + len(argument)
            assert buffer[:GUARD] == before[number][:GUARD], f"bytes before argument {number} were written"
            assert buffer[end:] == before[number][end:], f"bytes behind argument {number} were written"
            if number in outputs:
                argument[:] = buffer[GUARD:end]
            else:
                assert buffer == before[number], f"argument {number}, an input, was written"
        return statistics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Device, "run", run)
        yield
