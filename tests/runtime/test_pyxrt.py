"""npuc.pyxrt: host programs run by the import alone; what it does not serve, and wrong use, as XRT's module says it."""

from __future__ import annotations

import datetime
import errno
import gc
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_programs import PROGRAMS
from small_design import BLOCKS, CORE, IN_EMPTY, OWN, WORDS, Design, program

import npuc.pyxrt as pyxrt
from npuc.compiler.emit import legacy_sequence, txn, xclbin
from npuc.compiler.emit.xclbin import KernelEntry, Xclbin, write_xclbin
from npuc.runtime.devices import commands, system_calls
from npuc.runtime.devices.software import SoftwareDevice, Taken

TO, FROM = pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE, pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE
BYTES = 4 * WORDS * BLOCKS
BUFFERS = ("bo0", "bo1", "bo2", "bo3", "bo4")


def write_files(folder: Path, design: Design) -> None:
    kernels = tuple(KernelEntry(name, name, 0x901 + i, BUFFERS) for i, name in enumerate(("MLIR_AIE", "second")))
    (folder / "k.xclbin").write_bytes(write_xclbin(Xclbin(kernels, 1, design.pdi())))
    stream = txn.write_txn(design.operations, 1)
    (folder / "insts.bin").write_bytes(stream)
    words = [int.from_bytes(stream[i : i + 4], "little") for i in range(0, len(stream), 4)]
    (folder / "insts.txt").write_bytes(legacy_sequence.text_of_words(words))
    np.save(folder / "x.npy", np.random.default_rng(5).integers(0, 1 << 32, WORDS * BLOCKS, dtype=np.uint32))


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    write_files(tmp_path, Design())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def device() -> Iterator[SoftwareDevice]:
    made = SoftwareDevice()
    with system_calls.replaced(made):
        yield made
        gc.collect()
    assert made.taken == Taken() and made.complaints == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_host_program_runs_by_its_import_alone(name, files, device):
    source = PROGRAMS[name]
    changed = re.sub(
        r"^import pyxrt\b( as (\w+))?$", lambda m: f"import npuc.pyxrt as {m[2] or 'pyxrt'}", source, flags=re.M
    )
    differing = [(a, b) for a, b in zip(source.splitlines(), changed.splitlines(), strict=True) if a != b]
    assert len(differing) == 1 and differing[0][0].startswith("import pyxrt")
    exec(compile(changed, name, "exec"), {"__name__": "__main__"})
    assert np.array_equal(np.load("y.npy"), np.load("x.npy") + np.uint32(1))
    assert {run.cycles for run in device.runs}


def test_a_program_in_a_process_of_its_own_ends_clean(files):
    (files / "host.py").write_text(PROGRAMS["mlir-aie"].replace("import pyxrt as xrt", "import npuc.pyxrt as xrt"))
    done = subprocess.run([sys.executable, "host.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert np.array_equal(np.load("y.npy"), np.load("x.npy") + np.uint32(1))


class Host:
    """What programs have at hand once they have loaded a kernel."""

    def __init__(self, name: str = "MLIR_AIE") -> None:
        self.device, self.file = pyxrt.device(0), pyxrt.xclbin("k.xclbin")
        self.device.register_xclbin(self.file)
        self.context = pyxrt.hw_context(self.device, self.file.get_uuid())
        self.kernel = pyxrt.kernel(self.context, name)
        self.words = np.fromfile("insts.bin", np.uint32)
        self.instructions = pyxrt.bo(self.device, self.words.nbytes, pyxrt.bo.cacheable, self.kernel.group_id(1))
        self.instructions.write(self.words, 0)
        self.instructions.sync(TO)
        self.x, self.y = (pyxrt.bo(self.device, BYTES, pyxrt.bo.host_only, self.kernel.group_id(i)) for i in (3, 4))
        self.x.write(np.load("x.npy"), 0)
        self.x.sync(TO)

    def start(self, *arguments: Any) -> Any:
        return self.kernel(*(arguments or (3, self.instructions, len(self.words), self.x, self.y)))

    def result(self) -> np.ndarray:
        self.y.sync(FROM)
        return self.y.read(BYTES, 0).view(np.uint32)


def test_what_is_not_synchronised_does_not_arrive(files, device):
    host, given = Host(), np.load("x.npy")
    host.x.write(np.zeros_like(given), 0)  # and no sync
    assert host.start().wait() == pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED
    assert not np.frombuffer(host.y.map(), np.uint32).any()
    assert np.array_equal(host.result(), given + np.uint32(1))


def test_several_kernels_contexts_and_parts_of_buffers(files, device):
    host, other = Host(), Host("second")
    whole = pyxrt.bo(host.device, 3 * BYTES, pyxrt.bo.host_only, 0)
    part = pyxrt.bo(whole, BYTES, BYTES)
    assert part.address() == whole.address() + BYTES and part.size() == BYTES
    host.start(3, host.instructions, 4, host.x, part).wait()
    part.sync(FROM)
    whole.sync(FROM)
    assert np.array_equal(whole.read(BYTES, BYTES).view(np.uint32), np.load("x.npy") + np.uint32(1))
    assert not whole.read(BYTES, 0).any() and not whole.read(BYTES, 2 * BYTES).any()
    other.start().wait2(datetime.timedelta(seconds=60))
    assert np.array_equal(other.result(), np.load("x.npy") + np.uint32(1))
    assert host.kernel.group_id(3) >> 16 != other.kernel.group_id(3) >> 16
    assert [host.kernel.group_id(i) & 0xFFFF for i in range(4)] == [0xFFFF, 1, 0xFFFF, 0]
    assert host.kernel.group_id(77) & 0xFFFF == host.kernel.group_id(-1) & 0xFFFF == 0xFFFF
    assert pyxrt.emulated_cycles()[0] == pyxrt.emulated_cycles()[1]


def test_arguments_that_pyxrt_cannot_convert_are_left_out(files, device):
    host = Host()
    run = host.start(3, host.instructions, 1 << 40, host.x, host.y)  # ninstr is not read: the header has the length
    assert run.wait() == pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED
    assert host.start(3, host.instructions, 4, host.x, "no buffer").wait() == pyxrt.ert_cmd_state.ERT_CMD_STATE_ERROR
    assert "buffer argument 1, which has 0" in str(device.last_failure)


def test_a_kernel_of_the_older_form_takes_its_sequence(files, device, monkeypatch):
    """functional 1: instr, ninstr in words, buffers; no opcode (facts/platform/legacy_sequence.md)."""
    from npuc.compiler.emit.xclbin_metadata import KernelArgument
    from npuc.runtime.pyxrt import files as read_by

    read, design = xclbin.read_xclbin, Design()
    places = (("instr", 0, True), ("ninstr", 8, False), ("in", 16, True), ("tmp", 24, True), ("out", 32, True))
    arguments = tuple(KernelArgument(name, "void*", pointer, at, 8) for name, at, pointer in places)

    def older(data):
        file = read(data)
        kernels = tuple(
            replace(k, description=replace(k.description, functional=1, arguments=arguments)) for k in file.kernels
        )
        return replace(file, kernels=kernels)

    monkeypatch.setattr(read_by, "read_xclbin", older)
    text = legacy_sequence.write_legacy_text(design.operations)
    np.array([int(line, 16) for line in text.split()], np.uint32).tofile("insts.bin")
    host = Host()
    run = host.kernel(host.instructions, len(host.words), host.x, host.y)
    assert run.wait() == pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED
    assert np.array_equal(host.result(), np.load("x.npy") + np.uint32(1))


def test_a_hang_is_a_timeout_with_the_operation_that_waits(files, device):
    design = Design(programs={CORE: program(release_in=None, acquire_in=OWN + IN_EMPTY)})
    write_files(files, design)
    host = Host()
    run = host.start()
    assert run.wait() == pyxrt.ert_cmd_state.ERT_CMD_STATE_TIMEOUT == run.state()
    waits = next(i for i, operation in enumerate(design.operations) if isinstance(operation, txn.Sync))
    with pytest.raises(RuntimeError, match=rf"ERT_CMD_STATE_TIMEOUT\)\ntxn_op_idx = 0x{waits:08X}\nctx_pc = 0x"):
        run.wait2()
    chain = pyxrt.runlist(host.context)
    for _ in range(2):
        one = pyxrt.run(host.kernel)
        for index, value in enumerate((3, host.instructions, 4, host.x, host.y)):
            one.set_arg(index, value)
        chain.add(one)
    chain.execute()
    with pytest.raises(
        RuntimeError, match=r"runlist failed execution \(ERT_CMD_STATE_TIMEOUT\)\nKernel Instance: MLIR"
    ):
        chain.wait()


def test_waiting_for_a_while_only(files, device):
    device.faults.hang()
    host = Host()
    run = host.start()
    assert run.wait(1) == pyxrt.ert_cmd_state.ERT_CMD_STATE_TIMEOUT
    assert run.state() == pyxrt.ert_cmd_state.ERT_CMD_STATE_NEW
    assert run.wait2(datetime.timedelta(milliseconds=1)) == pyxrt.ert_cmd_state.ERT_CMD_STATE_TIMEOUT
    assert run.wait2(1) == pyxrt.ert_cmd_state.ERT_CMD_STATE_TIMEOUT
    with pytest.raises(RuntimeError, match="bad command state, can't launch"):
        run.start()


@pytest.mark.parametrize("state", [commands.ERROR, commands.ABORT, commands.NORESPONSE])
def test_every_bad_end_is_the_state_and_an_error_of_wait2(files, device, state):
    device.faults.end(state)
    run = Host().start()
    assert int(run.wait()) == state
    with pytest.raises(RuntimeError, match=f"ERT_CMD_STATE_{commands.STATE_NAMES[state]}"):
        run.wait2()


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        ("open", errno.ENODEV, r"Failed to open KMQ device fd \(err=19\): No such device"),
        ("CREATE_HWCTX", errno.ENOENT, r"DRM_IOCTL_AMDXDNA_CREATE_HWCTX IOCTL failed \(err=2\): No such file"),
        ("CONFIG_HWCTX", errno.ETIME, r"DRM_IOCTL_AMDXDNA_CONFIG_HWCTX IOCTL failed \(err=62\): Timer expired"),
        ("EXEC_CMD", errno.EIO, r"DRM_IOCTL_AMDXDNA_EXEC_CMD IOCTL failed \(err=5\): Input/output error"),
        ("mmap", errno.EAGAIN, r"mmap failed \(err=11\): Resource temporarily unavailable"),
    ],
)
def test_failures_of_the_driver_have_the_words_of_xrt(files, device, call, code, says):
    device.faults.fail(call, code)
    with pytest.raises(RuntimeError, match=says):
        Host().start()


WRONG: list[tuple[Callable[[Host], Any], type[Exception], str]] = [
    (lambda h: pyxrt.device(1), RuntimeError, "No such device with index '1'"),
    (lambda h: pyxrt.device(0.5), TypeError, "incompatible constructor arguments"),
    (lambda h: pyxrt.xclbin("missing"), RuntimeError, "Failed to open file 'missing'"),
    (lambda h: pyxrt.xclbin("insts.bin"), RuntimeError, "Invalid xclbin"),
    (lambda h: pyxrt.kernel(h.context, "other"), RuntimeError, "No such kernel 'other'"),
    (lambda h: pyxrt.hw_context(pyxrt.device(0), h.file.get_uuid()), RuntimeError, "No such xclbin"),
    (lambda h: pyxrt.bo(h.device, 64, pyxrt.bo.normal, 0), RuntimeError, "unsupported buffer type.*not supported"),
    (lambda h: pyxrt.bo(h.device, 64, pyxrt.bo.host_only, 7), RuntimeError, "no memory bank 7"),
    (lambda h: pyxrt.bo(h.device, 64, pyxrt.bo.host_only, h.kernel.group_id(0)), NotImplementedError, "no buffer"),
    (lambda h: pyxrt.bo(h.device, "64", pyxrt.bo.host_only, 0), TypeError, "incompatible"),
    (lambda h: h.x.write(bytes(BYTES), 4), RuntimeError, "Invalid argument"),
    (lambda h: h.x.read(BYTES, 4), RuntimeError, "Invalid argument"),
    (lambda h: h.x.read(BYTES), TypeError, "incompatible function"),
    (lambda h: h.x.write([1, 2], 0), TypeError, "incompatible function"),
    (lambda h: h.x.write(b"x", seek=0), TypeError, "seek"),
    (lambda h: pyxrt.bo(h.x, BYTES, 4), RuntimeError, "sub buffer size and offset"),
    (lambda h: pyxrt.xclbin(Path("k.xclbin")), TypeError, "incompatible constructor.*\\n.*\\n.*xclbin\\(str\\)"),
    (lambda h: pyxrt.bo(h.device, 64, 1 << 29, 0), TypeError, "flags: bo.flags"),
    (lambda h: pyxrt.bo(h.device, -1, pyxrt.bo.host_only, 0), TypeError, "incompatible constructor"),
    (lambda h: pyxrt.run(h.kernel).set_arg(3, h.instructions), NotImplementedError, "argument 3 in memory bank 1"),
    (lambda h: pyxrt.run(h.kernel).set_arg(-1, 1), IndexError, "Bad argument index '-1'"),
    (lambda h: h.x.sync(TO, BYTES, 4), RuntimeError, "Invalid BO offset"),
    (lambda h: h.x.sync(pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_GMIO_TO_AIE), RuntimeError, "not supported"),
    (lambda h: h.x.sync(0), TypeError, "incompatible"),
    (lambda h: pyxrt.run(h.kernel).set_arg(9, 1), RuntimeError, "Bad argument index '9'"),
    (lambda h: pyxrt.run(h.kernel).set_arg(0, 1 << 40), TypeError, "incompatible"),
    (lambda h: pyxrt.run(h.kernel).wait(), RuntimeError, "not been started"),
    (lambda h: pyxrt.runlist().execute(), RuntimeError, "Invalid runlist handle"),
    (lambda h: pyxrt.hw_context(h.device, {"priority": 1}, pyxrt.hw_context.shared), NotImplementedError, "elf"),
    (lambda h: pyxrt.elf("a.elf"), NotImplementedError, "elf"),
    (lambda h: pyxrt.ext.kernel(h.context, object(), "MLIR_AIE"), NotImplementedError, "module"),
    (lambda h: h.device.get_info(pyxrt.xrt_info_device.thermal), NotImplementedError, "thermal"),
    (lambda h: pyxrt.run(h.kernel).add_callback(None, None, None), NotImplementedError, "add_callback"),
    (lambda h: h.file.get_axlf(), NotImplementedError, "get_axlf"),
    (lambda h: pyxrt.profile, AttributeError, "npuc.pyxrt has no 'profile'"),
]


def test_wrong_use_and_what_is_not_served_raise_by_name(files, device):
    host = Host()
    for act, kind, says in WRONG:
        with pytest.raises(kind, match=says):
            act(host)
    assert host.start().wait() == pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED


def test_the_surface_is_that_of_the_fact_sheet(facts_dir):
    """facts/platform/xrt_python.md, section 2: every name that a drop-in must have."""
    text = (facts_dir / "platform" / "xrt_python.md").read_text()
    rows = [re.split(r"(?<!\|)\|", line)[1:3] for line in text.splitlines() if line.startswith("| ")]
    told = {name.strip(): members for name, members in rows}
    assert {"uuid", "device", "xclbin", "hw_context", "kernel", "run", "bo", "runlist"} <= set(told)
    for name in ("uuid", "device", "xclbin", "hw_context", "run", "bo", "runlist"):
        for member in re.findall(r"(\w+)\(", told[name]):
            assert hasattr(getattr(pyxrt, name), member), f"{name}.{member}"
    assert {m.name for m in pyxrt.xrt_info_device} == set(re.findall(r"\w+", told["xrt_info_device"]))
    assert {m.name for m in pyxrt.bo.flags} == {"normal", "cacheable", "device_only", "host_only", "p2p", "svm"}
    assert [int(flag) for flag in (pyxrt.bo.cacheable, pyxrt.bo.host_only, pyxrt.bo.svm)] == [1 << 24, 1 << 29, 1 << 27]
    for name, members in {"kernel": "group_id cu_access_mode", "ext": "bo kernel access_mode"}.items():
        for member in members.split():
            assert hasattr(getattr(pyxrt, name), member), f"{name}.{member}"
    assert not hasattr(pyxrt.ert_cmd_state, "ERT_CMD_STATE_RUNNING") and pyxrt.XCL_BO_FLAGS_NONE == 0
    assert pyxrt.enumerate_devices() == 1


def test_enumerations_compare_and_print_as_pybind_s(files):
    """As a pybind module printed it: those of C (xrt/detail/ert.h, xrt.h) equal their numbers, those of C++ do not."""
    states, flags = pyxrt.ert_cmd_state, pyxrt.bo.flags
    assert states.ERT_CMD_STATE_COMPLETED == 4 and 4 == states.ERT_CMD_STATE_COMPLETED != 5
    assert TO == 0 and FROM != TO and states.ERT_CMD_STATE_NEW != None  # noqa: E711
    assert flags.cacheable != 1 << 24 and int(flags.cacheable) == flags.cacheable.value == 1 << 24
    assert repr(states(4)) == "<ert_cmd_state.ERT_CMD_STATE_COMPLETED: 4>" and str(states(3)) == "ert_cmd_state.???"
    assert states(3).value == 3 and {states(4): "done"}[states.ERT_CMD_STATE_COMPLETED] == "done"
    with pytest.raises(TypeError):
        _ = states.ERT_CMD_STATE_NEW < 2
    modes = pyxrt.ext.access_mode
    assert modes.read | modes.write == modes.read_write and modes.read_write & modes.read == pyxrt.ext.read
    assert (modes.shared | modes.read).value == 5 and modes.local == modes.none
    assert [int(pyxrt.xrt_info_device(n)) for n in (14, 17, 18)] == [14, 17, 18]
    assert pyxrt.xrt_info_device.dynamic_regions.value == 17 and pyxrt.xrt_info_device.vmr.value == 18


def test_arguments_are_taken_by_name_and_as_anything_that_converts(files, device):
    on, file = pyxrt.device(index=np.int64(0)), pyxrt.xclbin(b"k.xclbin")
    identity = on.register_xclbin(xclbin=file)
    context = pyxrt.hw_context(device=on, uuid=identity, mode=pyxrt.hw_context.exclusive)
    assert context.get_mode() == pyxrt.hw_context.exclusive
    kernel = pyxrt.kernel(hw_context=context, name="MLIR_AIE")
    assert pyxrt.bo(device=on, size=np.float32(64), flags=pyxrt.bo.host_only, group=False).size() == 64
    assert pyxrt.bo(hwctx=context, size=64, flags=pyxrt.bo.cacheable, group=kernel.group_id(1)).size() == 64
    assert pyxrt.ext.bo(hwctx=context, size=64, access=pyxrt.ext.read | pyxrt.ext.write).size() == 64
    assert (
        pyxrt.ext.bo(on, 64).size() == 64 and pyxrt.ext.kernel(hwctx=context, name="MLIR_AIE").group_id(3) & 0xFFFF == 0
    )
    values = np.arange(8, dtype=np.uint16)[::2]
    buffer = pyxrt.bo(on, 8, pyxrt.bo.host_only, 0)
    buffer.write(values, 0)
    assert np.array_equal(buffer.read(8, 0).view(np.uint16), values) and buffer.read(8, 0).dtype == np.int8
    assert buffer.map().format == "B" and not buffer.map().readonly
    for what in ("k.xclbin", file):
        assert pyxrt.hw_context(pyxrt.device(0), what, {"priority": 128}).get_xclbin_uuid() == identity


def test_kernels_of_a_device_are_deprecated_and_served(files, device):
    on, file = pyxrt.device(0), pyxrt.xclbin("k.xclbin")
    identity = on.register_xclbin(file)
    with pytest.warns(DeprecationWarning, match="use kernel"):
        kernel = pyxrt.kernel(on, identity, "MLIR_AIE", pyxrt.kernel.exclusive)
    assert kernel.hw_context.get_mode() == pyxrt.hw_context.exclusive


def run_of(host: Host, *buffers: Any) -> Any:
    made = pyxrt.run(host.kernel)
    for index, value in enumerate((3, host.instructions, 4, *(buffers or (host.x, host.y)))):
        made.set_arg(index, value)
    return made


def test_a_run_list_is_idle_or_running_and_owns_its_runs(files, device):
    """xrt_kernel.cpp, runlist_impl: add and execute need it idle, wait makes it so, its runs do not start alone."""
    host = Host()
    runs = pyxrt.runlist(hwctx=host.context)
    assert runs.execute() is None and runs.wait() is None, "an empty list"
    one = run_of(host)
    runs.add(run=one)
    with pytest.raises(RuntimeError, match="belongs to a runlist and cannot be explicitly started"):
        one.start()
    for _ in range(2):
        runs.execute()
        with pytest.raises(RuntimeError, match="runlist must be idle before submitting.*, current state: running"):
            runs.execute()
        with pytest.raises(
            RuntimeError, match="runlist must be idle before adding run objects, current state: running"
        ):
            runs.add(run_of(host))
        assert runs.wait(60_000) == pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED
    assert np.array_equal(host.result(), np.load("x.npy") + np.uint32(1)) and len(device.runs) == 2
    del runs
    gc.collect()
    one.start()
    assert one.wait() == 4


def test_runs_behind_one_that_failed_are_aborted_and_the_list_is_idle_again(files, device):
    host = Host()
    runs, made = pyxrt.runlist(host.context), [run_of(host) for _ in range(27)]
    for one in made:
        runs.add(one)
    device.faults.end(commands.COMPLETED)  # the first chain of 24
    device.faults.end(commands.TIMEOUT, operation=3, failed=1)
    runs.execute()
    with pytest.raises(RuntimeError, match=r"runlist failed execution \(ERT_CMD_STATE_TIMEOUT\)"):
        runs.wait()
    states = [one.state().value for one in made]
    assert states[:24] == [4] * 24 and states[25:] == [8, 6]
    runs.execute()
    assert runs.wait() is None and made[-1].state() == 4


def test_time_limits_count_the_device_s_time_not_the_emulator_s(files, device, monkeypatch):
    """Riallto's runner waits 5,000 ms: an emulated kernel that takes longer is none that hangs."""
    from npuc.runtime.emulator.device import Device

    began, host, real = threading.Event(), Host(), Device.run

    def slowly(self, *arguments):
        began.wait(0.3)
        return real(self, *arguments)

    monkeypatch.setattr(Device, "run", slowly)
    assert host.start().wait(1) == pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED
    assert host.start().wait2(datetime.timedelta(milliseconds=1)) == pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED
