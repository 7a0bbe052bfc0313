"""What XRT's module raises and returns, in any of its versions, as the failure that it means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from npuc.compiler.diagnostics import BackendError, NpucError
from npuc.compiler.emit.txn import read_txn
from npuc.runtime.devices import commands
from npuc.runtime.devices.failures import DeviceFailure, cause_of, ended_badly
from npuc.runtime.devices.standing import standing

_ERRNO = re.compile(r"\(err=-?(\d+)\)")
_REQUEST = re.compile(r"DRM_IOCTL_(?:AMDXDNA_)?(\w+) IOCTL failed")
_CALLS = (("mmap", "mmap"), ("KMQ device fd", "open"), ("UMQ device fd", "open"), ("/dev/accel", "open"))
_STATE = re.compile(r"ERT_CMD_STATE_(\w+)")
_HEALTH = re.compile(r"(txn_op_idx|ctx_pc|fatal_error_type)\s*[=:]\s*(0[xX][0-9a-fA-F]+|\d+)")
UNKNOWN_STATE = -1
_NUMBERS = {name: number for number, name in commands.STATE_NAMES.items()}


def first_line(error: BaseException) -> str:
    """What an exception says, or its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def failures(doing: str) -> Iterator[None]:
    """Whatever XRT raises (RuntimeError with the errno's text; other versions raise other things) as BackendError."""
    try:
        yield
    except NpucError:
        raise
    except Exception as error:
        raise translated(doing, error) from error


def translated(doing: str, error: BaseException) -> BackendError:
    """The failure that an exception of XRT's module means."""
    text = first_line(error)
    found = _ERRNO.search(text)
    code = int(found[1]) if found else getattr(error, "errno", None)
    request = _REQUEST.search(text)
    call = request[1] if request else next((name for part, name in _CALLS if part in text), "")
    if not code:
        named = "" if isinstance(error, RuntimeError | OSError) else f"{type(error).__name__}: "
        return DeviceFailure(f"XRT failed {doing}: {named}{text}", remedy="see npuc doctor", call=call)
    cause = cause_of(call, code)
    return DeviceFailure(f"XRT failed {doing}: {text}: {cause.cause}", remedy=cause.remedy, call=call, code=code)


def state_name(state: Any) -> str:
    """COMPLETED of ert_cmd_state.ERT_CMD_STATE_COMPLETED, however a version prints it.

    By its number where it has no name: the binding has none for RUNNING.
    """
    found = _STATE.search(str(state)) or _STATE.search(getattr(state, "name", ""))
    if found:
        return found[1]
    try:
        return commands.STATE_NAMES[int(state)]
    except (TypeError, ValueError, KeyError):
        return str(state)


def health_in(text: str) -> commands.Health | None:
    """The context's health in the text that wait2() raises; None where it has none."""
    values = {name: int(number, 0) for name, number in _HEALTH.findall(text)}
    if "txn_op_idx" not in values and "ctx_pc" not in values:
        return None
    operation = values.get("txn_op_idx", commands.NOT_CAPTURED)
    captured = None if operation == commands.NOT_CAPTURED else operation
    return commands.Health(captured, values.get("ctx_pc", 0), values.get("fatal_error_type", 0))


def bad_end(run: Any, state: Any, sequence: bytes) -> DeviceFailure:
    """The failure of a run that ended in another state than COMPLETED; wait2() of such a run tells its health.

    Versions without wait2, and those that raise nothing, tell no more than the state.
    """
    told = ""
    if hasattr(run, "wait2"):
        try:
            run.wait2()
        except Exception as error:
            told = str(error)
    health = health_in(told)
    at = standing(read_txn(sequence).operations, health.operation) if health is not None else ""
    name = state_name(state)
    return ended_badly(_NUMBERS.get(name, UNKNOWN_STATE), at, health, name)
