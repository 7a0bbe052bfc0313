"""What a run leaves in the array is a warning, in strict mode an error; what an image holds ahead is neither."""

from __future__ import annotations

import numpy as np
import pytest
from small_design import (
    BLOCKS,
    CORE,
    EMPTY,
    FULL,
    IN_EMPTY,
    IN_FULL,
    MEMTILE,
    OUT,
    OUT_EMPTY,
    OUT_FULL,
    OWN,
    SHIM,
    WORDS,
    Design,
    port,
    program,
    transfer,
)

from npuc.compiler.emit import cdo, txn
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.descriptors import Descriptor
from npuc.passes.array.router import Connection
from npuc.runtime.emulator.device import Device
from npuc.runtime.emulator.errors import EmulationError

END = "the sequence has ended and "


def outcome(design: Design) -> tuple[str, str]:
    """The one warning of a run, and the error of a strict one."""
    (warning,) = fresh(design).run().warnings
    with pytest.raises(EmulationError) as caught:
        fresh(design).run(strict=True)
    return warning, str(caught.value)


def fresh(design: Design) -> Design:
    """The same design with buffers of its own."""
    from copy import deepcopy

    return deepcopy(design)


def resend(design: Design, core_words: int, blocks: int = BLOCKS) -> None:
    """Output goes through the memory tile, whose descriptors take WORDS words each; the core sends core_words."""
    design.connections = [
        c for c in design.connections if c.source not in (port(MEMTILE, "north", 0), port(SHIM, "north", 0))
    ]
    design.connections += [
        Connection(port(MEMTILE, "north", 0), port(MEMTILE, "dma", 2)),
        Connection(port(MEMTILE, "dma", 2), port(MEMTILE, "south", 0)),
        Connection(port(SHIM, "north", 0), port(SHIM, "south", 2)),
    ]
    out = 0x8000
    for number, acquire, release in ((6, (2, -1), (3, 1)), (7, (3, -1), (2, 1))):
        design.descriptors[MEMTILE, number] = Descriptor(
            "memtile", number, out, WORDS, acquire=acquire, release=release, next=number
        )
    design.locks[MEMTILE, 2] = 1
    design.starts += [(MEMTILE, "s2mm", 2, 6), (MEMTILE, "mm2s", 2, 7)]
    design.descriptors[CORE, 1] = Descriptor(
        "core", 1, OUT, core_words, acquire=(OUT_FULL, -1), release=(OUT_EMPTY, 1), next=1
    )


def test_a_run_that_takes_all_it_sends_warns_of_nothing():
    design = Design()
    resend(design, WORDS)
    assert fresh(design).run().warnings == () and fresh(design).run(strict=True).warnings == ()


def test_a_descriptor_of_one_word_too_many_is_told_where_the_words_lie():
    """0x101 words for 0x100: every later run's output moves by what is left."""
    design = Design()
    resend(design, WORDS + 1)
    design.extra.append(cdo.Write(geometry.tile_address(*CORE, OUT + 4 * WORDS), 7))
    warning, error = outcome(design)
    for text in (warning, error):
        assert END + "descriptor 6 of S2MM 2 of memtile(0,1) is half done: 4 of 32 words have come" in text, text
    device = Device(1)
    device.load_pdi(design.pdi())
    for number in range(2):
        raw = [bytearray(buffer.tobytes()) for buffer in design.buffers]
        device.run(design.operations, raw, 1_000_000)
        right = np.array_equal(np.frombuffer(bytes(raw[1]), np.uint32)[:WORDS], design.buffers[0][:WORDS] + 1)
        assert right == (number == 0), "the run after is the one that goes wrong"


def test_words_for_the_host_that_it_does_not_take():
    design = Design()
    design.operations = [
        *transfer(1, 1, "s2mm", words=WORDS * BLOCKS - 8, token=True),
        *transfer(0, 0, "mm2s"),
        txn.Sync(0, 0, 0, 0),
    ]
    warning, error = outcome(design)
    assert warning.startswith(END + "8 words from MM2S 0 of core(0,2) wait for S2MM 0 of shim(0,0), which has no task")
    assert END + "8 words from MM2S 0 of core(0,2) wait for S2MM 0 of shim(0,0), which has no task" in error


def test_input_that_fills_no_whole_buffer():
    design = Design()
    design.buffers[0] = design.buffers[0].repeat(2)
    design.operations = [
        *transfer(1, 1, "s2mm", token=True),
        *transfer(0, 0, "mm2s", words=WORDS * BLOCKS + 5),
        txn.Sync(0, 0, 0, 0),
    ]
    warning, error = outcome(design)
    assert f"descriptor 0 of S2MM 0 of memtile(0,1) is half done: 5 of {WORDS} words have come" in warning
    assert f"descriptor 0 of S2MM 0 of memtile(0,1) is half done: 5 of {WORDS} words have come" in error


def test_input_of_blocks_that_nothing_asked_for_again():
    """Two blocks too many: their results wait in the stream to the host."""
    design = Design()
    design.buffers[0] = design.buffers[0].repeat(2)
    design.operations = [
        *transfer(1, 1, "s2mm", token=True),
        *transfer(0, 0, "mm2s", words=WORDS * (BLOCKS + 2)),
        txn.Sync(0, 0, 0, 0),
    ]
    warning, error = outcome(design)
    assert "MM2S 0 of core(0,2) wait for S2MM 0 of shim(0,0), which has no task" in warning
    assert "MM2S 0 of core(0,2) wait for S2MM 0 of shim(0,0), which has no task" in error


def test_a_task_of_the_host_that_nothing_serves():
    design = Design()
    design.operations[-1:-1] = transfer(2, 1, "s2mm")
    warning, error = outcome(design)
    assert f"descriptor 2 of S2MM 0 of shim(0,0) still waits for its {WORDS * BLOCKS} words" in warning
    assert f"descriptor 2 of S2MM 0 of shim(0,0) still waits for its {WORDS * BLOCKS} words" in error


def test_words_on_a_core_s_stream_that_it_does_not_read():
    """The memory tile sends one word more to the core's stream input than the core has rounds."""
    design = Design()
    design.descriptors[MEMTILE, 8] = Descriptor("memtile", 8, 0x9000, BLOCKS + 1)
    design.starts.append((MEMTILE, "mm2s", 2, 8))
    design.extra += [cdo.Write(geometry.tile_address(*MEMTILE, 0x9000 + 4 * i), 7) for i in range(BLOCKS + 1)]
    design.connections += [
        Connection(port(MEMTILE, "dma", 2), port(MEMTILE, "north", 1)),
        Connection(port(CORE, "south", 1), port(CORE, "core", 0)),
    ]
    design.programs[CORE] = program().replace("movxm p0", "mov r6, SS\nmovxm p0")
    warning, error = outcome(design)
    assert END + "1 word on the stream input of core(0,2) waits to be read" in warning
    assert END + "1 word on the stream input of core(0,2) waits to be read" in error


def test_what_an_image_sends_ahead_by_itself_is_no_leftover():
    """A memory tile that offers constants to a core without a lock holds some on the way before and after every run."""
    design = Design()
    design.descriptors[MEMTILE, 8] = Descriptor("memtile", 8, 0x9000, 16, next=8)
    design.starts += [(MEMTILE, "mm2s", 2, 8), (CORE, "s2mm", 1, 5)]
    design.connections += [
        Connection(port(MEMTILE, "dma", 2), port(MEMTILE, "north", 1)),
        Connection(port(CORE, "south", 1), port(CORE, "dma", 1)),
    ]
    design.descriptors[CORE, 5] = Descriptor("core", 5, 0x6000, 16, acquire=(8, -1), release=(9, 1), next=5)
    design.locks[CORE, 8] = 1
    assert fresh(design).run().warnings == ()


def test_words_on_their_way_when_the_sequence_ends_may_arrive():
    """The sequence waits for the first half of the output only; the other half needs no more of the host."""
    design = Design()
    half = WORDS * BLOCKS // 2
    design.operations = [
        *transfer(1, 1, "s2mm", words=half, token=True),
        *transfer(2, 1, "s2mm", words=half, offset=4 * half),
        *transfer(0, 0, "mm2s"),
        txn.Sync(0, 0, 0, 0),
    ]
    assert fresh(design).run().warnings == () and fresh(design).run(strict=True).warnings == ()


def test_the_locks_used_here_are_those_of_the_small_design():
    assert (EMPTY, FULL, IN_EMPTY, IN_FULL, OUT_EMPTY, OUT_FULL, OWN) == (0, 1, 0, 1, 2, 3, 48)
