"""Where in a runtime sequence a device stood, in the words of the kernel rather than a number."""

from __future__ import annotations

from collections.abc import Sequence

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1.geometry import DIRECTIONS
from npuc.compiler.target.npu1.registers import register_name

WAITS = (txn.Sync, txn.MergeSync, txn.MaskPoll, txn.MaskPollBusy)


def standing(operations: Sequence[txn.Operation], index: int | None) -> str:
    """What the sequence waits for, by the number of its last operation as firmware tells it (None: it does not).

    Only waits can stand still. The number is of the last operation executed: it is the wait, or what comes before it.
    """
    if index is None:
        return "the firmware did not tell where in the sequence"
    if index >= len(operations):
        return f"operation {index}, beyond the sequence's {len(operations)}"
    following = next((at for at in (index, index + 1) if at < len(operations) and _waits(operations[at])), index)
    operation = operations[following]
    where = f"operation {following} of {len(operations)}"
    if isinstance(operation, txn.Sync):
        return f"{where} waits for {_tokens(operation)}"
    if isinstance(operation, txn.MergeSync):
        return f"{where} waits for {operation.tokens} tokens of columns 0 to {operation.columns - 1}"
    if isinstance(operation, txn.MaskPoll | txn.MaskPollBusy):
        return f"{where} waits for register {register_name(operation.address)} to read {operation.value:#x}"
    return f"{where} ({type(operation).__name__}), which waits for nothing"


def _waits(operation: txn.Operation) -> bool:
    return isinstance(operation, WAITS)


def _tokens(operation: txn.Sync) -> str:
    """The token of a shim's channel is that of what leaves the array (S2MM) or enters it (MM2S)."""
    kind = "output" if DIRECTIONS[operation.direction] == "s2mm" else "input"
    last = operation.column + operation.columns - 1
    columns = f"column {operation.column}" if operation.columns == 1 else f"columns {operation.column} to {last}"
    rows = "" if operation.row == 0 else f", row {operation.row}"
    return f"the {kind} token of {columns}{rows}, channel {operation.channel}"
