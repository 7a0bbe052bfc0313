"""A hardware context of the software device: a partition, its configured units, and a queue that the emulator serves.

Commands run one after the other on a thread of the context, so that a submission returns at once, as a driver's does.
"""

from __future__ import annotations

import errno
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from npuc.compiler.diagnostics import InputError, NpucError
from npuc.compiler.emit.legacy_sequence import read_legacy_bytes
from npuc.compiler.emit.pdi import in_buffer
from npuc.compiler.emit.txn import HEADER, Operation, read_txn
from npuc.runtime.apart import Stopped, StopRequest, run_until, start_thread
from npuc.runtime.devices import commands
from npuc.runtime.devices.software_memory import Buffer
from npuc.runtime.devices.system_calls import error
from npuc.runtime.emulator.device import Device, RunStatistics
from npuc.runtime.emulator.errors import CycleLimit, Deadlock, EmulationError

QUEUED_AT_MOST = 4  # commands of a context in the driver; a further submission waits
CONTEXT_PROGRAM_COUNTER = 0x28B060AD  # as public reports of hung sequences show it


@dataclass(frozen=True)
class Unit:
    """A configured compute unit: the buffer of its array image, and that image (bytes as the device sees them)."""

    buffer: Buffer
    function: int
    image: bytes


@dataclass(frozen=True)
class Outcome:
    """How a command ends. operation: of the sequence, where it ran out of time (None: not captured)."""

    state: int = commands.COMPLETED
    operation: int | None = None
    failed: int = 0  # number of the command in a chain


@dataclass
class Job:
    """One submission. parts: its command, or those of its chain. resolve: buffer bytes at a device address."""

    command: Buffer
    parts: Sequence[Buffer]
    held: Sequence[Buffer]
    forced: Outcome | None = None
    hangs: bool = False


@dataclass
class Context:
    """handle, syncobj: as userspace knows it. find: the device's bytes from an address on, None where none lie.

    ran: called with what each run took. failed: with why one did not end well.
    """

    handle: int
    syncobj: int
    columns: int
    new_device: Callable[[int], Device]
    find: Callable[[int], memoryview | None]
    ran: Callable[[RunStatistics], None]
    failed: Callable[[NpucError], None]
    release: Callable[[Sequence[Buffer]], None]
    max_cycles: int | None = None
    units: tuple[Unit, ...] = ()
    submitted: int = 0
    completed: int = 0
    internal: list[Buffer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._request = StopRequest()
        self._thread: threading.Thread | None = None
        self._loaded: tuple[bytes, Device] | None = None
        self._sequence: tuple[bytes, tuple[Operation, ...]] | None = None

    # the host's side

    def submit(self, job: Job) -> int:
        """The command's number; waits while the queue is full."""
        with self._changed:
            self._changed.wait_for(lambda: self.submitted - self.completed < QUEUED_AT_MOST or self._request.stop)
            if self._request.stop:
                raise error(errno.EINVAL, "EXEC_CMD: the context has gone")
            self._jobs.append(job)
            number, self.submitted = self.submitted, self.submitted + 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=f"npuc-context-{self.handle}", daemon=True)
                start_thread(self._thread)
            self._changed.notify_all()
        return number

    def wait(self, number: int, seconds: float | None) -> bool:
        """Whether that command has ended within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.completed > number, seconds)

    @property
    def computing(self) -> bool:
        """Whether the emulator is at work for it, or is about to be."""
        with self._changed:
            return bool(self._jobs) and not self._jobs[0].hangs

    def close(self) -> None:
        """Stop what runs, forget what waits."""
        with self._changed:
            self._request.stop = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._loaded = self._sequence = None

    # the device's side

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._request.stop)
                if self._request.stop:
                    break
                job = self._jobs[0]
            try:
                outcome = job.forced or run_until(self._request, lambda job=job: self._run(job))  # type: ignore[misc]
            except Stopped:
                break
            _tell(job, outcome)
            if outcome.state != commands.COMPLETED:
                self._loaded = None  # the driver resets the context
            self._ended(job)
        for job in list(self._jobs):
            _tell(job, Outcome(commands.ABORT))
            self._ended(job)

    def _ended(self, job: Job) -> None:
        self.release([job.command, *job.parts, *job.held])
        with self._changed:
            self._jobs.popleft()
            self.completed += 1
            self._changed.notify_all()

    def _run(self, job: Job) -> Outcome:
        if job.hangs:
            with self._changed:
                self._changed.wait_for(lambda: self._request.stop)
            raise Stopped
        for number, part in enumerate(job.parts):
            state, operation = self._execute(part)
            if state != commands.COMPLETED:
                return Outcome(state, operation, number)
        return Outcome()

    def _execute(self, command: Buffer) -> tuple[int, int | None]:
        """(state, operation of the sequence where it stopped)."""
        device: Device | None = None
        try:
            unit, operations, buffers = self._decoded(bytes(command.host))
            device = self._device_of(unit)
            self.ran(device.run(operations, buffers, self.max_cycles))
        except (Deadlock, CycleLimit) as reason:
            assert device is not None
            self.failed(reason)
            return commands.TIMEOUT, device.operation
        except (EmulationError, InputError) as reason:
            self.failed(reason)
            return commands.ERROR, None
        return commands.COMPLETED, None

    def _decoded(self, command: bytes) -> tuple[Unit, tuple[Operation, ...], list[bytearray | memoryview]]:
        """What the firmware makes of a START_CU command. InputError for what it would refuse."""
        masks = 1 + commands.Header.of(int.from_bytes(command[:4], "little")).extra_masks
        words = struct.unpack_from(f"<{masks}I", command, 4)
        number = next(32 * at + (mask & -mask).bit_length() - 1 for at, mask in enumerate(words) if mask)
        if number >= len(self.units):
            raise InputError(f"compute unit {number} is not configured")
        header = commands.Header.of(int.from_bytes(command[:4], "little"))
        payload = command[4 * (1 + masks) : 4 * (1 + header.count)]
        unit = self.units[number]
        older = unit.function == commands.OLDER_SEQUENCE
        layout = commands.OLDER_ARGUMENTS if older else commands.ARGUMENTS
        values = layout.unpack(payload)
        if not older and values["opcode"] != commands.RUN_SEQUENCE:
            raise InputError(f"opcode {values['opcode']}: the software device runs TXN sequences, opcode 3")
        addresses = payload[layout.size :]
        addresses = addresses[: len(addresses) // 8 * 8]
        arguments = [self._argument(at, a) for at, (a,) in enumerate(struct.iter_unpack("<Q", addresses))]
        length = values["count"] if older else None
        return unit, self._operations(values["instructions"], length), arguments

    def _argument(self, number: int, address: int) -> bytearray | memoryview:
        """The bytes of a buffer argument; one that is not given is empty."""
        if not address:
            return bytearray()
        found = self.find(address)
        if found is None:
            raise InputError(f"buffer argument {number} is address {address:#x}, where no buffer lies")
        return found

    def _operations(self, address: int, words: int | None) -> tuple[Operation, ...]:
        """Of a TXN stream, whose header has its length, or of `words` of the older form."""
        found = self.find(address)
        if found is None:
            raise InputError(f"the instructions are at address {address:#x}, where no buffer lies")
        size = HEADER.unpack(bytes(found[: HEADER.size]))["size"] if words is None else 4 * words
        stream = bytes(found[:size])
        if self._sequence is None or self._sequence[0] != stream:
            read = read_txn(stream).operations if words is None else read_legacy_bytes(stream)
            self._sequence = stream, read
        return self._sequence[1]

    def _device_of(self, unit: Unit) -> Device:
        """The array with the unit's image, which is loaded where another, or none, is."""
        if self._loaded is None or self._loaded[0] != unit.image:
            image = in_buffer(unit.image)
            device = self.new_device(self.columns)
            device.load_pdi(image)
            self._loaded = unit.image, device
        return self._loaded[1]


def _tell(job: Job, outcome: Outcome) -> None:
    """The state into the command buffer and, of a failure, health data into it or into the first of its chain."""
    command = job.command.host
    header = commands.Header.of(int.from_bytes(bytes(command[:4]), "little"))
    told = command
    if header.opcode == commands.CMD_CHAIN and outcome.state != commands.COMPLETED:
        index = 4 + commands.CHAIN.offsets["error_index"]
        command[index : index + 4] = outcome.failed.to_bytes(4, "little")
        told = job.parts[0].host
    if outcome.state != commands.COMPLETED:
        told[4:] = b"\xff" * (len(told) - 4)
    if outcome.state == commands.TIMEOUT:
        operation = commands.NOT_CAPTURED if outcome.operation is None else outcome.operation
        told[4 : 4 + commands.HEALTH.size] = commands.HEALTH.pack(txn_op_idx=operation, ctx_pc=CONTEXT_PROGRAM_COUNTER)
    command[:4] = commands.Header(
        outcome.state, header.extra_masks, header.count, header.opcode, header.type
    ).word.to_bytes(4, "little")
