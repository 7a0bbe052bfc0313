"""The figures of the validation page: each program emulated, beside what hardware measured (facts/silicon/silicon.md).

Measured values are published ones; the source of each is the section of the fact sheet that is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ml_dtypes import bfloat16

from npuc.compiler.diagnostics import InternalError
from npuc.runtime.backends import BackendSettings
from npuc.runtime.backends.emulator import Emulation
from npuc.runtime.emulator.timing import MACHINES
from npuc.runtime.proof import design
from npuc.runtime.trace_names import Names
from npuc.runtime.validation import programs

COPIES = {
    1: "a word read costs 1.05 cycles, fitted on single tasks of another machine; here it is 1.042",
    2: "two channels lose 2 % each beside one alone; the model has channels independent up to the array's bandwidth",
    4: "as with one; the measurement used two channels of each of two columns, the program one of each of four",
}
HOST = "the host: a call from Python costs 0.1 to 0.3 ms beside the array's time, over all published designs"
CHUNK, SHARE = 2048, 1 << 17  # words: of a memory tile's buffer; of a column in the shorter copy


@dataclass(frozen=True)
class Figure:
    """what, unit: in words. emulated. lowest, highest: measured. section: of the fact sheet. why: the deviation."""

    what: str
    unit: str
    emulated: float
    lowest: float
    highest: float
    section: str
    why: str

    @property
    def off(self) -> float:
        """By how much the emulated value leaves what was measured, of the nearer end; 0 inside."""
        nearest = min(max(self.emulated, self.lowest), self.highest)
        return self.emulated / nearest - 1


def figures() -> Iterator[Figure]:
    """All of them, in the order of the page."""
    yield product()
    yield inner_loop("bf16, 16 multiplies in 32 bundles", "vmac.f bml{0}, bml{0}, x0, x1, r4", 32, 16, 33)
    yield inner_loop("int8, 8 multiplies in 9 bundles", "vmac cm{0}, cm{0}, x0, x1, r5", 9, 8, 10)
    yield from copies()
    yield from element_wise()


def product() -> Figure:
    """A hand-scheduled product's cycles over those of an empty call; the result is checked."""
    random = np.random.default_rng(0)
    a, b = (random.integers(-8, 9, (programs.EDGE, programs.EDGE)).astype(bfloat16) for _ in range(2))
    _, out = _run(programs.product(a, b), 32, 4 * (8 + programs.EDGE**2))
    few, many, empty_few, empty_many = out[:4].tolist()
    tiles = out[8:].view(np.float32).reshape(8, 8, 4, 4).transpose(0, 2, 1, 3).reshape(programs.EDGE, programs.EDGE)
    want = (programs.FEW + programs.MANY) * (a.astype(np.float64) @ b.astype(np.float64))
    if not np.array_equal(tiles, want):
        raise InternalError("the product of 32x32x32 is wrong")
    cycles = ((many - few) - (empty_many - empty_few)) / (programs.MANY - programs.FEW)
    why = "none: 288 bundles, 256 of which multiply, less the 6 of an empty call"
    what = "matrix product 32x32x32 bf16, hand-scheduled, over an empty call"
    return Figure(what, "cycles", cycles, 282, 282, "1", why)


def inner_loop(what: str, multiply: str, bundles: int, multiplies: int, measured: int) -> Figure:
    """A pass of the inner loop of a compiled product, whose one pair of loads meets in a bank."""
    _, out = _run(programs.inner_loop(multiply, bundles, multiplies, together=True), 32, 8)
    cycles = int(out[1] - out[0]) / (10 * (programs.MANY - programs.FEW))
    why = "none: a bundle a cycle, and one cycle for two loads of one bank"
    return Figure(f"a pass of a compiled product's inner loop, {what}", "cycles", cycles, measured, measured, "10", why)


def copies() -> Iterator[Figure]:
    """DDR to memory tiles and back, the slope over the length, on the machine that was measured."""
    machine = MACHINES["8700g"]
    for columns, measured in ((1, 6.899), (2, 13.548), (4, 28.1)):
        took = []
        for words in (SHARE, 2 * SHARE):
            image, size = design.relay(columns, words, CHUNK), 4 * words * columns
            given = np.random.default_rng(columns).integers(0, 1 << 32, size // 4, dtype=np.uint32)
            cycles, out = _run(image, size, size, given, machine.name)
            if not np.array_equal(out, given):
                raise InternalError(f"the copy over {columns} channels changes words")
            took.append(cycles)
        rate = 4 * SHARE * columns * machine.clock_hz / (took[1] - took[0]) / 1e9
        what = f"copy through DDR and back, {columns} channel{'s' if columns > 1 else ''} each way"
        yield Figure(what, "GB/s each way", rate, measured, measured, "7", COPIES[columns])


def element_wise() -> Iterator[Figure]:
    """GELU of int8: a call from Python was measured, so the host's part is in what was measured alone."""
    machine = MACHINES["8945hs"]
    table = programs.gelu_table(1 / 32)
    for elements, lowest, highest in ((512, 0.126, 0.161), (2048, 0.151, 0.171)):
        given = np.random.default_rng(elements).integers(-128, 128, elements, dtype=np.int8)
        image = programs.gelu(elements, table.tolist())
        cycles, out = _run(image, elements, elements, given.view(np.uint32), machine.name)
        if not np.array_equal(out.view(np.int8), table[given.astype(np.int64) + 128]):
            raise InternalError("GELU of int8 is wrong")
        what = f"GELU of {elements:,} int8, an element at a time"
        yield Figure(what, "ms", 1e3 * cycles / machine.clock_hz, lowest, highest, "10", HOST)


def _run(
    image: design.Image, size_in: int, size_out: int, given: np.ndarray | None = None, machine: str = "phoenix"
) -> tuple[int, np.ndarray]:
    """Cycles of one run, and the words of the second buffer."""
    emulation = Emulation(image.pdi, image.columns, BackendSettings(machine), Names("validation"))
    buffers = [bytearray(size_in) if given is None else bytearray(given.tobytes()), bytearray(size_out)]
    report = emulation.run(image.operations, buffers)
    assert report.cycles is not None
    return report.cycles, np.frombuffer(bytes(buffers[1]), np.uint32)
