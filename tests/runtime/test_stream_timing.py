"""Burst times against a word-by-word account of the same rules, over random descriptors, locks and starts.

The account knows nothing of bursts: for every word, the cycle in which it enters the way and that in which it is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from array_bench import Bench
from hypothesis import example, given, settings
from hypothesis import strategies as st

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.array import Array
from npuc.runtime.emulator.dma_receive import Receiver
from npuc.runtime.emulator.streams import Segment
from npuc.runtime.emulator.timing import PHOENIX

MEMTILE, TILES = (0, 1), ((0, 2), (0, 3))
OWN = geometry.MEMTILE_VIEW_OWN // 4
LOCKED = dict(acquire_enable=1, acquire_value=-1)
# From the memory tile to the core tile above, and from there to the next.
FIRST_LATENCY = PHOENIX.local_to_external + PHOENIX.external_to_local
FIRST_WORDS = PHOENIX.local_to_external_words + PHOENIX.external_to_local_words
HOP_LATENCY, HOP_WORDS = PHOENIX.external_to_external, PHOENIX.external_to_external_words


@dataclass
class Sink:
    """A receiver's account.  lengths, releases: words of its descriptors, and when their lock is released."""

    lengths: list[int]
    releases: list[int]
    latency: int
    words: int
    started: int
    taken: list[int]
    finished: list[int]

    def take(self, entered: int) -> None:
        """One word more is on the way."""
        index = len(self.finished)
        offset = len(self.taken) - sum(self.lengths[:index])
        loaded = self.finished[-1] + 1 + PHOENIX.next_descriptor - 1 if self.finished else self.started
        release, length = self.releases[index], self.lengths[index]
        granted = loaded if release <= loaded else release + PHOENIX.lock_visible
        cycle = max(entered + self.latency, loaded)
        if offset:
            cycle = max(cycle, self.taken[-1] + 1)
        if offset == PHOENIX.receive_words:
            full = granted > loaded and self.taken[-1] < granted
            cycle = max(cycle, granted + (PHOENIX.receive_resume if full else 0))
        self.taken.append(cycle)
        if offset == length - 1:
            emptied = granted - 1 + math.ceil(min(length, PHOENIX.receive_words) / 4)
            self.finished.append(max(cycle, emptied) + 1)


def account(lengths: list[int], start: int, sinks: list[Sink]) -> list[int]:
    """The cycle in which each word of the sender's descriptors enters the way."""
    entered: list[int] = []
    for length in lengths:
        for offset in range(length):
            cycle = entered[-1] + 1 + (PHOENIX.next_descriptor if not offset else 0) if entered else start
            for sink in sinks:
                behind = len(entered) - sink.words
                if behind >= 0:
                    cycle = max(cycle, sink.taken[behind] if behind < len(sink.taken) else 1 << 40)
            entered.append(cycle)
            for sink in sinks:
                if len(sink.taken) < sum(sink.lengths):
                    sink.take(cycle)
    return entered


def pieces(total: int, cuts: list[int]) -> list[int]:
    """`total` split at the cuts."""
    places = sorted({cut % total for cut in cuts} - {0})
    return [after - before for before, after in zip([0, *places], [*places, total], strict=True)]


cuts = st.lists(st.integers(0, 1000), max_size=6)
times = st.lists(st.integers(0, 900), min_size=8, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    cuts,
    st.integers(0, 300),
    st.lists(st.tuples(cuts, times, st.integers(0, 300)), min_size=1, max_size=2),
)
@example(64, [16, 32, 48], 0, [([16, 32, 48], [0] * 8, 0)])
@example(30, [], 85, [([], [116] * 5 + [115] * 3, 0)])
@example(18, [], 0, [([1, 2, 3], [0, 0, 29, 29, 29, 29, 29, 29], 0)])
def test_bursts_take_the_cycles_of_single_words(
    total: int, source: list[int], start: int, receivers: list[tuple[list[int], list[int], int]]
) -> None:
    bench = Bench()
    bench.circuit(MEMTILE, ("dma", 0), ("north", 0))
    bench.circuit(TILES[0], ("south", 0), ("dma", 0), *([("north", 0)] if len(receivers) > 1 else []))
    bench.circuit(TILES[1], ("south", 0), ("dma", 0))
    lengths = pieces(total, source)
    for number, length in enumerate(lengths):
        bench.descriptor(
            MEMTILE, number, length, base_address=OWN, use_next=int(number + 1 < len(lengths)), next_bd=number + 1
        )
    sinks = []
    for hops, (tile, (parts, releases, begin)) in enumerate(zip(TILES, receivers, strict=False)):
        sink = Sink(
            pieces(total, parts),
            sorted(releases),
            FIRST_LATENCY + hops * HOP_LATENCY,
            FIRST_WORDS + hops * HOP_WORDS,
            begin + PHOENIX.task_start,
            [],
            [],
        )
        sinks.append(sink)
        for number, length in enumerate(sink.lengths):
            bench.descriptor(
                tile, number, length, use_next=int(number + 1 < len(sink.lengths)), next_bd=number + 1, **LOCKED
            )
        bench.at(begin, lambda tile=tile: bench.start(tile, "s2mm", 0, 0))
        for release in sink.releases[: len(sink.lengths)]:
            bench.at(release, lambda tile=tile: bench.release(tile, 0))
    bench.at(start, lambda: bench.start(MEMTILE, "mm2s", 0, 0))
    bench.run()
    entered = account(lengths, start + PHOENIX.task_start, sinks)
    for tile, sink in zip(TILES, sinks, strict=False):
        name = f"S2MM 0 of core({tile[0]},{tile[1]})"
        assert [cycle for cycle, _ in bench.of(name, "descriptor finished")] == sink.finished
    assert bench.of("MM2S 0 of memtile(0,1)", "sending")[-1][1] == entered[-1] + 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 24), st.integers(0, 12)), min_size=1, max_size=8),
    st.sampled_from([1.0, 1.05, 4 / 3]),
    st.integers(0, 60),
    st.integers(0, 120),
    st.data(),
)
def test_when_a_word_is_taken_follows_from_its_own_arrival(
    segments: list[tuple[int, int]], period: float, loaded: int, resume: int, data: st.DataObject
) -> None:
    """As an account of all segments says it, whatever arrives late and whenever the lock lets words through."""
    channel = Array(1, PHOENIX, strict=False).tiles[0, 2].channels["s2mm", 0]
    assert isinstance(channel, Receiver)
    channel.stored_by, channel.resume_at = loaded - 1.0, max(loaded, resume)
    arrival = 0.0
    for words, gap in segments:
        channel.pending.append(Segment(np.zeros(words, np.uint32), arrival + gap, period, False))
        arrival += gap + (words - 1) * period + 1
    count = data.draw(st.integers(1, sum(words for words, _ in segments)))
    assert channel._taken(count) == channel._taken_of_rest(count)
