"""The controller: executes a runtime sequence, one operation after the other (facts/platform/txn.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.compiler.target.npu1.registers import register_name
from npuc.runtime.emulator.errors import EmulationError

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

RANK = 0
SEQUENCE = "runtime sequence"  # the controller's name among the units of the array
POLL_INTERVAL = 200  # cycles between two reads of a polled register (A)

TokenKey: TypeAlias = "tuple[int, int, str, int]"  # column, row, direction, channel


class Controller:
    """Steps through the operations at their cost; waits in Sync and MaskPoll."""

    def __init__(self, array: Array, operations: Sequence[txn.Operation]) -> None:
        self.array, self.operations = array, operations
        self.position = 0
        self.finished = False
        self.finished_at = 0
        self.waiting: str | None = None
        self.polling = False
        self.wanted: tuple[TokenKey, ...] = ()  # the channels, a token of any of which would do
        self._began = 0  # when the present operation's turn came
        self.seen: set[TokenKey] = set()  # channels whose tokens were taken
        self.read_back: list[tuple[int, int]] = []  # (address, value) of registers that the sequence reports
        self._pushed: dict[int, int] = {}

    name = "the runtime sequence"

    @property
    def who(self) -> str:
        return f"sequence operation {self.position}"

    def start(self) -> None:
        """Begin with the first operation now."""
        self._began = self.array.clock.cycle
        self._later(0)

    def _later(self, cycles: int) -> None:
        clock = self.array.clock
        clock.at(clock.cycle + cycles, RANK, self._step)

    def _step(self) -> None:
        self.waiting, self.polling, self.wanted = None, False, ()
        if self.position == len(self.operations):
            self.finished, self.finished_at = True, self.array.clock.cycle
            return
        operation = self.operations[self.position]
        cost = self._execute(operation)
        if cost is not None:
            if self.array.listeners:
                self.array.note(SEQUENCE, operation_name(operation), self._began, self.array.clock.cycle + cost)
            self._began = self.array.clock.cycle + cost
            self.array.progress += 1
            self.position += 1
            self._later(cost)

    def _execute(self, operation: txn.Operation) -> int | None:
        """The cost in cycles; None when the operation has to wait and has arranged its own return."""
        array, machine = self.array, self.array.machine
        if isinstance(operation, txn.Write):
            return self._write(operation)
        if isinstance(operation, txn.BlockWrite):
            array.registers.write_block(operation.address, operation.words, self.who)
            return machine.block_write + machine.block_write_word * max(
                0, len(operation.words) - machine.block_write_words
            )
        if isinstance(operation, txn.MaskWrite):
            array.registers.write(operation.address, operation.value, self.who, operation.mask)
            return machine.masked_write
        if isinstance(operation, txn.DdrPatch):
            self._patch(operation)
            return machine.ddr_patch
        if isinstance(operation, (txn.MaskPoll, txn.MaskPollBusy)):
            value = array.registers.read(operation.address, self.who)
            if value & operation.mask == operation.value:
                return machine.masked_write
            self.waiting, self.polling = f"a register to read {operation.value:#x}, it reads {value:#x}", True
            self._later(POLL_INTERVAL)
            return None
        if isinstance(operation, txn.Sync):
            return self._collect([[key] for key in _sync_keys(operation)])
        if isinstance(operation, txn.MergeSync):
            return self._collect([_merge_keys(operation, array.columns)] * operation.tokens)
        if isinstance(operation, txn.RecordTimer):
            array.records.append((operation.identifier, array.clock.cycle))
            return machine.write
        if isinstance(operation, txn.ReadRegisters):
            self.read_back += [(address, array.registers.read(address, self.who)) for address in operation.addresses]
            return machine.write * len(operation.addresses)
        if isinstance(operation, txn.LoadPdi):
            raise EmulationError(
                f"{self.who} loads array image {operation.pdi}, which lies outside the xclbin",
                remedy="give each image as a kernel of its own",
            )
        assert isinstance(operation, (txn.Noop, txn.Preempt))
        return 0

    def _write(self, operation: txn.Write) -> int | None:
        """A register write; pushes to one channel keep their distance."""
        array, machine = self.array, self.array.machine
        column, row, offset = geometry.split_address(operation.address)
        tile = array.tiles.get((column, row))
        if tile is not None and tile.kind == "shim" and self._is_queue(offset):
            earliest = self._pushed.get(operation.address, -machine.push_gap) + machine.push_gap
            if array.clock.cycle < earliest:
                self._later(earliest - array.clock.cycle)
                return None
            self._pushed[operation.address] = array.clock.cycle
        array.registers.write(operation.address, operation.value, self.who)
        return machine.write

    @staticmethod
    def _is_queue(offset: int) -> bool:
        return any(
            offset == geometry.channel_queue_offset("shim", direction, number)
            for direction in geometry.DIRECTIONS
            for number in range(geometry.CHANNEL_COUNT["shim"])
        )

    def _patch(self, operation: txn.DdrPatch) -> None:
        """Address of the argument into words 1 and 2 of the descriptor."""
        array = self.array
        column, row, offset = geometry.split_address(operation.address)
        tile = array.tiles.get((column, row))
        base = geometry.BD_BASE["shim"]
        number = (offset - base) // geometry.BD_STRIDE
        if tile is None or tile.kind != "shim" or not 0 <= number < geometry.BD_COUNT["shim"]:
            raise EmulationError(f"{self.who} patches {operation.address:#x}, which is no shim descriptor")
        address = array.host.address(operation.argument, operation.offset, self.who)
        if operation.offset & 3:
            text = (
                f"{self.who} patches descriptor {number} of {tile.name} with an offset of {operation.offset} bytes, no "
                "multiple of 4: the address loses its low bits"
            )
            if array.strict:
                raise EmulationError(text)
            array.warn(text)
        words = tile.descriptors[number]
        words[1] = address & 0xFFFFFFFC
        words[2] = words[2] & 0xFFFF0000 | address >> 32 & 0xFFFF

    def _collect(self, wanted: list[list[TokenKey]]) -> int | None:
        """Take one token for each entry, from any of the channels it lists, or wait until all are there.

        A token that has arrived is seen `completion` cycles after its data.
        """
        array, clock = self.array, self.array.clock
        chosen: list[tuple[int, TokenKey]] = []
        for channels in wanted:
            taken = Counter(key for _, key in chosen)
            waiting = [
                (array.tokens[key][taken[key]], key) for key in channels if len(array.tokens.get(key, ())) > taken[key]
            ]
            if not waiting:
                self.waiting, self.wanted = "a task token of " + _any_of(channels), tuple(channels)
                return None
            chosen.append(min(waiting))
        due = max((arrived for arrived, _ in chosen), default=0) + array.machine.completion
        if chosen and clock.cycle < due:
            self._later(due - clock.cycle)
            return None
        for _, key in chosen:
            array.tokens[key].pop(0)
            self.seen.add(key)
        return 0

    def token_arrived(self) -> None:
        """Look again."""
        if self.waiting is not None and not self.polling:
            self._later(0)


def operation_name(operation: txn.Operation) -> str:
    """An operation in a few words."""
    kind = type(operation).__name__
    if isinstance(operation, txn.Sync):
        keys = _sync_keys(operation)
        return f"{kind} {_any_of(keys)}" if len(keys) < 2 else f"{kind} of {len(keys)} channels"
    if isinstance(operation, (txn.Write, txn.BlockWrite, txn.MaskWrite, txn.MaskPoll, txn.MaskPollBusy, txn.DdrPatch)):
        return f"{kind} {register_name(operation.address)}"
    return kind


def _sync_keys(operation: txn.Sync) -> list[TokenKey]:
    direction = geometry.DIRECTIONS[operation.direction]
    return [
        (operation.column + x, operation.row + y, direction, operation.channel)
        for x in range(operation.columns)
        for y in range(operation.rows)
    ]


def _merge_keys(operation: txn.MergeSync, columns: int) -> list[TokenKey]:
    return [
        (column, geometry.SHIM_ROW, direction, channel)
        for column in range(min(operation.columns, columns))
        for direction in geometry.DIRECTIONS
        for channel in range(geometry.CHANNEL_COUNT["shim"])
    ]


def _any_of(channels: list[TokenKey]) -> str:
    if len(channels) > 1:
        return f"any channel of the shims of columns {channels[0][0]}..{channels[-1][0]}"
    return (
        ", ".join(
            f"{direction.upper()} {channel} of tile ({column},{row})" for column, row, direction, channel in channels
        )
        or "no channel"
    )
