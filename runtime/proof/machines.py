"""What the ladder runs on: an NPU through its driver or through XRT, or the emulator; and the emulator beside it.

All take the same bytes: an array image, a runtime sequence, buffers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from npuc.compiler.diagnostics import BackendError
from npuc.compiler.emit import txn
from npuc.runtime.backends import BackendSettings
from npuc.runtime.backends.emulator import Emulation
from npuc.runtime.devices import abi, commands, system_calls
from npuc.runtime.devices.client import ArrayImage, Client, Command, Context, Memory
from npuc.runtime.devices.failures import ended_badly
from npuc.runtime.devices.giving_back import close_all
from npuc.runtime.devices.standing import standing
from npuc.runtime.proof.design import Image
from npuc.runtime.trace_names import Names

TIMEOUT_SECONDS = 30.0
DEVICE_ARGUMENTS = 5
"""Buffer arguments of a kernel (facts/platform/xclbin.md, section 2)."""


@dataclass(frozen=True)
class Outcome:
    """seconds: from submission to completion. cycles: of the array, where the machine counts them."""

    seconds: float
    cycles: int | None = None


class Loaded(Protocol):
    """An array image in a context of its own."""

    def run(self, operations: Sequence[txn.Operation], buffers: Sequence[bytearray]) -> Outcome:
        """The sequence once; what the device writes is in the buffers then. Raises BackendError."""
        ...

    def close(self) -> None: ...


class Machine(Protocol):
    """name: of the way to it. emulated: whether an emulator computes."""

    name: str
    emulated: bool

    def open(self) -> dict[str, Any]:
        """What the device says of itself. Raises BackendError."""
        ...

    def load(self, columns: int, pdi: bytes) -> Loaded:
        """A context with that image. Raises BackendError."""
        ...

    def close(self) -> None: ...


class EmulatedMachine:
    """npuc's emulator, without a driver."""

    name, emulated = "emulator", True

    def open(self) -> dict[str, Any]:
        return {"device": "npuc's emulator"}

    def load(self, columns: int, pdi: bytes) -> Loaded:
        return _Emulated(columns, pdi)

    def close(self) -> None:
        """Nothing is held."""


class _Emulated:
    def __init__(self, columns: int, pdi: bytes) -> None:
        self._emulation = Emulation(pdi, columns, BackendSettings(), Names("proof"))

    def run(self, operations: Sequence[txn.Operation], buffers: Sequence[bytearray]) -> Outcome:
        report = self._emulation.run(operations, buffers)
        return Outcome(report.seconds, report.cycles)

    def close(self) -> None:
        """Nothing is held."""


class DriverMachine:
    """Whatever answers the system calls of the amdxdna driver."""

    name = "amdxdna"

    def __init__(self, calls: system_calls.SystemCalls) -> None:
        self._calls = calls
        self.emulated = calls.emulated
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            raise BackendError("the device is not open")
        return self._client

    def open(self) -> dict[str, Any]:
        from npuc.runtime.backends.amdxdna import open_any

        self._client = open_any(self._calls)
        told: dict[str, Any] = {"node": self._client.node, "driver": self._client.track.name}
        told["firmware"] = ".".join(map(str, self._client.firmware_version()))
        with contextlib.suppress(BackendError):
            told["clocks"] = _plain(self._client.query(abi.QUERY_CLOCK_METADATA, "query_clock_metadata"))
        return told

    def load(self, columns: int, pdi: bytes) -> Loaded:
        return _InContext(self.client, columns, pdi)

    def close(self) -> None:
        from npuc.runtime.backends.amdxdna import clients

        client, self._client = self._client, None
        if client is not None:
            clients.give_back(client)


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, bytes):
        return value.split(b"\0")[0].decode("ascii", "replace")
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


class _InContext:
    """Buffers stay for the next run; the sequence too, while it is the same."""

    def __init__(self, client: Client, columns: int, pdi: bytes) -> None:
        self._client, self._columns = client, columns
        self._sequence, self._instructions = b"", None
        self._data: list[Memory] = []
        with contextlib.ExitStack() as undo:
            self._context = Context(client, columns, [ArrayImage(pdi)])
            undo.callback(self._context.close)
            self._command = Command(client)
            undo.pop_all()

    _instructions: Memory | None

    def _give_back(self) -> None:
        held = [*self._data, *([self._instructions] if self._instructions else [])]
        self._data, self._instructions = [], None
        close_all(memory.close for memory in held)

    def run(self, operations: Sequence[txn.Operation], buffers: Sequence[bytearray]) -> Outcome:
        sequence = txn.write_txn(operations, self._columns)
        if sequence != self._sequence or self._instructions is None:
            if self._instructions is not None:
                self._instructions.close()
            self._instructions = Memory(self._client, abi.BO_DEV, len(sequence))
            self._instructions.view[:] = sequence
            self._instructions.flush()
            self._sequence = sequence
        held = self._filled(buffers)
        begin = time.perf_counter()
        self._execute(operations, len(sequence), self._instructions, held)
        seconds = time.perf_counter() - begin
        for data, memory in zip(buffers, held, strict=True):
            memory.drop(len(data))
            data[:] = bytes(memory.view[: len(data)])
        return Outcome(seconds)

    def _execute(
        self, operations: Sequence[txn.Operation], size: int, instructions: Memory, held: Sequence[Memory]
    ) -> None:
        addresses = [memory.address for memory in held]
        data = commands.start(0, instructions.address, size, addresses, DEVICE_ARGUMENTS)
        number = self._command.submit(self._context, data, [instructions, *held])
        state = self._command.finish(self._context, number, TIMEOUT_SECONDS)
        if state != commands.COMPLETED:
            health = self._command.health
            raise ended_badly(state, standing(operations, health.operation) if health is not None else "", health)

    def _filled(self, buffers: Sequence[bytearray]) -> list[Memory]:
        for index, data in enumerate(buffers):
            if index == len(self._data):
                self._data.append(Memory(self._client, abi.BO_SHARE, max(1, len(data))))
            elif self._data[index].size < len(data):
                self._data[index].close()
                self._data[index] = Memory(self._client, abi.BO_SHARE, len(data))
            memory = self._data[index]
            memory.view[: len(data)] = data
            memory.flush(len(data))
        return self._data[: len(buffers)]

    def close(self) -> None:
        close_all((self._give_back, self._command.close, self._context.close))


class Pair:
    """One image on the machine and on the emulator, in step."""

    def __init__(self, machine: Machine, columns: int, pdi: bytes) -> None:
        self.here = machine.load(columns, pdi)
        self.beside: Loaded = _Emulated(columns, pdi)

    def run(
        self, operations: Sequence[txn.Operation], buffers: Sequence[bytes]
    ) -> tuple[list[bytearray], list[bytearray], Outcome, Outcome]:
        """The buffers after the run here and beside, and both outcomes."""
        here, beside = [bytearray(data) for data in buffers], [bytearray(data) for data in buffers]
        expected = self.beside.run(operations, beside)
        found = self.here.run(operations, here)
        return here, beside, found, expected


@contextlib.contextmanager
def loaded(machine: Machine, image: Image) -> Iterator[Pair]:
    """The image on the machine and beside it; given back at the end."""
    pair = Pair(machine, image.columns, image.pdi)
    try:
        yield pair
    finally:
        pair.here.close()
