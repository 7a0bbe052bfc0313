"""The state of an array as values that can be compared: times count from now, what lies long past is forgotten.

Statistics are no state, and neither are registers of tiles that only observe.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import fields
from typing import TYPE_CHECKING

from npuc.runtime.emulator.dma_receive import Receiver
from npuc.runtime.emulator.dma_send import Sender
from npuc.runtime.emulator.events import ago

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array
    from npuc.runtime.emulator.core_unit import CoreUnit
    from npuc.runtime.emulator.dma import Channel
    from npuc.runtime.emulator.streams import Inlet, Outlet, Segment
    from npuc.runtime.emulator.tile import Tile
UNLIMITED = 1 << 40  # words of room that no end runs out of


def core_state(unit: CoreUnit, now: int) -> Hashable:
    """Program counter and what the core waits for."""
    return unit.core.pc, unit.running, ago(unit.core.cycle, now), _request(unit.waiting, now)


def registers_state(unit: CoreUnit) -> Hashable:
    """A core's registers; what is in its pipeline is not told."""
    registers = unit.core.registers
    return tuple(registers.scalar), registers.plain.tobytes()


def _request(request: object, now: int) -> Hashable:
    """A suspension with its cycle counted from now."""
    if request is None:
        return None
    values = {field.name: getattr(request, field.name) for field in fields(request)}  # type: ignore[arg-type]
    return (type(request).__name__, ago(values.pop("cycle"), now), tuple(values.items()))


def array_state(array: Array) -> Hashable:
    """All but memories, registers and the words on streams."""
    now = array.clock.cycle
    return (
        tuple((key, len(tokens)) for key, tokens in array.tokens.items()),
        tuple(_tile(array, tile, now) for tile in array.tiles.values()),
        tuple(_outlet(outlet, now) for outlet in array.outlets()),
        array.arbiters_state(now),
    )


def _tile(array: Array, tile: Tile, now: int) -> Hashable:
    core = tile.core
    return (
        tuple(tile.locks.values),
        tuple(_channel(channel, now) for channel in tile.channels.values()),
        _inlet(array.control_port(tile), now),
        None if core is None else (core_state(core, now), _inlet(array.stream_port(tile), now)),
    )


def _channel(channel: Channel, now: int) -> Hashable:
    task = channel.task
    common = (
        channel.control,
        tuple((each.first, each.left, each.token) for each in channel.queue),
        None if task is None else (task.first, task.left, task.token),
        channel.loaded,
        channel.descriptor,
        channel.granted,
        channel.waiting_lock,
    )
    if isinstance(channel, Receiver):
        times = (channel.stored_by, channel.loaded_at, channel.granted_at, channel.resume_at)
        held = channel.inlet.entered - channel.base, channel.stored, channel.ending, channel.wants_header
        return common, held, tuple(ago(time, now) for time in times), _inlet(channel.inlet, now), tuple(channel.counts)
    assert isinstance(channel, Sender)
    runs = tuple((run.number, run.position, run.header, run.task is not None) for run in channel.runs)
    return common, runs, channel.parked, channel.in_packet, tuple(channel.unfinished)


def _inlet(inlet: Inlet, now: int) -> Hashable:
    marks = inlet.marks()
    room = min(inlet.open_until - inlet.entered, UNLIMITED)
    opening = (inlet.opened_at - now, inlet.open_before - inlet.entered) if inlet.opened_at > now else None
    waiting = tuple(index - inlet.entered for index in marks)
    return room, ago(inlet.last_arrival, now), opening, waiting, len(inlet.blocked)


def _outlet(outlet: Outlet, now: int) -> Hashable:
    way = outlet.way
    turn = outlet.waits_for_turn
    return (
        outlet.moving,
        ago(outlet.free_at, now),
        tuple(inlet.name for inlet in outlet.blocked_on),
        None if turn is None else (turn.tile.name, turn.arbiter, turn.slave),
        outlet.no_way is not None,
        None if way is None else (way.held, way.started, ago(way.not_before, now)),
    )


def words_state(array: Array) -> Hashable:
    """The words that lie in channels, ports and cascades, and the descriptors as they are."""
    now = array.clock.cycle
    found: list[Hashable] = []
    for tile in array.tiles.values():
        found.append(tuple(map(tuple, tile.descriptors)))
        for channel in tile.channels.values():
            if isinstance(channel, Receiver):
                found.append(_segments(channel.pending, now))
        found.append(array.control_port(tile).contents())
        if tile.core is not None:
            pending_words, *rest = array.stream_port(tile).contents()
            found.append((_segments(pending_words, now), *rest))
            found.append(
                tuple(
                    tuple((ago(at, now), data) for at, data in q.entries())
                    for q in tile.core.services.cascade_inputs.values()
                )
            )
    return tuple(found)


def _segments(segments: Iterable[Segment], now: int) -> Hashable:
    return tuple((each.words.tobytes(), ago(each.first, now), each.period, each.last, each.token) for each in segments)
