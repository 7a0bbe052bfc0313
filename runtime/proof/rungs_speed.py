"""The upper rungs: how long a submission takes, what operations of a sequence cost, how fast DDR is each way."""

from __future__ import annotations

import statistics

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.proof import design
from npuc.runtime.proof.machines import Machine, Pair, loaded
from npuc.runtime.proof.outcome import Differs, Findings, first_difference, words
from npuc.runtime.proof.rungs_basic import NOTHING, random_words
from npuc.runtime.proof.settings import Settings

OPERATIONS = 256
CHUNK = 2048
PATTERN = tuple(range(0x1000, 0x1000 + CHUNK))
RUNS = 3


def latency(machine: Machine, settings: Settings) -> Findings:
    """Of a sequence of nothing; and the slopes of longer sequences."""
    found = Findings()
    spare = NOTHING[0].address
    block = geometry.tile_address(0, 0, geometry.bd_offset("shim", 15))
    sequences: dict[str, tuple[txn.Operation, ...]] = {
        "nothing": NOTHING,
        f"{OPERATIONS} writes": NOTHING * OPERATIONS,
        f"{OPERATIONS} masked writes": (txn.MaskWrite(spare, 1, 0),) * OPERATIONS,
        f"{OPERATIONS} writes of 8 words": (txn.BlockWrite(block, (0,) * 8),) * OPERATIONS,
    }
    with loaded(machine, design.empty(NOTHING)) as pair:
        for name, operations in sequences.items():
            _, _, _, predicted = pair.run(operations, [])
            took = sorted(pair.here.run(operations, []).seconds for _ in range(settings.submissions))
            found.seconds(
                f"a submission of {name}", statistics.median(took), predicted.seconds, fastest=took[0],
                slowest=took[-1], cycles_predicted=predicted.cycles,
            )  # fmt: skip
    return found


def bandwidth(machine: Machine, settings: Settings) -> Findings:
    """All columns at once, and one alone: reading, writing, and both."""
    found = Findings()
    for columns in (1, geometry.COLUMNS):
        share = max(CHUNK, settings.bandwidth_bytes // 4 // columns // CHUNK * CHUNK)
        total = 4 * share * columns
        source = random_words(total // 4, 5)
        image = design.stream_in(columns, share, CHUNK)
        with loaded(machine, image) as pair:
            _timed(found, f"reading, {columns} columns", pair, image, [source], total)
        image = design.stream_out(columns, share, PATTERN)
        with loaded(machine, image) as pair:
            here, beside = _timed(found, f"writing, {columns} columns", pair, image, [bytes(total)], total)
            _require_written(here[0], beside[0], columns)
            found.words_compared += total // 4
        image = design.relay(columns, share, CHUNK)
        with loaded(machine, image) as pair:
            here, beside = _timed(found, f"both ways, {columns} columns", pair, image, [source, bytes(total)], total)
            _require_written(here[1], beside[1], columns)
            found.words_compared += total // 4
    return found


def _timed(
    found: Findings, what: str, pair: Pair, image: design.Image, buffers: list[bytes], total: int
) -> tuple[list[bytearray], list[bytearray]]:
    """The fastest of some runs; the buffers of the first here and beside."""
    here, beside, took, predicted = pair.run(image.operations, buffers)
    again = [pair.here.run(image.operations, [bytearray(data) for data in buffers]).seconds for _ in range(RUNS - 1)]
    fastest = min(took.seconds, *again)
    found.seconds(what, fastest, predicted.seconds, bytes=total, bytes_a_second=total / fastest)
    return here, beside


def _require_written(here: bytearray, beside: bytearray, columns: int) -> None:
    if here == beside:
        return
    at = first_difference(words(here), words(beside))
    assert at is not None
    got, want = words(here)[at], words(beside)[at]
    raise Differs(f"word {at} that {columns} columns wrote is {got:#010x} in place of {want:#010x}")
