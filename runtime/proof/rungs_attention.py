"""The rungs of attention: plain sequences, then iterated and chained ones, all features, and again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from npuc.compiler import driver
from npuc.compiler.emit.txn import Operation, read_txn
from npuc.compiler.frontend.attention import Attention
from npuc.runtime.arguments import BFLOAT16, KernelArgument
from npuc.runtime.kernel_file import KernelFile, read_kernel
from npuc.runtime.proof.machines import Machine, Pair
from npuc.runtime.proof.outcome import Differs, Findings, first_difference, words
from npuc.runtime.proof.settings import Settings


@dataclass(frozen=True)
class Case:
    """shape: as Attention.make takes it. options: of the compiler."""

    name: str
    shape: dict[str, Any]
    options: dict[str, str] = field(default_factory=dict)
    columns: int | None = None


SMALL = {"heads": 1, "query_length": 64, "head_dim": 64}
# K and V by turns: a chain of two descriptors that step on from block to block; and a channel each: Q, then these.
ITERATED = (
    Case("one head on one column", {**SMALL, "query_length": 128}, {"split": "0"}, 1),
    Case("four heads on four columns", {**SMALL, "heads": 4}, {"split": "1"}, 4),
)
PLAIN = tuple(replace(case, options={**case.options, "sequence": "plain"}) for case in ITERATED)
FEATURES = (
    Case("lengths that fill no block", {**SMALL, "query_length": 50, "key_length": 77}),
    Case("an added mask", {**SMALL, "mask": "add"}),
    Case("causal", {**SMALL, "heads": 2, "causal": True}),
    Case("a window", {**SMALL, "query_length": 128, "causal": True, "window": 48}),
    Case("grouped heads", {**SMALL, "heads": 4, "kv_heads": 2}),
    Case("a softcap", {**SMALL, "softcap": 20.0}),
    Case("a mask of bits", {**SMALL, "mask": "keep"}),
    Case("another scale", {**SMALL, "scale": 0.0771516750}),
    Case("heads of 128", {**SMALL, "head_dim": 128}),
    Case("one query on many keys", {**SMALL, "heads": 4, "query_length": 1, "key_length": 256}),
    Case("queries at the end of the keys", {**SMALL, "key_length": 128, "causal": True, "align": "bottom-right"}),
    Case("two of a batch", {**SMALL, "batch": 2}),
)


def _compiled(case: Case) -> KernelFile:
    settings = driver.Settings(columns=case.columns, options=case.options)
    return read_kernel(driver.compile_description(Attention.make(**case.shape), settings).stage("npua"), case.name)


def _buffers(kernel: KernelFile, seed: int) -> list[bytes]:
    """Of standard normal numbers; what a kernel reads of longer rows is zero, as runtimes make it."""
    from npuc.runtime.backends.rows import padded

    rng = np.random.default_rng(seed)
    made: list[bytearray] = [bytearray() for _ in range(kernel.buffer_count)]
    for argument in kernel.arguments:
        made[argument.buffer] = bytearray(_values(argument, rng))
    return [bytes(data) for data in padded(kernel, made)]


def _values(argument: KernelArgument, rng: np.random.Generator) -> bytes:
    if argument.direction == "out":
        return bytes(argument.nbytes)
    normal = rng.standard_normal(argument.shape)
    if argument.device_dtype == "i1":
        keep = rng.random(argument.shape) < 0.8
        keep[..., 0] = True
        return keep.astype(np.uint8).tobytes()
    return (normal.astype(np.float32) if argument.device_dtype == "f32" else normal.astype(BFLOAT16)).tobytes()


class _Kernel:
    """A case on the machine and on the emulator."""

    def __init__(self, machine: Machine, case: Case) -> None:
        self.case, self.kernel = case, _compiled(case)
        self.operations: tuple[Operation, ...] = read_txn(self.kernel.sequence()).operations
        self.pair = Pair(machine, self.kernel.columns, self.kernel.pdi)

    @property
    def outputs(self) -> Sequence[int]:
        return [argument.buffer for argument in self.kernel.outputs]

    def judged(self, seed: int, found: Findings) -> list[bytearray]:
        """One run, compared bit for bit; what the emulator gave. Raises Differs."""
        here, beside, took, predicted = self.pair.run(self.operations, _buffers(self.kernel, seed))
        for number in self.outputs:
            _require_alike(self.case, here[number], beside[number])
            found.words_compared += len(here[number]) // 4
        found.seconds(self.case.name, took.seconds, predicted.seconds, cycles_predicted=predicted.cycles)
        return beside

    def close(self) -> None:
        self.pair.here.close()


def _require_alike(case: Case, here: bytearray, beside: bytearray) -> None:
    at = first_difference(words(here), words(beside))
    if at is not None:
        got, want = words(here)[at], words(beside)[at]
        wrong = int((words(here) != words(beside)).sum())
        raise Differs(
            f"{case.name}: {wrong} of {len(here) // 4} words of the output differ, the first is word {at}, "
            f"{got:#010x} in place of {want:#010x}"
        )


def _all_of(machine: Machine, cases: Sequence[Case], settings: Settings) -> Findings:
    found = Findings()
    for case in cases[: settings.kernels]:
        kernel = _Kernel(machine, case)
        try:
            for seed in (settings.seed, settings.seed + 1):
                kernel.judged(seed, found)
        finally:
            kernel.close()
    found.details["kernels"] = [case.name for case in cases[: settings.kernels]]
    return found


def plain(machine: Machine, settings: Settings) -> Findings:
    """Linear descriptors, one task each."""
    return _all_of(machine, PLAIN, settings)


def iterated(machine: Machine, settings: Settings) -> Findings:
    """As npuc compiles by default: descriptors that iterate, chain and repeat."""
    return _all_of(machine, ITERATED, settings)


def features(machine: Machine, settings: Settings) -> Findings:
    return _all_of(machine, FEATURES, settings)


def repeated(machine: Machine, settings: Settings) -> Findings:
    """The same call on one loaded kernel, its output the same each time, with another call's between them."""
    found = Findings()
    kernel = _Kernel(machine, ITERATED[0])
    try:
        first = kernel.judged(settings.seed, found)
        data = _buffers(kernel.kernel, settings.seed)
        longest = 0.0
        for number in range(1, settings.repetitions):
            here = [bytearray(one) for one in data]
            longest = max(longest, kernel.pair.here.run(kernel.operations, here).seconds)
            for output in kernel.outputs:
                if here[output] != first[output]:
                    at = first_difference(words(here[output]), words(first[output]))
                    raise Differs(
                        f"call {number + 1} of {settings.repetitions} gives another output, from word {at} on"
                    )
        found.details.update(repetitions=settings.repetitions)
        found.seconds("the longest call", longest)
    finally:
        kernel.close()
    return found
