"""The requests of the software device, one function each: (device, file, fields) -> fields that change."""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.devices import abi, commands
from npuc.runtime.devices.software_contexts import Context, Job, Unit
from npuc.runtime.devices.software_memory import Buffer, Heap, read_user, write_user
from npuc.runtime.devices.software_queries import get_info
from npuc.runtime.devices.system_calls import error

if TYPE_CHECKING:
    from npuc.runtime.devices.software import OpenFile, SoftwareDevice

Values: TypeAlias = "dict[str, Any]"
CORE_ROWS = len(geometry.CORE_ROWS)
CHAIN_SLOT = 8  # bytes beside the arguments: unit and count
CHAIN_BUFFERS = 4  # of the heap, in which the driver hands command lists to the firmware


def _require(met: bool, code: int, what: str) -> None:
    if not met:
        raise error(code, what)


def drop(device: SoftwareDevice, file: OpenFile, buffers: Sequence[Buffer]) -> None:
    """One reference less of each; the last gives its part of the heap back."""
    with device.lock:
        for buffer in buffers:
            if buffer.released() and buffer.kind == abi.BO_DEV and file.heap is not None:
                file.heap.give_back(buffer.address)


def _buffer(device: SoftwareDevice, file: OpenFile, handle: int, code: int, what: str) -> Buffer:
    with device.lock:
        buffer = file.buffers.get(handle)
    if buffer is None:
        raise error(code, f"{what}: buffer {handle}")
    return buffer


# --- of the DRM core ----------------------------------------------------------------------------------------------
def _version(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    major, minor = device.version
    name = abi.DRIVER_NAME.encode()
    if values["name_len"]:
        write_user(values["name"], name[: values["name_len"]])
    return {"major": major, "minor": minor, "patch": 0, "name_len": len(name), "date_len": 0, "desc_len": 0}


def _gem_close(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    buffer = _buffer(device, file, values["handle"], errno.EINVAL, "GEM_CLOSE")
    if buffer.kind == abi.BO_DEV_HEAP:
        # The client keeps its heap for itself as long as it is open; a handle less is no heap less.
        if any(b.kind == abi.BO_DEV for b in file.buffers.values()) or file.contexts:
            device.complain("the device heap is closed before what lies in it")
    with device.lock:
        del file.buffers[values["handle"]]
    drop(device, file, [buffer])
    return {}


def _syncobj_destroy(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    _require(not values["pad"], errno.EINVAL, "SYNCOBJ_DESTROY")
    with device.lock:
        _require(file.syncobjs.pop(values["handle"], None) is not None, errno.EINVAL, "SYNCOBJ_DESTROY")
    return {}


def _timeline_wait(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    what = "SYNCOBJ_TIMELINE_WAIT"
    _require(not values["flags"] & ~0xF and values["count_handles"] == 1, errno.EINVAL, what)
    (handle,) = struct.unpack("<I", read_user(values["handles"], 4))
    (point,) = struct.unpack("<Q", read_user(values["points"], 8))
    with device.lock:
        context = file.syncobjs.get(handle)
    if context is None:
        raise error(errno.ENOENT, what)
    if point >= context.submitted and not values["flags"] & abi.WAIT_FOR_SUBMIT:
        raise error(errno.EINVAL, what)
    if not context.wait(point, _seconds_until(values["timeout_nsec"])):
        raise error(errno.ETIME, what)
    return {"first_signaled": 0}


def _seconds_until(nanoseconds: int) -> float | None:
    """Until a time of the monotonic clock; None for one that never comes."""
    if nanoseconds >= (1 << 63) - 1:
        return None
    return max(0.0, (nanoseconds - time.monotonic_ns()) / 1e9)


# --- buffers ------------------------------------------------------------------------------------------------------
def _create_bo(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    what, kind = "CREATE_BO", values["type"]
    _require(not values["flags"], errno.EINVAL, what)
    size = -(-values["size"] // abi.PAGE) * abi.PAGE
    with device.lock:
        if kind in (abi.BO_SHARE, abi.BO_CMD):
            _require(not values["vaddr"], errno.EOPNOTSUPP, f"{what}: memory of the caller")
            _require(size > 0, errno.EINVAL, what)
            buffer = Buffer(kind, size, device.next_offset())
        elif kind == abi.BO_DEV_HEAP:
            _require(size > 0 and not size % abi.HEAP_BYTES, errno.EINVAL, what)
            _require(size == abi.HEAP_BYTES, errno.ENOSPC, f"{what}: npu1's heap has {abi.HEAP_BYTES} bytes")
            _require(file.heap is None, errno.EBUSY, f"{what}: a second heap")
            buffer = Buffer(kind, size, device.next_offset())
            buffer.fixed_address = abi.HEAP_BASE
            buffer.references += 1  # the client's own
            file.heap = Heap(buffer)
        elif kind == abi.BO_DEV:
            buffer = _in_heap(file, size, what)
        else:
            raise error(errno.EINVAL, f"{what}: type {kind}")
        handle = next(h for h in range(1, len(file.buffers) + 2) if h not in file.buffers)
        file.buffers[handle] = buffer
    return {"handle": handle}


def _in_heap(file: OpenFile, size: int, what: str) -> Buffer:
    heap = file.heap
    if heap is None or heap.buffer.mapped_at is None:
        raise error(errno.EAGAIN, f"{what}: no mapped heap")
    _require(0 < size <= heap.buffer.size, errno.EINVAL, what)
    buffer = Buffer(abi.BO_DEV, size, None)
    buffer.fixed_address = heap.take(size)
    buffer.place(heap.part(buffer.fixed_address, size))
    return buffer


def _get_bo_info(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    what = "GET_BO_INFO"
    _require(not (values["ext"] or values["ext_flags"] or values["pad"]), errno.EINVAL, what)
    buffer = _buffer(device, file, values["handle"], errno.ENOENT, what)
    mapped, heap = buffer.mapped_at, file.heap
    if buffer.kind == abi.BO_DEV and heap is not None and heap.buffer.mapped_at is not None:
        mapped = heap.buffer.mapped_at + buffer.address - abi.HEAP_BASE
    return {
        "map_offset": abi.INVALID_ADDRESS if buffer.offset is None else buffer.offset,
        "vaddr": abi.INVALID_ADDRESS if mapped is None else mapped,
        "xdna_addr": buffer.address,
    }


def _sync_bo(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    """Lines are flushed first. Then kernels after Linux 6.14 take FROM_DEVICE to mean a debug buffer."""
    what = "SYNC_BO"
    buffer = _buffer(device, file, values["handle"], errno.ENOENT, what)
    end = values["offset"] + values["size"]
    if device.track is abi.OUT_OF_TREE:
        _require(end <= buffer.size, errno.EINVAL, what)
    _require(values["offset"] < buffer.size and end < 1 << 64, errno.EINVAL, what)
    with device.lock:
        buffer.flush(values["offset"], values["size"])
    if values["direction"] == abi.FROM_DEVICE:
        _require(device.track is not abi.MAINLINE, errno.EINVAL, f"{what}: no debug buffer")
    return {}


# --- contexts -----------------------------------------------------------------------------------------------------
def _create_hwctx(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    what = "CREATE_HWCTX"
    _require(not (values["ext"] or values["ext_flags"]), errno.EINVAL, what)
    quality = device.layout("qos_info")
    quality.unpack(read_user(values["qos_p"], quality.size))
    heap = file.heap
    if heap is None:
        raise error(errno.ENOENT, f"{what}: no device heap")
    columns = values["num_tiles"] // CORE_ROWS
    with device.lock:
        held = sum(len(other.contexts) for other in device.files)
        _require(0 < columns <= device.columns, errno.EINVAL, f"{what}: {columns} columns")
        _require(held < abi.CONTEXTS, errno.EINVAL, f"{what}: {held} contexts are there")
        _require(heap.buffer.mapped_at is not None, errno.EINVAL, f"{what}: map host buffer")
        handle, syncobj = next(device.numbers), next(device.numbers)
        context = Context(
            handle,
            syncobj,
            columns,
            device.new_device,
            lambda address: _at(device, file, address),
            device.runs.append,
            device.note_failure,
            lambda buffers: drop(device, file, buffers),
            device.max_cycles,
        )
        taken: list[Buffer] = context.internal
        try:
            taken.extend(_in_heap(file, abi.PAGE, what) for _ in range(CHAIN_BUFFERS))
        except OSError:
            drop(device, file, taken)
            raise
        if heap.buffer.mapped_at is not None and heap.buffer.mapped_at % abi.HEAP_BYTES:
            device.complain(f"the device heap is mapped at {heap.buffer.mapped_at:#x}, no multiple of its size")
        file.contexts[handle], file.syncobjs[syncobj] = context, context
    return {"handle": handle, "syncobj_handle": syncobj, "umq_doorbell": (1 << 32) - 1}


def _at(device: SoftwareDevice, file: OpenFile, address: int) -> memoryview | None:
    """The device's bytes from an address to the end of the buffer it lies in."""
    with device.lock:
        for buffer in file.buffers.values():
            if buffer.kind in (abi.BO_SHARE, abi.BO_DEV) and 0 <= address - buffer.address < buffer.size:
                return buffer.device[address - buffer.address :].data
    return None


def end_context(device: SoftwareDevice, file: OpenFile, context: Context) -> None:
    """Stop a context and give back what it keeps."""
    with device.lock:
        file.contexts.pop(context.handle, None)
    context.close()
    drop(device, file, [*context.internal, *(unit.buffer for unit in context.units)])
    context.internal.clear()
    context.units = ()


def _context(device: SoftwareDevice, file: OpenFile, handle: int, what: str) -> Context:
    with device.lock:
        context = file.contexts.get(handle)
    if context is None:
        raise error(errno.EINVAL, f"{what}: context {handle}")
    return context


def _destroy_hwctx(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    _require(not values["pad"], errno.EINVAL, "DESTROY_HWCTX")
    end_context(device, file, _context(device, file, values["handle"], "DESTROY_HWCTX"))
    return {}


def _config_hwctx(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    what = "CONFIG_HWCTX"
    _require(not values["pad"] and values["param_type"] == abi.CONFIG_CU, errno.EINVAL, what)
    _require(values["param_val_size"] <= abi.PAGE, errno.E2BIG, what)
    raw = read_user(values["param_val"], values["param_val_size"]).ljust(abi.PAGE, b"\0")
    context = _context(device, file, values["handle"], what)
    layout, one = device.layout("hwctx_param_config_cu"), device.layout("cu_config")
    head = layout.unpack(raw)
    count = head["num_cus"]
    _require(not any(head["pad"]) and not context.units and 0 < count, errno.EINVAL, what)
    _require(layout.size + count * one.size <= values["param_val_size"], errno.EINVAL, what)
    _require(count <= abi.COMPUTE_UNITS, errno.EINVAL, what)
    units = []
    for entry in one.unpack_array(raw, layout.size, count):
        buffer = _buffer(device, file, entry["cu_bo"], errno.EINVAL, what)
        _require(buffer.kind == abi.BO_DEV and not any(entry["pad"]), errno.EINVAL, what)
        units.append(Unit(buffer, entry["cu_func"], buffer.device.tobytes()))
    with device.lock:
        for unit in units:
            unit.buffer.references += 1
        context.units = tuple(units)
    return {}


# --- commands -----------------------------------------------------------------------------------------------------
def _exec_cmd(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    what = "EXEC_CMD"
    _require(not (values["ext"] or values["ext_flags"]), errno.EINVAL, what)
    _require(values["type"] == abi.SUBMIT_EXEC_BUF and values["cmd_count"] == 1, errno.EINVAL, what)
    count = values["arg_count"]
    _require(count <= abi.MOST_ARGUMENT_BOS, errno.EINVAL, what)
    handles = struct.unpack(f"<{count}I", read_user(values["args"], 4 * count))
    command = _command(device, file, values["cmd_handles"] & 0xFFFFFFFF, errno.EINVAL)
    held = [_buffer(device, file, handle, errno.ENOENT, what) for handle in handles]
    context = _context(device, file, values["hwctx"], what)
    parts = _parts(device, file, command)
    for part in parts:
        _check_start(part)
        _check_held(device, context, part, held)
    slots = sum(CHAIN_SLOT + 4 * (commands.Header.of(part.word).count - 1) for part in parts)
    _require(slots <= abi.PAGE, errno.EINVAL, f"{what}: {slots} bytes of commands")
    outcome, hangs = device.faults.outcome()
    with device.lock:
        for buffer in (command, *parts, *held):
            buffer.references += 1
    header = commands.Header.of(command.word)
    new = commands.Header(commands.NEW, header.extra_masks, header.count, header.opcode, header.type)
    command.host[:4] = new.word.to_bytes(4, "little")
    return {"seq": context.submit(Job(command, parts, held, outcome, hangs))}


def _command(device: SoftwareDevice, file: OpenFile, handle: int, code: int) -> Buffer:
    """A command's buffer: of type CMD in Linux 6.14, SHARE as well in later drivers."""
    buffer = _buffer(device, file, handle, code, "EXEC_CMD")
    kinds = (abi.BO_CMD,) if device.track is abi.LINUX_6_14 else (abi.BO_CMD, abi.BO_SHARE)
    _require(buffer.kind in kinds, code, "EXEC_CMD")
    return buffer


def _parts(device: SoftwareDevice, file: OpenFile, command: Buffer) -> list[Buffer]:
    """The command itself, or the commands of a chain."""
    header = commands.Header.of(command.word)
    if header.opcode != commands.CMD_CHAIN:
        return [command]
    payload = bytes(command.host[4 : 4 + 4 * header.count])
    _require(len(payload) >= commands.CHAIN.size, errno.EINVAL, "EXEC_CMD")
    count, at = commands.CHAIN.unpack(payload)["command_count"], commands.CHAIN.size
    _require(0 < count and len(payload) >= at + 8 * count, errno.EINVAL, "EXEC_CMD")
    handles = struct.unpack_from(f"<{count}Q", payload, at)
    return [_command(device, file, handle & 0xFFFFFFFF, errno.ENOENT) for handle in handles]


def _check_start(command: Buffer) -> None:
    """A START_CU command as the driver and the firmware take it."""
    data = bytes(command.host)
    header = commands.Header.of(command.word)
    _require(header.opcode == commands.START_CU, errno.EOPNOTSUPP, f"EXEC_CMD: opcode {header.opcode}")
    masks = 1 + header.extra_masks
    _require(header.count > masks and 4 + 4 * header.count <= len(data), errno.EINVAL, "EXEC_CMD: count")
    _require(any(data[4 : 4 + 4 * masks]), errno.EINVAL, "EXEC_CMD: no compute unit")
    payload = 4 * (header.count - masks)
    _require(payload >= commands.OLDER_ARGUMENTS.size, errno.EINVAL, "EXEC_CMD: payload")


def _check_held(device: SoftwareDevice, context: Context, command: Buffer, held: Sequence[Buffer]) -> None:
    """Complain about buffers that a command names and the submission does not hold."""
    data = bytes(command.host)
    header = commands.Header.of(command.word)
    payload = data[4 * (2 + header.extra_masks) : 4 * (1 + header.count)]
    older = any(unit.function == commands.OLDER_SEQUENCE for unit in context.units)
    layout = commands.OLDER_ARGUMENTS if older else commands.ARGUMENTS
    values, rest = layout.unpack(payload.ljust(layout.size, b"\0")), payload[layout.size :]
    addresses = [values["instructions"], *struct.unpack_from(f"<{len(rest) // 8}Q", rest)]
    for address in filter(None, addresses):
        if not any(0 <= address - buffer.address < buffer.size for buffer in held):
            device.complain(f"a command names address {address:#x}, which lies in no buffer of its submission")


def _wait_cmd(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    context = _context(device, file, values["hwctx"], "WAIT_CMD")
    _require(values["seq"] < context.submitted, errno.EINVAL, "WAIT_CMD")
    if not context.wait(values["seq"], values["timeout"] / 1e3 if values["timeout"] else None):
        raise error(errno.ETIME, "WAIT_CMD")
    return {}


# --- what it does not serve ---------------------------------------------------------------------------------------
def _refused(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    raise error(errno.EOPNOTSUPP, "not of this device")


def _for_root(device: SoftwareDevice, file: OpenFile, values: Values) -> Values:
    raise error(errno.EACCES, "SET_STATE")


REQUESTS: dict[str, Callable[[SoftwareDevice, OpenFile, Values], Values]] = {
    "VERSION": _version,
    "GEM_CLOSE": _gem_close,
    "SYNCOBJ_DESTROY": _syncobj_destroy,
    "SYNCOBJ_TIMELINE_WAIT": _timeline_wait,
    "CREATE_BO": _create_bo,
    "GET_BO_INFO": _get_bo_info,
    "SYNC_BO": _sync_bo,
    "CREATE_HWCTX": _create_hwctx,
    "DESTROY_HWCTX": _destroy_hwctx,
    "CONFIG_HWCTX": _config_hwctx,
    "EXEC_CMD": _exec_cmd,
    "WAIT_CMD": _wait_cmd,
    "GET_INFO": get_info,
    "GET_ARRAY": _refused,
    "SET_STATE": _for_root,
}
