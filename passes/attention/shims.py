"""What a sequence knows of the shims, and the bytes of its operations on them, packed from parts that recur."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import lru_cache

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.emit.txn import pack_words
from npuc.compiler.emit.txn_writer import TxnWriter, block_head, pack_offset, patch_head, sync_bytes, write_bytes
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.fifo import SHIM_OUTPUT_CHANNEL
from npuc.passes.attention.streams import KEY_VALUE_CHANNEL, QUERY_CHANNEL
from npuc.passes.attention.transfers import Piece, Task

Channel = tuple[str, int]
OUTPUT: Channel = ("s2mm", SHIM_OUTPUT_CHANNEL)
QUERIES: Channel = ("mm2s", QUERY_CHANNEL)
KEYS_VALUES: Channel = ("mm2s", KEY_VALUE_CHANNEL)
CHANNELS = (OUTPUT, QUERIES, KEYS_VALUES)
DESCRIPTORS = geometry.BD_COUNT["shim"]
DESCRIPTOR_WORDS = geometry.BD_WORDS["shim"]
DEPTH = geometry.CHANNEL_QUEUE_DEPTH


class Template:
    """A task alike for all heads but for where its pieces begin: those of head 0, and how far on others are.

    on: for each piece, bytes from head 0 to each head of the call.
    """

    __slots__ = ("count", "pieces", "repeat", "words")

    def __init__(self, task: Task, on: Sequence[Sequence[int]]) -> None:
        self.pieces = [(piece.argument, piece.offset, further) for piece, further in zip(task.pieces, on, strict=True)]
        self.repeat = task.repeat
        self.count = len(task.pieces)
        self.words = [_Words(piece) for piece in task.pieces]


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


class Flight:
    """What is under way in a column and done together: the descriptors of each task, by channel."""

    __slots__ = ("tasks",)

    def __init__(self) -> None:
        self.tasks: dict[Channel, deque[list[int]]] = {OUTPUT: deque(), QUERIES: deque(), KEYS_VALUES: deque()}


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
        self._patches: dict[int, list[bytes]] = {}
        self._queues = {
            channel: geometry.tile_address(number, geometry.SHIM_ROW, geometry.channel_queue_offset("shim", *channel))
            for channel in CHANNELS
        }
        self._pushes: dict[tuple[Channel, int, int, bool], bytes] = {}
        self._syncs = {
            (direction, channel): sync_bytes(number, geometry.SHIM_ROW, geometry.DIRECTIONS.index(direction), channel)
            for direction, channel in CHANNELS
        }

    def push(self, flight: Flight, channel: Channel, task: Template, head: int, token: bool) -> None:
        """Descriptors of a task, chained, and its push."""
        free, count = self.free, task.count
        if count > len(free):
            raise ResourceError(f"a work item needs more than the {DESCRIPTORS} descriptors of a shim")
        numbers = [free.popleft() for _ in range(count)]
        parts: list[bytes] = []
        for number, following, words, (argument, offset, on) in zip(
            numbers, (*numbers[1:], -1), task.words, task.pieces, strict=True
        ):
            patches = self._patches.get(argument)
            if patches is None:
                patches = self._patches[argument] = [patch_head(place + 4, argument) for place in self._places]
            parts += (self._blocks[number], words[following], patches[number], pack_offset(offset + on[head]))
        key = (channel, numbers[0], task.repeat, token)
        push = self._pushes.get(key)
        if push is None:
            word = geometry.queue_word(numbers[0], task.repeat, token)
            push = self._pushes[key] = write_bytes(self._queues[channel], word)
        parts.append(push)
        self.writer.put(parts, 2 * count + 1)
        flight.tasks[channel].append(numbers)
        self.queued[channel] += 1

    def done(self, flight: Flight, channel: Channel) -> None:
        """Wait for the token of the flight's oldest task of a channel."""
        self.writer.put((self._syncs[channel],), 1)
        self.free.extend(flight.tasks[channel].popleft())
        self.queued[channel] -= 1

    def retire(self) -> None:
        """Wait for the output of the oldest flight: all its tasks are done then."""
        self.writer.put((self._syncs[OUTPUT],), 1)
        queued, free = self.queued, self.free
        for channel, tasks in self.flights.popleft().tasks.items():
            queued[channel] -= len(tasks)
            for numbers in tasks:
                free.extend(numbers)
