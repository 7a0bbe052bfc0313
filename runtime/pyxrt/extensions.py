"""pyxrt.ext, and the classes of the ELF flow, which the emulator does not serve."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from npuc.runtime.pyxrt.buffers import bo as _bo
from npuc.runtime.pyxrt.devices import device, hw_context
from npuc.runtime.pyxrt.enums import Enumeration
from npuc.runtime.pyxrt.errors import not_served, wrong_arguments
from npuc.runtime.pyxrt.runs import kernel as _kernel


class _Elf:
    def __init__(self, *_: Any) -> None:
        not_served(f"{type(self).__name__}: kernels that an elf describes")


class elf(_Elf):
    """A control-code ELF."""


class module(_Elf):
    """What an elf holds for a kernel."""


class program(_Elf):
    """What an elf holds for a context."""


class ExtensionAccess(Enumeration):
    none = 0
    read = 1
    write = 2
    read_write = 3
    local = 0
    shared = 4
    process = 8
    hybrid = 16


class _ExtensionBuffer(_bo):
    """A buffer of the host, without flags and groups."""

    access_mode = ExtensionAccess

    def __init__(self, on: device | hw_context, size: int, access: ExtensionAccess = ExtensionAccess.none) -> None:
        if not isinstance(access, ExtensionAccess):
            wrong_arguments("ext.bo", on, size, access)
        super().__init__(on, size, _bo.host_only, 0)


class _ExtensionKernel(_kernel):
    def __init__(self, on: hw_context, *names: Any) -> None:
        if len(names) != 1:
            not_served("ext.kernel with a module: kernels that an elf describes")
        super().__init__(on, names[0])


ext = SimpleNamespace(bo=_ExtensionBuffer, kernel=_ExtensionKernel, access_mode=ExtensionAccess)
