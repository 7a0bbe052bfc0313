"""Several devices as one: a batch is dealt out by batch entries or by heads, in the tiles that one device would use.

Results are those of one device to the bit: batch entries and groups of heads have nothing to do with each other, and
each part computes in the same tiles of queries and keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from npuc.compiler import driver
from npuc.compiler.diagnostics import BackendError, UsageError
from npuc.compiler.frontend.attention import Argument, Attention
from npuc.runtime.arguments import BFLOAT16, to_user
from npuc.runtime.choices import BackendName, FallbackName
from npuc.runtime.executable import Call, Executable
from npuc.runtime.executor import DEFAULT_FALLBACK, load
from npuc.runtime.kernel_file import read_kernel

if TYPE_CHECKING:
    from npuc.passes.attention.plan import Plan
    from npuc.runtime.statistics import RunReport

BATCH, HEADS = 0, 1  # axes of [batch, heads, rows, head size]
SPLITS = {"batch": BATCH, "heads": HEADS}


class Pool:
    """An attention on several devices, called as an executable is. reports: of the parts of the last call, in order.

    backends: one for each device; of an NPU each is a context of its own, and 'emulator' may be among them. split:
    'batch', 'heads', or None for whichever deals out to all. settings: as `load` takes them. Raises UsageError for what
    cannot be dealt out, and what `load` raises.
    """

    def __init__(
        self,
        attention: Attention,
        backends: Sequence[BackendName],
        *,
        split: str | None = None,
        fallback: Sequence[FallbackName] = DEFAULT_FALLBACK,
        **settings: Any,
    ) -> None:
        _require_plain(attention)
        if not backends:
            raise UsageError("a pool of no devices", remedy="name a backend for each device")
        self.attention = attention
        self.reports: tuple[RunReport, ...] = ()
        self.axis = _axis(attention, len(backends), split)
        self.parts = _parts(attention, len(backends), self.axis)
        whole = driver.compile_description(attention).xclbin
        kernels: dict[Attention, bytes] = {}
        with contextlib.ExitStack() as undo:
            self._devices: list[Executable] = []
            for part, backend in zip(self.parts, backends, strict=False):
                if self.axis == BATCH:
                    kernel = whole  # whose calls may have any batch
                elif part not in kernels:
                    kernel = kernels[part] = _in_tiles_of(part, read_kernel(whole).plan)
                else:
                    kernel = kernels[part]
                device = load(kernel, backend=backend, fallback=fallback, **settings)
                undo.callback(device.close)
                self._devices.append(device)
            self._threads = ThreadPoolExecutor(len(self._devices), thread_name_prefix="npuc-pool")
            undo.callback(self._threads.shutdown)
            self._release: contextlib.ExitStack | None = undo.pop_all()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the devices back."""
        release, self._release = self._release, None
        if release is not None:
            release.close()

    def __call__(self, *arrays: Any, **named: Any) -> np.ndarray:
        """Run once; arrays and output as of an executable. Raises as a call does; of several failures the first."""
        if self._release is None:
            raise BackendError("the pool was closed")
        names = [argument.name for argument in self.attention.inputs]
        given = {**dict(zip(names, map(np.asarray, arrays), strict=False)), **named}
        running = [
            self._threads.submit(device.call, self._share(given, number), part)
            for number, (device, part) in enumerate(zip(self._devices, self.parts, strict=True))
        ]
        calls: list[Call] = [one.result() for one in running]
        self.reports = tuple(call.report for call in calls)
        argument = self._devices[0].kernel.outputs[0]
        output = np.concatenate([call.outputs[argument.name] for call in calls], axis=self.axis)
        keep = argument.dtype == "bf16" and np.asarray(given[names[0]]).dtype == BFLOAT16
        return output if keep else to_user(argument, output)

    def _share(self, given: Mapping[str, Any], number: int) -> dict[str, np.ndarray]:
        """The arrays of one part; what an argument has once, all have."""
        before, part, shares = self.parts[:number], self.parts[number], {}
        for name, value in given.items():
            array = np.asarray(value)
            shares[name] = array
            argument = next((a for a in self.attention.inputs if a.name == name), None)
            if argument is None or array.shape != argument.shape:
                continue  # the part that gets it refuses it by name
            count = _count(self.attention, self.axis, argument)
            if argument.shape[self.axis] == count:
                begin = sum(_count(one, self.axis, argument) for one in before)
                index: list[slice] = [slice(None)] * array.ndim
                index[self.axis] = slice(begin, begin + _count(part, self.axis, argument))
                shares[name] = array[tuple(index)]
        return shares


def _count(attention: Attention, axis: int, argument: Argument) -> int:
    """How many entries or heads an argument has that has them all."""
    if axis == BATCH:
        return attention.batch or 1
    return attention.kv_heads if argument.role in ("k", "v") else attention.heads


def _require_plain(attention: Attention) -> None:
    odd = [a.name for a in attention.arguments if len(a.shape) != 4 or a.layout]
    if attention.beside:
        raise UsageError(f"a pool takes no argument {attention.beside[0].name}", remedy="give the scale as a number")
    if odd or attention.open_dimensions:
        what = f"argument {odd[0]}" if odd else f"length {attention.open_dimensions[0]}"
        raise UsageError(f"a pool takes [B, H, S, D] with all lengths, not {what} as described")


def _axis(attention: Attention, devices: int, split: str | None) -> int:
    """The axis that is dealt out."""
    if split is not None and split not in SPLITS:
        raise UsageError(f"split {split!r} is unknown", remedy=f"one of {', '.join(SPLITS)}")
    scales = (attention.q_scale, attention.k_scale, attention.v_scale, attention.o_scale)
    one_a_head = any(scale is not None and len(scale) > 1 for scale in scales)
    counts = {BATCH: attention.batch or 1, HEADS: 1 if one_a_head else attention.kv_heads}
    fitting = [axis for axis, count in counts.items() if count >= devices]
    if split is not None:
        fitting = [axis for axis in fitting if axis == SPLITS[split]]
    if not fitting:
        raise UsageError(
            f"{counts[BATCH]} batch entries and {counts[HEADS]} heads of K and V that can be parted are too few for "
            f"{devices} devices",
            remedy="give fewer devices; heads that share K and V, and those with scales of their own, stay together",
        )
    return fitting[0]


def _parts(attention: Attention, devices: int, axis: int) -> tuple[Attention, ...]:
    """What each device computes, as even as it goes."""
    count = (attention.batch or 1) if axis == BATCH else attention.kv_heads
    shares = [count // devices + (number < count % devices) for number in range(devices)]
    group = attention.heads // attention.kv_heads
    if axis == BATCH:
        return tuple(_resized(attention, share, attention.heads, attention.kv_heads) for share in shares)
    return tuple(_resized(attention, attention.batch or 1, share * group, share) for share in shares)


def _resized(attention: Attention, batch: int, heads: int, kv_heads: int) -> Attention:
    """With fewer batch entries and heads."""
    whole = {BATCH: attention.batch, HEADS: attention.heads}

    def shape(argument: Argument) -> tuple[int | None, ...]:
        entries, rows, *rest = argument.shape
        if argument.role in ("k", "v"):
            return (batch, kv_heads, *rest)
        return (batch if entries == whole[BATCH] else 1, heads if rows == whole[HEADS] else 1, *rest)

    arguments = tuple(replace(argument, shape=shape(argument)) for argument in attention.arguments)
    return replace(attention, batch=batch, heads=heads, kv_heads=kv_heads, arguments=arguments)


def _in_tiles_of(part: Attention, plan: Plan) -> bytes:
    """A kernel for some of the heads, in the tiles and columns of the kernel for all."""
    options = {
        "query_block": str(plan.query_block),
        "group_columns": str(plan.group_columns),
        "split": str(int(plan.split)),
        "kept": str(int(bool(plan.kept))),
    }
    return driver.compile_description(part, driver.Settings(columns=plan.columns, options=options)).xclbin
