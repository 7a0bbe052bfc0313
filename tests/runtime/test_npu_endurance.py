"""Many calls of several kernels from several threads: memory, descriptors and buffers stay as they are."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from small_kernels import compiled

import npuc
from npuc.runtime.arguments import draw
from npuc.runtime.devices import system_calls
from npuc.runtime.devices.software import SoftwareDevice, Taken

KERNELS = ({}, {"head_dim": 32, "query_length": 16, "key_length": 48, "causal": True},
           {"head_dim": 8, "query_length": 32})  # fmt: skip
INPUTS = 3  # of each kernel
BLOCKS = 4000  # of Python's memory, beyond those after the first calls; a call takes some hundreds
RESIDENT_GROWTH = 48 << 20  # bytes of the process, whose allocators keep what threads had


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    statistics = Path("/proc/self/statm")
    return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statistics.exists() else 0


def descriptors() -> int:
    """Open descriptors of this process; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


class Work:
    """The kernels loaded, their inputs, and what the emulator makes of them."""

    def __init__(self) -> None:
        images = [compiled(1, **shape).xclbin for shape in KERNELS]  # type: ignore[arg-type]
        self.kernels = [npuc.load(image, backend="amdxdna", fallback=()) for image in images]
        self.inputs, self.wanted = [], []
        for image in images:
            with npuc.load(image, backend="emulator", fallback=()) as exe:
                given = [draw(exe.kernel.arguments, seed) for seed in range(INPUTS)]
                self.inputs.append(given)
                self.wanted.append([exe(**arrays) for arrays in given])
        self.wrong: list[tuple[int, int]] = []

    def call(self, number: int) -> None:
        kernel, seed = number % len(KERNELS), number // len(KERNELS) % INPUTS
        exe, given = self.kernels[kernel], self.inputs[kernel][seed]
        result = exe.submit(**given).result() if number % 2 else exe(**given)
        if not np.array_equal(result, self.wanted[kernel][seed]):
            self.wrong.append((kernel, seed))

    def calls(self, count: int, threads: int) -> None:
        """`count` calls, dealt out to threads."""
        failed: list[BaseException] = []

        def work(first: int) -> None:
            try:
                for number in range(first, count, threads):
                    self.call(number)
            except BaseException as error:
                failed.append(error)

        workers = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not failed and not self.wrong, failed or self.wrong
        gc.collect()


def stays_as_it_is(count: int, threads: int) -> None:
    device = SoftwareDevice()
    with system_calls.replaced(device):
        work = Work()
        work.calls(max(3 * threads, 24, count // 20), threads)  # all places are taken, all code is translated
        for exe, given in zip(work.kernels, work.inputs, strict=True):  # each kernel's two places at once
            for future in [exe.submit(**given[0]) for _ in range(3)]:
                future.result()
        work.calls(threads, threads)
        held, opened, size, blocks = device.taken, descriptors(), resident(), sys.getallocatedblocks()
        work.calls(count, threads)
        assert device.taken == held and held.contexts == len(KERNELS) and held.descriptors == 1
        assert descriptors() == opened
        more, grown = sys.getallocatedblocks() - blocks, resident() - size
        print(f"{count} calls, {threads} threads: {more} blocks, {grown} resident bytes more, {held}")
        assert more < BLOCKS and grown < RESIDENT_GROWTH
        for exe in work.kernels:
            exe.close()
    assert device.taken == Taken() and device.complaints == []


def test_sixty_calls_of_four_threads_leave_everything_as_it_was() -> None:
    stays_as_it_is(60, 4)


@pytest.mark.slow
def test_ten_thousand_calls_of_eight_threads_leave_everything_as_it_was() -> None:
    stays_as_it_is(10_000, 8)
