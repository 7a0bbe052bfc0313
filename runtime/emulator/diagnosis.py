"""Why a run stands still: the array's state as a graph of waits, and its root in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from npuc.compiler.asm.codec import DecodeError, decode_bundle
from npuc.compiler.asm.text import format_bundle
from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.compiler.target.npu1.registers import register_name
from npuc.runtime.emulator.cascade import input_side, output_side
from npuc.runtime.emulator.dma_receive import Receiver
from npuc.runtime.emulator.lock_providers import (
    cores_in_reach,
    descriptors_releasing,
    endless,
    given_by_sequence,
    giving_nothing,
    lock_providers,
    receivers_without_a_task,
    sequence_writes,
    words_waiting,
)
from npuc.runtime.emulator.mismatch import OTHER_IMAGE, USED, foreign_notes, is_used
from npuc.runtime.emulator.stacks import stack_notes
from npuc.runtime.emulator.stream_walk import core_sinks, core_sources, elsewhere, sinks, sources
from npuc.runtime.emulator.suspension import CascadeRead, LockRequest, StreamRead, StreamWrite
from npuc.runtime.emulator.wait_graph import (
    FINISHED,
    HELD,
    IDLE,
    LOOPING,
    OFF,
    RUNNING,
    SPENT,
    WAITING,
    Cause,
    Diagnosis,
    Resource,
    Unit,
    dead_ends,
    why,
)

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array
    from npuc.runtime.emulator.controller import Controller
    from npuc.runtime.emulator.core_unit import CoreUnit
    from npuc.runtime.emulator.dma import Channel
    from npuc.runtime.emulator.tile import Tile
    from npuc.runtime.emulator.waits import Wait


def diagnose(array: Array, controller: Controller, loops: Mapping[str, str]) -> Diagnosis:
    """The diagnosis of an array in which nothing moves.  loops: units that go round for ever, with a line on each."""
    units = _units(array, controller, loops)
    cause = why(units, controller.name)
    root = _with_dead_ends(cause, units)
    stuck = tuple(unit for unit in units.values() if unit.status in (WAITING, LOOPING, RUNNING))
    notes = [_descriptor(unit) for unit in stuck if unit.line in cause.chain and "fields" in unit.state]
    notes += [*stack_notes(array), *foreign_notes(array, controller), *_notes(array)]
    return Diagnosis(array.clock.cycle, root, cause.chain, stuck, tuple(notes))


def reason(array: Array, controller: Controller, name: str) -> tuple[str, tuple[str, ...]] | None:
    """Why a unit still waits when the sequence has ended, as root and chain; None where it does not wait."""
    units = _units(array, controller, {})
    if name not in units or units[name].status != WAITING:
        return None
    cause = why(units, name)
    return _with_dead_ends(cause, units), cause.chain


def _units(array: Array, controller: Controller, loops: Mapping[str, str]) -> dict[str, Unit]:
    """Every unit by its name, and the ports that are no units."""
    units = [_controller(array, controller)]
    for tile in array.tiles.values():
        if tile.core is not None:
            units.append(_core(array, controller, tile.core, loops.get(tile.name)))
        units += [_channel(array, controller, channel, loops.get(channel.name)) for channel in tile.channels.values()]
    by_name = {unit.name: unit for unit in units}
    for name in {provider for unit in units for resource in unit.waits for provider in resource.providers}:
        if name not in by_name:
            by_name[name] = Unit(name, "port", None, IDLE, text=_of_port(name))
    return by_name


def _with_dead_ends(cause: Cause, units: Mapping[str, Unit]) -> str:
    """The root in one line, with a dead end beside the chain.

    A chain that ends in a host that has given all it was asked for has not found what takes its words: a dead end in a
    tile that the chain passes is it.
    """
    passed = {units[name].tile for name in cause.path} - {None}
    beside = sorted(dead_ends(units, cause), key=lambda unit: unit.tile not in passed)
    lines = [unit.dead_end for unit in beside]
    if lines and (not cause.spent or beside[0].tile not in passed):
        lines.insert(0, cause.root)
    if cause.beside and not lines:
        lines = [cause.beside, cause.root]
    if len(lines) < 2:
        return lines[0] if lines else cause.root
    more = f" (and {len(lines) - 2} more)" if len(lines) > 2 else ""
    return f"{lines[0]}; beside it {lines[1]}{more}"


# --- the controller -----------------------------------------------------------------------------------------------
def _controller(array: Array, controller: Controller) -> Unit:
    place = f"operation {controller.position} of {len(controller.operations)}"
    if controller.waiting is None:
        return Unit(controller.name, "controller", None, RUNNING, place, "runs")
    operation = controller.operations[controller.position]
    state = {"position": controller.position, "operation": type(operation).__name__}
    if isinstance(operation, (txn.MaskPoll, txn.MaskPollBusy)):
        resource = _register(array, operation)
    else:
        resource = _token(array, controller)
    return Unit(controller.name, "controller", None, WAITING, place, waits=(resource,), state=state)


def _register(array: Array, operation: txn.MaskPoll | txn.MaskPollBusy) -> Resource:
    value = array.registers.read(operation.address, "diagnosis")
    name = register_name(operation.address)
    text = f"for {name} & {operation.mask:#x} to be {operation.value:#x}; the register is {value:#x}"
    state = {"register": name, "value": value, "mask": operation.mask, "wanted": operation.value}
    return Resource("register", text, state, missing="nothing that is under way changes it")


def _token(array: Array, controller: Controller) -> Resource:
    keys = controller.wanted
    state = {"channels": [list(key) for key in keys]}
    providers, missing = [], None
    for column, row, direction, number in keys:
        tile = array.tiles.get((column, row))
        if tile is None:
            missing = f"there is no tile ({column},{row}) in {array.columns} columns"
        elif (direction, number) not in tile.channels:
            missing = f"{tile.name} has no channel {direction.upper()} {number}"
        elif (ring := endless(tile.channels[direction, number])) is not None:
            missing = ring
        else:
            providers.append(tile.channels[direction, number].name)
    lost = [text for text in array.lost_tokens if any(text.startswith(f"the task token of {p} ") for p in providers)]
    if lost:
        return Resource("token", f"for {controller.waiting}", state, missing=lost[0])
    return Resource("token", f"for {controller.waiting}", state, tuple(providers), missing)


# --- cores --------------------------------------------------------------------------------------------------------
def bundle_text(program: bytes | bytearray, address: int) -> str:
    """The bundle at an address, or why there is none."""
    if not 0 <= address < len(program):
        return "outside program memory"
    try:
        return format_bundle(decode_bundle(program, address))
    except DecodeError as error:
        return f"no bundle ({error.message})"


def _core(array: Array, controller: Controller, unit: CoreUnit, loop: str | None) -> Unit:
    tile, core = unit.tile, unit.core
    state = {"pc": core.pc, "bundle": bundle_text(unit.program, core.pc), "bundles": core.bundles}

    def made(status: str, text: str = "", waits: tuple[Resource, ...] = ()) -> Unit:
        place = f"at {core.pc:#x}" if core.bundles else ""
        return Unit(tile.name, "core", (tile.column, tile.row), status, place, text, waits, state)

    if loop is not None:
        return made(LOOPING, loop)
    if unit.waiting is not None:
        return made(WAITING, waits=(_core_needs(array, controller, unit),))
    if unit.debug.halted:
        return made(OFF, "is halted by its debug registers")
    if core.finished:
        return made(FINISHED, "has executed done")
    if unit.running:
        return made(RUNNING, "computes")
    if not any(unit.program):
        return made(OFF, "has no program and is not enabled")
    held = unit.control & geometry.CORE_CONTROL_RESET
    return made(OFF, "has a program but is held in reset" if held else "has a program but is not enabled")


def _core_needs(array: Array, controller: Controller, unit: CoreUnit) -> Resource:
    request = unit.waiting
    if isinstance(request, LockRequest):
        owner, lock = unit.services.lock_place(request)
        return _lock(array, controller, owner, lock, request.value, unit.tile.name)
    if isinstance(request, StreamRead):
        ends = core_sources(array, unit.tile)
        missing = None if ends.units else "nothing feeds it: " + "; ".join(ends.open)
        text = "for a word on its stream input from " + (" or ".join(ends.units) or "its stream")
        return Resource("words", text, {"from": ends.units, "open": ends.open}, tuple(ends.units), missing)
    if isinstance(request, StreamWrite):
        ends = core_sinks(array, unit.tile)
        missing = None if ends.units else "; ".join(ends.open)
        text = f"to put {request.word:#x} on its stream output to " + (" and ".join(ends.units) or "its stream")
        return Resource("room", text, {"to": ends.units, "open": ends.open}, tuple(ends.units), missing)
    reads = isinstance(request, CascadeRead)
    side = (input_side if reads else output_side)(unit.services.cascade_control())
    other = unit.neighbour(side)
    text = f"for cascade data from the {side}" if reads else f"for room in the cascade to the {side}"
    text += f" ({other.name})" if other is not None else ""
    providers = (other.name,) if other is not None else ()
    missing = None if providers else f"there is no core to the {side}"
    return Resource("cascade", text, {"side": side}, providers, missing)


def _lock(array: Array, controller: Controller, tile: Tile, lock: int, value: int, who: str) -> Resource:
    locks = tile.locks
    wanted = f"at least {-value}" if value < 0 else f"exactly {value}"
    text = (
        f"for lock {lock} of {tile.name} to be {wanted}; it is {locks.values[lock]}, last changed by "
        f"{locks.writers[lock]}"
    )
    state = {
        "lock": lock,
        "tile": [tile.column, tile.row],
        "value": locks.values[lock],
        "acquire": value,
        "last_writer": locks.writers[lock],
    }
    providers = lock_providers(array, controller, tile, lock, who)
    missing = None
    if not providers:
        missing = "nothing releases it"
        if given_by_sequence(controller, tile, lock):
            missing = "the sequence has set it and does not set it again"
            return Resource("lock", text, {**state, SPENT: True}, missing=missing)
        idle = receivers_without_a_task(array, tile)
        unused = descriptors_releasing(tile, lock)
        if unused and idle:
            return Resource("lock", text, state, idle)
        if unused:
            numbers = " and ".join(map(str, unused))
            missing += f": descriptor {numbers} of {tile.name} would, and no channel runs it"
        missing += "".join(
            f" ({channel} has run descriptor {number})" for channel, number in giving_nothing(tile, lock)
        )
        others = [name for name in cores_in_reach(array, tile) if name not in (tile.name, who)]
        if tile.memory is not None and tile.memory.shared is not None and others:
            missing += f", neither {tile.name} nor {' nor '.join(others)}, which could"
        if tile.core is not None and not tile.core.running and not tile.core.core.finished:
            missing += f"; {tile.name} " + ("is not enabled" if any(tile.core.program) else "has no program")
    return Resource("lock", text, state, providers, missing)


# --- DMA channels -------------------------------------------------------------------------------------------------
def _channel(array: Array, controller: Controller, channel: Channel, loop: str | None) -> Unit:
    tile = channel.tile
    where = (tile.column, tile.row)
    state: dict[str, Any] = {
        "direction": channel.direction, "channel": channel.number, "tasks_done": channel.tasks, "words": channel.words,
        "queue": [{"descriptor": task.first, "repeat": task.left, "token": task.token} for task in channel.queue],
    }  # fmt: skip
    if not channel.busy:
        return _idle(controller, channel, state)
    number = channel.number_running
    moved, length = channel.progress()
    state |= {"descriptor": number, "moved": moved, "length": length}
    if number is not None:  # none has been, where packets name them
        state["fields"] = geometry.unpack_bd(tile.kind, tile.descriptors[number])
    place = f"in descriptor {number}"
    if isinstance(channel, Receiver) and channel.wants_header:
        place = "at its first packet" if number is None else f"after descriptor {number}"
    elif isinstance(channel, Receiver) and channel.header is not None:
        sender = array.tiles.get(((channel.header >> 21 & 127) - array.first_column, channel.header >> 16 & 31))
        place += f", named by a packet of {sender.name}" if sender is not None else ", named by a packet"
    if channel.waiting_lock is None and length:
        place += f", {moved} of {length} words moved"
    if loop is not None:
        return Unit(channel.name, "dma", where, LOOPING, place, loop, state=state)
    if channel.paused:
        return Unit(channel.name, "dma", where, OFF, place, "is paused by its control register", state=state)
    waits = tuple(_channel_needs(array, controller, channel, wait) for wait in channel.waits_for())
    if not waits and not length:
        waits = _receivers(array, channel)
    if waits:
        return Unit(channel.name, "dma", where, WAITING, place, waits=waits, state=state)
    return Unit(channel.name, "dma", where, RUNNING, place, "is under way", state=state)


def _descriptor(unit: Unit) -> str:
    """What the descriptor of a channel says, and what waits in its queue."""
    fields, queue = unit.state["fields"], unit.state["queue"]
    parts = [f"{fields['length']} words"]
    parts += [f"base {4 * fields['base_address']:#x}"] if "base_address" in fields else []
    if fields["acquire_enable"]:
        parts.append(f"acquires lock {fields['acquire_lock']} by {fields['acquire_value']}")
    if fields["release_value"]:
        parts.append(f"releases lock {fields['release_lock']} by {fields['release_value']}")
    parts += [f"packet id {fields['packet_id']}"] if fields["enable_packet"] else []
    parts += [f"then descriptor {fields['next_bd']}"] if fields["use_next"] else ["the last of its chain"]
    waiting = ", ".join(f"descriptor {task['descriptor']} x {task['repeat']}" for task in queue) or "empty"
    return f"descriptor {unit.state['descriptor']} of {unit.name}: {', '.join(parts)}; queue {waiting}"


def _idle(controller: Controller, channel: Channel, state: dict[str, Any]) -> Unit:
    tile = channel.tile
    address = geometry.tile_address(
        tile.column, tile.row, geometry.channel_queue_offset(tile.kind, channel.direction, channel.number)
    )
    later = sequence_writes(controller, address)
    text = "has no task"
    waiting = words_waiting(channel)
    if waiting:
        state[HELD] = waiting
        text += f", and {waiting} wait for it"
    if channel.tasks:
        text += f"; it has done {channel.tasks}, {channel.words} words in all"
        key = (tile.column, tile.row, channel.direction, channel.number)
        if key in controller.wanted and key not in controller.seen:
            text += ", none of them pushed with a token"
    if later is not None:
        text += f"; operation {later} of the sequence, not reached, pushes one"
    elif tile.kind == "shim" and not channel.tasks and not is_used(controller, channel):
        text += f"; the sequence pushes none: {OTHER_IMAGE}"
    return Unit(channel.name, "dma", (tile.column, tile.row), IDLE, "", text, state=state)


def _channel_needs(array: Array, controller: Controller, channel: Channel, wait: Wait) -> Resource:
    if wait.lock is not None:
        owner = next(tile for tile in array.tiles.values() if tile.name == wait.lock[0])
        return _lock(array, controller, owner, wait.lock[1], wait.lock[2], channel.name)
    providers = tuple(dict.fromkeys(_unit_of(array, name) for name in wait.peers))
    state = {"on": wait.on, "peers": list(wait.peers)}
    missing = None
    moved, length = channel.progress()
    if wait.kind == "words":
        what = f"{length - moved} words" if length else "a packet's header"
        text = f"for {what} from " + (" or ".join(wait.peers) or "its stream")
        if not providers:
            ends = sources(array, channel)
            missing = "nothing feeds it: " + "; ".join(ends.open or elsewhere(array, ends.units))
            if is_used(controller, channel):
                missing += f" ({USED}: {OTHER_IMAGE})"
    elif wait.kind == "way":
        text, missing = "for a way through the switches", wait.text
    elif wait.kind == "room":
        text = f"for {wait.on} to take {length - moved} words"
    else:
        text = f"for {wait.on}, which passes a packet of {' and '.join(wait.peers)}"
    return Resource(wait.kind, text, state, providers, missing)


def _of_port(name: str) -> str:
    """What a port that is no unit does."""
    control = "sends nothing but task tokens and answers to control packets"
    return control if name.startswith("the control port") else "passes what comes"


def _unit_of(array: Array, name: str) -> str:
    """The unit behind a port's name: ports of cores and of the tile's control are called after their tile."""
    for tile in array.tiles.values():
        if name.startswith("the stream ") and name.endswith(f" of {tile.name}"):
            return tile.name
    return name


def _receivers(array: Array, channel: Channel) -> tuple[Resource, ...]:
    """For a sender whose words are all on the way: who does not take them.

    Of the channels that the switches lead to, those that words are on the way to (packets go to some of them).
    """
    names = sinks(array, channel).units
    expecting = [c.name for c in array.channels() if isinstance(c, Receiver) and c.inlet.marks()]
    slow = [name for name in names if name in expecting]
    text = "for its last words to be taken by "
    return tuple(Resource("room", text + name, {"to": name}, (name,)) for name in slow or names)


# --- what else stands out -----------------------------------------------------------------------------------------
def _notes(array: Array) -> list[str]:
    """Tokens that went nowhere, locks that are released and never acquired."""
    notes = list(array.lost_tokens)
    for tile in array.tiles.values():
        for lock, releasers in sorted(tile.locks.releasers.items()):
            if lock not in tile.locks.acquirers:
                notes.append(
                    f"lock {lock} of {tile.name} is {tile.locks.values[lock]}: {', '.join(sorted(releasers))} "
                    "released it and nothing has acquired it"
                )
    return notes
