"""The NPU through the amdxdna driver itself, without XRT."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence

from npuc.compiler.diagnostics import BackendError
from npuc.compiler.emit.txn import read_txn
from npuc.passes.attention.sequence import length_warnings
from npuc.runtime.backends.rows import padded, take_back
from npuc.runtime.devices import abi, commands, system_calls
from npuc.runtime.devices.client import ArrayImage, Client, Command, Context, Memory
from npuc.runtime.devices.failures import ended_badly
from npuc.runtime.devices.standing import standing
from npuc.runtime.devices.system_calls import SystemCalls
from npuc.runtime.kernel_file import DescribedKernel, KernelFile
from npuc.runtime.statistics import RunReport

TIMEOUT_SECONDS = 30.0
DEVICE_ARGUMENTS = 5  # buffer arguments of public tools' kernels; a kernel with more has as many as it has


class Clients:
    """The open nodes of this process: each is opened once, and given back with its last user."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, str, int], tuple[Client, int]] = {}

    def take(self, calls: SystemCalls, node: str) -> Client:
        """The client of a node, opened where it is not. Raises BackendError."""
        key = id(calls) if calls.emulated else 0, node, os.getpid()
        with self._lock:
            client, users = self._open.get(key) or (Client(calls, node), 0)
            self._open[key] = client, users + 1
        return client

    def give_back(self, client: Client) -> None:
        """One user less; a client of another process (before a fork) is forgotten."""
        with self._lock:
            for key, (held, users) in list(self._open.items()):
                if held is client:
                    if users > 1:
                        self._open[key] = held, users - 1
                        return
                    del self._open[key]
        if client.process == os.getpid():
            client.close()


clients = Clients()


def open_any(calls: SystemCalls) -> Client:
    """The first node that opens as an npu1. Raises BackendError with the reasons of all, where none does."""
    reasons: list[BackendError] = []
    for node in calls.nodes():
        try:
            return clients.take(calls, node)
        except BackendError as reason:
            reasons.append(reason)
    if not reasons:
        raise BackendError("no /dev/accel/accel*", remedy="load amdxdna: see npuc doctor")
    if len(reasons) == 1:
        raise reasons[0]
    raise BackendError("; ".join(reason.message for reason in reasons), remedy=reasons[0].remedy) from reasons[0]


def unavailable_reason() -> str | None:
    """Why there is no NPU to use through the driver; None when there is one."""
    try:
        client = open_any(system_calls.present())
    except BackendError as error:
        return error.message
    clients.give_back(client)
    return None


class AmdxdnaBackend:
    """A kernel loaded on the NPU: a context with its image, and buffers that stay for the next call."""

    name = "amdxdna"

    def __init__(self, kernel: KernelFile) -> None:
        self._sequence = b""
        self._data: list[Memory] = []
        with contextlib.ExitStack() as undo:
            self._client = open_any(system_calls.present())
            undo.callback(clients.give_back, self._client)
            self._context = Context(self._client, kernel.columns, [ArrayImage(kernel.pdi)])
            undo.callback(self._context.close)
            self._command = Command(self._client)
            undo.callback(self._command.close)
            self._instructions: Memory | None = None
            undo.callback(self._close_buffers)
            self._release: contextlib.ExitStack | None = undo.pop_all()

    def run(self, buffers: Sequence[bytearray | memoryview], kernel: DescribedKernel) -> RunReport:
        """Run the call's sequence once; seconds are wall time from submission to completion."""
        if self._release is None:
            raise BackendError("the kernel was closed")
        assert isinstance(kernel, KernelFile)
        sequence, wide = kernel.sequence(), padded(kernel, buffers)
        instructions = self._instruct(sequence)
        held = self._filled(wide)
        begin = time.perf_counter()
        self._execute(sequence, instructions, held)
        seconds = time.perf_counter() - begin
        for data, memory in zip(wide, held, strict=True):
            if not memoryview(data).readonly:
                memory.drop(len(data))
                data[:] = bytes(memory.view[: len(data)])
        take_back(kernel, wide, buffers)
        emulated = self._client.emulated
        return RunReport(self.name, emulated, seconds=seconds, warnings=tuple(length_warnings(len(sequence))))

    def _execute(self, sequence: bytes, instructions: Memory, held: Sequence[Memory]) -> None:
        addresses = [memory.address for memory in held]
        data = commands.start(0, instructions.address, len(sequence), addresses, max(DEVICE_ARGUMENTS, len(addresses)))
        number = self._command.submit(self._context, data, [instructions, *held])
        state = self._command.finish(self._context, number, TIMEOUT_SECONDS)
        if state != commands.COMPLETED:
            health = self._command.health
            at = standing(read_txn(sequence).operations, health.operation) if health is not None else ""
            raise ended_badly(state, at, health)

    def _instruct(self, sequence: bytes) -> Memory:
        """The sequence of a call where the device reads it; one that is the last one's stays."""
        if self._instructions is None or self._instructions.size < len(sequence):
            old, self._instructions, self._sequence = self._instructions, None, b""
            if old is not None:
                old.close()
            self._instructions = Memory(self._client, abi.BO_DEV, len(sequence))
        if sequence != self._sequence:
            self._instructions.view[: len(sequence)] = sequence
            self._instructions.flush(len(sequence))
            self._sequence = sequence
        return self._instructions

    def _filled(self, wide: Sequence[bytearray | memoryview]) -> list[Memory]:
        """Buffers that hold the arguments; those of earlier calls where they are large enough."""
        for index, data in enumerate(wide):
            if index == len(self._data):
                self._data.append(Memory(self._client, abi.BO_SHARE, max(1, len(data))))
            elif self._data[index].size < len(data):
                self._data[index].close()
                self._data[index] = Memory(self._client, abi.BO_SHARE, len(data))
            memory = self._data[index]
            memory.view[: len(data)] = data
            memory.flush(len(data))
        return self._data[: len(wide)]

    def _close_buffers(self) -> None:
        with contextlib.ExitStack() as all_of_it:
            for memory in self._data:
                all_of_it.callback(memory.close)
            self._data = []
            if self._instructions is not None:
                all_of_it.callback(self._instructions.close)
                self._instructions = None

    def close(self) -> None:
        """Release buffers, command, context and device, in that order."""
        release, self._release = self._release, None
        if release is not None:
            release.close()
