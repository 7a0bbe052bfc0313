"""Words on their way: from one sending channel over the switches to the receiving channels of its circuit.

The approximation: words move in bursts, one event each, bounded by the end of a descriptor on either side, by the
room of every receiver (what its descriptor still takes, then its FIFO of `receive_fifo` words) and by `burst` words.
A burst reads its words when it starts and delivers them all when its last one arrives; locks keep anyone from seeing
the difference. A word is sent when every branch of a broadcast has room for it. The switches' own buffers (6 to 8
words a crossing) and the sender's 48-word pipeline are not modelled: a sender's descriptor ends when its last word
enters the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npuc.runtime.emulator.errors import EmulationError

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array
    from npuc.runtime.emulator.dma import Channel


class Ddr:
    """How many channels read and write host memory at the moment: they share its bandwidth fairly, burst by burst."""

    def __init__(self, array: Array) -> None:
        table = array.machine
        self._base = {"mm2s": table.shim_mm2s_millicycles, "s2mm": table.shim_s2mm_millicycles}
        self._total = {"mm2s": table.ddr_read_millibytes, "s2mm": table.ddr_write_millibytes}
        self._channel = table.shim_channel_millibytes
        self._active = {"mm2s": 0, "s2mm": 0}

    def join(self, direction: str) -> int:
        """One more channel is at work. Returns its thousandths of a cycle per word."""
        self._active[direction] += 1
        share = min(self._channel, self._total[direction] // self._active[direction])
        return max(self._base[direction], -(-4_000_000 // share))

    def leave(self, direction: str) -> None:
        self._active[direction] -= 1


class Flow:
    """The stream of one MM2S channel. `receivers`: (channel, latency) of every S2MM channel its circuit reaches."""

    def __init__(self, array: Array, sender: Channel) -> None:
        self.array = array
        self.sender = sender
        self.busy = False
        self.version = -1  # of the stream switches when the route was read
        self.receivers: list[tuple[Channel, int]] = []
        self.problem: str | None = None  # why nothing can be sent
        self._fraction = 0  # thousandths of a cycle left over from the last burst
        self._shared: list[str] = []  # DDR directions the stream uses

    def resolve(self) -> None:
        """Reads the route again if any switch changed."""
        if self.version == self.array.switch_version:
            return
        self.version = self.array.switch_version
        self.receivers, self.problem = [], None
        try:
            self.receivers = self.array.route(self.sender)
        except EmulationError as error:
            self.problem = error.message
        if not self.receivers and not self.problem:
            self.problem = "no route leaves it"
        kinds = [("mm2s", self.sender)] + [("s2mm", receiver) for receiver, _ in self.receivers]
        self._shared = [direction for direction, channel in kinds if channel.tile.kind == "shim"]

    def pump(self, now: int) -> None:
        """Starts the next burst if words, room and the stream are there."""
        run = self.sender.run
        if self.busy or run is None or not run.left:
            return
        self.resolve()
        if self.problem:
            self.sender.report_route(self.problem)
            return
        count = min(run.left, self.array.machine.burst, *(receiver.room() for receiver, _ in self.receivers))
        if count <= 0:
            return
        rate = max([self.array.machine.word_millicycles] + [self.array.ddr.join(way) for way in self._shared])
        words = run.read(count)
        duration, self._fraction = divmod(count * rate + self._fraction, 1000)
        end = now + max(duration, 1)
        self.busy = True
        at = self.array.events.at
        for receiver, latency in self.receivers:
            receiver.expect(count)
            at(end + latency, receiver.order, lambda cycle, to=receiver: to.arrive(words, cycle))  # type: ignore[misc]
        at(end, self.sender.order, lambda cycle: self._sent(count, cycle))

    def _sent(self, count: int, now: int) -> None:
        self.busy = False
        for way in self._shared:
            self.array.ddr.leave(way)
        self.sender.sent(count, now)
        self.pump(now)
