"""The amdxdna backend against the driver in software: results, failures at every step, clean release."""

from __future__ import annotations

import errno
import gc
import struct
import sys
from collections.abc import Callable, Iterator
from functools import partial

import device_calls
import numpy as np
import pytest
from small_kernels import compiled

import npuc
import npuc.pyxrt
from npuc.compiler.emit.txn import Sync, read_txn
from npuc.runtime.arguments import draw
from npuc.runtime.backends.amdxdna import AmdxdnaBackend, clients, open_any
from npuc.runtime.backends.xrt import XrtBackend
from npuc.runtime.devices import abi, commands, system_calls
from npuc.runtime.devices.client import ArrayImage, Context, Memory
from npuc.runtime.devices.failures import DeviceFailure, cause_of
from npuc.runtime.devices.software import SoftwareDevice, Taken
from npuc.runtime.kernel_file import read_kernel

CLOSING = ("GEM_CLOSE", "DESTROY_HWCTX", "SYNCOBJ_DESTROY", "munmap", "close")


@pytest.fixture
def device() -> Iterator[SoftwareDevice]:
    made = SoftwareDevice()
    with system_calls.replaced(made):
        yield made
    assert made.taken == Taken() and made.complaints == []


@pytest.fixture
def npuc_command(npuc: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    return npuc


@pytest.fixture(scope="module")
def kernel() -> bytes:
    return compiled(1).xclbin


@pytest.fixture(scope="module")
def arrays(kernel: bytes) -> dict[str, np.ndarray]:
    return draw(read_kernel(kernel).arguments, 0)


def run(kernel: bytes, arrays: dict[str, np.ndarray], **settings) -> tuple[bytes, npuc.RunReport]:
    with npuc.load(kernel, fallback=(), **settings) as exe:
        call = exe.serve(arrays)
        (out,) = call.outputs.values()
        return out.tobytes(), call.report


run_once = partial(device_calls.run_once, AmdxdnaBackend)


@pytest.mark.parametrize("track", abi.TRACKS.values(), ids=lambda track: track.name)
def test_every_track_gives_the_emulator_s_output_and_cycles_and_all_is_given_back(kernel, arrays, track):
    device = SoftwareDevice(track)
    with system_calls.replaced(device):
        with npuc.load(kernel, backend="amdxdna", fallback=()) as exe:
            served = [exe.serve(arrays) for _ in range(2)]
            held = device.taken
    with npuc.load(kernel, backend="emulator", fallback=()) as exe:
        wanted = [exe.serve(arrays) for _ in range(2)]  # cycles may differ: buffers are taken by turns
    outputs = [[out.tobytes() for call in calls for out in call.outputs.values()] for calls in (served, wanted)]
    assert outputs[0] == outputs[1]
    assert [run.cycles for run in device.runs] == [call.report.cycles for call in wanted]
    assert all(call.report.backend == "amdxdna" and call.report.emulated for call in served)
    assert held.descriptors == held.contexts == held.syncobjs == 1 and held.buffers == 8 and held.mappings == 6
    assert device.taken == Taken() and device.complaints == []


def test_the_second_call_takes_nothing_anew(kernel, arrays, device):
    with npuc.load(kernel, backend="amdxdna", fallback=()) as exe:
        exe.serve(arrays)
        held = device.taken
        device.calls.clear()
        exe.serve(arrays)
        assert device.taken == held
        assert set(device.calls) == {"SYNC_BO", "EXEC_CMD", "SYNCOBJ_TIMELINE_WAIT"}


def test_calls_come_in_the_order_of_xrt_s_shim(kernel, arrays, device):
    run(kernel, arrays, backend="amdxdna")
    calls = [call for call in device.calls if call not in ("GET_BO_INFO", "SYNC_BO")]
    assert calls[:5] == ["open", "VERSION", "GET_INFO", "CREATE_BO", "mmap"]
    order = [calls.index(name) for name in ("mmap", "CREATE_HWCTX", "CONFIG_HWCTX", "EXEC_CMD")]
    assert order == sorted(order)
    ends = calls[calls.index("SYNCOBJ_TIMELINE_WAIT") :]
    assert ends.index("SYNCOBJ_DESTROY") < ends.index("DESTROY_HWCTX") and ends[-1] == "close"


# failures


def steps(kernel: bytes, arrays: dict[str, np.ndarray]) -> list[tuple[str, int]]:
    """Every call of a load, a run and a close: its name and how many of that name come before it."""
    device, seen = SoftwareDevice(), {}
    with system_calls.replaced(device):
        run_once(kernel, arrays)
    found = []
    for name in device.calls:
        found.append((name, seen.get(name, 0)))
        seen[name] = seen.get(name, 0) + 1
    return found


CODES = {
    "open": (errno.ENOENT, errno.EACCES, errno.EINVAL, errno.ENODEV, errno.EMFILE),
    "mmap": (errno.EAGAIN, errno.ENOMEM, errno.EINVAL),
    "VERSION": (errno.ENOTTY,),
    "GET_INFO": (errno.EOPNOTSUPP, errno.ENODEV),
    "CREATE_BO": (errno.EAGAIN, errno.ENOSPC, errno.ENOMEM, errno.EOPNOTSUPP, errno.EINVAL),
    "GET_BO_INFO": (errno.ENOENT,),
    "SYNC_BO": (errno.EINVAL,),
    "CREATE_HWCTX": (errno.EINVAL, errno.ENOENT, errno.EIO, errno.ENODEV, errno.EFAULT),
    "CONFIG_HWCTX": (errno.EINVAL, errno.ETIME, errno.E2BIG),
    "EXEC_CMD": (errno.EIO, errno.EINVAL, errno.ENOENT, errno.EOPNOTSUPP),
    "SYNCOBJ_TIMELINE_WAIT": (errno.EINVAL, errno.ENOENT),
}


def test_each_failure_at_each_step_is_its_documented_error_and_all_is_given_back(kernel, arrays, device):
    tried = 0
    for name, before in steps(kernel, arrays):
        for code in CODES.get(name, ()):
            device.faults.fail(name, code, after=before)
            with pytest.raises(DeviceFailure) as caught:
                run_once(kernel, arrays)
            error, found = caught.value, cause_of(name, code)
            assert (error.call, error.code) == (name, code) and device.faults.left == 0
            assert errno.errorcode[code] in error.message and found.cause in error.message
            assert error.remedy == found.remedy and error.exit_code == 4
            assert device.taken == Taken(), (name, before, errno.errorcode[code])
            tried += 1
    assert tried > 60 and set(CODES) | set(CLOSING) == {name for name, _ in steps(kernel, arrays)}
    assert run_once(kernel, arrays) == run(kernel, arrays, backend="emulator")[0]


ANY_CODES = (errno.EINTR, errno.EIO, errno.ENOMEM, errno.ENODEV, errno.EINVAL, errno.ECANCELED)


@pytest.mark.slow
@pytest.mark.parametrize("track", abi.TRACKS.values(), ids=lambda track: track.name)
@pytest.mark.parametrize("backend", [AmdxdnaBackend, XrtBackend], ids=lambda backend: backend.name)
def test_no_errno_at_any_step_of_any_track_leaves_anything_behind(kernel, arrays, backend, track, monkeypatch):
    """Some 800 failures a case: an error with errno, cause and remedy, and all is given back that can be."""
    monkeypatch.setitem(sys.modules, "pyxrt", npuc.pyxrt)
    device = SoftwareDevice(track)
    with system_calls.replaced(device):
        device_calls.run_once(backend, kernel, arrays)
        gc.collect()
        made = list(device.calls)
        for name, before in ((name, made[:at].count(name)) for at, name in enumerate(made)):
            if name in CLOSING:
                continue
            for code in ANY_CODES:
                device.faults.fail(name, code, after=before)
                with pytest.raises(DeviceFailure) as caught:
                    device_calls.run_once(backend, kernel, arrays)
                assert caught.value.code == code and caught.value.remedy and "not known" not in caught.value.message
                del caught
                gc.collect()
                assert device.taken == Taken() and device.faults.left == 0, (name, before, errno.errorcode[code])


def test_a_release_that_fails_leaves_nothing_but_what_failed(kernel, arrays):
    for name, before in steps(kernel, arrays):
        if name not in CLOSING:
            continue
        device = SoftwareDevice()
        with system_calls.replaced(device):
            device.faults.fail(name, errno.EINTR, after=before)
            exe = npuc.load(kernel, backend="amdxdna", fallback=())
            exe.serve(arrays)
            try:
                exe.close()
            except DeviceFailure as error:
                assert (error.call, error.code) == (name, errno.EINTR)
        assert device.faults.left == 0
        left = device.taken
        assert (
            left.descriptors + left.mappings <= 1
            and left.buffers + left.contexts + left.syncobjs == 0
            or (name == "close")
        )


@pytest.mark.parametrize("state", [commands.ERROR, commands.ABORT, commands.NORESPONSE, commands.SKCRASHED])
def test_each_bad_end_of_a_command_is_told_by_name_and_the_next_load_works(kernel, arrays, device, state):
    device.faults.end(state)
    with pytest.raises(DeviceFailure, match=f"ended the run with {commands.STATE_NAMES[state]}") as caught:
        run_once(kernel, arrays)
    assert caught.value.state == state and caught.value.remedy and caught.value.health is None
    assert device.taken == Taken()
    assert run_once(kernel, arrays) == run(kernel, arrays, backend="emulator")[0]


def test_a_timeout_says_what_the_sequence_waits_for(kernel, arrays, device):
    sequence = read_txn(read_kernel(kernel).sequence()).operations
    index = next(at for at, operation in enumerate(sequence) if isinstance(operation, Sync))
    for told in (index, index - 1):  # the wait, or what was done before it
        device.faults.end(commands.TIMEOUT, operation=told)
        with pytest.raises(DeviceFailure) as caught:
            run_once(kernel, arrays)
        assert f"operation {index} of {len(sequence)} waits for the output token of column 0" in caught.value.message
        assert caught.value.health == commands.Health(told, 0x28B060AD)
    device.faults.end(commands.TIMEOUT)
    with pytest.raises(DeviceFailure, match="the firmware did not tell where"):
        run_once(kernel, arrays)


def test_a_command_that_never_ends_is_given_up_after_the_time(kernel, arrays, device):
    device.faults.hang()
    with pytest.raises(DeviceFailure, match="has not ended the run within 0.01 s"):
        run_once(kernel, arrays, time_limit=0.01)


def test_a_device_that_goes_in_the_middle_is_an_error_and_serves_again_when_it_is_back(kernel, arrays, device):
    with npuc.load(kernel, backend="amdxdna", fallback=()) as exe:
        first = exe.serve(arrays).outputs
        device.faults.lose(errno.ENODEV)
        with pytest.raises(DeviceFailure, match="ENODEV"):
            exe.serve(arrays)
        device.faults.find()
        (again,), (wanted,) = exe.serve(arrays).outputs.values(), first.values()
        assert np.array_equal(again, wanted)
    # What could not be given back while the device was away went with its descriptor.
    device.complaints.clear()


def test_a_context_that_fails_is_rebuilt_once_then_the_call_falls_back(kernel, arrays, device, caplog):
    caplog.set_level("DEBUG", "npuc")  # what was said before is said again there
    wanted = run(kernel, arrays, backend="emulator")[0]
    with npuc.load(kernel, backend="amdxdna", fallback=("reference",)) as exe:
        device.faults.end(commands.TIMEOUT, operation=3)
        (out,) = exe.serve(arrays).outputs.values()
        assert out.tobytes() == wanted and exe.stats.backend == "amdxdna" and "loading it anew" in caplog.text
        for _ in range(2):
            device.faults.fail("EXEC_CMD", errno.EIO)
        exe.serve(arrays)
        assert exe.stats.backend == "reference" and "falling back to reference" in caplog.text
        (out,) = exe.serve(arrays).outputs.values()
        assert out.tobytes() == wanted and exe.stats.backend == "amdxdna"
    assert device.faults.left == 0


# what the driver checks


def test_locked_memory_below_the_heap_is_told_with_its_remedy(kernel, arrays):
    device = SoftwareDevice(locked_limit=8 << 20)
    with system_calls.replaced(device):
        with pytest.raises(DeviceFailure, match="limit of locked memory") as caught:
            npuc.load(kernel, backend="amdxdna", fallback=())
    assert "limits.d" in str(caught.value.remedy) and device.taken == Taken()


def test_other_devices_and_drivers_are_named(kernel):
    for made, says in (
        (SoftwareDevice(columns=8), "8 columns and 6 rows; npu1 has 5 and 6"),
        (SoftwareDevice(version=(2, 3)), "version 2.3, whose interface is not known"),
    ):
        with system_calls.replaced(made), pytest.raises(npuc.BackendError, match=says):
            npuc.load(kernel, backend="amdxdna", fallback=())
        assert made.taken == Taken()


def test_all_nodes_are_tried_and_all_reasons_told(kernel, arrays):
    class Several(SoftwareDevice):
        gone = False

        def nodes(self):
            return ["/dev/accel/accel7", self.node]

        def open(self, path):
            if path == self.node and self.gone:
                raise OSError(errno.EACCES, "denied")
            return super().open(path)

    device = Several()
    with system_calls.replaced(device):
        assert run(kernel, arrays, backend="amdxdna")[0] == run(kernel, arrays, backend="emulator")[0]
        device.gone = True
        with pytest.raises(npuc.BackendError, match="accel7: open failed with ENOENT.*accel0: open failed with EACCES"):
            npuc.load(kernel, backend="amdxdna", fallback=())
    assert device.taken == Taken()


def test_what_the_driver_tells_of_device_and_firmware(device):
    client = open_any(device)
    assert client.firmware_version() == device.firmware and client.track is abi.MAINLINE
    clocks = client.query(abi.QUERY_CLOCK_METADATA, "query_clock_metadata")
    one = client.track.layouts["query_clock"].unpack(clocks["h_clock"])
    assert one["freq_mhz"] == 1000 and one["name"].rstrip(b"\0") == b"H Clock"
    clients.give_back(client)


def test_six_contexts_are_all_there_are(kernel, device):
    client = open_any(device)
    image = ArrayImage(read_kernel(kernel).pdi)
    contexts = [Context(client, 1, [image]) for _ in range(abi.CONTEXTS)]
    with pytest.raises(DeviceFailure, match="all 6 contexts are taken"):
        Context(client, 1, [image])
    assert device.taken.contexts == abi.CONTEXTS
    for context in contexts:
        context.close()
    clients.give_back(client)


def wrong_requests() -> list[tuple[str, dict, int]]:
    """Requests with one thing wrong, and what the driver answers (facts/platform/amdxdna.md)."""
    return [
        ("CREATE_BO", dict(size=4096, type=abi.BO_SHARE, flags=1), errno.EINVAL),
        ("CREATE_BO", dict(size=4096, type=0), errno.EINVAL),
        ("CREATE_BO", dict(size=0, type=abi.BO_SHARE), errno.EINVAL),
        ("CREATE_BO", dict(size=4096, type=abi.BO_DEV_HEAP), errno.EINVAL),
        ("CREATE_BO", dict(size=abi.HEAP_BYTES, type=abi.BO_DEV_HEAP), errno.EBUSY),
        ("CREATE_BO", dict(size=abi.HEAP_BYTES + 4096, type=abi.BO_DEV), errno.EINVAL),
        ("GET_BO_INFO", dict(handle=99), errno.ENOENT),
        ("GET_BO_INFO", dict(handle=1, pad=1), errno.EINVAL),
        ("SYNC_BO", dict(handle=99, size=4), errno.ENOENT),
        ("SYNC_BO", dict(handle=1, offset=abi.HEAP_BYTES, size=4), errno.EINVAL),
        ("CREATE_HWCTX", dict(num_tiles=4, ext=1), errno.EINVAL),
        ("CREATE_HWCTX", dict(num_tiles=4), errno.EFAULT),
        ("CREATE_HWCTX", dict(num_tiles=4, qos_p=8), errno.EFAULT),
        ("DESTROY_HWCTX", dict(handle=99), errno.EINVAL),
        ("CONFIG_HWCTX", dict(handle=99, param_val_size=4097), errno.E2BIG),
        ("CONFIG_HWCTX", dict(handle=99, param_type=3), errno.EINVAL),
        ("EXEC_CMD", dict(hwctx=99, cmd_count=2), errno.EINVAL),
        ("EXEC_CMD", dict(hwctx=99, cmd_count=1, arg_count=4096), errno.EINVAL),
        ("EXEC_CMD", dict(hwctx=99, cmd_count=1, cmd_handles=77), errno.EINVAL),
        ("WAIT_CMD", dict(hwctx=99), errno.EINVAL),
        ("GET_INFO", dict(param=6), errno.EOPNOTSUPP),
        ("SET_STATE", dict(), errno.EACCES),
        ("GEM_CLOSE", dict(handle=99), errno.EINVAL),
        ("SYNCOBJ_DESTROY", dict(handle=99), errno.EINVAL),
    ]


@pytest.mark.parametrize(("request_name", "fields", "code"), wrong_requests())
def test_wrong_requests_are_refused_with_the_driver_s_errno(device, request_name, fields, code):
    client = open_any(device)
    with pytest.raises(DeviceFailure) as caught:
        client.request(request_name, **fields)
    clients.give_back(client)
    assert caught.value.code == code, errno.errorcode[caught.value.code or 0]


def with_context(device: SoftwareDevice, kernel: bytes, act: Callable[..., None]) -> None:
    client = open_any(device)
    context = Context(client, 1, [ArrayImage(read_kernel(kernel).pdi)])
    command, held = Memory(client, abi.BO_CMD, 4096), Memory(client, abi.BO_SHARE, 4096)
    try:
        act(client, context, command, held)
    finally:
        command.close()
        held.close()
        context.close()
        clients.give_back(client)


@pytest.mark.parametrize(
    ("header", "mask", "code"),
    [
        (commands.Header(1, 0, 16, commands.START_CU, 3), 0, errno.EINVAL),  # no unit
        (commands.Header(1, 0, 1, commands.START_CU, 3), 1, errno.EINVAL),  # nothing behind the mask
        (commands.Header(1, 0, 1024, commands.START_CU, 3), 1, errno.EINVAL),  # longer than its buffer
        (commands.Header(1, 0, 16, commands.START_NPU, 3), 1, errno.EOPNOTSUPP),
    ],
)
def test_wrong_packets_are_refused(device, kernel, header, mask, code):
    def act(client, context, command, held):
        command.view[:8] = header.word.to_bytes(4, "little") + mask.to_bytes(4, "little")
        with pytest.raises(DeviceFailure) as caught:
            context.submit(command, [held])
        assert caught.value.code == code

    with_context(device, kernel, act)


def test_a_second_configuration_and_a_plain_buffer_as_image_are_refused(device, kernel):
    def act(client, context, command, held):
        for handle in (held.handle, context._images[0].handle):
            one = client.track.layouts["cu_config"].pack(cu_bo=handle)
            head = client.track.layouts["hwctx_param_config_cu"].pack(num_cus=1)
            pinned = system_calls.Pinned(head + one)
            with pytest.raises(DeviceFailure) as caught:
                client.request(
                    "CONFIG_HWCTX", handle=context.handle, param_val=pinned.address, param_val_size=len(pinned.data)
                )
            assert caught.value.code == errno.EINVAL

    with_context(device, kernel, act)


def test_what_is_not_flushed_does_not_reach_the_device_and_back(device):
    client = open_any(device)
    memory = Memory(client, abi.BO_SHARE, 4096)
    (buffer,) = (b for file in device.files for b in file.buffers.values() if b.kind == abi.BO_SHARE)
    memory.view[:4] = b"host"
    assert bytes(buffer.device[:4]) == bytes(4)
    memory.flush()
    assert bytes(buffer.device[:4]) == b"host"
    buffer.device[:4] = np.frombuffer(b"NPU!", np.uint8)
    assert bytes(memory.view[:4]) == b"host"
    memory.drop()
    assert bytes(memory.view[:4]) == b"NPU!"
    memory.close()
    clients.give_back(client)


def test_a_buffer_that_the_submission_does_not_hold_is_complained_about(device, kernel):
    def act(client, context, command, held):
        data = commands.start(0, held.address, 16, [], 5)
        command.view[: len(data)] = data
        number = context.submit(command, [])
        assert context.wait(number, 60)
        assert commands.state_of(command.view) == commands.ERROR  # no sequence lies there

    with_context(device, kernel, act)
    assert len(device.complaints) == 1 and "lies in no buffer of its submission" in device.complaints.pop()


def test_a_chain_runs_its_commands_in_order_and_tells_which_failed(device, kernel):
    def act(client, context, command, held):
        parts = [Memory(client, abi.BO_CMD, 4096) for _ in range(2)]
        for part in parts:
            data = commands.start(0, held.address, 16, [], 5)
            part.view[: len(data)] = data
        data = commands.chain([part.handle for part in parts])
        command.view[: len(data)] = data
        device.faults.end(commands.TIMEOUT, operation=3, failed=1)
        assert context.wait(context.submit(command, [held]), 60)
        assert commands.state_of(command.view) == commands.TIMEOUT
        assert int.from_bytes(command.view[12:16], "little") == 1
        assert commands.health_of(parts[0].view) == commands.Health(3, 0x28B060AD)
        for part in parts:
            part.close()

    with_context(device, kernel, act)


def test_health_of_older_drivers_is_read_where_a_command_ran_out_of_time():
    """struct ert_ctx_health_data without the generation, version 0; arguments of a kernel are none."""
    words = struct.pack("<8I", commands.Header(commands.TIMEOUT, 0, 16, 0, 3).word, 0, 17, 0x28B060AD, 2, 0, 0, 0)
    assert commands.health_of(words + bytes(64)) == commands.Health(17, 0x28B060AD, 2)
    failed = struct.pack("<I", commands.Header(commands.ERROR, 0, 16, 0, 3).word) + words[4:]
    assert commands.health_of(failed + bytes(64)) is None


# the command


def test_npuc_run_takes_the_driver_and_says_what_dispatch_adds(npuc_command, kernel, device, tmp_path):
    path = tmp_path / "k.xclbin"
    path.write_bytes(kernel)
    code, out, err = npuc_command("run", path, "--backend", "amdxdna", "--check")
    assert (code, err) == (0, "") and "backend      amdxdna (emulated)" in out and "passed against" in out
    device.emulated = False  # as if it were the NPU
    try:
        code, out, err = npuc_command("run", path)
    finally:
        device.emulated = True
    assert code == 0 and err == "note: running on the NPU through the amdxdna driver\n"
    assert "measured; the host's dispatch adds 0.11 to 0.16 ms to each call" in out
    assert npuc_command("run", path, "--backend", "amdxdna", "--trace", tmp_path / "t.json")[0] == 2
    device.faults.fail("CREATE_HWCTX", errno.EINVAL)
    code, out, err = npuc_command("run", path, "--backend", "amdxdna")
    assert code == 4 and out == "" and err.count("\n") == 1 and "all 6 contexts are taken" in err
