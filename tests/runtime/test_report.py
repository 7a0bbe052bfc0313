"""The page that shows a kernel: well-formed, self-contained, and its figures those of the run."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from small_design import Design

import npuc
from npuc.compiler.asm.assembler import assemble
from npuc.compiler.asm.programs import CoreProgram
from npuc.compiler.frontend.attention import Attention
from npuc.runtime.backends import BackendSettings
from npuc.runtime.emulator.device import Device
from npuc.runtime.emulator.timing import PHOENIX
from npuc.runtime.report import timeline
from npuc.runtime.report.configured import Configured, Piece, configured
from npuc.runtime.report.loops import loops_of
from npuc.runtime.report.markup import element, joined
from npuc.runtime.report.of_run import of_kernel
from npuc.runtime.report.page import page
from npuc.runtime.report.subject import Subject
from npuc.runtime.report.timeline import short, ticks
from npuc.runtime.statistics import CoreStatistics, RunReport
from npuc.runtime.trace import Span, Trace
from npuc.runtime.verdict import of_core, verdict

T = "tensor<1x1x64x64xbf16>"
SMALL = f"""func.func @small(%q: {T}, %k: {T}, %v: {T}) -> {T} {{
  %o = "attn.sdpa"(%q, %k, %v) : ({T}, {T}, {T}) -> {T}
  return %o : {T}
}}
"""
LOOP = """
  movxm ls, #body
  movxm le, #last
  movxm lc, #4
  nop
  nop
  nop
  nop
  nop
  .p2align 4
body:
  lda r1, [p0], #4; mov r2, r3
  lda r4, [p0], #4
  add r5, r1, r4
  .p2align 4
last:
  nopa; nopb; nops; nopx; mov r6, r7; nopv
  done
"""


@pytest.fixture(scope="module")
def subject():
    """The page of a hand-made design: what binds it is not known beforehand."""
    design = Design()
    device = Device(design.columns)
    device.load_pdi(design.pdi())
    run = device.run(design.operations, [bytearray(b.tobytes()) for b in design.buffers], None, "add_one")
    report = RunReport(
        "emulator", True, run.cycles / PHOENIX.clock_hz, run.cycles, PHOENIX.clock_hz, run.cores, run.dma, (), run.trace
    )
    return Subject("add_one", "a design", PHOENIX, design.pdi(), design.columns, design.pdi(), report)


def parsed(content: bytes) -> ElementTree.Element:
    head, _, rest = content.partition(b"\n")
    assert head == b"<!doctype html>"
    return ElementTree.fromstring(rest)


def words_of(tree: ElementTree.Element) -> str:
    return " ".join("".join(tree.itertext()).split())


def test_a_page_is_well_formed_and_needs_nothing_from_elsewhere(subject):
    content = page(subject)
    tree = parsed(content)
    assert len(content) < 2_000_000 and tree.tag == "html"
    tags = {re.sub(r"\{.*\}", "", each.tag) for each in tree.iter()}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed"}
    for each in tree.iter():
        assert not {"src", "href"} & set(each.attrib)
    assert not re.search(rb"url\(|@import", content)
    assert page(subject) == content


def test_text_from_files_is_never_markup(subject):
    hostile = '<script>alert("x")</script>&\x1b]0;\u202e'
    content = page(replace(subject, name=hostile, what=hostile))
    assert b"<script" not in content and b"\x1b" not in content and "\u202e".encode() not in content
    assert 'alert("x")' in words_of(parsed(content))
    assert element("p", "a<b", class_='"') == '<p class="&quot;">a&lt;b</p>'
    assert joined("<", element("br")) == "&lt;<br/>"


def test_every_tile_stream_and_unit_of_the_run_is_there(subject):
    said = words_of(parsed(page(subject)))
    for core in subject.report.cores:
        assert f"core {core.col},{core.row}" in said
    for channel in subject.report.dma:
        assert f"{channel['col']},{channel['row']} {channel['direction'].upper()} {channel['channel']}" in said
    assert f"{subject.report.cycles:,}" in said


def test_shares_of_a_core_are_all_cycles_of_the_run():
    core = CoreStatistics(0, 2, bundles=500, mac_bundles=200, stall_lock=300, stall_memory=50, stall_stream=20, idle=5)
    shares = {share.text: share.cycles for share in of_core(core, 1000)}
    assert sum(shares.values()) == 1000
    assert shares == {
        "products": 200, "other bundles": 300, "memory stalls": 50, "stream stalls": 20, "waiting for locks": 300,
        "idle": 130,
    }  # fmt: skip


def channel(row, direction, words, busy, number=0):
    return {"col": 0, "row": row, "direction": direction, "channel": number, "words": words, "busy": busy,
            "starved": 0, "stall_lock": 0, "tasks": 1}  # fmt: skip


def ran(bundles=100, products=50, locks=0, memory=0):
    return CoreStatistics(0, 2, bundles, products, locks, memory, 0, 0)


@pytest.mark.parametrize(
    "binds, cores, dma",
    [
        # 26 bytes a cycle (DESIGN, "The machine that is modelled"): 6,000 words are 24,000 of 26,000 bytes.
        ("DDR", [ran()], [channel(0, "mm2s", 6000, 600)]),
        ("DDR", [ran()], [channel(0, "s2mm", 6000, 600)]),
        ("streams", [ran()], [channel(1, "mm2s", 900, 900)]),
        ("core code", [ran(bundles=800, locks=200)], [channel(0, "mm2s", 100, 100)]),
        ("memory", [ran(bundles=300, memory=600, locks=100)], []),
        ("data", [ran(bundles=300, locks=700)], []),
        ("nothing", [], []),
    ],
)
def test_what_binds_is_told_from_the_counts(binds, cores, dma):
    report = RunReport("emulator", True, 1e-6, 1000, PHOENIX.clock_hz, tuple(cores), tuple(dma))
    assert verdict(report, PHOENIX).binds == binds


def stall(name, start, end):
    return Span(1, 1, name, "stall", start, end)


def test_what_cores_wait_for_is_named_where_the_trace_knows_it():
    spans = (
        stall("waiting for V", 0, 300),
        stall("waiting for K", 300, 420),
        stall("waiting for room for O", 420, 430),
    )
    trace = Trace(PHOENIX.clock_hz, {1: "core(0,2)"}, {(1, 1): "core"}, spans, ())
    report = RunReport("emulator", True, 1e-6, 1000, PHOENIX.clock_hz, (ran(bundles=300, locks=700),), (), trace=trace)
    said = verdict(report, PHOENIX)
    assert said.binds == "data" and said.why == "cores wait for locks in 70% of the cycles (for V 30%, K 12%)"


def test_waiting_for_the_call_is_start_and_end_by_the_cores_mean():
    cores = (ran(bundles=300, locks=700), replace(ran(bundles=300, locks=700), row=3))
    spans = (stall("waiting for start", 0, 400), stall("waiting for start", 0, 600), stall("waiting for K", 600, 640))
    trace = Trace(PHOENIX.clock_hz, {1: "core(0,2)"}, {(1, 1): "core"}, spans, ())
    report = RunReport("emulator", True, 1e-6, 1000, PHOENIX.clock_hz, cores, (), trace=trace)
    said = verdict(report, PHOENIX)
    assert said.binds == "start and end" and said.why.startswith("50% of the cores' cycles")


@pytest.mark.parametrize("split", ["0", "1"])
def test_buffers_are_those_of_the_plan_and_streams_say_what_they_carry(split):
    kernel = npuc.compile(Attention.make(heads=4, query_length=128, head_dim=64), options={"split": split})
    with kernel.load(backend="emulator", fallback=()) as executable:
        file = executable.kernel
    report = RunReport("emulator", True, 0.0, 1, PHOENIX.clock_hz, (), ())
    about = of_kernel(file, report, 1, BackendSettings())
    tiles, streams = configured(about)
    planned = {(start, start + size) for start, size in file.plan.core_buffers.values()}
    for tile in tiles:
        if tile.kind == "core":  # those that no channel reaches as well: scores, sums
            assert {(piece.start, piece.end) for piece in tile.pieces} == planned
            assert {piece.moved for piece in tile.pieces} == {True, False}
    into, out_of = {}, {}
    for stream in streams:
        for end in stream.ends:
            into.setdefault(end, set()).update(stream.carries)
        out_of.setdefault(stream.source, set()).update(stream.carries)
    cores = {(column, row) for column in range(file.columns) for row in range(2, 6)}
    assert cores <= set(into) and all({"k", "v"} <= into[core] for core in cores)
    for core in cores:  # Q on a channel of its own, or before K and V
        assert any("q" in about.passing.get(fifo, fifo).lower() for fifo in into[core])
    assert all(out_of[core] == {"o"} for core in cores)
    for column in range(file.columns):  # results end in DDR
        assert "o" in into[column, 0]


@pytest.mark.parametrize("cycles", [1, 7, 999, 56_539, 455_408, 12_624_314])
def test_marks_of_the_time_line_are_round_and_few(cycles):
    marks = list(ticks(cycles))
    assert marks[0] == 0 and 1 <= len(marks) <= 8 and marks[-1] < cycles
    steps = {b - a for a, b in pairwise(marks)}
    assert len(steps) <= 1 and all(str(step).rstrip("0") in ("1", "2", "5") for step in steps)
    assert cycles < 7 or len(marks) >= 3


@pytest.mark.parametrize("count", [2, 300, 1500, 4000, 50_000])
def test_a_row_of_the_time_line_shows_each_state_by_its_share_however_often_it_changes(count):
    """Three tenths of each stretch a wait, six a program, one nothing."""
    cycles, spans = 1_000_000, []
    for start in (cycles * number / count for number in range(count)):
        one = cycles / count / 10
        spans += [
            stall("waiting for K", start, start + 3 * one),
            Span(1, 1, "k", "core", start + 4 * one, start + 10 * one),
        ]
    parts = timeline._parts(spans, 0, cycles / timeline.WIDTH)
    drawn = {class_: sum(wide for kind, _, wide in parts if kind == class_) for class_ in ("c4", "c0")}
    assert drawn["c4"] == pytest.approx(0.3 * timeline.WIDTH, abs=2)
    assert drawn["c0"] == pytest.approx(0.6 * timeline.WIDTH, abs=2)
    assert all(a[1] + a[2] <= b[1] for a, b in pairwise(parts)) and parts[-1][1] + parts[-1][2] <= timeline.WIDTH


def test_of_what_lies_over_each_other_the_inner_is_drawn():
    def dma(name, start, end):
        return Span(1, 1, name, "dma", start, end)

    found = timeline._innermost([dma("receiving", 0, 100), dma("starved", 20, 30), dma("lock stall", 30, 40),
                                 dma("sending", 120, 130), dma("starved", 125, 140)])  # fmt: skip
    assert list(found) == [
        ("c0", 0, 20), ("c3", 20, 30), ("c4", 30, 40), ("c0", 40, 100), ("c0", 120, 125), ("c3", 125, 140)
    ]  # fmt: skip


def test_a_page_of_a_long_run_stays_small(subject):
    trace, step = subject.report.trace, subject.cycles / 1500
    core = next(span for span in trace.spans if span.category == "core")
    spans = [
        Span(core.process + row, core.thread, name, "stall", (at + part) * step, (at + part + 0.5) * step)
        for row in range(16)
        for at in range(1500)
        for part, name in ((0, "waiting for K"), (0.5, "memory"))
    ]
    long_one = replace(trace, spans=(*trace.spans, *spans))
    assert len(page(replace(subject, report=replace(subject.report, trace=long_one)))) < 1_000_000


def test_memory_that_buffers_share_counts_once():
    pieces = (Piece(0, 100, "q"), Piece(50, 120, "o"), Piece(200, 210, "k"))
    assert Configured(0, 2, "core", pieces, True).used == 130


@pytest.mark.parametrize("cycle, text", [(0, "0"), (500, "500"), (20_000, "20k"), (1_500_000, "1.5M")])
def test_marks_are_short(cycle, text):
    assert short(cycle) == text


def test_a_loop_is_counted_by_slot():
    (program,) = assemble(LOOP).programs
    code = program.code
    (loop,) = loops_of(CoreProgram(None, None, 0, code))
    assert len(loop.bundles) >= 4
    # Three loads and moves of address arithmetic are not: lda twice, mov twice, add once, by the text above.
    assert loop.used == {"lda": 2, "mv": 2, "alu": 1}
    assert loop.bound == 2 and loop.binding == "lda and mv" and loop.products == 0
    assert loop.name == "loop"  # no symbol stands before it


def test_the_command_writes_the_page_of_a_run(npuc, tmp_path):
    source, out = tmp_path / "a.mlir", tmp_path / "r.html"
    source.write_text(SMALL)
    code, said, _ = npuc("report", source, "-o", out)
    assert code == 0 and "binds" in said
    text = words_of(parsed(out.read_bytes()))
    code, said, _ = npuc("run", source, "--report", tmp_path / "again.html", "--json")  # the same draw, from the cache
    assert code == 0 and (tmp_path / "again.html").read_bytes() == out.read_bytes()
    assert "cycles predicted" in text and "values" in text
    rows = [[cell.text for cell in row] for row in parsed(out.read_bytes()).iter("tr")]
    (run,), (code,) = ([row for row in rows if row[0] == what] for what in ("the run", "code of the busiest core"))
    for row in (run, code):  # by the model's own limits of what it may be off by, at such a short call
        predicted, emulated = (int(number.replace(",", "")) for number in row[1:3])
        assert row[3] == f"{emulated / predicted - 1:+.1%}" and 0.5 < emulated / predicted < 2


def test_of_several_functions_one_is_named_as_compile_names_it(npuc, tmp_path):
    source, out = tmp_path / "two.mlir", tmp_path / "r.html"
    source.write_text(SMALL.replace("64x64", "?x64") + SMALL.replace("@small", "@other"))
    code, _, _ = npuc("report", source, "--func", "small", "--dim", "S=32", "--dim", "Skv=32", "-o", out)
    assert code == 0 and "32 queries, 32 keys" in words_of(parsed(out.read_bytes()))


@pytest.mark.parametrize(
    "words, what",
    [
        (("report", "{a}", "-o", "{a}"), "overwrite"),
        (("run", "{a}", "--backend", "reference", "--report", "{out}"), "records the emulator"),
        (("report", "-"), "name the page"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_anything_runs(npuc, tmp_path, words, what):
    source, out = tmp_path / "a.mlir", tmp_path / "r.html"
    source.write_text(SMALL)
    code, _, error = npuc(*(word.format(a=source, out=out) for word in words))
    assert code == 2 and what in error and not out.exists() and source.read_text() == SMALL


@pytest.fixture
def browser(tmp_path):
    """Runs headless Chromium with these words; what it wrote."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium")
    words = [found, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
             "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'user'}"]  # fmt: skip

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*words, *more], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 and "CONSOLE" not in done.stderr
        return done

    return run


def test_a_browser_draws_it(browser, subject, tmp_path):
    file = tmp_path / "r.html"
    file.write_bytes(page(subject))
    browser("--window-size=400,800", f"--screenshot={tmp_path / 's.png'}", file.as_uri())
    assert (tmp_path / "s.png").stat().st_size > 5000


def test_a_page_is_as_wide_as_the_phone_or_window_that_shows_it(browser, npuc, tmp_path):
    """It scrolls only downwards; figures, bars and drawings are in sight, tables of slots scroll by themselves."""
    source, out = tmp_path / "a.mlir", tmp_path / "r.html"
    source.write_text(SMALL)
    assert npuc("report", source, "-o", out)[0] == 0
    opened = out.read_text("utf-8").replace("<details>", '<details open="">')
    widths = (380, 768, 1200)
    frames = "".join(f'<iframe width="{w}" height="900" srcdoc="{html.escape(opened)}"></iframe>' for w in widths)
    script = """addEventListener("load", () => {
      const found = [...document.querySelectorAll("iframe")].map(f => f.contentDocument.documentElement);
      const beyond = e => [...e.querySelectorAll("b, text, .bars *, h3 + .wide td")].filter(
        part => part.getBoundingClientRect().right > e.clientWidth).length;
      document.title = found.map(e => `${e.scrollWidth - e.clientWidth},${beyond(e)}`).join(" ");
    });"""
    wrapper = tmp_path / "w.html"
    wrapper.write_text(f"<!doctype html><meta charset=utf-8><script>{script}</script>{frames}", "utf-8")
    done = browser("--dump-dom", wrapper.as_uri())
    assert re.search(r"<title>(.*?)</title>", done.stdout)[1] == "0,0 0,0 0,0"
