"""What a sequence knows of the shims, and the bytes of its operations on them, packed from parts that recur."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.emit.txn import pack_words
from npuc.compiler.emit.txn_writer import TxnWriter, block_head, pack_offset, patch_head, sync_bytes, write_bytes
from npuc.compiler.target.npu1 import geometry
from npuc.passes.attention.transfers import CHANNELS, OUTPUTS, Channel, Piece, Task

DESCRIPTORS = geometry.BD_COUNT["shim"]
DESCRIPTOR_WORDS = geometry.BD_WORDS["shim"]
DEPTH = geometry.CHANNEL_QUEUE_DEPTH


class Template:
    """A task alike for all heads but for where its pieces begin: those of head 0, and how far on others are.

    on: for each piece, bytes from head 0 to each head of the call.
    """

    __slots__ = ("count", "pieces", "repeat")

    def __init__(self, task: Task, on: Sequence[Sequence[int]]) -> None:
        self.pieces = [
            (piece.argument, piece.offset, further, _Words(piece))
            for piece, further in zip(task.pieces, on, strict=True)
        ]
        self.repeat = task.repeat
        self.count = len(task.pieces)


class _Words(dict[int, bytes]):
    """The words of a piece's descriptor by the one that follows, -1 for none."""

    def __init__(self, piece: Piece) -> None:
        self.piece = piece

    def __missing__(self, following: int) -> bytes:
        self[following] = words = shim_words(*self.piece[2:], following)
        return words


@lru_cache(maxsize=4096)
def shim_words(
    words: int, row: int, stride: int, iterations: int, step: int, rows: int, block: int, following: int
) -> bytes:
    """Register words of a shim descriptor; its address is patched in.  following: the next one, -1 for none."""
    fields = {"length": words, "valid": 1, "ax_cache": geometry.SHIM_AX_CACHE}
    fields["burst"] = len(geometry.SHIM_BURST_BYTES) - 1
    if row:
        fields |= {"d0_wrap": row, "d1_step": stride - 1}
    if rows:
        fields |= {"d1_wrap": rows, "d2_step": block - 1}
    if iterations > 1:
        fields |= {"iteration_wrap": iterations - 1, "iteration_step": step - 1}
    if following >= 0:
        fields |= {"use_next": 1, "next_bd": following}
    return pack_words(geometry.pack_bd("shim", **fields))


class _Patches(dict[int, list[bytes]]):
    """Heads of patches by argument and descriptor."""

    def __init__(self, places: Sequence[int]) -> None:
        self.places = places

    def __missing__(self, argument: int) -> list[bytes]:
        self[argument] = heads = [patch_head(place + 4, argument) for place in self.places]
        return heads


class _Pushes(dict[tuple[Channel, int, int, bool], bytes]):
    """Writes to the queues of a column by channel, first descriptor, repeats and whether a token is wanted."""

    def __init__(self, column: int) -> None:
        self.column = column

    def __missing__(self, key: tuple[Channel, int, int, bool]) -> bytes:
        channel, first, repeat, token = key
        place = geometry.tile_address(self.column, geometry.SHIM_ROW, geometry.channel_queue_offset("shim", *channel))
        self[key] = push = write_bytes(place, geometry.queue_word(first, repeat, token))
        return push


class Flight:
    """What is under way in a column and done together: the descriptors of each task, by channel."""

    __slots__ = ("tasks",)

    def __init__(self) -> None:
        self.tasks: dict[Channel, deque[list[int]]] = {channel: deque() for channel in CHANNELS}


class Shim:
    """One column's: free descriptors, tasks that may still be in its queues, and the flights they belong to."""

    def __init__(self, number: int, writer: TxnWriter) -> None:
        self.number = number
        self.writer = writer
        self.free = deque(range(DESCRIPTORS))
        self.queued = dict.fromkeys(CHANNELS, 0)
        self.flights: deque[Flight] = deque()
        self._places = [
            geometry.tile_address(number, geometry.SHIM_ROW, geometry.bd_offset("shim", descriptor))
            for descriptor in range(DESCRIPTORS)
        ]
        self._blocks = [block_head(place, DESCRIPTOR_WORDS) for place in self._places]
        self._patches = _Patches(self._places)
        self._pushes = _Pushes(number)
        self._syncs = {
            (direction, channel): sync_bytes(number, geometry.SHIM_ROW, geometry.DIRECTIONS.index(direction), channel)
            for direction, channel in CHANNELS
        }

    def push(self, flight: Flight, channel: Channel, task: Template, head: int, token: bool) -> None:
        """Descriptors of a task, chained, and its push."""
        free, count = self.free, task.count
        if count > len(free):
            raise ResourceError(f"a work item needs more than the {DESCRIPTORS} descriptors of a shim")
        number = first = free.popleft()
        numbers, last = [first], count - 1
        parts: list[bytes] = []
        for index, (argument, offset, on, words) in enumerate(task.pieces):
            following = -1
            if index < last:
                following = free.popleft()
                numbers.append(following)
            parts += (
                self._blocks[number],
                words[following],
                self._patches[argument][number],
                pack_offset(offset + on[head]),
            )
            number = following
        parts.append(self._pushes[channel, first, task.repeat, token])
        self.writer.put(parts, 2 * count + 1)
        flight.tasks[channel].append(numbers)
        self.queued[channel] += 1

    def holds(self, tasks: Mapping[Channel, Sequence[Template]], descriptors: int) -> bool:
        """Whether these tasks find places in the queues now, and so many descriptors."""
        if descriptors > len(self.free):
            return False
        queued = self.queued
        for channel, some in tasks.items():
            if queued[channel] + len(some) > DEPTH:
                return False
        return True

    def done(self, flight: Flight, channel: Channel) -> None:
        """Wait for the token of the flight's oldest task of a channel."""
        self.writer.put((self._syncs[channel],), 1)
        self.free.extend(flight.tasks[channel].popleft())
        self.queued[channel] -= 1

    def retire(self) -> None:
        """Wait for the output of the oldest flight: all its tasks are done then."""
        queued, free, flown = self.queued, self.free, self.flights.popleft().tasks
        for channel in OUTPUTS:
            if flown[channel]:
                self.writer.put((self._syncs[channel],), 1)
        for channel, tasks in flown.items():
            queued[channel] -= len(tasks)
            for numbers in tasks:
                free.extend(numbers)
