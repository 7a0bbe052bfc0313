"""device and hw_context."""

from __future__ import annotations

import errno
import functools
import time
import weakref
from typing import Any

from npuc.compiler.emit.xclbin import KernelEntry, Xclbin
from npuc.compiler.emit.xclbin_metadata import KernelDescription
from npuc.runtime.backends.amdxdna import clients
from npuc.runtime.devices import system_calls
from npuc.runtime.devices.client import ArrayImage, Client, Context
from npuc.runtime.devices.giving_back import closed
from npuc.runtime.devices.software import SoftwareDevice
from npuc.runtime.devices.system_calls import SystemCalls
from npuc.runtime.pyxrt.enums import Enumeration, xrt_info_device
from npuc.runtime.pyxrt.errors import as_xrt, failed, not_served
from npuc.runtime.pyxrt.files import uuid, xclbin
from npuc.runtime.pyxrt.signatures import CONFIGURATION, TEXT, UNSIGNED, chosen, instance, overload

NAME = "RyzenAI-npu1"
BDF = "0000:00:00.1"
SLICE = 0.05  # seconds after which a wait looks whether the emulator is at work


@functools.cache
def _own_device() -> SoftwareDevice:
    return SoftwareDevice()


def calls() -> SystemCalls:
    """The software device: one that stands in already, else this module's own."""
    return system_calls.stand_in() or _own_device()


def enumerate_devices() -> int:
    """How many there are."""
    return len(calls().nodes())


class device:
    """An NPU: the emulated one."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """device(), device(index), device(bdf)."""
        self._files: dict[uuid, xclbin] = {}
        self._client: Client | None = None
        overloads = (overload(), overload(("index", UNSIGNED)), overload(("bdf", TEXT)))
        way, values = chosen("device.__init__", overloads, given, named)
        if not way:
            return
        (which,) = values
        nodes = calls().nodes()
        if isinstance(which, str):
            if which not in (BDF, BDF.partition(":")[2]):
                raise RuntimeError(f"No such device '{which}'")
            which = 0
        if not 0 <= which < len(nodes):
            raise RuntimeError(f"No such device with index '{which}'")
        with as_xrt():
            self._client = clients.take(calls(), nodes[which])
        weakref.finalize(self, clients.give_back, self._client)

    @property
    def client(self) -> Client:
        """What speaks to the driver; RuntimeError for an empty device."""
        if self._client is None:
            raise RuntimeError("Invalid device handle")
        return self._client

    def register_xclbin(self, *given: Any, **named: Any) -> uuid:
        """register_xclbin(xclbin): its UUID."""
        _, (file,) = chosen("register_xclbin", (overload(("xclbin", instance(xclbin))),), given, named)
        identity = file.get_uuid()
        self._files[identity] = file
        return identity

    def load_xclbin(self, *given: Any, **named: Any) -> uuid:
        """Of other devices; the NPU's shim has contexts only."""
        overloads = (overload(("xclbin_path", TEXT)), overload(("xclbin", instance(xclbin))))
        chosen("load_xclbin", overloads, given, named)
        raise failed("load_xclbin: use register_xclbin and hw_context", errno.EOPNOTSUPP)

    def get_xclbin_uuid(self) -> uuid:
        raise failed("get_xclbin_uuid: no xclbin is loaded", errno.EOPNOTSUPP)

    def file_of(self, identity: uuid) -> xclbin:
        """A registered xclbin."""
        if identity not in self._files:
            raise RuntimeError(f"No such xclbin '{identity.to_string()}'")
        return self._files[identity]

    def get_info(self, *given: Any, **named: Any) -> str:
        """get_info(key): what is known of the emulated device; the rest is not served."""
        _, (key,) = chosen("get_info", (overload(instance(xrt_info_device)),), given, named)
        known = {
            xrt_info_device.name: NAME,
            xrt_info_device.bdf: BDF,
            xrt_info_device.offline: "0",
            xrt_info_device.interface_uuid: str(uuid("0" * 32).to_string()),
        }
        if key not in known:
            not_served(f"device.get_info({key})")
        return known[key]


def compute_units(file: Xclbin) -> list[tuple[str, KernelEntry, ArrayImage]]:
    """(unit, its kernel, its image): of each kernel, the instances of that name, where a PDI serves its id."""
    served = {number for image in file.pdis for number in image.kernel_ids}
    units = []
    for entry in file.kernels:
        if entry.kernel_id not in served:
            continue
        functional = entry.description.functional if entry.description is not None else 0
        image = ArrayImage(file.pdi_of(entry), functional)
        names = [instance.name for instance in file.instances if instance.name.startswith(f"{entry.name}:")]
        units += [(name, entry, image) for name in names]
    return units


class AccessMode(Enumeration):
    exclusive = 0
    shared = 1


_FILES = (("uuid", instance(uuid)), ("xclbin", instance(xclbin)), ("xclbin_path", TEXT))
_MODE, _SETTINGS = ("mode", instance(AccessMode, "hw_context.access_mode")), ("cfg_param", CONFIGURATION)
_CONTEXTS = (
    overload(),
    *(overload(("device", instance(device)), file, *rest) for file in _FILES for rest in ((), (_MODE,), (_SETTINGS,))),
)
_STAGED = len(_CONTEXTS)  # number of the overload that follows: a context that an elf configures later


class hw_context:
    """A partition of the NPU with the compute units of an xclbin."""

    access_mode = AccessMode
    exclusive, shared = AccessMode.exclusive, AccessMode.shared

    def __init__(self, *given: Any, **named: Any) -> None:
        """hw_context(), hw_context(device, UUID or xclbin or path[, mode or cfg_param])."""
        self._context: Context | None = None
        self._mode = AccessMode.shared
        staged = overload(("device", instance(device)), _SETTINGS, _MODE)
        way, values = chosen("hw_context.__init__", (*_CONTEXTS, staged), given, named)
        if not way:
            return
        if way == _STAGED:
            not_served("hw_context(device, cfg_param, mode): contexts that an elf configures")
        on, what, *rest = values
        self._mode = next((value for value in rest if isinstance(value, AccessMode)), self._mode)
        self.device = on
        if isinstance(what, str):
            what = xclbin(what)
        if isinstance(what, xclbin):
            on.register_xclbin(what)
        self.file = what if isinstance(what, xclbin) else on.file_of(what)
        self._open(on.client, self.file.contents)

    def _open(self, client: Client, contents: Xclbin) -> None:
        self.units = compute_units(contents)
        if not self.units:
            raise failed("No valid DPU kernel found in xclbin", errno.EINVAL)
        with as_xrt():
            self._context = Context(client, contents.columns, [image for _, _, image in self.units])
        weakref.finalize(self, give_back, self._context, self.device)

    @property
    def context(self) -> Context:
        """RuntimeError for an empty one."""
        if self._context is None:
            raise RuntimeError("Invalid hw_context handle")
        return self._context

    def unit_of(self, name: str) -> tuple[int, KernelDescription]:
        """Number and description of the unit that a kernel's name means: NAME, or NAME:{INSTANCE}."""
        kernel, _, instances = name.partition(":")
        wanted = instances.strip("{}")
        for number, (unit, entry, _) in enumerate(self.units):
            if entry.name == kernel and wanted in ("", unit.partition(":")[2]) and entry.description is not None:
                return number, entry.description
        raise RuntimeError(f"No such kernel '{name}'")

    def get_device(self) -> device:
        return self.device

    def get_xclbin_uuid(self) -> uuid:
        return self.file.get_uuid()

    def get_xclbin(self) -> xclbin:
        return self.file

    def get_mode(self) -> AccessMode:
        return self._mode

    def waited(self, number: int, seconds: float | None) -> bool:
        """Whether a command has ended within that time of the device's: emulation may take as long as it takes."""
        left = seconds
        while True:
            began = time.monotonic()
            if self.context.wait(number, None if left is None else min(left, SLICE)):
                return True
            if left is not None and not getattr(self.device.client.calls, "computing", False):
                left -= time.monotonic() - began
                if left <= 0:
                    return False

    def add_config(self, elf: Any) -> None:
        not_served("hw_context.add_config: contexts that an elf configures")


def give_back(held: Any, *on: Any) -> None:
    """Close a context, a buffer or a command. on: what must be there as long as it is, which is why it is passed."""
    closed(held.close)
