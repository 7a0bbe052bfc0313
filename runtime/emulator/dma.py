"""What the two kinds of DMA channel share: the task queue, descriptors, locks and the memory they reach.

A task runs a chain of descriptors, once or several times.  `dma_send.py` and `dma_receive.py` have the rest.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.descriptor import Descriptor, interpret
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.locks import Locks
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.tile import Tile
from npuc.runtime.emulator.waits import Wait

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

# Channel control register (facts/platform/registers_aie2.json, DMA_S2MM_0_Ctrl).
PAUSE_MEMORY, PAUSE_STREAM = 1 << 1, 1 << 2  # shim
OUT_OF_ORDER, COMPRESSION = 1 << 3, 1 << 4
FINISH_ON_TLAST_LSB = 16


@dataclass
class Task:
    """One entry of the start queue.

    first: the descriptor its chain begins with.  left: runs of the chain still to come, the present one included.
    token: whether its end is reported.
    """

    first: int
    left: int
    token: bool


@dataclass(slots=True)
class Window:
    """Where a descriptor's words lie: by their offsets, from the word `base` of a memory on.

    memory: of the tile, None for the host's.  written: in strict mode, which bytes of the words are defined, four a
    row.  bytes: the words again; to put pieces there takes a fraction of numpy's time.
    """

    words: np.ndarray
    base: int
    memory: DataMemory | None
    written: np.ndarray | None = None
    bytes: memoryview = field(init=False)

    def __post_init__(self) -> None:
        self.bytes = self.words.data.cast("B")


class _Known(NamedTuple):
    """A descriptor by its words: what they mean, the memory they reach, the words after a run if that changes them."""

    words: list[int]
    descriptor: Descriptor
    window: Window
    after: list[int] | None


class Channel:
    """One S2MM or MM2S channel: its queue of tasks and the descriptor it runs."""

    direction = ""

    def __init__(self, array: Array, tile: Tile, number: int) -> None:
        self.array, self.tile, self.number, self.clock = array, tile, number, array.clock
        self.name = f"{self.direction.upper()} {number} of {tile.name}"
        self.rank = tile.unit_rank(self.direction, number)
        self._key = (self.direction, number)
        self.control = 0
        self.queue: deque[Task] = deque()
        self.task: Task | None = None
        self.loaded: int | None = None  # number of the descriptor loaded last
        self.descriptor: Descriptor | None = None  # that descriptor, while it is under way
        self.window: Window | None = None
        self.granted = False  # the lock is held
        self.waiting_lock: tuple[int, int] | None = None
        self.lock_asked = 0
        self.words = self.busy_cycles = self.starved_cycles = self.tasks = self.lock_cycles = 0
        self._locks: dict[int, tuple[Locks, int]] = {}  # that descriptors named, by their numbers
        self._known: dict[int, _Known] = {}  # what descriptors meant when they were run last, by number

    @property
    def busy(self) -> bool:
        """Whether a task is under way."""
        return self.task is not None

    @property
    def number_running(self) -> int | None:
        """Number of the descriptor whose words pass, or would next."""
        return self.loaded

    def in_use(self) -> list[int]:
        """Numbers of all descriptors under way."""
        return [self.loaded] if self.busy and self.loaded is not None else []

    def progress(self) -> tuple[int, int]:
        """Words of the descriptor under way that have passed, and its length; zeros when there is none."""
        raise NotImplementedError

    def later(self, cycle: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call a method of the channel with the arguments at a cycle, unless the channel is reset before."""
        self.clock.at(math.ceil(cycle), self.rank, action, *arguments)

    # registers

    def write_control(self, value: int, who: str) -> None:
        """The channel's control register."""
        if value & COMPRESSION and self.tile.kind != "shim":
            raise EmulationError(
                f"{who} turns on compression of {self.name}, which is not modelled: its format is in no public source"
            )
        if self.tile.kind != "shim" and value >> geometry.CHANNEL_RESET_BIT & 1:
            self.reset()
        before, self.control = self.control, value
        if self.tile.kind == "shim" and before & ~value & (PAUSE_MEMORY | PAUSE_STREAM):
            self.proceed()

    @property
    def paused(self) -> bool:
        return bool(self.control & (PAUSE_MEMORY | PAUSE_STREAM)) and self.tile.kind == "shim"

    def status(self) -> int:
        """The status register (facts/platform/registers_aie2.json); error bits are errors of the run instead."""
        state = 0 if self.task is None else 2
        return (
            state
            | int(self.waiting_lock is not None) << 2
            | int(self.starved()) << 4
            | int(self.busy) << 19
            | len(self.queue) << 20
            | (self.number_running or 0) << 24
        )

    def starved(self) -> bool:
        """Whether the stream, not memory or a lock, holds the channel up."""
        return self.granted

    # tasks

    def push(self, word: int, who: str) -> None:
        """A write to the start queue.  EmulationError when four tasks wait already."""
        bd, repeat, token = geometry.split_queue_word(self.tile.kind, word)
        if self.tile.kind != "shim" and self.control >> geometry.CHANNEL_RESET_BIT & 1:
            raise EmulationError(f"{who} pushes descriptor {bd} to {self.name}, which is held in reset")
        if len(self.queue) >= geometry.CHANNEL_QUEUE_DEPTH:
            raise EmulationError(
                f"the queue of {self.name} overflows: {who} pushes descriptor {bd} while "
                f"{geometry.CHANNEL_QUEUE_DEPTH} tasks wait"
            )
        self._check_number(bd)
        self.queue.append(Task(bd, repeat, token))
        if self.task is None:
            self.next_task()

    def reset(self) -> None:
        """Drop all tasks and what is on its way through the channel."""
        self.clock.drop(self)
        self.queue.clear()
        self.task = self.descriptor = self.waiting_lock = None
        self.granted = False

    def _check_number(self, bd: int) -> None:
        if bd >= geometry.BD_COUNT[self.tile.kind]:
            raise EmulationError(f"{self.name}: there is no descriptor {bd}")
        if self.tile.kind == "memtile":
            even = bd in geometry.MEMTILE_EVEN_CHANNEL_BDS
            if even != (self.number % 2 == 0):
                raise EmulationError(f"{self.name} cannot use descriptor {bd}: even channels reach 0..23, odd 24..47")

    def first_word_delay(self) -> int:
        """Cycles a task's first word takes beyond the start itself."""
        return 0

    def next_task(self) -> None:
        """Begin the next task of the queue, if there is one."""
        self.task = self.queue.popleft() if self.queue else None
        if self.task is not None:
            self.load(self.task.first, self.array.machine.task_start + self.first_word_delay())

    def load(self, bd: int, delay: int) -> None:
        """Begin a descriptor after `delay` cycles."""
        tile, known = self.tile, self._known.get(bd)
        if known is None:
            self._check_number(bd)
        self.loaded = bd
        ran = tile.ran_by.get(bd)
        if ran is None or len(ran) > 1 or self._key not in ran:
            self._note_descriptor(bd)
        words = tile.descriptors[bd]
        if known is None or known.words != words:
            who = f"descriptor {bd} of {tile.name} ({self.name})"
            descriptor, after = interpret(tile.kind, words, who)
            window = self._reach(descriptor, who)
            known = _Known(list(words), descriptor, window, None if after == tuple(words) else list(after))
            if tile.kind != "shim":  # buffers of the host come and go
                self._known[bd] = known
        self.descriptor, self.window = known.descriptor, known.window
        if known.after is not None:
            tile.descriptors[bd] = list(known.after)
        clock = self.clock
        clock.at(clock.cycle + delay, self.rank, self.begin)

    def _note_descriptor(self, bd: int) -> None:
        ran = self.tile.ran_by.setdefault(bd, set())
        ran.add(self._key)
        others = [self.tile.channels[key].name for key in sorted(ran) if key[0] != self.direction]
        if others and self.tile.kind == "shim":
            self.array.warn(f"descriptor {bd} of {self.tile.name} is run by {self.name} and by {' and '.join(others)}")

    def run_ended(self) -> None:
        """The descriptor's words are all through: what comes next."""
        descriptor, task = self.descriptor, self.task
        assert descriptor is not None and task is not None
        self.descriptor, self.granted = None, False
        if descriptor.following is not None:
            self.load(descriptor.following, self.array.machine.next_descriptor)
        elif task.left > 1:
            task.left -= 1
            self.load(task.first, self.array.machine.next_descriptor)
        else:
            self.next_task()

    def ends_task(self) -> bool:
        """Whether the descriptor under way is the task's last."""
        assert self.descriptor is not None and self.task is not None
        return self.descriptor.following is None and self.task.left == 1

    def finished(self, descriptor: Descriptor, task: Task | None) -> None:
        """A descriptor is done; task: the one that ended with it."""
        if descriptor.release is not None:
            number, value = descriptor.release
            locks, lock = self._locks.get(number) or self.lock(number)
            locks.release(lock, value, self.name)
        array, cycle = self.array, self.clock.cycle
        array.last_completion = cycle
        if array.listeners:
            array.note(self.name, "descriptor finished", cycle)
        if task is not None:
            self.tasks += 1
            array.note(self.name, "task finished", cycle)
            if task.token:
                array.issue_token(self)

    # locks

    def lock(self, number: int) -> tuple[Locks, int]:
        """The lock a descriptor of this channel means by a number."""
        place = self._locks.get(number)
        if place is None:
            place = self._locks[number] = self._lock(number)
        return place

    def _lock(self, number: int) -> tuple[Locks, int]:
        if self.tile.kind != "memtile":
            return self.tile.locks, number
        view, lock = divmod(number, geometry.LOCK_COUNT["memtile"])
        return self._neighbour(view, f"lock {number}").locks, lock

    def begin(self) -> None:
        """The descriptor is loaded: ask for its lock."""
        self.lock_asked = self.clock.cycle
        self._acquire()

    def _acquire(self) -> None:
        assert self.descriptor is not None
        wanted = self.descriptor.acquire
        if wanted is not None:
            locks, lock = self._locks.get(wanted[0]) or self.lock(wanted[0])
            if not locks.try_acquire(lock, wanted[1], self.name):
                self.waiting_lock = wanted
                locks.wait(lock, self._wake)
                return
        self.waiting_lock = None
        cycle, asked = self.clock.cycle, self.lock_asked
        if cycle > asked:
            self.lock_cycles += cycle - asked
            if self.array.listeners:
                self.array.note(self.name, "lock stall", asked, cycle)
        self.granted = True
        self.proceed()

    def _wake(self) -> None:
        clock = self.clock
        clock.at(clock.cycle + self.array.machine.lock_visible, self.rank, self._again)

    def _again(self) -> None:
        if self.waiting_lock is not None:
            self._acquire()

    def proceed(self) -> None:
        """The lock is held, or a pause is over: words may pass."""
        raise NotImplementedError

    # memory

    def _neighbour(self, view: int, what: str) -> Tile:
        """The memtile that a third of the addresses or lock numbers means: 0 west, 1 own, 2 east."""
        if view == 1:
            return self.tile
        if self.number not in geometry.MEMTILE_NEIGHBOUR_CHANNELS:
            raise EmulationError(f"{self.name} uses {what}, a neighbour's: only channels 0..3 reach neighbours")
        side, step = ("west", -1) if view == 0 else ("east", 1)
        tile = self.array.tiles.get((self.tile.column + step, self.tile.row))
        if view > 2 or tile is None:
            raise EmulationError(f"{self.name} uses {what}, but there is no memory tile {side} of {self.tile.name}")
        return tile

    def _reach(self, descriptor: Descriptor, who: str) -> Window:
        """The memory of a descriptor.  EmulationError when it leaves it."""
        base, reach = descriptor.base, descriptor.pattern.reach
        if self.tile.memory is None:
            words, index = self.array.host.window(base, reach, who)
            return Window(words[index : index + reach + 1], index, None)
        memory = self.tile.memory
        if self.tile.kind == "memtile":
            view, base = divmod(base, geometry.MEMTILE_MEMORY_SIZE // 4)
            memory = self._neighbour(view, f"address {4 * descriptor.base:#x}").memory or memory
        if base + reach >= memory.size // 4:
            raise EmulationError(f"{who} leaves {memory.name}: words {base:#x}..{base + reach:#x}")
        area = slice(base, base + reach + 1)
        written = None if memory.written is None else memory.written.reshape(-1, 4)[area]
        return Window(memory.words[area], base, memory, written)

    # diagnosis

    def describe(self) -> str | None:
        """What the channel waits for, one line; None when it has no task."""
        waits = self.waits_for()
        if waits:
            return f"{self.name}, descriptor {self.number_running}: {waits[0].text}"
        return f"{self.name}, descriptor {self.number_running}: under way" if self.busy else None

    def waits_for(self) -> tuple[Wait, ...]:
        """Why the channel stands still; empty when it has no task or moves."""
        if self.waiting_lock is None:
            return ()
        number, value = self.waiting_lock
        locks, lock = self.lock(number)
        owner = f"of {locks.name} " if locks is not self.tile.locks else ""
        text = (
            f"waits to acquire lock {lock} {owner}by {value}, "
            f"which is {locks.values[lock]} (last changed by {locks.writers[lock]})"
        )
        return (Wait(self.name, "lock", f"lock {lock} of {locks.name}", text, lock=(locks.name, lock, value)),)
