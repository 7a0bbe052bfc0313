"""The system's own calls, on what every Linux has, and memory of this process as the software driver reads it."""

from __future__ import annotations

import ctypes
import errno
import os
import sys

import pytest

from npuc.compiler.diagnostics import BackendError
from npuc.runtime.devices import abi, system_calls
from npuc.runtime.devices.client import Client
from npuc.runtime.devices.failures import DeviceFailure
from npuc.runtime.devices.software_memory import Buffer, Heap, read_user, write_user
from npuc.runtime.devices.system_calls import LinuxCalls, Pinned

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's calls")


@linux
@pytest.mark.parametrize("alignment", [abi.PAGE, 1 << 16, 1 << 20])
def test_mappings_are_aligned_shared_and_given_back(tmp_path, alignment):
    path, calls = tmp_path / "file", LinuxCalls()
    path.write_bytes(bytes(3 * abi.PAGE))
    descriptor = calls.open(str(path))
    try:
        mapping = calls.map(descriptor, 2 * abi.PAGE, abi.PAGE, alignment)
        assert mapping.address % alignment == 0 and len(mapping.view) == 2 * abi.PAGE
        mapping.view[:4] = b"here"
        assert path.read_bytes()[abi.PAGE : abi.PAGE + 4] == b"here"
        calls.unmap(mapping)
        with pytest.raises(OSError) as caught:
            read_user(mapping.address, 1)
        assert caught.value.errno == errno.EFAULT
        with pytest.raises(ValueError, match="released"):
            mapping.view[0]
        with pytest.raises(OSError) as caught:
            calls.map(descriptor, abi.PAGE, 7)  # no multiple of a page
        assert caught.value.errno == errno.EINVAL
    finally:
        calls.close(descriptor)


@linux
def test_a_node_that_is_no_npu_is_told_so():
    for node, code in (("/dev/null", errno.ENOTTY), ("/dev/accel/none", errno.ENOENT)):
        with pytest.raises(DeviceFailure) as caught:
            Client(LinuxCalls(), node)
        assert caught.value.code == code and caught.value.remedy
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BackendError):
        Client(LinuxCalls(), "/dev/null")
    assert len(os.listdir("/proc/self/fd")) == before


def test_pinned_bytes_lie_where_they_say():
    pinned = Pinned(b"some bytes")
    assert ctypes.string_at(pinned.address, 10) == b"some bytes" == read_user(pinned.address, 10)
    write_user(pinned.address + 5, b"BYTES")
    assert pinned.data == b"some BYTES" and Pinned(b"").data == b""
    assert read_user(0, 0) == b""
    with pytest.raises(OSError) as caught:
        read_user(0, 4)
    assert caught.value.errno == errno.EFAULT


def test_the_heap_gives_aligned_parts_fills_gaps_and_says_when_it_is_full():
    heap = Heap(Buffer(abi.BO_DEV_HEAP, abi.HEAP_BYTES, 0))
    first, second, third = (heap.take(size) for size in (1, abi.DEV_BO_ALIGNMENT + 1, abi.PAGE))
    assert first == abi.HEAP_BASE and second - first == abi.DEV_BO_ALIGNMENT
    assert third - second == 2 * abi.DEV_BO_ALIGNMENT and heap.used == 4 * abi.DEV_BO_ALIGNMENT
    heap.give_back(second)
    assert heap.take(2 * abi.DEV_BO_ALIGNMENT) == second
    with pytest.raises(OSError) as caught:
        heap.take(abi.HEAP_BYTES)
    assert caught.value.errno == errno.ENOSPC


def test_a_stand_in_is_there_within_its_block_alone():
    before = system_calls.stand_in()
    with system_calls.replaced(LinuxCalls()) as calls:
        assert system_calls.present() is calls
        with system_calls.replaced(LinuxCalls()) as inner:
            assert system_calls.present() is inner
        assert system_calls.present() is calls
    assert system_calls.stand_in() is before
