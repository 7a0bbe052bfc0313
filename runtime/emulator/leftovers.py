"""What a run leaves in the array: words that nothing has taken, descriptors half done, tasks of the host not served.

They would be the first words of what a later run receives.  Words that are on the way when the sequence ends are given
time to arrive; what an image holds ahead by itself, before any sequence, is no leftover.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.dma_receive import Receiver
from npuc.runtime.emulator.dma_send import Sender
from npuc.runtime.emulator.lock_providers import endless
from npuc.runtime.emulator.wait_graph import Account

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array
    from npuc.runtime.emulator.dma import Channel
    from npuc.runtime.emulator.tile import Tile

SETTLE = 20_000  # cycles that words on the way get to arrive (A)


@dataclass(frozen=True)
class Leftover:
    """unit: what holds it, by its name.  text: what it is, as it continues "the sequence has ended and "."""

    unit: str
    text: str

    @property
    def tile(self) -> str:
        """Name of the tile of the unit."""
        return self.unit.rpartition(" of ")[2]


def left_over(array: Array) -> tuple[Leftover, ...]:
    """All that is left as the array stands, in the order of the tiles."""
    found: list[Leftover] = []
    for tile in array.tiles.values():
        for channel in tile.channels.values():
            texts = _received(array, channel) if isinstance(channel, Receiver) else _sent(channel)
            found += [Leftover(channel.name, text) for text in texts]
        found += [Leftover(tile.name, text) for text in _of_tile(array, tile)]
    return (*_endless_tasks(array), *found)


def _endless_tasks(array: Array) -> Iterator[Leftover]:
    """Tasks of the host that never end, which explain the rest."""
    for channel in array.channels():
        ring = endless(channel) if channel.tile.kind == "shim" else None
        if ring is not None:
            yield Leftover(channel.name, ring)


def explained(array: Array, left: Sequence[Leftover]) -> list[Leftover]:
    """What is left, with what explains it first: a descriptor of the host that a sender and a receiver ran."""
    return [*_run_both_ways(array), *left] if left else []


def gains(array: Array) -> Iterator[str]:
    """Tiles that have sent more words than they took, right where they send some twice, and the words of the host."""
    moved = [((c.tile.column, c.tile.row), c.direction, c.words) for c in array.channels()]
    account = Account(moved)
    yield from dict.fromkeys(line for place in array.tiles if (line := account.line(place, less=False)))
    shims = [channel for channel in array.channels() if channel.tile.kind == "shim" and channel.words]
    yield ", ".join(
        f"{channel.name} has {'sent' if channel.direction == 'mm2s' else 'taken'} {channel.words} words"
        for channel in shims
    )


def _run_both_ways(array: Array) -> Iterator[Leftover]:
    for tile in array.tiles.values():
        for number, keys in sorted(tile.ran_by.items()):
            if tile.kind == "shim" and {direction for direction, _ in keys} == set(geometry.DIRECTIONS):
                sender, receiver = (tile.channels[min(k for k in keys if k[0] == d)].name for d in ("mm2s", "s2mm"))
                yield Leftover(sender, f"{sender} has run descriptor {number}, which {receiver} has run too")


def settle(array: Array, cycles: int = SETTLE) -> None:
    """Let what is under way go on, for so long at most."""
    clock = array.clock
    end = clock.cycle + cycles
    while (due := clock.next_cycle()) is not None and due <= end:
        clock.step()


def _words(count: int) -> str:
    return f"{count} word{'' if count == 1 else 's'}"


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"


def _received(array: Array, channel: Receiver) -> Iterator[str]:
    held = channel.inlet.entered - channel.base
    blocked = channel.inlet.blocked
    if not channel.busy:
        if held or blocked:
            sources = " and ".join(array.sources_of(channel.inlet)) or "a stream"
            what, wait = (_words(held), _wait(held)) if held else ("words", "wait")
            yield f"{what} from {sources} {wait} for {channel.name}, which has no task"
        return
    moved, length = channel.progress()
    number = channel.number_running
    half_done = 0 < moved < length or channel.wants_header and held
    if not half_done and not (channel.waiting_lock is not None and moved):
        if channel.tile.kind == "shim":
            yield f"descriptor {number} of {channel.name} still waits for its {_words(length)}"
        return
    origin = " from " + " and ".join(array.sources_of(channel.inlet))
    if channel.waiting_lock is not None and moved:
        yield f"{_words(moved)}{origin} {_wait(moved)} in {channel.name} for the lock of its descriptor {number}"
    else:
        yield f"descriptor {number} of {channel.name} is half done: {moved} of {length} words have come{origin}"


def _sent(channel: Channel) -> Iterator[str]:
    assert isinstance(channel, Sender)
    for run in channel.runs:
        length = run.descriptor.pattern.length
        if run.position:
            yield f"descriptor {run.number} of {channel.name} is half done: {run.position} of {length} words are sent"
        elif channel.outlet.blocked_on or channel.outlet.no_way or channel.outlet.waits_for_turn:
            yield f"{_words(length)} of descriptor {run.number} of {channel.name} {_wait(length)} to be sent"
    if channel.tile.kind == "shim" and channel.busy and not channel.runs and not channel.unfinished:
        yield f"a task of {channel.name} (descriptor {channel.number_running}) is not done"


def _of_tile(array: Array, tile: Tile) -> Iterator[str]:
    """Words in the ends that are no channels: the core's ports, the control port, cascades."""
    control = array.control_port(tile).unfinished()
    if control:
        yield f"{_words(control)} of a packet lie in the control port of {tile.name}"
    if tile.core is None:
        return
    port = array.stream_port(tile)
    if port.unread():
        yield f"{_words(port.unread())} on the stream input of {tile.name} {_wait(port.unread())} to be read"
    if port.unsent():
        yield f"{_words(port.unsent())} on the stream output of {tile.name} {_wait(port.unsent())} to be taken"
    for side, queue in tile.core.services.cascade_inputs.items():
        if len(queue):
            yield f"{len(queue)} entries of the cascade from the {side} wait to be read by {tile.name}"
