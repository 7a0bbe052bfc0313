"""pyxrt.ext, and the classes of the ELF flow, which the emulator does not serve."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from npuc.runtime.pyxrt.buffers import bo as _bo
from npuc.runtime.pyxrt.devices import device, hw_context
from npuc.runtime.pyxrt.enums import Enumeration
from npuc.runtime.pyxrt.errors import not_served
from npuc.runtime.pyxrt.runs import kernel as _kernel
from npuc.runtime.pyxrt.signatures import SIZE, TEXT, chosen, instance, overload


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

    def __or__(self, other: object) -> ExtensionAccess:
        return ExtensionAccess(self.value | other.value) if isinstance(other, ExtensionAccess) else NotImplemented

    def __and__(self, other: object) -> ExtensionAccess:
        return ExtensionAccess(self.value & other.value) if isinstance(other, ExtensionAccess) else NotImplemented


class _ExtensionBuffer(_bo):
    """A buffer of the host, without flags and groups."""

    access_mode = ExtensionAccess  # where earlier versions have it

    def __init__(self, *given: Any, **named: Any) -> None:
        """ext.bo(device or hwctx, size[, access])."""
        size, access = ("size", SIZE), ("access", instance(ExtensionAccess, "ext.access_mode"))
        places = (("device", instance(device)), ("hwctx", instance(hw_context)))
        overloads = [overload(on, size, *rest) for on in places for rest in ((access,), ())]
        _, (on, length, *_) = chosen("ext.bo.__init__", overloads, given, named)
        super().__init__(on, length, _bo.host_only, 0)


class _ExtensionKernel(_kernel):
    def __init__(self, *given: Any, **named: Any) -> None:
        """ext.kernel(hwctx, name)."""
        context, name = ("hwctx", instance(hw_context)), ("name", TEXT)
        overloads = (overload(context, name), overload(context, ("module", instance(object, "module")), name))
        way, (on, *_, called) = chosen("ext.kernel.__init__", overloads, given, named)
        if way:
            not_served("ext.kernel with a module: kernels that an elf describes")
        super().__init__(on, called)


ext = ModuleType("npuc.pyxrt.ext", "Extended buffers and kernels.")
for _name, _value in {
    "bo": _ExtensionBuffer, "kernel": _ExtensionKernel, "access_mode": ExtensionAccess, **ExtensionAccess.__members__
}.items():  # fmt: skip
    setattr(ext, _name, _value)
