"""kernel, run and runlist."""

from __future__ import annotations

import datetime
import struct
import warnings
import weakref
from collections.abc import Sequence
from typing import Any, NoReturn

from npuc.compiler.emit.xclbin_metadata import KernelArgument, KernelDescription
from npuc.runtime.devices import commands
from npuc.runtime.devices.client import Command
from npuc.runtime.pyxrt.buffers import GROUP_BITS, SCALAR, bo
from npuc.runtime.pyxrt.devices import device, give_back, hw_context
from npuc.runtime.pyxrt.enums import Enumeration, ert_cmd_state
from npuc.runtime.pyxrt.errors import as_xrt, invalid, not_served
from npuc.runtime.pyxrt.files import uuid
from npuc.runtime.pyxrt.signatures import C_INT, TEXT, UNSIGNED, Kind, Unfit, chosen, instance, overload

LONGEST_CHAIN = 24  # commands that are handed over in one go


class CuAccessMode(Enumeration):
    exclusive = 0
    shared = 1
    none = 2


class kernel:
    """A compute unit of a context."""

    cu_access_mode = CuAccessMode
    exclusive, shared, none = CuAccessMode.exclusive, CuAccessMode.shared, CuAccessMode.none

    def __init__(self, *given: Any, **named: Any) -> None:
        """kernel(hw_context, name), kernel(device, uuid, name[, mode])."""
        old = (("device", instance(device)), ("uuid", instance(uuid)), ("name", TEXT))
        overloads = (
            overload(*old, ("mode", instance(CuAccessMode, "kernel.cu_access_mode"))),
            overload(*old),
            overload(("hw_context", instance(hw_context)), ("name", TEXT)),
        )
        way, values = chosen("kernel.__init__", overloads, given, named)
        if way < 2:
            warnings.warn(_DEPRECATED, DeprecationWarning, stacklevel=2)
            on, identity, name, *mode = values
            exclusive = mode == [CuAccessMode.exclusive]
            values = [hw_context(on, identity, hw_context.exclusive if exclusive else hw_context.shared), name]
        self.hw_context, self.name = values
        self.number, self.description = self.hw_context.unit_of(self.name)

    def group_id(self, *given: Any) -> int:
        """group_id(argument): its memory bank, and the context's slot above it; of what is no buffer bank 0xffff."""
        _, (argument,) = chosen("group_id", (overload(C_INT),), given, {})
        bank = max(self.banks_of(argument), default=SCALAR)
        return bank | self.hw_context.context.handle << GROUP_BITS

    def banks_of(self, argument: int) -> set[int]:
        """The memory banks that an argument is connected with; none for a scalar."""
        return {
            connection.memory
            for connection in self.hw_context.file.contents.connections
            if connection.argument == argument and self._connected(connection.instance)
        }

    def _connected(self, instance: int) -> bool:
        instances = self.hw_context.file.contents.instances
        unit = self.hw_context.units[self.number][0]
        return 0 <= instance < len(instances) and instances[instance].name == unit

    def __call__(self, *arguments: Any) -> run:
        """A run, started. As pyxrt does, arguments that are neither a bo nor a C int are left out: they stay 0."""
        made = run(self)
        for index, value in enumerate(arguments):
            if not isinstance(value, bo):
                try:
                    value = C_INT.convert(value)
                except Unfit:
                    continue
            made.set_arg(index, value)
        made.start()
        return made


_DEPRECATED = "kernel(device, uuid, name[, mode]) is deprecated; use kernel(hw_context, name) instead."


class BadIndex(IndexError, RuntimeError):
    """XRT's out_of_range, which the binding makes an IndexError; in gaps between arguments it is a RuntimeError."""


class run:
    """One execution of a kernel, which may be started again."""

    def __init__(self, *given: Any) -> None:
        """run(), run(kernel)."""
        self._kernel: kernel | None = None
        self._command: Command | None = None
        self._number: int | None = None
        self._values: dict[int, tuple[bytes, bo | None]] = {}
        self._ended: int | None = None
        self.lists = 0  # run lists that it is in
        _, values = chosen("run.__init__", (overload(), overload(instance(kernel))), given, {})
        if not values:
            return
        (of,) = values
        self._kernel = of
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

    def set_arg(self, *given: Any) -> None:
        """set_arg(index, bo or number)."""
        overloads = (overload(C_INT, instance(bo)), overload(C_INT, C_INT))
        _, (index, value) = chosen("set_arg", overloads, given, {})
        arguments = self.of.description.arguments
        if not 0 <= index < len(arguments):
            raise BadIndex(f"Bad argument index '{index}'")
        size = arguments[index].size
        if isinstance(value, bo):
            banks = self.of.banks_of(index)
            if banks and value.bank not in banks:
                not_served(
                    f"argument {index} in memory bank {value.bank}: the kernel has it in bank {max(banks)}, and XRT "
                    f"would hand a copy over; allocate it with group_id({index})"
                )
            self._values[index] = value.address().to_bytes(8, "little")[:size].ljust(size, b"\0"), value
            return
        raw = (value & 0xFFFFFFFF).to_bytes(4, "little")
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
        if self.lists:
            raise invalid("Run object belongs to a runlist and cannot be explicitly started")
        context = self.of.hw_context.context
        with as_xrt():
            if self._number is not None and not context.wait(self._number, 0):
                raise RuntimeError("bad command state, can't launch")
        held = list({id(b.memory): b.memory for b in self.buffers}.values())
        with as_xrt():
            self._number = self.command.submit(context, self.packet(), held)
        self._ended = None

    def wait(self, *given: Any) -> ert_cmd_state:
        """wait([milliseconds]): the state it ended in; ERT_CMD_STATE_TIMEOUT when the time is over, 0: none is."""
        _, values = chosen("wait", (overload(), overload(UNSIGNED)), given, {})
        return self.state() if self._waited(sum(values) / 1e3) else ert_cmd_state.ERT_CMD_STATE_TIMEOUT

    def wait2(self, *given: Any) -> ert_cmd_state | None:
        """wait2(): nothing; wait2(time): the state, TIMEOUT when it is over.

        RuntimeError where the run ended badly, with what the device tells.
        """
        _, values = chosen("wait2", (overload(), overload(MILLISECONDS)), given, {})
        if not self._waited(sum(values) / 1e3):
            return ert_cmd_state.ERT_CMD_STATE_TIMEOUT
        state = self.state()
        if state is not ert_cmd_state.ERT_CMD_STATE_COMPLETED:
            raise RuntimeError(_told("Command failed to complete successfully", state, self.command))
        return state if values else None

    def _waited(self, seconds: float) -> bool:
        if self._number is None:
            raise RuntimeError("run object has not been started")
        with as_xrt():
            return self.of.hw_context.waited(self._number, seconds or None)

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
    """Runs that are handed over together and done in order; idle, or running until it was waited for."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """runlist(), runlist(hwctx)."""
        _, values = chosen("runlist.__init__", (overload(), overload(("hwctx", instance(hw_context)))), given, named)
        self._on: hw_context | None = values[0] if values else None
        self._runs: list[run] = []
        self._chains: list[tuple[Command, list[run], int]] = []
        self._running = False
        weakref.finalize(self, _leave, self._runs)

    @property
    def _context(self) -> hw_context:
        if self._on is None:
            raise RuntimeError("Invalid runlist handle")
        return self._on

    def _require_idle(self, before: str) -> None:
        if self._running:
            raise invalid(f"runlist must be idle before {before}, current state: running")

    def add(self, *given: Any, **named: Any) -> None:
        """add(run): it is started with the list from now on, no more by itself."""
        _, (one,) = chosen("runlist.add", (overload(("run", instance(run))),), given, named)
        context = self._context
        self._require_idle("adding run objects")
        if one.of.hw_context is not context:
            raise RuntimeError("runlist: the run belongs to another hw_context")
        one.lists += 1
        self._runs.append(one)

    def execute(self) -> None:
        """Nothing where the list is empty."""
        on = self._context
        self._require_idle("submitting for execution")
        self._chains = []
        for first in range(0, len(self._runs), LONGEST_CHAIN):
            part = self._runs[first : first + LONGEST_CHAIN]
            held = {}
            for one in part:
                one.command.fill(one.packet())
                held.update({id(b.memory): b.memory for b in one.buffers})
            with as_xrt():
                self._running = True  # until it was waited for, also where a submission fails
                command = Command(on.device.client)
                weakref.finalize(self, give_back, command, on)
                data = commands.chain([one.command.handle for one in part])
                number = command.submit(on.context, data, list(held.values()))
            self._chains.append((command, part, number))

    def wait(self, *given: Any, **named: Any) -> ert_cmd_state | None:
        """wait(): nothing; wait(timeout): the state, TIMEOUT when it is over. RuntimeError where a run ended badly."""
        overloads = (overload(), overload(("timeout", MILLISECONDS)))
        _, values = chosen("runlist.wait", overloads, given, named)
        seconds = sum(values) / 1e3 or None
        if self._running and self._chains:
            with as_xrt():
                if not self._context.waited(self._chains[-1][2], seconds):
                    return ert_cmd_state.ERT_CMD_STATE_TIMEOUT
        self._running = False
        for command, part, _ in self._chains:
            state = ert_cmd_state(command.state)
            if state is not ert_cmd_state.ERT_CMD_STATE_COMPLETED:
                self._failed(command, part, state)
            for one in part:
                one.ended(state.value)
        return ert_cmd_state.ERT_CMD_STATE_COMPLETED if values else None

    def _failed(self, command: Command, part: list[run], state: ert_cmd_state) -> NoReturn:
        """The first run that failed has its state, those behind it count as aborted."""
        failed_one = part[min(command.failed, len(part) - 1)]
        for one in self._runs[self._runs.index(failed_one) + 1 :]:
            one.ended(ert_cmd_state.ERT_CMD_STATE_ABORT.value)
        failed_one.ended(state.value)
        self._chains = []
        unit = failed_one.of.hw_context.units[failed_one.of.number][0]
        raise RuntimeError(_told("runlist failed execution", state, part[0].command, unit))


def _leave(runs: list[run]) -> None:
    """The list has gone: its runs are started by themselves again."""
    for one in runs:
        one.lists -= 1


def _milliseconds(value: Any) -> float:
    if isinstance(value, datetime.timedelta):
        return value / datetime.timedelta(milliseconds=1)
    return UNSIGNED.convert(value)


MILLISECONDS = Kind("timedelta or milliseconds", _milliseconds)
