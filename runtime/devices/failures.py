"""Why a driver, XRT or a command fails, and what helps: every errno and state with cause and remedy.

Source: facts/platform/amdxdna.md section 5, and the driver's public sources for what it answers when.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from npuc.compiler.diagnostics import BackendError
from npuc.runtime.devices import commands

EMULATE = "run the same file with --backend emulator to see whether it is the kernel"


@dataclass(frozen=True)
class Cause:
    """What lies behind a failure, and what helps."""

    cause: str
    remedy: str


_MEMLOCK = Cause(
    "the limit of locked memory is below the 64 MiB of the device heap",
    "raise it: memlock unlimited in /etc/security/limits.d (LimitMEMLOCK= of services, --ulimit memlock=-1 of "
    "containers), then log in again",
)
_GROUP = Cause("the node may not be opened", "join its group: usermod -aG render $USER, then log in again")
_NO_DEVICE = Cause("there is no such device", "load amdxdna (Linux 6.14 or later, or AMD's module): see npuc doctor")
_GONE = Cause("the device has gone, or its driver was unloaded or is suspended", "see npuc doctor; reload amdxdna")
_SVA = Cause(
    "no shared virtual addresses: the IOMMU is off or does not offer them",
    "enable the IOMMU in the firmware set-up, without amd_iommu=off or iommu=off on the kernel's command line",
)
_FIRMWARE = Cause("the firmware does not answer", "reload amdxdna or reboot; an earlier bad array image does this")
_MEMORY = Cause("no memory is left", "end other users of the NPU, or use shorter sequences")

_CAUSES: dict[tuple[str, int], Cause] = {
    ("open", errno.ENOENT): _NO_DEVICE,
    ("open", errno.EACCES): _GROUP,
    ("open", errno.EPERM): _GROUP,
    ("open", errno.EINVAL): _SVA,
    ("open", errno.EOPNOTSUPP): _SVA,
    ("open", errno.ENODEV): _SVA,
    ("mmap", errno.EAGAIN): _MEMLOCK,
    ("mmap", errno.ENOMEM): _MEMLOCK,
    ("mmap", errno.EPERM): _MEMLOCK,
    ("VERSION", errno.ENOTTY): Cause("it is no DRM device", "see npuc doctor"),
    ("GET_INFO", errno.EOPNOTSUPP): Cause("this driver does not answer that query", "update amdxdna"),
    ("CREATE_BO", errno.EAGAIN): Cause("the device heap is not mapped or is full", "close kernels that are not used"),
    ("CREATE_BO", errno.ENOSPC): Cause(
        "the device heap (64 MiB for all array images and instructions) is full", "close kernels that are not used"
    ),
    ("CREATE_BO", errno.EOPNOTSUPP): Cause("the driver does not support that kind of buffer", "update amdxdna"),
    ("CREATE_BO", errno.EINVAL): Cause("the driver does not take a buffer of that size", "use shorter sequences"),
    ("CREATE_BO", errno.EBUSY): Cause("this client has a device heap already", "close its other user"),
    ("CREATE_HWCTX", errno.EINVAL): Cause(
        "all 6 contexts are taken, or the partition is wider than the array", "close other users of the NPU"
    ),
    ("CREATE_HWCTX", errno.ENOENT): Cause("there is no device heap", "load the kernel anew"),
    ("CREATE_HWCTX", errno.EIO): Cause("the firmware refuses the context", "reload amdxdna or reboot"),
    ("CREATE_HWCTX", errno.EBUSY): Cause("the columns are taken", "close other users of the NPU"),
    ("CREATE_HWCTX", errno.ENOSPC): Cause("the columns are taken", "close other users of the NPU"),
    ("CONFIG_HWCTX", errno.EINVAL): Cause("the driver refuses the array images", "compile the kernel anew"),
    ("CONFIG_HWCTX", errno.E2BIG): Cause("the kernel has more compute units than a context", "split the file"),
    ("EXEC_CMD", errno.EIO): Cause("the context is dead, or the kernel is another generation's", "load it anew"),
    ("EXEC_CMD", errno.EINVAL): Cause("the driver refuses the command", "load the kernel anew"),
    ("EXEC_CMD", errno.ENOENT): Cause("a buffer of the command is not there", "load the kernel anew"),
    ("EXEC_CMD", errno.EOPNOTSUPP): Cause("the driver does not take such commands", "update amdxdna"),
    ("SYNCOBJ_TIMELINE_WAIT", errno.ENOENT): Cause("the context has gone", "load the kernel anew"),
    ("SYNCOBJ_TIMELINE_WAIT", errno.EINVAL): Cause("the context has gone", "load the kernel anew"),
    ("WAIT_CMD", errno.EINVAL): Cause("the context has gone", "load the kernel anew"),
    ("WAIT_CMD", errno.EOPNOTSUPP): Cause("this driver does not wait that way", "update amdxdna"),
}
_USUAL: dict[int, Cause] = {
    errno.ENODEV: _GONE,
    errno.ENXIO: _GONE,
    errno.ENOMEM: _MEMORY,
    errno.ETIME: _FIRMWARE,
    errno.ETIMEDOUT: _FIRMWARE,
    errno.EIO: _FIRMWARE,
    errno.EACCES: _GROUP,
    errno.EPERM: _GROUP,
    errno.EMFILE: Cause("this process has too many open files", "raise the limit: ulimit -n"),
    errno.ENFILE: Cause("the system has too many open files", "close other programs"),
    errno.EBUSY: Cause("it is in use", "close other users of the NPU"),
    errno.ENOTTY: Cause("the driver does not know the request", "update amdxdna, or run through XRT"),
    errno.EOPNOTSUPP: Cause("the driver does not support it", "update amdxdna, or run through XRT"),
    errno.EFAULT: Cause("the driver cannot read what it was given", "please report this: it is npuc's fault"),
    errno.EBADF: Cause("the device was closed", "load the kernel anew"),
    errno.EAGAIN: Cause("something that it needs is taken for the moment", "close other users of the NPU, try again"),
    errno.EINTR: Cause("a signal came in between", "load the kernel anew"),
    errno.ERESTART: Cause("a signal came in between", "load the kernel anew"),
    errno.ECANCELED: Cause("the driver took it back: the context was reset", "load the kernel anew"),
    errno.ENOENT: Cause("what it names is not there", "load the kernel anew"),
    errno.EINVAL: Cause("the driver refuses an argument", "update amdxdna, or run through XRT; please report it"),
    errno.E2BIG: Cause("more than the driver takes at once", "split the file, or use shorter sequences"),
    errno.ENOSPC: Cause("the device heap or the columns are taken", "close kernels that are not used"),
    errno.ENOSYS: Cause("the driver has no such call", "update amdxdna, or run through XRT"),
    errno.ESHUTDOWN: _GONE,
}
_UNKNOWN = Cause("a failure that is not known", "see npuc doctor and the kernel's log")

_STATES: dict[int, Cause] = {
    commands.ERROR: Cause(
        "the firmware refused the array image or the sequence, or the array reported an error", EMULATE
    ),
    commands.ABORT: Cause(
        "the firmware gave up: its version and the driver's may not match",
        "install the firmware that belongs to the driver; " + EMULATE,
    ),
    commands.TIMEOUT: Cause("nothing went on for the driver's watchdog", EMULATE),
    commands.NORESPONSE: Cause("the firmware does not answer", "reload amdxdna or reboot"),
    commands.NEW: Cause("the driver did not start it: the context is dead", "load the kernel anew"),
    commands.QUEUED: Cause("it has not begun", "reload amdxdna or reboot"),
    commands.RUNNING: Cause("it has not ended", EMULATE),
    commands.SUBMITTED: Cause("it has not ended", EMULATE),
    commands.SKERROR: Cause("a kernel on a processor failed, which npu1 has not", EMULATE),
    commands.SKCRASHED: Cause("a kernel on a processor crashed, which npu1 has not", EMULATE),
}


class DeviceFailure(BackendError):
    """A step that a device failed: call (a request's name, open, mmap, a command), code (errno) or state of a command.

    health: what the driver told of the context.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        call: str = "",
        code: int | None = None,
        state: int | None = None,
        health: commands.Health | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.call, self.code, self.state, self.health = call, code, state, health

    @property
    def hopeless(self) -> bool:
        """Whether a second try would only take as long again: the device did not answer within our own time."""
        return self.call == "command" and self.code == errno.ETIME


def reason_of(error: BackendError) -> str:
    """A failure in a word: an errno, a command's state, or the error's kind."""
    if isinstance(error, DeviceFailure):
        if error.code is not None:
            return errno.errorcode.get(error.code, str(error.code))
        if error.state is not None:
            return commands.STATE_NAMES.get(error.state, str(error.state))
    return type(error).__name__


def cause_of(call: str, code: int) -> Cause:
    """Why a call fails with an errno."""
    return _CAUSES.get((call, code)) or _USUAL.get(code) or _UNKNOWN


def failure(call: str, code: int, where: str) -> DeviceFailure:
    """The error for a call that failed with an errno."""
    found = cause_of(call, code)
    name = errno.errorcode.get(code, str(code))
    text = f"{where}: {call} failed with {name} ({os.strerror(code)}): {found.cause}"
    return DeviceFailure(text, remedy=found.remedy, call=call, code=code)


@contextmanager
def refused(call: str, where: str) -> Iterator[None]:
    """A system call's OSError as the DeviceFailure that says why."""
    try:
        yield
    except OSError as reason:
        raise failure(call, reason.errno or 0, where) from reason


def ended_badly(
    state: int, at: str = "", health: commands.Health | None = None, name: str | None = None
) -> DeviceFailure:
    """The error for a command that ended in another state than COMPLETED.

    at: where in the sequence it stood, in our own words. name: of the state, where another is told.
    """
    found = _STATES.get(state, _UNKNOWN)
    name = name or commands.STATE_NAMES.get(state, str(state))
    where = f"; {at}" if at else ""
    told = f" ({health})" if health is not None else ""
    text = f"the NPU ended the run with {name}: {found.cause}{where}{told}"
    return DeviceFailure(text, remedy=found.remedy, call="command", state=state, health=health)


def no_answer(seconds: float) -> DeviceFailure:
    """The error for a command that did not end within the caller's time."""
    return DeviceFailure(
        f"the NPU has not ended the run within {seconds:g} s, and the driver has no watchdog that ends it",
        remedy=EMULATE,
        call="command",
        code=errno.ETIME,
    )
