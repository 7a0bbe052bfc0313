"""npuc compile."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from typing import Any

import click

from npuc.compiler import driver
from npuc.compiler.diagnostics import UsageError
from npuc.compiler.files import write_bytes
from npuc.compiler.outputs import check_outputs, write_folder

CORE_ELF = re.compile(r"core_\d+_\d+\.elf")


@click.command("compile")
@click.argument("source", metavar="IN.mlir")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="Where to; without it text goes to standard output, binaries to "
    "IN's name with the stage as suffix, in this folder.",
)
@click.option(
    "--emit",
    "stage",
    type=click.Choice(driver.STAGES),
    help="What to write (default: by OUT's suffix, else xclbin). host: the module with calls of kernels where its "
    "attentions were; asm: one text with a section per core; elf: a folder with core_COL_ROW.elf; plan: text, "
    "or JSON when OUT ends in .json.",
)
@click.option("--target", type=click.Choice(driver.TARGETS), default="npu1", show_default=True)
@click.option("--func", "function", metavar="NAME", help="Which function, of several.")
@click.option("--kernel", metavar="NAME", help="Only this kernel, of a module with several kinds of attention.")
@click.option("--columns", type=click.IntRange(1, 4), help="Columns of the array to use (default: the plan's choice).")
@click.option("--precision", type=click.Choice(["bf16", "int8"]), help="Default: what the source says.")
@click.option("--option", "options", metavar="KEY=VALUE", multiple=True, help="A choice of one pass; repeatable.")
@click.option("--print-ir-after", metavar="PASS|all", help="Print what a pass made, on standard error.")
@click.option("--dump-dir", metavar="DIR", help="Write every stage into this folder.")
@click.option("--no-cache", is_flag=True, help="Compile even if the result is known.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on standard output.")
def command(
    source: str,
    output: str | None,
    stage: str | None,
    target: str,
    function: str | None,
    kernel: str | None,
    columns: int | None,
    precision: str | None,
    options: tuple[str, ...],
    print_ir_after: str | None,
    dump_dir: str | None,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Compile attention in MLIR to an xclbin, or to a stage on the way to it. `-` is standard input or output."""
    stage, output = _stage_and_output(source, output, stage, as_json)
    file = None if stage == "elf" else output  # the files in a folder are known once they are made
    check_outputs([source], {"-o": file, "--json": "-" if as_json else None})
    settings = driver.Settings(
        stage=stage,
        target=target,
        function=function,
        kernel=kernel,
        columns=columns,
        precision=precision,
        options=key_values(options),
        use_cache=not no_cache,
        dump_folder=dump_dir,
        inputs=(source,),
        print_ir_after=print_ir_after,
        show_ir=_show_ir,
    )
    compiled = driver.compile_file(source, settings)
    size, digest = _write(compiled, stage, source, output)
    within = compiled.summary["kernels"][0]["attention"].get("within")
    if within is not None and stage != "host":
        names = ", ".join(f"@{kernel['attention']['function']}" for kernel in compiled.summary["kernels"])
        kinds = "attention is a kernel" if len(compiled.kernel_names) == 1 else "attentions are kernels"
        print(
            f"note: @{within} does more than attention; its {kinds}, {names} (the rest: --emit host)", file=sys.stderr
        )
    for warning in compiled.summary.get("warnings", ()):
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        report = {"output": output, "sha256": digest, "bytes": size, "seconds": compiled.seconds}
        report |= {"cached": compiled.cached, "target": target, **compiled.summary}
        click.echo(json.dumps(report))
    elif output != "-":
        _print_summary(compiled, output, size)


def _stage_and_output(source: str, output: str | None, stage: str | None, as_json: bool) -> tuple[str, str]:
    if stage is None:
        stage = driver.STAGE_OF_SUFFIX.get(os.path.splitext(output or "")[1], "xclbin")
    if output is None:
        stem = "kernel" if source == "-" else os.path.splitext(os.path.basename(source))[0]
        to_stdout = stage in driver.TEXT_STAGES and not as_json
        suffix = {"attn": "attn.mlir", "host": "host.mlir", "asm": "s"}.get(stage, stage)
        output = "-" if to_stdout else f"{stem}.{suffix}"
    if output == "-" and stage == "elf":
        raise UsageError("--emit elf writes a folder, not standard output")
    if output == "-" and stage not in driver.TEXT_STAGES and sys.stdout.isatty():
        raise UsageError("binary output to a terminal", remedy="give -o FILE")
    return stage, output


def key_values(options: tuple[str, ...]) -> dict[str, str]:
    """Choices of passes from `--option KEY=VALUE`. Raises UsageError."""
    chosen = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator or not key:
            raise UsageError(f"--option {option}: expected KEY=VALUE")
        chosen[key] = value
    return chosen


def _show_ir(name: str, text: str) -> None:
    print(f"// ----- after {name} -----\n{text.rstrip()}\n", file=sys.stderr)


def _write(compiled: driver.Compiled, stage: str, source: str, output: str) -> tuple[int, str]:
    """Bytes written and their SHA-256 (of a folder: over its files in order of name)."""
    if stage == "elf":
        elfs = compiled.elfs()
        write_folder(output, elfs, [source], CORE_ELF)
        whole = b"".join(elfs[name] for name in sorted(elfs))
        return len(whole), hashlib.sha256(whole).hexdigest()
    as_object = stage == "plan" and output.endswith(".json")
    data = compiled.files["plan.json"] if as_object else compiled.stage(stage)
    write_bytes(output, data)
    return len(data), hashlib.sha256(data).hexdigest()


def _print_summary(compiled: driver.Compiled, output: str, size: int) -> None:
    summary: dict[str, Any] = dict(compiled.summary)
    how = "cached" if compiled.cached else f"{compiled.seconds:.1f} s"
    made = f"{output}: {size:,} bytes"
    if summary["cores"] is not None:
        made += f", {summary['cores']} cores, largest core program {summary['program_bytes_max']:,} bytes"
    tuned = ", tuned" if "tuned" in summary else ""
    click.echo(f"{made} ({how}{tuned})")
