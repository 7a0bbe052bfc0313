"""Failures as XRT's module raises them: RuntimeError with the request and the errno's text."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from npuc.compiler.diagnostics import NpucError
from npuc.runtime.devices.abi import CORE_REQUESTS
from npuc.runtime.devices.failures import DeviceFailure


def failed(text: str, code: int) -> RuntimeError:
    """With an errno, as XRT prints it."""
    return RuntimeError(f"{text} (err={code}): {os.strerror(code)}")


def invalid(text: str) -> RuntimeError:
    """A wrong argument, as XRT's own checks print it."""
    return RuntimeError(f"{text}: {os.strerror(errno.EINVAL)}")


@contextmanager
def as_xrt() -> Iterator[None]:
    """Failures of the client below as RuntimeError."""
    try:
        yield
    except DeviceFailure as reason:
        if reason.code is None:
            raise RuntimeError(reason.message) from reason
        raise failed(_WORDS.get(reason.call) or _request(reason.call), reason.code) from reason
    except NpucError as reason:
        raise RuntimeError(str(reason)) from reason


_WORDS = {"open": "Failed to open KMQ device fd", "mmap": "mmap failed", "munmap": "munmap failed"}


def _request(name: str) -> str:
    return f"DRM_IOCTL_{'' if name in CORE_REQUESTS else 'AMDXDNA_'}{name} IOCTL failed"


def not_served(what: str) -> NoReturn:
    """For calls of pyxrt that the emulator has nothing for."""
    raise NotImplementedError(f"npuc.pyxrt does not serve {what}")
