"""uuid, xclbin and what it lists."""

from __future__ import annotations

import uuid as _uuid
from typing import Any

from npuc.compiler.diagnostics import NpucError
from npuc.compiler.emit.xclbin import KernelEntry, Xclbin, read_xclbin
from npuc.compiler.emit.xclbin_sections import Memory
from npuc.runtime.pyxrt.errors import not_served
from npuc.runtime.pyxrt.signatures import TEXT, chosen, overload


class uuid:
    """Of an xclbin, by its text."""

    def __init__(self, *given: Any, **named: Any) -> None:
        _, (text,) = chosen("uuid.__init__", (overload(TEXT),), given, named)
        try:
            self._value = _uuid.UUID(text)
        except ValueError as reason:
            raise RuntimeError(f"invalid uuid '{text}'") from reason

    def to_string(self) -> str:
        return str(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, uuid) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class xclbinip:
    """A compute unit: `<kernel>:<instance>`."""

    def __init__(self, name: str = "") -> None:
        self._name = name

    def get_name(self) -> str:
        return self._name


class xclbinkernel:
    """A kernel of an xclbin."""

    def __init__(self, entry: KernelEntry | None = None) -> None:
        self._entry = entry

    def get_name(self) -> str:
        return self._entry.name if self._entry is not None else ""

    def get_num_args(self) -> int:
        description = self._entry.description if self._entry is not None else None
        return len(description.arguments) if description is not None else 0


class xclbinmem:
    """A memory bank of an xclbin."""

    def __init__(self, memory: Memory | None = None, index: int = 0) -> None:
        self._memory, self._index = memory or Memory("", 0, 0, used=0), index

    def get_tag(self) -> str:
        return self._memory.tag

    def get_base_address(self) -> int:
        return self._memory.base

    def get_size_kb(self) -> int:
        return self._memory.size_kib

    def get_used(self) -> bool:
        return bool(self._memory.used)

    def get_index(self) -> int:
        return self._index


class xclbin:
    """A file with kernels."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """xclbin(), xclbin(path)."""
        self._file: Xclbin | None = None
        _, values = chosen("xclbin.__init__", (overload(), overload(TEXT)), given, named)
        if not values:
            return
        (path,) = values
        try:
            with open(path, "rb") as stream:
                self._file = read_xclbin(stream.read())
        except OSError as reason:
            raise RuntimeError(f"Failed to open file '{path}' for reading: {reason.strerror}") from reason
        except ValueError as reason:  # a zero byte in it
            raise RuntimeError(f"Failed to open file {path!r} for reading") from reason
        except NpucError as reason:
            raise RuntimeError(f"Invalid xclbin: {reason.message}") from reason

    @property
    def contents(self) -> Xclbin:
        """What was read; RuntimeError for an xclbin without a file."""
        if self._file is None:
            raise RuntimeError("xclbin has no file")
        return self._file

    def get_kernels(self) -> list[xclbinkernel]:
        return [xclbinkernel(entry) for entry in self.contents.kernels]

    def get_ips(self) -> list[xclbinip]:
        return [xclbinip(instance.name) for instance in self.contents.instances]

    def get_uuid(self) -> uuid:
        return uuid(self.contents.uuid)

    def get_mems(self) -> list[xclbinmem]:
        return [xclbinmem(memory, index) for index, memory in enumerate(self.contents.memories)]

    def get_xsa_name(self) -> str:
        return self.contents.platform

    def get_axlf(self) -> Any:
        not_served("xclbin.get_axlf: the file's bytes as a C structure")


# As pybind nests them.
xclbin.xclbinip, xclbin.xclbinkernel, xclbin.xclbinmem = xclbinip, xclbinkernel, xclbinmem  # type: ignore[attr-defined]
