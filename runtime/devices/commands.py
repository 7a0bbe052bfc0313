"""Command buffers: what a submission hands to the driver, and what it leaves in them (facts/platform/amdxdna.md, 4).

Word 0 is the header, then one mask of compute units, then the payload: the kernel's arguments as its register map has
them. A chain has no masks; its payload counts commands and lists their buffers' handles.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from npuc.compiler.emit.layout import Layout

NEW, QUEUED, RUNNING, COMPLETED, ERROR, ABORT, SUBMITTED, TIMEOUT, NORESPONSE, SKERROR, SKCRASHED = range(1, 12)
STATE_NAMES = {
    NEW: "NEW", QUEUED: "QUEUED", RUNNING: "RUNNING", COMPLETED: "COMPLETED", ERROR: "ERROR", ABORT: "ABORT",
    SUBMITTED: "SUBMITTED", TIMEOUT: "TIMEOUT", NORESPONSE: "NORESPONSE", SKERROR: "SKERROR", SKCRASHED: "SKCRASHED",
}  # fmt: skip
START_CU, CMD_CHAIN, START_NPU, START_NPU_PREEMPT, START_NPU_PREEMPT_ELF = 0, 19, 20, 21, 22
TYPE_CU = 3
RUN_SEQUENCE = 3  # the kernel's opcode: execute a TXN stream, buffers by argument number (facts/platform/txn.md)
WORD = 4
LARGEST_PAYLOAD = 76  # bytes of START_CU that the driver takes on its direct path
MOST_BUFFERS = (LARGEST_PAYLOAD - 20) // 8  # behind opcode, instructions and their length

# (first bit, width) of the header's fields.
_STATE, _EXTRA_MASKS, _COUNT, _OPCODE, _TYPE = (0, 4), (10, 2), (12, 11), (23, 5), (28, 4)

ARGUMENTS = Layout("kernel arguments", ("opcode", "Q"), ("instructions", "Q"), ("count", "I"))
OLDER_ARGUMENTS = Layout("older kernel arguments", ("instructions", "Q"), ("count", "Q"))  # functional 1
OLDER_SEQUENCE = 1  # a unit's function: it takes the sequence before TXN (facts/platform/legacy_sequence.md)
CHAIN = Layout(
    "command chain", ("command_count", "I"), ("submit_index", "I", 0), ("error_index", "I", 0), ("reserved", "12s", b"")
)
HEALTH_FIELDS = (
    ("txn_op_idx", "I"), ("ctx_pc", "I"), ("fatal_error_type", "I", 0), ("fatal_error_exception_type", "I", 0),
    ("fatal_error_exception_pc", "I", 0), ("fatal_error_app_module", "I", 0),
)  # fmt: skip
HEALTH = Layout("context health", ("version", "I", 1), ("generation", "I", 0), *HEALTH_FIELDS)
OLDER_HEALTH = Layout("context health, version 0", *(("version", "I", 0), *HEALTH_FIELDS))
NOT_CAPTURED = 0xFFFFFFFF  # txn_op_idx of a context that ran no sequence, or whose operation was not seen


def _put(field: tuple[int, int], value: int) -> int:
    assert value >> field[1] == 0
    return value << field[0]


def _get(field: tuple[int, int], word: int) -> int:
    return word >> field[0] & (1 << field[1]) - 1


@dataclass(frozen=True)
class Header:
    """Word 0. count: words behind it."""

    state: int
    extra_masks: int
    count: int
    opcode: int
    type: int

    @classmethod
    def of(cls, word: int) -> Header:
        return cls(*(_get(field, word) for field in (_STATE, _EXTRA_MASKS, _COUNT, _OPCODE, _TYPE)))

    @property
    def word(self) -> int:
        return (
            _put(_STATE, self.state)
            | _put(_EXTRA_MASKS, self.extra_masks)
            | _put(_COUNT, self.count)
            | _put(_OPCODE, self.opcode)
            | _put(_TYPE, self.type)
        )


@dataclass(frozen=True)
class Health:
    """What the driver leaves of a command that ran out of time.

    operation: number of the sequence's last operation that was executed, None where it was not captured.
    program_counter: the context's, in the firmware.
    """

    operation: int | None
    program_counter: int
    fatal_error: int = 0

    def __str__(self) -> str:
        at = "no operation of the sequence captured" if self.operation is None else f"operation {self.operation}"
        fatal = f", fatal error {self.fatal_error:#x}" if self.fatal_error else ""
        return f"{at}, context program counter {self.program_counter:#x}{fatal}"


def start(unit: int, instructions: int, count: int, buffers: Sequence[int], slots: int) -> bytes:
    """A command that runs the sequence at device address `instructions` on compute unit `unit`.

    count: of the sequence, in bytes. buffers: device addresses of the arguments behind it; the register map has `slots`
    of them, those that are not given stay 0.
    """
    addresses = struct.pack(f"<{slots}Q", *buffers, *[0] * (slots - len(buffers)))
    payload = ARGUMENTS.pack(opcode=RUN_SEQUENCE, instructions=instructions, count=count) + addresses
    header = Header(NEW, 0, 1 + len(payload) // WORD, START_CU, TYPE_CU)
    return struct.pack("<2I", header.word, 1 << unit) + payload


def chain(handles: Sequence[int]) -> bytes:
    """A command that runs those in the buffers of these handles, one after the other."""
    payload = CHAIN.pack(command_count=len(handles)) + struct.pack(f"<{len(handles)}Q", *handles)
    return struct.pack("<I", Header(NEW, 0, len(payload) // WORD, CMD_CHAIN, TYPE_CU).word) + payload


def state_of(command: bytes | bytearray | memoryview) -> int:
    """The state that a command buffer shows."""
    return Header.of(int.from_bytes(bytes(command[:WORD]), "little")).state


def failed_in(chain: bytes | bytearray | memoryview) -> int:
    """The number of the command of a chain that failed."""
    return int(CHAIN.unpack(bytes(chain[WORD : WORD + CHAIN.size]))["error_index"])


def health_of(command: bytes | bytearray | memoryview) -> Health | None:
    """What a failed command buffer tells of its context; None where the driver left nothing (bytes of 0xff).

    Drivers of 2025 leave the older form, without the generation.
    """
    data = bytes(command[WORD : WORD + HEALTH.size])
    if len(data) < HEALTH.size:
        return None
    values = HEALTH.unpack(data)
    if values["version"] == OLDER_HEALTH.defaults["version"] and state_of(command) == TIMEOUT:
        values = OLDER_HEALTH.unpack(data[: OLDER_HEALTH.size])
    elif values["version"] != HEALTH.defaults["version"] or values["generation"] != HEALTH.defaults["generation"]:
        return None
    operation = None if values["txn_op_idx"] == NOT_CAPTURED else values["txn_op_idx"]
    return Health(operation, values["ctx_pc"], values["fatal_error_type"])
