"""kernel, run and runlist."""

from __future__ import annotations

import datetime
import errno
import operator
import struct
import weakref
from collections.abc import Sequence
from typing import Any

from npuc.compiler.emit.xclbin_metadata import KernelArgument, KernelDescription
from npuc.runtime.devices import commands
from npuc.runtime.devices.client import Command, Context
from npuc.runtime.pyxrt.buffers import GROUP_BITS, SCALAR, bo
from npuc.runtime.pyxrt.devices import device, give_back, hw_context
from npuc.runtime.pyxrt.enums import Enumeration, ert_cmd_state
from npuc.runtime.pyxrt.errors import as_xrt, failed, not_served, wrong_arguments
from npuc.runtime.pyxrt.files import uuid

SMALLEST_INT, LARGEST_INT = -(1 << 31), (1 << 31) - 1  # what pyxrt takes for a scalar: a C int
LONGEST_CHAIN = 24  # commands that are handed over in one go


class CuAccessMode(Enumeration):
    exclusive = 0
    shared = 1
    none = 2


class kernel:
    """A compute unit of a context."""

    cu_access_mode = CuAccessMode
    exclusive, shared, none = CuAccessMode.exclusive, CuAccessMode.shared, CuAccessMode.none

    def __init__(self, on: hw_context, name: str, *rest: Any) -> None:
        if isinstance(on, device) and isinstance(name, uuid):
            raise failed("kernel(device, uuid, name): use a hw_context", errno.EOPNOTSUPP)
        if not isinstance(on, hw_context) or not isinstance(name, str) or rest:
            wrong_arguments("kernel", on, name, *rest)
        self.hw_context, self.name = on, name
        self.number, self.description = on.unit_of(name)

    def group_id(self, argument: int) -> int:
        """Memory bank of an argument, and the context's slot above it."""
        arguments = self.description.arguments
        if not 0 <= argument < len(arguments):
            raise RuntimeError(f"kernel {self.name} has no argument {argument}")
        banks = {
            connection.argument: connection.memory
            for connection in self.hw_context.file.contents.connections
            if self._connected(connection.instance)
        }
        bank = banks.get(argument, SCALAR)
        return bank | self.hw_context.context.handle << GROUP_BITS

    def _connected(self, instance: int) -> bool:
        instances = self.hw_context.file.contents.instances
        unit = self.hw_context.units[self.number][0]
        return 0 <= instance < len(instances) and instances[instance].name == unit

    def __call__(self, *arguments: Any) -> run:
        """A run, started. As pyxrt does, arguments that are neither a bo nor a C int are left out: they stay 0."""
        made = run(self)
        for index, value in enumerate(arguments):
            if isinstance(value, bo) or _c_int(value) is not None:
                made.set_arg(index, value)
        made.start()
        return made


def _c_int(value: Any) -> int | None:
    """An argument as pyxrt converts it to a C int; None where it does not."""
    if isinstance(value, float | str | bytes):
        return None
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return number if SMALLEST_INT <= number <= LARGEST_INT else None


class run:
    """One execution of a kernel, which may be started again."""

    def __init__(self, of: kernel | None = None) -> None:
        self._kernel = of
        self._command: Command | None = None
        self._number: int | None = None
        self._values: dict[int, tuple[bytes, bo | None]] = {}
        self._ended: int | None = None
        if of is None:
            return
        if not isinstance(of, kernel):
            wrong_arguments("run", of)
        with as_xrt():
            self._command = Command(of.hw_context.device.client)
        weakref.finalize(self, give_back, self._command, of.hw_context)

    @property
    def of(self) -> kernel:
        """RuntimeError for an empty one."""
        if self._kernel is None:
            raise RuntimeError("Invalid run handle")
        return self._kernel

    @property
    def command(self) -> Command:
        """Its command buffer."""
        assert self._command is not None
        return self._command

    def set_arg(self, index: int, value: bo | int) -> None:
        arguments = self.of.description.arguments
        if not 0 <= index < len(arguments):
            raise RuntimeError(f"Bad argument index '{index}'")
        size = arguments[index].size
        if isinstance(value, bo):
            self._values[index] = value.address().to_bytes(8, "little")[:size].ljust(size, b"\0"), value
            return
        number = _c_int(value)
        if number is None:
            wrong_arguments("set_arg", index, value)
        raw = (number & 0xFFFFFFFF).to_bytes(4, "little")
        self._values[index] = raw[:size].ljust(size, b"\0"), None

    def packet(self) -> bytes:
        """The command: header, mask, and the register map with the arguments at their offsets."""
        description = self.of.description
        payload = bytearray(_map_bytes(description))
        for index, (raw, _) in self._values.items():
            at = description.arguments[index].offset
            payload[at : at + len(raw)] = raw
        header = commands.Header(commands.NEW, 0, 1 + len(payload) // 4, commands.START_CU, commands.TYPE_CU)
        return struct.pack("<2I", header.word, 1 << self.of.number) + payload

    @property
    def buffers(self) -> list[bo]:
        """Of the arguments."""
        return [value for _, value in self._values.values() if value is not None]

    def start(self) -> None:
        context = self.of.hw_context.context
        held = list({id(b.memory): b.memory for b in self.buffers}.values())
        with as_xrt():
            self._number = self.command.submit(context, self.packet(), held)
        self._ended = None

    def wait(self, timeout_ms: int = 0) -> ert_cmd_state:
        """The state it ended in; ERT_CMD_STATE_TIMEOUT when the time is over, 0: none is."""
        if self._number is None:
            raise RuntimeError("run object has not been started")
        with as_xrt():
            if not self.of.hw_context.context.wait(self._number, timeout_ms / 1e3 if timeout_ms else None):
                return ert_cmd_state.ERT_CMD_STATE_TIMEOUT
        return self.state()

    def wait2(self, timeout: datetime.timedelta | None = None) -> bool:
        """Whether it ended within the time; RuntimeError where it ended badly, with what the device tells."""
        if self._number is None:
            raise RuntimeError("run object has not been started")
        with as_xrt():
            if not self.of.hw_context.context.wait(self._number, timeout.total_seconds() if timeout else None):
                return False
        if self.state() is not ert_cmd_state.ERT_CMD_STATE_COMPLETED:
            raise RuntimeError(_told("Command failed to complete successfully", self.state(), self.command))
        return True

    def state(self) -> ert_cmd_state:
        return ert_cmd_state(self.command.state if self._ended is None else self._ended)

    def ended(self, state: int) -> None:
        """As a part of a chain, whose state the driver tells of the whole."""
        self._ended = state

    def add_callback(self, state: Any, function: Any, data: Any) -> None:
        not_served("run.add_callback")

    def get_ctrl_scratchpad_bo(self) -> bo:
        not_served("run.get_ctrl_scratchpad_bo: kernels that an elf describes")


def _map_bytes(description: KernelDescription) -> int:
    """Of the register map, in whole words."""
    ends: Sequence[KernelArgument] = description.arguments
    return -(-max((argument.offset + argument.size for argument in ends), default=0) // 4) * 4


def _told(what: str, state: ert_cmd_state, command: Command, unit: str | None = None) -> str:
    """The text of a failure with the context's health, where the driver left it."""
    lines = [f"{what} ({state.name})", *([f"Kernel Instance: {unit}"] if unit else [])]
    health = command.health
    if health is not None:
        operation = commands.NOT_CAPTURED if health.operation is None else health.operation
        lines += [f"txn_op_idx = 0x{operation:08X}", f"ctx_pc = 0x{health.program_counter:08X}"]
        lines += [f"fatal_error_type = 0x{health.fatal_error:08X}"]
    return "\n".join(lines)


class runlist:
    """Runs that are handed over together and done in order."""

    def __init__(self, on: hw_context | None = None) -> None:
        self._on = on
        self._runs: list[run] = []
        self._chains: list[tuple[Command, list[run], int]] = []
        if on is not None and not isinstance(on, hw_context):
            wrong_arguments("runlist", on)

    @property
    def _context(self) -> Context:
        if self._on is None:
            raise RuntimeError("Invalid runlist handle")
        return self._on.context

    def add(self, one: run) -> None:
        if not isinstance(one, run):
            wrong_arguments("runlist.add", one)
        if one.of.hw_context is not self._on:
            raise RuntimeError("runlist: the run belongs to another hw_context")
        self._runs.append(one)

    def execute(self) -> None:
        context = self._context
        if not self._runs:
            raise RuntimeError("runlist: nothing to execute")
        self._chains = []
        client = self._runs[0].of.hw_context.device.client
        for first in range(0, len(self._runs), LONGEST_CHAIN):
            part = self._runs[first : first + LONGEST_CHAIN]
            held = {}
            for one in part:
                one.command.fill(one.packet())
                held.update({id(b.memory): b.memory for b in one.buffers})
            with as_xrt():
                command = Command(client)
                weakref.finalize(self, give_back, command, self._on)
                data = commands.chain([one.command.handle for one in part])
                number = command.submit(context, data, list(held.values()))
            self._chains.append((command, part, number))

    def wait(self, timeout: datetime.timedelta | None = None) -> None:
        """RuntimeError where one ended badly, or the time is over."""
        if not self._chains:
            raise RuntimeError("runlist has not been executed")
        for command, part, number in self._chains:
            with as_xrt():
                if not self._context.wait(number, timeout.total_seconds() if timeout else None):
                    raise RuntimeError(f"runlist timed out ({ert_cmd_state.ERT_CMD_STATE_TIMEOUT.name})")
            state = ert_cmd_state(command.state)
            if state is not ert_cmd_state.ERT_CMD_STATE_COMPLETED:
                failed_one = part[min(command.failed, len(part) - 1)]
                unit = failed_one.of.hw_context.units[failed_one.of.number][0]
                failed_one.ended(state.value)
                raise RuntimeError(_told("runlist failed execution", state, part[0].command, unit))
            for one in part:
                one.ended(state.value)
