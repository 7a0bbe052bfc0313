"""device and hw_context."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import weakref
from typing import Any

from npuc.compiler.diagnostics import NpucError
from npuc.compiler.emit.xclbin import KernelEntry, Xclbin
from npuc.compiler.emit.xclbin_metadata import KernelDescription
from npuc.runtime.backends.amdxdna import clients
from npuc.runtime.devices import system_calls
from npuc.runtime.devices.client import ArrayImage, Client, Context
from npuc.runtime.devices.software import SoftwareDevice
from npuc.runtime.devices.system_calls import SystemCalls
from npuc.runtime.pyxrt.enums import Enumeration, xrt_info_device
from npuc.runtime.pyxrt.errors import as_xrt, failed, not_served, wrong_arguments
from npuc.runtime.pyxrt.files import uuid, xclbin

NAME = "RyzenAI-npu1"
BDF = "0000:00:00.1"


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

    def __init__(self, which: int | str | None = None) -> None:
        self._files: dict[uuid, xclbin] = {}
        self._loaded: uuid | None = None
        self._client: Client | None = None
        if which is None:
            return
        if isinstance(which, bool) or not isinstance(which, int | str):
            wrong_arguments("device", which)
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

    def register_xclbin(self, file: xclbin) -> uuid:
        if not isinstance(file, xclbin):
            wrong_arguments("register_xclbin", file)
        identity = file.get_uuid()
        self._files[identity] = file
        return identity

    def load_xclbin(self, file: str | xclbin) -> uuid:
        """Of other devices; the NPU's shim has contexts only."""
        raise failed("load_xclbin: use register_xclbin and hw_context", errno.EOPNOTSUPP)

    def get_xclbin_uuid(self) -> uuid:
        raise failed("get_xclbin_uuid: no xclbin is loaded", errno.EOPNOTSUPP)

    def file_of(self, identity: uuid) -> xclbin:
        """A registered xclbin."""
        if identity not in self._files:
            raise RuntimeError(f"No such xclbin '{identity.to_string()}'")
        return self._files[identity]

    def get_info(self, key: xrt_info_device) -> str:
        """What is known of the emulated device; the rest is not served."""
        if not isinstance(key, xrt_info_device):
            wrong_arguments("get_info", key)
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


class hw_context:
    """A partition of the NPU with the compute units of an xclbin."""

    access_mode = AccessMode
    exclusive, shared = AccessMode.exclusive, AccessMode.shared

    def __init__(self, on: device | None = None, what: uuid | xclbin | str | None = None, *rest: Any) -> None:
        self._context: Context | None = None
        self._mode = AccessMode.shared
        if on is None and what is None:
            return
        if isinstance(what, dict):
            not_served("hw_context(device, dict, mode): contexts that an elf configures")
        if isinstance(what, str | os.PathLike):
            what = xclbin(os.fspath(what))
        if not isinstance(on, device) or not isinstance(what, uuid | xclbin):
            wrong_arguments("hw_context", on, what, *rest)
        for value in rest:
            if isinstance(value, AccessMode):
                self._mode = value
            elif not isinstance(value, dict):
                wrong_arguments("hw_context", on, what, *rest)
        self.device = on
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

    def add_config(self, elf: Any) -> None:
        not_served("hw_context.add_config: contexts that an elf configures")


def give_back(held: Any, *on: Any) -> None:
    """Close a context, a buffer or a command. on: what must be there as long as it is, which is why it is passed."""
    with contextlib.suppress(NpucError):
        held.close()
