"""Software devices that are wrong in one thing each, for the proof ladder to find."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from npuc.compiler.emit import cdo, pdi, txn
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.devices import commands
from npuc.runtime.devices.software import SoftwareDevice
from npuc.runtime.emulator import actions
from npuc.runtime.emulator.core_memory import MemoryAccess
from npuc.runtime.emulator.device import Device, RunStatistics
from npuc.runtime.emulator.semantics import convert
from npuc.runtime.proof import design

Operations = tuple[txn.Operation, ...]


class BrokenArray(Device):
    """operations, image: what becomes of a sequence and of an image. during: around a run. after: with its buffers."""

    runs = 0

    def configure(
        self,
        operations: Callable[[Operations], Operations] = lambda those: those,
        image: Callable[[Sequence[cdo.Command]], Sequence[cdo.Command]] | None = None,
        during: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        after: Callable[[int, Sequence[Any]], None] = lambda runs, buffers: None,
    ) -> None:
        self.operations, self.image, self.during, self.after = operations, image, during, after

    def load_pdi(self, data: bytes) -> None:
        super().load_pdi(data if self.image is None else pdi.write_pdi(self.image(pdi.read_pdi(data).commands)))

    def run(self, operations: Any, arguments: Any, max_cycles: Any = None, record: Any = None) -> RunStatistics:
        self.runs += 1
        with self.during():
            told = super().run(self.operations(tuple(operations)), arguments, max_cycles, record)
        self.after(self.runs, arguments)
        return told


class BrokenDevice(SoftwareDevice):
    def __init__(self, engine: str | None = None, **wrong: Any) -> None:
        super().__init__(engine=engine)
        self.wrong = wrong

    def new_device(self, columns: int) -> Device:
        device = BrokenArray(columns, self.machine, self.strict, self.engine)
        device.configure(**self.wrong)
        return device


def _patched(target: Any, name: str, new: Any) -> Callable[[], AbstractContextManager[None]]:
    """While a run of the broken device lasts; the emulator beside it, which is native, does not see it."""

    @contextlib.contextmanager
    def during() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(target, name, new)
            actions._stages.cache_clear()  # what cores share of instructions
            try:
                yield
            finally:
                actions._stages.cache_clear()

    return during


def does_not_open() -> SoftwareDevice:
    device = SoftwareDevice()
    device.faults.fail("open", errno.EACCES)
    return device


def no_context() -> SoftwareDevice:
    device = SoftwareDevice()
    device.faults.fail("CREATE_HWCTX", errno.ENOENT)
    return device


def aborts() -> SoftwareDevice:
    device = SoftwareDevice()
    device.faults.end(commands.ABORT)
    return device


def _shifted(argument: int, by: int) -> Callable[[Operations], Operations]:
    """Patches of that argument are `by` bytes off."""

    def change(those: Operations) -> Operations:
        return tuple(
            replace(one, offset=one.offset + by) if isinstance(one, txn.DdrPatch) and one.argument == argument else one
            for one in those
        )

    return change


def wrong_ddr_offset() -> SoftwareDevice:
    return BrokenDevice(operations=_shifted(0, 4))


def offset_ignored() -> SoftwareDevice:
    """Patches put in where a buffer begins."""

    def change(those: Operations) -> Operations:
        return tuple(replace(one, offset=0) if isinstance(one, txn.DdrPatch) else one for one in those)

    return BrokenDevice(operations=change)


def token_lost() -> SoftwareDevice:
    def change(those: Operations) -> Operations:
        return tuple(
            replace(one, value=one.value & ~(1 << 31)) if isinstance(one, txn.Write) and one.value >> 31 else one
            for one in those
        )

    return BrokenDevice(operations=change)


def lock_off_by_one() -> SoftwareDevice:
    """The lock that says that a core's buffer is empty begins at 2."""
    offset = geometry.lock_offset("core", design.IN_EMPTY)

    def change(those: Sequence[cdo.Command]) -> Sequence[cdo.Command]:
        return [
            replace(one, value=one.value + 1)
            if isinstance(one, cdo.Write) and one.value == 1 and geometry.split_address(one.address)[1:] == (2, offset)
            else one
            for one in those
        ]

    return BrokenDevice(image=change)


_ROUND = convert._round_shift


def rounding_mode() -> SoftwareDevice:
    """Ties to even go to odd."""

    def rounded(v: Any, value: Any, shift: int, mode: int) -> Any:
        return _ROUND(v, value, shift, 13 if mode == 12 else mode)

    return BrokenDevice("interpreter", during=_patched(convert, "_round_shift", rounded))


_LOAD = MemoryAccess.load


def bank_mixed_up() -> SoftwareDevice:
    """Of two loads that meet in a bank the second gets what the first did."""
    last: list[tuple[int, int, Any]] = []

    def load(self: Any, address: int, size: int, pc: int) -> Any:
        found = _LOAD(self, address, size, pc)
        if last and last[0][0] == pc and last[0][1] != address and (last[0][1] ^ address) >> 14 == 0:
            found = last[0][2]
        last[:] = [(pc, address, found)]
        return found

    return BrokenDevice("interpreter", during=_patched(MemoryAccess, "load", load))


_MERGE = MemoryAccess.merge


def byte_lost() -> SoftwareDevice:
    """A store of the last byte of a word is lost."""

    def merge(word: Any, address: int, size: int, value: Any) -> Any:
        return word if size == 1 and address & 3 == 3 else _MERGE(word, address, size, value)

    return BrokenDevice("interpreter", during=_patched(MemoryAccess, "merge", staticmethod(merge)))


_WRITE = actions._Chain.write


def lands_early() -> SoftwareDevice:
    """A load of a scalar lands a bundle early."""

    def write(self: Any, stage: int, operand: str, register: str, value: str) -> None:
        key = operand, actions.target.parts(register)[0], True
        lands, bypass = self.when[key]
        if stage >= 5 and actions.is_scalar(register) and lands > stage:
            self.when = {**self.when, key: (lands - 1, bypass)}
        _WRITE(self, stage, operand, register, value)

    return BrokenDevice("interpreter", during=_patched(actions._Chain, "write", write))


def third_buffer() -> SoftwareDevice:
    """Its transfers take the second."""

    def change(those: Operations) -> Operations:
        return tuple(
            replace(one, argument=1) if isinstance(one, txn.DdrPatch) and one.argument == 2 else one for one in those
        )

    return BrokenDevice(operations=change)


def no_iteration() -> SoftwareDevice:
    """Descriptors of the shims do not step on from one start to the next."""

    def change(those: Operations) -> Operations:
        return tuple(
            replace(one, words=(*one.words[:6], 0, *one.words[7:]))
            if isinstance(one, txn.BlockWrite) and len(one.words) == 8 else one
            for one in those
        )  # fmt: skip

    return BrokenDevice(operations=change)


def ragged_end() -> SoftwareDevice:
    """A byte of an attention's output is wrong where its keys (in whole pages) fill no block of 64."""

    def after(runs: int, buffers: Sequence[Any]) -> None:
        given = [buffer for buffer in buffers if len(buffer)]
        if len(given) > 3 and len(given[1]) % 8192:
            given[3][5] ^= 1

    return BrokenDevice(after=after)


def tires() -> SoftwareDevice:
    """From the fourth run of a context on, a bit of the output is wrong."""

    def after(runs: int, buffers: Sequence[Any]) -> None:
        given = [buffer for buffer in buffers if len(buffer)]
        if runs > 3 and given:
            given[-1][5] ^= 1

    return BrokenDevice(after=after)


def chokes() -> SoftwareDevice:
    """Many writes one after the other are too fast for it."""

    def change(those: Operations) -> Operations:
        many = len(those) > 200 and all(isinstance(one, txn.Write) for one in those)
        return (*those, txn.Sync(0, 0, 0, 0)) if many else those

    return BrokenDevice(operations=change)


def short_transfers() -> SoftwareDevice:
    """Transfers end after 8,192 words."""

    def change(those: Operations) -> Operations:
        return tuple(
            replace(one, words=(min(one.words[0], 8192), *one.words[1:]))
            if isinstance(one, txn.BlockWrite) and len(one.words) == 8 else one
            for one in those
        )  # fmt: skip

    return BrokenDevice(operations=change)
