"""Phases of a kernel in its trace: the same on both engines, nested, of no effect on the run; read by Perfetto."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest
from perfetto_reader import ask
from test_trace import deepest

import npuc
from npuc.compiler.asm.programs import CoreProgram, read_programs
from npuc.runtime.arguments import draw
from npuc.runtime.emulator.timing import PHOENIX
from npuc.runtime.phase_shares import phase_shares
from npuc.runtime.phases import phases_of
from npuc.runtime.profile import profile_text
from npuc.runtime.report.loops import loops_of
from npuc.runtime.statistics import CoreStatistics, RunReport
from npuc.runtime.trace_names import Names

Q, K = "tensor<1x1x8x16xbf16>", "tensor<1x1x80x16xbf16>"
SOURCE = f"""func.func @small(%q: {Q}, %k: {K}, %v: {K}) -> {Q} {{
  %o = "attn.sdpa"(%q, %k, %v) {{scale = 2.0 : f64}} : ({Q}, {K}, {K}) -> {Q}
  return %o : {Q}
}}
"""
EXPECTED = {"scores", "probabilities", "values", "rebase", "normalise"}


@pytest.fixture(scope="module")
def kernel():
    return npuc.compile(SOURCE)


def ran(kernel, trace, engine="native"):
    """Cycles and trace of one run; with a scale of 2 scores outgrow the reference."""
    with kernel.load(backend="emulator", fallback=(), trace=trace, engine=engine) as executable:
        given = draw(executable.kernel.arguments, 0)
        executable(*(given[argument.name] for argument in executable.kernel.inputs))
        return executable.stats.cycles, executable.trace if trace else None


@pytest.fixture(scope="module")
def recorded(kernel):
    return ran(kernel, True)


def phases(trace):
    return [span for span in trace.spans if span.category == "phase"]


def test_recording_changes_no_cycle_and_both_engines_tell_the_same(kernel, recorded):
    cycles, trace = recorded
    assert ran(kernel, False)[0] == cycles
    assert ran(kernel, True, "interpreter") == (cycles, trace)


def test_a_core_is_in_one_phase_after_the_other(recorded):
    by_core: dict[tuple[int, int], list] = {}
    for span in phases(recorded[1]):
        by_core.setdefault((span.process, span.thread), []).append(span)
    assert len(by_core) > 1
    assert EXPECTED <= {span.name for spans in by_core.values() for span in spans}
    for spans in by_core.values():
        assert all(a.end == b.start and a.name != b.name for a, b in pairwise(spans))


def test_what_cores_wait_for_lies_inside_phases_and_has_the_stream_s_name(recorded):
    events = recorded[1].to_json()["traceEvents"]
    assert deepest(events) == {"core": 1, "phase": 2, "stall": 3, "dma": 1, "sequence": 1}
    waits = {e["name"] for e in events if e["ph"] == "X" and e["cat"] == "stall"}
    assert {"waiting for K", "waiting for start"} <= waits


def test_the_parts_of_a_core_s_time_are_those_of_its_counters(kernel, recorded):
    """Bundles of a phase are its cycles less its waits: over all phases what the core counted, but for free locks."""
    cycles, trace = recorded
    core = next(span.process for span in phases(trace))
    inside = sum(span.end - span.start for span in phases(trace) if span.process == core)
    assert inside == pytest.approx(cycles, abs=20)


def test_the_profile_has_the_phases_with_what_of_them_is_waiting(recorded):
    cycles, trace = recorded
    shares = {share.name: share for share in phase_shares(trace)}
    assert set(shares) >= EXPECTED and sum(share.cycles for share in shares.values()) == pytest.approx(cycles, abs=40)
    cores = len({span.process for span in phases(trace)})
    waited = sum(span.end - span.start for span in trace.spans if span.category == "stall") / cores
    assert sum(share.waiting for share in shares.values()) == pytest.approx(waited, abs=20)
    assert all(0 <= share.waiting <= share.cycles for share in shares.values())
    report = RunReport(
        "emulator", True, 1e-6, cycles, PHOENIX.clock_hz, (CoreStatistics(0, 2, 9, 1, 0, 0, 0, 0),), trace=trace
    )
    assert "normalise" in profile_text(report, PHOENIX)


def test_fifos_and_locks_have_counters_with_the_plan_s_names(kernel, recorded):
    levels = recorded[1].levels
    for level in levels:
        if level.name.endswith("buffers in use"):
            assert 0 <= level.value <= 8
    names = {level.name for level in levels}
    assert {"fifo k, buffers in use", "fifo v, buffers in use", "read, bytes a cycle"} <= names
    assert any(name.endswith(" k_full") for name in names)


def test_phases_follow_the_lines_of_a_program_and_keep_to_one_while_it_is_named():
    lines = ((0, "set-up"), (16, "loop a; scores: U"), (32, "values: O; scores: U"), (48, "values: O; release k_empty"))
    symbols = ((16, "a"), (40, "b"))
    found = phases_of(CoreProgram(None, None, 0, b"", symbols=symbols, lines=lines))
    assert [found.at(address) for address in (0, 15, 16, 40, 48, 100)] == [
        "set-up", "set-up", "scores", "scores", "values", "values"
    ]  # fmt: skip
    assert found.watched == {0, 16, 40, 48}


def test_a_hardware_loop_is_not_watched_in_every_pass(kernel):
    program = read_programs(kernel.xclbin)[0]
    starts, found = {loop.start for loop in loops_of(program)}, phases_of(program)
    assert starts and starts & found.watched <= set(found.starts)


def test_locks_without_names_have_numbers():
    names = Names("k", locks={("core", 3): "k_full", ("core", 4): "k_empty", ("core", 5): "start"})
    assert [names.wait("core", lock) for lock in (3, 4, 5, 6)] == [
        "waiting for K", "waiting for room for K", "waiting for start", None
    ]  # fmt: skip
    assert names.level("core", 3) == "lock 3 k_full" and names.level("memtile", 3) == "lock 3"


def test_perfetto_reads_what_was_written(recorded, tmp_path):
    """Its own trace processor: no error, every slice and counter, phases in the program and waits in phases."""
    file = tmp_path / "t.json"
    recorded[1].write(str(file))
    written = json.loads(file.read_text())["traceEvents"]
    errors, slices, around, counters, threads = ask(
        file.read_bytes(),
        "select name, value from stats where severity = 'error' and value != 0",
        "select category, count() as n, max(depth) as deepest, sum(dur) as ns from slice group by 1",
        "select s.category as inner, p.category as outer, count() as n from slice s join slice p on s.parent_id = p.id "
        "group by 1, 2",
        "select t.name as name, count() as n, max(c.value) as most from counter c join counter_track t "
        "on c.track_id = t.id group by 1",
        "select process.name as process, thread.name as thread from thread join process using (upid)",
    )
    assert errors == []
    spans = [event for event in written if event["ph"] == "X"]
    found = {row["category"]: row for row in slices}
    assert set(found) == {event["cat"] for event in spans} == {"core", "phase", "stall", "dma", "sequence"}
    for category, row in found.items():
        durations = [event["dur"] * 1000 for event in spans if event["cat"] == category]
        assert row["n"] == len(durations) and abs(row["ns"] - sum(durations)) <= len(durations)  # it rounds each
    assert [found[category]["deepest"] for category in ("core", "phase", "stall")] == [0, 1, 2]
    pairs = {(row["inner"], row["outer"]): row["n"] for row in around}
    assert pairs["phase", "core"] == found["phase"]["n"]
    assert pairs["stall", "phase"] + pairs.get(("stall", "core"), 0) == found["stall"]["n"]
    levels = Counter(event["name"] for event in written if event["ph"] == "C")
    read = Counter({row["name"]: 0 for row in counters})
    for row in counters:
        read[row["name"].removesuffix(" value")] += row["n"]
    assert {name: n for name, n in read.items() if n} == levels
    assert ("core(0,2)", "core") in {(row["process"], row["thread"]) for row in threads}


def test_perfetto_says_what_is_no_trace():
    with pytest.raises(ValueError):
        ask(b'{"traceEvents": [{"ph": "X",', "select no_such_column from slice")
