"""Opening a device node, and what its driver says of the device (facts/platform/amdxdna.md, amdxdna_abi.json)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from typing import Any

from npuc.runtime.doctor.system import Node

DRM_IOCTL_VERSION = 0xC0406400
DRM_IOCTL_AMDXDNA_GET_INFO = 0xC0106447
QUERY_AIE_METADATA, QUERY_AIE_VERSION, QUERY_CLOCKS, QUERY_FIRMWARE_VERSION = 1, 2, 3, 8
BYTES = {QUERY_AIE_METADATA: 64, QUERY_AIE_VERSION: 8, QUERY_CLOCKS: 48, QUERY_FIRMWARE_VERSION: 16}


def opened(path: str) -> Node:
    """Opens the node as a program would, asks its driver, closes it. Whatever fails is told by the errno's name."""
    mode: int | None = None
    gid: int | None = None
    with contextlib.suppress(OSError):
        status = os.stat(path)
        mode, gid = status.st_mode & 0o777, status.st_gid
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        return Node(path, mode, gid, tried=True, error=_name(error))
    try:
        driver, version = _driver(descriptor)
        answers = _answers(descriptor) if driver == "amdxdna" else {}
    finally:
        os.close(descriptor)
    told, remedy = refused(path) if driver == "amdxdna" else (None, None)
    return Node(path, mode, gid, True, None, driver, version, answers, told, remedy)


def refused(path: str) -> tuple[str | None, str | None]:
    """Why the node does not serve a client, with the remedy: version, metadata and the locked heap are tried."""
    from npuc.compiler.diagnostics import BackendError
    from npuc.runtime.devices import client, system_calls

    try:
        client.Client(system_calls.present(), path).close()
    except BackendError as error:
        return error.message, error.remedy
    return None, None


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def _ioctl(descriptor: int, request: int, argument: bytearray) -> None:
    import fcntl

    fcntl.ioctl(descriptor, request, argument, True)


def _driver(descriptor: int) -> tuple[str | None, str | None]:
    """Name and version by struct drm_version: three ints, then length and pointer of name, date and description."""
    name = ctypes.create_string_buffer(64)
    argument = bytearray(struct.pack("<3i4xQQQQQQ", 0, 0, 0, 63, ctypes.addressof(name), 0, 0, 0, 0))
    try:
        _ioctl(descriptor, DRM_IOCTL_VERSION, argument)
    except OSError:
        return None, None
    return name.value.decode(errors="replace"), ".".join(map(str, struct.unpack_from("<3i", argument)))


def _query(descriptor: int, parameter: int) -> bytes | str:
    """The driver's answer, or the errno's name."""
    answer = ctypes.create_string_buffer(BYTES[parameter])
    argument = bytearray(struct.pack("<IIQ", parameter, len(answer), ctypes.addressof(answer)))
    try:
        _ioctl(descriptor, DRM_IOCTL_AMDXDNA_GET_INFO, argument)
    except OSError as error:
        return _name(error)
    return answer.raw


def _answers(descriptor: int) -> dict[str, Any]:
    """firmware, aie: versions. columns, rows. clocks: megahertz by name. errors: of the queries that fail."""
    found: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, parameter in (
        ("firmware", QUERY_FIRMWARE_VERSION), ("aie", QUERY_AIE_VERSION), ("array", QUERY_AIE_METADATA),
        ("clocks", QUERY_CLOCKS),
    ):  # fmt: skip
        answer = _query(descriptor, parameter)
        if isinstance(answer, str):
            errors[name] = answer
        elif name == "array":
            found["columns"], found["rows"] = struct.unpack_from("<HH", answer, 4)
        elif name == "clocks":
            pairs = (struct.unpack_from("<16sI", answer, at) for at in (0, 24))
            found["clocks"] = {text.split(b"\0")[0].decode(errors="replace"): mhz for text, mhz in pairs}
        else:
            found[name] = ".".join(map(str, struct.unpack(f"<{len(answer) // 4}I", answer)))
    return {**found, "errors": errors} if errors else found
