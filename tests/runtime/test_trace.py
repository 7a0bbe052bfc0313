"""The timeline of an emulated run: the trace-event format as its viewers read it, and what it says of the run."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from broken_designs import CASES
from small_design import BLOCKS, WORDS, Design

from npuc.compiler import cli
from npuc.compiler.emit import txn
from npuc.compiler.emit.xclbin import KernelEntry, Xclbin, write_xclbin
from npuc.runtime import trace
from npuc.runtime.emulator import recorder
from npuc.runtime.emulator.device import Device
from npuc.runtime.emulator.errors import Deadlock

BYTES = 4 * WORDS * BLOCKS


def deepest(events):
    """How many slices lie over each other at most, by the category of the innermost; slices that overlap fail."""
    threads, found = {}, {}
    for event in events:
        if event["ph"] == "X" and event["dur"]:
            threads.setdefault((event["pid"], event["tid"]), []).append(event)
    for slices in threads.values():
        around = []
        for each in slices:
            end = each["ts"] + each["dur"]
            while around and around[-1] <= each["ts"] + 1e-9:
                around.pop()
            assert not around or end <= around[-1] + 1e-9, each
            around.append(end)
            found[each["cat"]] = max(found.get(each["cat"], 0), len(around))
    return found


def run(design: Design, kernel="add_one", max_cycles=3_000_000):
    device = Device(design.columns)
    device.load_pdi(design.pdi())
    buffers = [bytearray(buffer.tobytes()) for buffer in design.buffers]
    return device, device.run(design.operations, buffers, max_cycles, kernel)


@pytest.fixture(scope="module")
def recorded():
    return run(Design())[1]


@pytest.fixture(scope="module")
def events(recorded):
    return json.loads(json.dumps(recorded.trace.to_json()))["traceEvents"]


def test_every_event_has_what_its_phase_needs(events):
    for event in events:
        assert isinstance(event["name"], str) and event["name"] and event["ph"] in "XCM"
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int) and isinstance(event["args"], dict)
        assert event["ts"] >= 0 and isinstance(event["cat"], str) and event["cat"]
        if event["ph"] == "X":
            assert event["dur"] >= 0 and event["cat"] in ("core", "dma", "phase", "stall", "sequence")
        if event["ph"] == "C":
            assert set(event["args"]) == {"value"} and 0 <= event["args"]["value"] <= 63


def test_times_do_not_run_backwards_and_spans_of_a_thread_nest(events):
    timed = [event for event in events if event["ph"] != "M"]
    assert all(a["ts"] <= b["ts"] for a, b in pairwise(timed))
    assert deepest(events) == {"core": 1, "stall": 2, "dma": 1, "sequence": 1}


def test_processes_and_threads_are_named_once_and_only_those_that_occur(events):
    named = [(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"]
    assert len(named) == len(set(named))
    assert set(named) == {(e["pid"], e["tid"]) for e in events if e["ph"] != "M"}
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert set(processes) == {pid for pid, _ in named}
    assert set(processes.values()) == {"runtime sequence", "DDR", "shim(0,0)", "memtile(0,1)", "core(0,2)"}


def test_kernels_waits_and_operations_have_their_names(events, recorded):
    names = {event["name"] for event in events if event["ph"] == "X"}
    assert {"add_one", "acquire lock 1", "sending", "receiving", "Sync S2MM 0 of tile (0,0)"} <= names
    core = recorded.cores[0]
    waited = sum(round(e["dur"] * 1000) for e in events if e["ph"] == "X" and e["cat"] == "stall")
    (whole,) = [e for e in events if e["ph"] == "X" and e["cat"] == "core"]
    assert round(whole["dur"] * 1000) == recorded.cycles - round(whole["ts"] * 1000)
    # Each of the operations that did not wait stalls the core for one cycle, which is no span of its own.
    assert waited <= core.stall_lock <= waited + 4 * BLOCKS + 4
    assert core.bundles + core.stall_lock + core.stall_memory + core.idle == recorded.cycles
    sequence = [e for e in events if e["ph"] == "X" and e["cat"] == "sequence"]
    assert len(sequence) == len(Design().operations)
    assert round(max(e["ts"] + e["dur"] for e in sequence) * 1000) == recorded.cycles


def test_bytes_of_ddr_are_those_that_the_shims_moved(recorded):
    for direction, channels in (("read", "mm2s"), ("write", "s2mm")):
        levels = [each for each in recorded.trace.levels if each.name == f"{direction}, bytes a cycle"]
        moved = sum(a.value * (b.cycle - a.cycle) for a, b in pairwise(levels))
        words = sum(c["words"] for c in recorded.dma if c["row"] == 0 and c["direction"] == channels)
        assert levels[-1].value == 0 and abs(moved - 4 * words) < 0.01 * moved
        assert all(0 <= each.value <= 4 for each in levels)  # a word a cycle is what one channel can move


def test_the_average_of_ddr_keeps_all_bytes_however_long_the_run():
    rate, total = recorder.Rate(), 0
    for number in range(3000):
        rate.add(number * 1000.25, number * 1000.25 + 400.5, 1024)
        total += 1024
    steps = rate.steps()
    assert len(steps) <= recorder.MOST_INTERVALS + 1
    assert abs(sum(a[1] * (b[0] - a[0]) for a, b in pairwise(steps)) / total - 1) < 0.01


def test_recording_changes_nothing_of_the_run(recorded):
    plain = Design().run()
    assert (plain.cycles, plain.cores, plain.dma) == (recorded.cycles, recorded.cores, recorded.dma)
    assert plain.trace is None


def test_a_long_run_keeps_a_bounded_number_of_events(monkeypatch):
    monkeypatch.setattr(recorder, "MOST_EVENTS", 20)
    result = run(Design())[1].trace
    kept = [level for level in result.levels if level.process != trace.DDR_PROCESS]  # those of DDR are bounded apart
    assert len(result.spans) + len(kept) == 20 and result.dropped > 0
    assert result.to_json()["otherData"]["dropped_events"] == result.dropped


def test_a_run_that_fails_has_its_trace_up_to_there():
    design = Design()
    CASES["core_releases_the_wrong_lock"].change(design)
    with pytest.raises(Deadlock) as caught:
        run(design)
    assert caught.value.trace is not None
    last = [span for span in caught.value.trace.spans if span.category == "stall"][-1]
    assert last.name == "acquire lock 1"


def test_a_second_run_begins_where_the_first_ended(recorded):
    device, first = run(Design())
    buffers = [bytearray(buffer.tobytes()) for buffer in Design().buffers]
    second = device.run(Design().operations, buffers, None, "again").trace
    assert min(span.start for span in second.spans) >= max(span.end for span in first.trace.spans) - 1
    assert {span.name for span in second.spans if span.category == "core"} == {"again"}


# the command line


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, broken in (("good", None), ("bad", "core_releases_the_wrong_lock")):
        design = Design()
        if broken:
            CASES[broken].change(design)
        kernel = KernelEntry("add", "I", 0x901, ("in", "out"))
        (tmp_path / f"{name}.xclbin").write_bytes(write_xclbin(Xclbin((kernel,), 1, design.pdi())))
    (tmp_path / "a.txn").write_bytes(txn.write_txn(Design().operations, 1))
    np.save("x.npy", Design().buffers[0])
    return tmp_path


@pytest.mark.parametrize("name, code", [("good", 0), ("bad", 4)])
def test_the_option_writes_the_file_and_leaves_nothing_beside_it(files, capsys, name, code):
    words = ["run", f"{name}.xclbin", "--insts", "a.txn", "--input", "bo0=x.npy", "--alloc", f"bo1={BYTES}"]
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--trace", "t.json", "--json"])
    assert end.value.code == code
    report = json.loads(capsys.readouterr().out)
    written = json.loads((files / "t.json").read_text())
    assert written["displayTimeUnit"] == "ns" and any(e["name"] == "add" for e in written["traceEvents"])
    assert not list(files.glob(".t.json*"))
    if name == "bad":
        diagnosis = report["error"]["diagnosis"]
        assert "nothing releases it" in diagnosis["root"] and len(diagnosis["chain"]) >= 3


def test_a_backend_without_a_trace_is_wrong_use(files, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "good.xclbin", "--backend", "reference", "--trace", "t.json"])
    assert end.value.code == 2 and "--trace records the emulator" in capsys.readouterr().err


def test_a_trace_without_events_is_a_file_all_the_same(tmp_path):
    empty = trace.Trace(10**9, {}, {}, (), ())
    empty.write(str(tmp_path / "t.json"))
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"] == []
