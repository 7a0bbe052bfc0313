"""The assembly that npuc compile emits is the language that npuc asm reads."""

from __future__ import annotations

from pathlib import Path

from npuc.compiler import driver
from npuc.compiler.asm.assembler import assemble
from npuc.compiler.asm.listing import list_file
from npuc.compiler.asm.programs import read_programs

EXAMPLE = Path(__file__).parents[2] / "examples" / "attention.mlir"


def test_the_text_of_every_core_assembles_to_its_code() -> None:
    compiled = driver.compile_file(str(EXAMPLE))
    text = compiled.stage("asm").decode()
    emitted = {program.core: program for program in assemble(text, "kernel.s").programs}
    loaded = read_programs(compiled.xclbin)
    assert emitted.keys() == {program.core for program in loaded}
    for program in loaded:
        assert emitted[program.core].code == program.code
        assert dict(program.symbols).items() <= {v: k for k, v in emitted[program.core].symbols.items()}.items()


def test_it_is_what_disassembly_of_the_kernel_prints_but_for_comments() -> None:
    compiled = driver.compile_file(str(EXAMPLE))

    def bare(text: str) -> list[str]:
        return [line for raw in text.split("\n") if (line := raw.partition("//")[0].rstrip())]

    assert bare(compiled.stage("asm").decode()) == bare(list_file(compiled.xclbin, "kernel.xclbin"))
    assert "// loop" in compiled.stage("asm").decode()
