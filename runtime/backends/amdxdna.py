"""The NPU through the amdxdna driver itself, without XRT."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from npuc.compiler.diagnostics import BackendError
from npuc.compiler.emit.txn import read_txn
from npuc.passes.attention.sequence import length_warnings
from npuc.runtime.backends import BackendSettings
from npuc.runtime.backends.pending import Pending, Places
from npuc.runtime.backends.rows import padded
from npuc.runtime.devices import abi, commands, system_calls
from npuc.runtime.devices.client import ArrayImage, Client, Command, Context, Memory
from npuc.runtime.devices.failures import ended_badly
from npuc.runtime.devices.giving_back import close_all
from npuc.runtime.devices.standing import standing
from npuc.runtime.devices.system_calls import SystemCalls
from npuc.runtime.kernel_file import DescribedKernel, KernelFile
from npuc.runtime.statistics import RunReport

TIMEOUT_SECONDS = 30.0
DEVICE_ARGUMENTS = 5  # buffer arguments of public tools' kernels; a kernel with more has as many as it has


class Clients:
    """The open nodes of this process: each is opened once, and given back with its last user.

    A client whose device went away is left to those who have it; who comes now gets a new one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, str, int], Client] = {}
        self._users: Counter[int] = Counter()  # by identity of the client

    def take(self, calls: SystemCalls, node: str) -> Client:
        """The client of a node, opened where it is not. Raises BackendError."""
        key = self._key(calls, node)
        with self._lock:
            client = self._open.get(key)
            if client is None or client.gone:
                client = self._open[key] = Client(calls, node)
            self._users[id(client)] += 1
        return client

    def users(self, calls: SystemCalls, node: str) -> int:
        """How many use a node in this process."""
        with self._lock:
            return self._users[id(self._open.get(self._key(calls, node)))]

    def _key(self, calls: SystemCalls, node: str) -> tuple[int, str, int]:
        return id(calls) if calls.emulated else 0, node, os.getpid()

    def give_back(self, client: Client) -> None:
        """One user less; a client of another process (before a fork) is forgotten."""
        with self._lock:
            self._users[id(client)] -= 1
            if self._users[id(client)] > 0:
                return
            del self._users[id(client)]
            for key, held in list(self._open.items()):
                if held is client:
                    del self._open[key]
        if client.process == os.getpid():
            client.close()


clients = Clients()


def open_any(calls: SystemCalls) -> Client:
    """A node that opens as an npu1: of several the one with the fewest users in this process, the first of those.

    Raises BackendError with the reasons of all, where none does.
    """
    reasons: list[BackendError] = []
    for node in sorted(calls.nodes(), key=lambda one: clients.users(calls, one)):
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


class _Buffers:
    """Command, instructions and data of one call at a time, made anew only where they are too small."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sequence = b""
        self.instructions: Memory | None = None
        self.data: list[Memory] = []
        self.command = Command(client)

    def instruct(self, sequence: bytes) -> Memory:
        """The sequence of a call where the device reads it; one that is the last one's stays."""
        if self.instructions is None or self.instructions.size < len(sequence):
            old, self.instructions, self._sequence = self.instructions, None, b""
            if old is not None:
                old.close()
            self.instructions = Memory(self._client, abi.BO_DEV, len(sequence))
        if sequence != self._sequence:
            self.instructions.view[: len(sequence)] = sequence
            self.instructions.flush(len(sequence))
            self._sequence = sequence
        return self.instructions

    def fill(self, arguments: Sequence[bytearray | memoryview]) -> list[Memory]:
        """The arguments of a call where the device reads and writes them."""
        for index, data in enumerate(arguments):
            if index < len(self.data) and self.data[index].size < len(data):
                self.data[index].close()
                self.data[index] = Memory(self._client, abi.BO_SHARE, len(data))
            elif index == len(self.data):
                self.data.append(Memory(self._client, abi.BO_SHARE, max(1, len(data))))
            memory = self.data[index]
            memory.view[: len(data)] = data
            memory.flush(len(data))
        return self.data[: len(arguments)]

    def close(self) -> None:
        instructions = [] if self.instructions is None else [self.instructions]
        held = [*instructions, *self.data]
        self.data, self.instructions = [], None
        close_all([*(memory.close for memory in held), self.command.close])


class AmdxdnaBackend:
    """A kernel loaded on the NPU: a context with its image, and buffers that stay for the next calls."""

    name = "amdxdna"

    def __init__(self, kernel: KernelFile, settings: BackendSettings | None = None) -> None:
        with contextlib.ExitStack() as undo:
            client = self._client = open_any(system_calls.present())
            undo.callback(clients.give_back, client)
            self._places = Places(lambda: _Buffers(client))
            undo.callback(self._places.close)
            self._context = Context(self._client, kernel.columns, [ArrayImage(kernel.pdi)])
            undo.callback(self._context.close)  # first of all: nothing runs any more
            # An emulated device takes as long as it takes.
            usual = None if client.emulated else TIMEOUT_SECONDS
            limit = None if settings is None else settings.time_limit
            self._seconds = usual if limit is None else limit
            # Also where nobody closes it, once nobody has it.
            held = (self._context.close, self._places.close, partial(clients.give_back, client))
            self._release = weakref.finalize(self, _release, held, client)
            undo.pop_all()
            self._release.atexit = False

    def submit(self, buffers: Sequence[bytearray | memoryview], kernel: DescribedKernel) -> Pending:
        """Begin a call; its inputs are written while the one before it may still run."""
        self._require_open()
        assert isinstance(kernel, KernelFile)
        sequence, wide = kernel.sequence(), padded(kernel, buffers)
        place_number, place = self._places.take()
        instructions, held = place.instruct(sequence), place.fill(wide)
        addresses = [memory.address for memory in held]
        slots = max(DEVICE_ARGUMENTS, len(addresses))
        data = commands.start(0, instructions.address, len(sequence), addresses, slots)
        begin = time.perf_counter()
        number = place.command.submit(self._context, data, [instructions, *held])

        def complete() -> RunReport:
            self._require_open()
            state = place.command.finish(self._context, number, self._seconds)
            if state != commands.COMPLETED:
                health = place.command.health
                at = standing(read_txn(sequence).operations, health.operation) if health is not None else ""
                raise ended_badly(state, at, health)
            seconds = time.perf_counter() - begin
            for argument, memory in zip(wide, held, strict=True):
                if not memoryview(argument).readonly:
                    memory.drop(len(argument))
                    argument[:] = bytes(memory.view[: len(argument)])
            warnings = tuple(length_warnings(len(sequence)))
            return RunReport(self.name, self._client.emulated, seconds=seconds, warnings=warnings)

        def wait() -> None:
            self._context.wait(number, self._seconds)

        pending = Pending(kernel, wide, buffers, wait, complete, lambda: self._ended(place.command))
        self._places.hold(place_number, pending)
        return pending

    @property
    def idle(self) -> bool:
        """Whether no call is under way."""
        return self._places.idle

    def _require_open(self) -> None:
        if not self._release.alive:
            raise BackendError("the kernel was closed")

    def _ended(self, command: Command) -> bool:
        return not self._release.alive or command.state != commands.NEW

    def run(self, buffers: Sequence[bytearray | memoryview], kernel: DescribedKernel) -> RunReport:
        """Run the call's sequence once; seconds are wall time from submission to completion."""
        return self.submit(buffers, kernel).finish()

    def close(self) -> None:
        """Release context, buffers, commands and device, in that order."""
        self._release()


def _release(held: Sequence[Callable[[], object]], client: Client) -> None:
    """After a fork what is open is the parent's still: the child gives nothing back."""
    if client.process == os.getpid():
        close_all(held)
