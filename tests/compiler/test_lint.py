"""The linter over whole programs and files: npuc's own kernels, paths, random code, and the command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import campaigns
import pytest
from conftest import REPOSITORY
from foreign_files import container, sections
from lint_programs import assemble, lint

from npuc.compiler import cli
from npuc.compiler.asm.products import assemble_to
from npuc.compiler.asm.programs import CoreProgram, read_programs
from npuc.compiler.emit import cdo, elf, pdi, xclbin
from npuc.compiler.emit.elf_object import ObjectFile, Section, write_object
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.lint.builder import Builder
from npuc.compiler.lint.findings import KINDS
from npuc.compiler.lint.lint import lint_program
from npuc.passes.options import Options
from npuc.passes.pipeline import CompiledKernel, compile_attention

SHAPES = [
    dict(head_dim=64, query_length=64, key_length=64, heads=1),
    dict(head_dim=64, query_length=256, key_length=320, heads=1),
    dict(head_dim=128, query_length=128, key_length=320, heads=2),
]


@pytest.fixture(scope="module", params=SHAPES[1:], ids=str)
def compiled(request: pytest.FixtureRequest) -> CompiledKernel:
    return compile_attention(Attention.make(**request.param), Options())


@pytest.fixture(scope="module")
def small_kernel() -> CompiledKernel:
    return compile_attention(Attention.make(**SHAPES[0]), Options())


def test_compiled_kernels_have_no_errors_and_no_warnings_and_every_bundle_is_on_a_known_path(
    compiled: CompiledKernel,
) -> None:
    for program in {program.code: program for program in read_programs(compiled.xclbin)}.values():
        report = lint_program(program)
        assert report.findings == ()
        assert report.bundles > 300 and report.loops > 5 and report.unreached == 0


def test_the_readme_explains_every_kind_with_its_severity() -> None:
    readme = (REPOSITORY / "compiler" / "lint" / "README.md").read_text()
    explained = dict(re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", readme, re.M))
    assert explained == {name: kind.severity for name, kind in KINDS.items()}


# ---- paths


def kinds(text: str, **options: bool) -> set[tuple[str, int]]:
    return {(finding.kind, finding.address) for finding in lint(assemble(text).code, **options)}


CALLED_TWICE = """
movxm r0, #0x1
movxm r1, #0x2
movxm r3, #0x2
movxm p0, #0x70000
jl #callee
nop 3
lda r3, [p0, #4]
nop
{gap}
jl #callee
nop 5
{behind}
end: j #end
nop 5
callee: ret lr
nop 5
"""


def test_a_return_leads_only_to_its_own_call() -> None:
    # The load before the first call lands 7 behind it; only behind that call is a write 2 bundles after the return.
    assert not kinds(CALLED_TWICE.format(gap="nop 3", behind="mov r3, r1"), notes=False)
    assert not kinds(CALLED_TWICE.format(gap="mov r3, r1", behind="nop"), notes=False)


def test_a_register_defined_by_a_callee_is_defined_behind_the_call() -> None:
    text = "jl #callee\nnop 5\nadd r5, r6, r6\nend: j #end\nnop 5\ncallee: ret lr\nnop 4\n{}"
    assert not kinds(text.format("mov r6, #0x1"))
    assert kinds(text.format("mov r7, #0x1")) == {("undefined-read", 0x60)}


def test_a_call_through_an_unknown_register_defines_everything_and_through_a_constant_does_not() -> None:
    text = "{}\nmovxm sp, #0x70000\nnop 8\njl p6\nnop 5\nadd r5, r6, r6\nend: j #end\nnop 5\ncallee: ret lr\nnop 5"
    address = assemble(text.format("movxm p6, #callee")).labels["end"] - 16
    assert kinds(text.format("movxm p6, #callee")) == {("undefined-read", address)}
    assert ("undefined-read", address) not in kinds(text.format("movxm p0, #0x70000\nlda p6, [p0, #0]"))


def test_one_path_that_writes_a_register_is_enough() -> None:
    text = "mov r0, #0x1\njz r0, #join\nnop 5\n{}\njoin: add r5, r6, r0\nend: j #end\nnop 5"
    assert not kinds(text.format("mov r6, #0x1"))
    assert kinds(text.format("nop"))


def test_a_value_written_in_between_is_what_a_read_gets() -> None:
    text = "movxm p0, #0x70000\nmov r1, #1\nmov r6, #1\nlda r6, [p0, #4]\n{}\nadd r5, r6, r1\nend: j #end\nnop 5"
    assert {kind for kind, _ in kinds(text.format("nop"))} == {"early-read"}
    assert {kind for kind, _ in kinds(text.format("mov r6, #2"))} == {"landing-order"}


def test_a_vector_may_be_built_by_inserting_lanes_and_registers_may_be_copied_and_saved_undefined() -> None:
    text = (
        "mov r0, #0x1\nmov r29, #0x0\nmovxm sp, #0x70000\nvinsert.32 x1, x1, r29, r0\nmov r5, r17\nst r18, [sp, #-4]\n"
    )
    end = "nop\nend: j #end\nnop 5"
    assert not kinds(text + "vmul cm0, x1, x1, r0\n" + end, notes=False)
    assert {kind for kind, _ in kinds(text + "vmul cm0, x1, x1, r5\n" + end)} == {"undefined-read"}


LOOP_IN_A_FUNCTION = """
again: jl #outer
nop 5
j #again
nop 5
outer: mov p6, lr
{setup}
nop 9
first: nop 7
last: nop
jl #helper
nop 5
mov r0, r1
jz r0, #skip
nop 5
jl #inner
nop 5
skip: mov lr, p6
ret lr
nop 5
inner: mov p7, lr
movxm ls, #start
movxm le, #stop
mova lc, #4
nop 9
start: jl #helper
nop 5
nop {behind}
stop: nop
mov lr, p7
ret lr
nop 5
helper: {helper}
ret lr
nop 5
"""


@pytest.mark.parametrize("behind", [1, 7])
def test_a_call_in_a_hardware_loop_comes_back_into_the_loop_and_no_other_callers_code_is_in_it(behind: int) -> None:
    setup = "movxm ls, #first\nmovxm le, #last\nmova lc, #4"
    text = LOOP_IN_A_FUNCTION.format(setup=setup, behind=behind, helper="nop")
    assert not kinds(text, notes=False, called=True)
    # What the called function does itself is done in the loop.
    text = LOOP_IN_A_FUNCTION.format(setup=setup, behind=behind, helper="mova lc, #1")
    found = kinds(text, notes=False, called=True)
    assert ("loop-register-in-body", assemble(text).labels["helper"]) in found


def test_writes_of_loop_registers_before_another_call_are_none_before_a_loop() -> None:
    # The helper is called right before LE of one loop, and right behind the writes for another: few bytes by way of it.
    short = "\n".join(["{2} nop"] * 5)
    text = f"""
    movxm ls, #start
    movxm le, #stop
    mova lc, #4
    nop 9
    start: nop 3
    {{6}} jl #helper
    {short}
    stop: nop
    movxm ls, #first
    movxm le, #last
    mova lc, #4
    {{6}} jl #helper
    {short}
    nop 7
    first: nop 3
    last: nop
    end: j #end
    nop 5
    helper: {{6}} ret lr
    {short}
    """
    assert not kinds(text, notes=False)


def test_an_instruction_that_only_vendor_code_shows_is_a_warning_and_what_follows_is_looked_at() -> None:
    head = bytes.fromhex("10e001d843807d92477200880600c122")  # of a function of the 1x4 overlay: padds [sp], #0x20
    end = assemble("end: j #0x20\nnop 5")
    found = {(f.kind, f.severity, f.address) for f in lint(head + assemble("mov r1, #1; mova r1, #2").code + end.code)}
    assert ("unpublished", "warning", 0) in found and ("double-landing", "error", 16) in found
    assert not any(kind == "undecodable" for kind, _, _ in found)


def test_padding_behind_a_jump_is_no_way_into_what_follows() -> None:
    text = "j #over\nnop 5\nnop 4\nover: add r5, r6, r6\nend: j #end\nnop 5"
    assert [kind for kind, _ in kinds(text)] == ["undefined-read"]


def test_registers_of_called_code_may_hold_arguments() -> None:
    text = "add r0, r1, r2\nret lr\nnop 5"
    assert {kind for kind, _ in kinds(text)} == {"undefined-read"}
    assert not kinds(text, called=True)


def test_a_hardware_loop_shorter_than_the_pipeline_meets_itself_passes_later() -> None:
    # A load that lands in stage 7 in a body of 3 bundles: 6 bundles later is the second pass after it.
    text = "movxm p0, #0x70000\nmov r1, #0x1\nmovxm ls, #first\nmovxm le, #last\nmova lc, #9\nnop 7\n"
    text += "first: lda r3, [p0, #4]\n{}\nlast: nop\nnop 8\nend: j #end\nnop 5"
    assert not kinds(text.format("nop"), notes=False)
    conflict = kinds(text.format("nop").replace("lda r3, [p0, #4]", "lda r3, [p0, #4]; mov r3, r1"), notes=False)
    assert [kind for kind, _ in conflict] == ["double-landing"]


def test_data_behind_the_program_raises_no_errors() -> None:
    rng = Random(5)
    data = bytes(rng.randrange(256) for _ in range(400))
    code = assemble("end: j #end\nnop 5").code
    assert not [finding for finding in lint(code + data) if finding.severity == "error"]


OBJECT = """
.global f
f: jl #outside
{}
add r0, r1, r2
j #elsewhere
{}
"""


def test_in_an_object_what_a_linker_fills_in_is_no_constant() -> None:
    text = "movxm p0, #{}\nlda r0, [p0, #0x20]\nend: j #end\nnopa\nnopa\nnopa\nnopa\nnopa\n"
    for address, expected in (("table", []), ("0x2", ["misaligned-access", "outside-memory"])):
        (program,) = read_programs(assemble_to("o", text.format(address), "k.s"))
        found = [finding.kind for finding in lint_program(program, called=True).findings]
        assert sorted(kind for kind in found if kind in ("misaligned-access", "outside-memory")) == expected


def test_in_an_object_unlinked_targets_are_unknown_and_other_rules_hold() -> None:
    def found(first: str) -> set[str]:
        delay = "\n".join([first, *["nop"] * 4])
        nops = "\n".join(["nop"] * 5)
        data = assemble_to("o", OBJECT.format(delay, nops), "f.s")
        (program,) = read_programs(data)
        return {finding.kind for finding in lint_program(program).findings}

    assert found("nop") == set()
    assert found("mova r3, #1; movx r3, #2") == {"double-landing"}


def test_a_function_that_only_its_symbol_reaches_may_read_arguments() -> None:
    program = assemble("end: j #end\nnop 5\nf: add r0, r1, r2\nret lr\nnop 5")
    image = elf.CoreImage(program.code, symbols=(elf.Symbol(program.labels["f"], "f"),))
    (linked,) = read_programs(elf.write_elf(image))
    report = lint_program(linked)
    assert (report.findings, report.unreached) == ((), 0)


def test_a_stack_pointer_that_nothing_sets_is_one_error() -> None:
    """Programs linked without the start-up code that sets it."""
    use, end = "st r1, [sp, #-64]\n", "end: j #end\nnop 5"
    moved = lint(assemble(f"paddb [sp], #64\nmova r1, #1\nnop 3\n{use}{use}{end}").code)
    (finding,) = (each for each in moved if each.severity == "error")
    assert (finding.address, finding.message) == (0, "paddb reads sp, which nothing in the program sets")
    late = lint(assemble(f"mova r1, #1\n{use}{use}movxm sp, #0x72000\n{use}{end}").code)
    assert {each.address for each in late if each.severity == "error"} == {16, 32}


def test_a_symbol_at_the_last_byte_of_a_function_is_no_entry() -> None:
    """Vendor objects have such (`main_init__end`); behind the function are zeros, then the next one, off the grid."""
    main, helper = assemble("{16} j #0\nnop 5").code, assemble("{16} ret lr\nnop 5").code
    code = main + helper + bytes(16) + helper
    starts = len(main), len(main) + len(helper) - 1, len(main) + len(helper) + 16
    report = lint_program(CoreProgram(None, None, 0, code, symbols=((0, "main"), *zip(starts, "fgh", strict=True))))
    assert report.findings == ()


def test_code_that_many_unreached_places_lead_into_is_followed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = 0
    spread = Builder._spread

    def counted(*arguments: Any) -> None:
        nonlocal followed
        followed += 1
        spread(*arguments)

    monkeypatch.setattr(Builder, "_spread", counted)
    lines = 60
    text = f"end: j #end\nnop 5\nshared: nop {lines}\nlast: j #last\nnop 5\n" + "j #shared\nnop 5\n" * lines
    report = lint_program(CoreProgram(None, None, 0, assemble(text).code))
    assert not report.errors and report.unreached > 7 * lines
    assert followed < 3 * report.bundles


# ---- robustness


def random_code(rng: Random) -> bytes:
    return bytes(rng.randrange(256) for _ in range(rng.randrange(1, 300)))


def check_mutations(good: bytes, seed: int | str, count: int) -> None:
    """Lints programs that are cut, changed by bits, or random throughout."""
    rng = Random(seed)
    for _ in range(count):
        code = bytearray(good[: rng.randrange(1, len(good))]) if rng.random() < 0.5 else bytearray(random_code(rng))
        for _ in range(rng.randrange(6)):
            code[rng.randrange(len(code))] ^= 1 << rng.randrange(8)
        for finding in lint(bytes(code)):
            assert finding.kind in KINDS and 0 <= finding.address <= len(code)
            assert not finding.path or finding.address in (finding.path[0], finding.path[-1])


def test_random_and_mutated_programs_never_crash(small_kernel: CompiledKernel, seed: int) -> None:
    check_mutations(read_programs(small_kernel.xclbin)[0].code[:1200], seed, 120)


def check_batch(item: tuple[bytes, str, int]) -> None:
    check_mutations(*item)


@pytest.mark.slow
def test_ten_thousand_random_and_mutated_programs_never_crash(
    small_kernel: CompiledKernel, seed: int, processes: dict[str, Any]
) -> None:
    good = read_programs(small_kernel.xclbin)[0].code[:1200]
    campaigns.run(check_batch, [(good, *each) for each in campaigns.batches(seed, 10_000, 250)], processes)


def test_a_program_that_begins_with_no_bundle_is_an_error() -> None:
    assert [(f.kind, f.severity, f.address) for f in lint(b"\xff" * 64)] == [("undecodable", "error", 0)]


@pytest.mark.parametrize("code", [b"", b"\1", bytes(16), bytes(16384), b"\x01\x00"])
def test_tiny_and_empty_programs_are_looked_at(code: bytes) -> None:
    lint(code)


# ---- the command

BROKEN = "start: add r5, r6, r6\nend: j #end\nnop\nnop\nnop\nnop\nnop\n"


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    output = capsys.readouterr()
    return int(exit_.value.code or 0), output.out, output.err


def test_errors_give_exit_code_1_and_show_the_bundles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "broken.s"
    source.write_text(BROKEN)
    code, out, err = run(["lint", str(source)], capsys)
    assert code == 1 and err.strip() == f"error: {source}: 1 error"
    assert "0x0 <start>: error: add reads r6, which nothing has written [undefined-read]" in out
    assert "add r5, r6, r6" in out


def test_names_of_a_file_cannot_act_on_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = assemble("add r5, r6, r6\nend: j #end\nnop 5")
    file = tmp_path / "named.elf"
    image = elf.CoreImage(program.code, symbols=(elf.Symbol(0, "a\x1b[2J\u202eb", 0, "function"),))
    file.write_bytes(elf.write_elf(image))
    code, out, _ = run(["lint", str(file)], capsys)
    assert code == 1 and r"0x0 <a\x1b[2J\u202eb>: error: " in out
    assert all(line.isprintable() for line in out.splitlines())


def test_json_gives_findings_with_both_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = assemble("movxm p0, #0x70000\nlda r6, [p0, #4]\nadd r5, r6, r6\nend: j #end\nnop 5")
    file = tmp_path / "early.elf"
    file.write_bytes(elf.write_elf(elf.CoreImage(program.code)))
    code, out, _ = run(["lint", str(file), "--json"], capsys)
    described = json.loads(out)
    assert code == 1 and described["errors"] == 1 and described["bundles"] == 9
    (finding,) = described["programs"][0]["findings"]
    assert (finding["kind"], finding["address"], finding["other"]) == ("undefined-read", 0x20, 0x10)
    assert finding["path"] == [0x10, 0x20] and finding["other_bundle"] == "lda r6, [p0, #4]"


def test_notes_are_shown_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = assemble("movxm p0, #0x70000\nmov r6, #1\nlda r6, [p0, #4]\nadd r5, r6, r6\nend: j #end\nnop 5")
    file = tmp_path / "old.bin"
    file.write_bytes(program.code)
    assert run(["lint", "--raw", str(file)], capsys)[0] == 0
    code, out, _ = run(["lint", "--raw", "--notes", str(file)], capsys)
    assert code == 0 and "early-read" in out


@pytest.mark.parametrize("content", [b"", b"\x7fELF", bytes(64)])
def test_what_cannot_be_read_gives_exit_code_3(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    code, out, err = run(["lint", str(file)], capsys)
    assert (code, out) == (3, "") and err.startswith(f"error: {file}: ")


def test_a_file_without_a_program_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pdi.write_pdi([cdo.Write(0x1A0000, 1)])  # a descriptor of a memory tile
    data = ObjectFile((Section(".data", b"data", False, True, 4),), ())
    files = {
        "k.xclbin": xclbin.write_xclbin(xclbin.Xclbin((xclbin.KernelEntry("k", "I", 1, ()),), 1, image)),
        "k.pdi": image,
        "k.o": write_object(data),
        "k.s": b"// nothing\n",
        "d.s": b".data\n.word 4\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        code, out, err = run(["lint", str(tmp_path / name)], capsys)
        assert (code, out, err) == (3, "", f"error: {tmp_path / name}: holds no core program\n")
    assert run(["disasm", str(tmp_path / "k.pdi")], capsys)[2].endswith("k.pdi: holds no core program\n")


def test_where_else_a_program_may_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pdi.write_pdi([cdo.Write(0x1A0000, 1)])
    whole = xclbin.write_xclbin(xclbin.Xclbin((xclbin.KernelEntry("k", "I", 1, ()),), 1, image))
    beside = container(*((kind, found[0]) for kind, found in sections(whole).items()), (xclbin.PDI, image))
    versal = cdo.write_cdo([cdo.DmaWrite(0x200_0022_0000, (1, 2))])
    for content, said in (
        (beside, f"in its partition; its section PDI is not looked at (cut the section's {len(image)} bytes"),
        (versal, "it writes at 0x20000220000, where npu1's array has no tile\n"),
    ):
        (tmp_path / "file").write_bytes(content)
        code, _, err = run(["lint", str(tmp_path / "file")], capsys)
        assert code == 3 and said in err, err


def test_equal_programs_of_an_xclbin_are_reported_once(
    small_kernel: CompiledKernel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kernel.xclbin"
    file.write_bytes(small_kernel.xclbin)
    code, out, _ = run(["lint", str(file), "--json"], capsys)
    described = json.loads(out)
    assert code == 0 and described["errors"] == 0
    assert sum(len(program["cores"]) for program in described["programs"]) == len(small_kernel.programs)
    assert len(described["programs"]) == len({program.code for program in small_kernel.programs.values()})
    code, out, _ = run(["lint", str(file), "--core", "0,2", "--json"], capsys)
    assert [program["cores"] for program in json.loads(out)["programs"]] == [[{"column": 0, "row": 2, "pdi": None}]]
