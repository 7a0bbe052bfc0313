"""npuc run."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from npuc.compiler.diagnostics import BackendError, CheckFailed, UsageError
from npuc.compiler.outputs import check_outputs
from npuc.runtime.backends import HOST_BACKENDS, MACHINES, BackendSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np

    from npuc.runtime.executor import Executable
    from npuc.runtime.foreign import ForeignSummary
    from npuc.runtime.judgement import CheckResult
    from npuc.runtime.statistics import RunReport
    from npuc.runtime.summary import RunSummary
    from npuc.runtime.whole_modules import WholeExecutable

LARGEST_BUFFER = 1 << 32  # bytes a buffer argument may have: what the emulated address map leaves between two


@click.command("run")
@click.argument("file", metavar="FILE")
@click.option("--kernel", "--func", "kernel", metavar="NAME", help="Which kernel (in MLIR: function), of several.")
@click.option(
    "--input",
    "inputs",
    metavar="NAME=X.npy",
    multiple=True,
    help="An input, repeatable; or one .npz or "
    ".safetensors file with all of them. bf16 is given as float32, float64 or uint16 bits.",
)
@click.option(
    "--random",
    "seed",
    type=click.IntRange(0),
    metavar="SEED",
    help="Draw the inputs that are not given (without any input: --random 0).",
)
@click.option(
    "--dim",
    "dims",
    metavar="S=N",
    multiple=True,
    help="A size that the source leaves open (`?`), repeatable: S queries, Skv keys, B batch.",
)
@click.option(
    "--output", "outputs", metavar="NAME=Y.npy", multiple=True, help="Write an output, repeatable; bf16 as float32."
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "xrt", "amdxdna", "emulator", "reference"]),
    default="auto",
    show_default=True,
    help="auto: the NPU when one works (through XRT, else its driver), else the emulator.",
)
@click.option(
    "--machine",
    type=click.Choice(MACHINES),
    default=MACHINES[0],
    show_default=True,
    help="Which machine's clock and memory are emulated.",
)
@click.option(
    "--clock",
    type=float,
    metavar="GHZ",
    help="Emulate the machine at another clock of the array; cycles are the same but for DDR.",
)
@click.option(
    "--short-runs",
    is_flag=True,
    help="Emulator: assume (unmeasured) that short runs in DDR cost more than bytes.",
)
@click.option(
    "--engine",
    type=click.Choice(["native", "interpreter"]),
    help="Emulator: core programs translated to "
    "native code (default), or interpreted; same results and cycles. Also NPUC_ENGINE.",
)
@click.option("--max-cycles", type=click.IntRange(1), help="Give up when the emulation takes longer.")
@click.option(
    "--insts",
    metavar="FILE",
    help="Run an xclbin or PDI of another tool with this runtime sequence (TXN, a control-code ELF, "
    "or the older text form) on the emulator; its buffers are bo0, bo1, ...",
)
@click.option(
    "--alloc", "allocations", metavar="boN=BYTES", multiple=True, help="With --insts: a buffer of zeros, repeatable."
)
@click.option("--strict", is_flag=True, help="Emulator: also refuse what hardware leaves undefined.")
@click.option(
    "--check", "wants_check", is_flag=True, help="Compare with the reference in float64; exit 1 outside tolerance."
)
@click.option("--profile", is_flag=True, help="Print what binds, and where the cycles went by class of tile.")
@click.option("--per-tile", is_flag=True, help="The profile of each core and DMA channel as well.")
@click.option(
    "--trace",
    "trace_file",
    metavar="T.json",
    help="Write a timeline of the emulated run in the trace-event format, for Perfetto or chrome://tracing.",
)
@click.option("--report", "report_file", metavar="R.html", help="Write a page that shows the emulated run.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on standard output.")
def command(
    file: str,
    kernel: str | None,
    inputs: tuple[str, ...],
    seed: int | None,
    dims: tuple[str, ...],
    outputs: tuple[str, ...],
    backend: str,
    machine: str,
    clock: float | None,
    short_runs: bool,
    engine: str | None,
    max_cycles: int | None,
    insts: str | None,
    allocations: tuple[str, ...],
    strict: bool,
    wants_check: bool,
    profile: bool,
    per_tile: bool,
    trace_file: str | None,
    report_file: str | None,
    as_json: bool,
) -> None:
    """Run a kernel: .xclbin, .npua (on the emulator), .pdi (with --insts), or .mlir, which is compiled first."""
    from npuc.runtime.executor import open_kernel

    files = _named(outputs, "--output")
    read = [file, *filter(None, [insts]), *(text.partition("=")[2] or text for text in inputs)]
    written = {f"--output {name}": path for name, path in files.items()}
    pages = {"--trace": trace_file, "--report": report_file}
    check_outputs(read, {**written, **pages, "--json": "-" if as_json else None})
    recorded = trace_file is not None or report_file is not None or profile or per_tile
    settings = BackendSettings(machine, max_cycles, strict, recorded, engine, clock, short_runs)
    text_of = _profile(settings, per_tile) if profile or per_tile else _no_profile
    if insts is not None:
        if seed is not None or dims or wants_check or backend not in ("auto", "emulator"):
            raise UsageError("--insts goes with neither --random, --dim, --check nor another backend than the emulator")
        with _traced(trace_file) as keep:
            foreign = _run_foreign(file, insts, kernel, inputs, allocations, files, settings, report_file)
            keep(foreign.report)
        _report(foreign, as_json, text_of, "-" in (*files.values(), *pages.values()))
        return
    if allocations:
        raise UsageError("--alloc is for --insts")
    archives = [text for text in inputs if "=" not in text]
    arrays = _named(tuple(text for text in inputs if "=" in text), "--input")
    for option, path in pages.items():
        if path is not None and backend in ("xrt", "amdxdna", "reference"):
            raise UsageError(f"{option} records the emulator, not {backend}")
    with _traced(trace_file) as keep, open_kernel(file, backend, (), kernel, sizes_of(dims), settings) as executable:
        if executable.notice:
            print(f"note: {executable.notice}", file=sys.stderr)
        _require_outputs(executable, files)
        given = _inputs(executable, archives, arrays, seed)
        summary = _run(executable, given, files, wants_check, seed or 0)
        keep(summary.report)
        if report_file is not None:
            _show(executable, given, summary.report, settings, report_file)
    _report(summary, as_json, text_of, "-" in (*files.values(), *pages.values()))
    _fail_unless_passed(summary.check)


@contextmanager
def _traced(path: str | None) -> Iterator[Callable[[RunReport], None]]:
    """Gives a function that writes a run's trace; the trace of an emulation that fails is written as well."""

    def keep(report: RunReport) -> None:
        if path is not None and report.trace is None:
            raise UsageError(f"--trace records the emulator, not {report.backend}")
        if path is not None and report.trace is not None:
            report.trace.write(path)

    try:
        yield keep
    except BackendError as error:
        trace = getattr(error, "trace", None)
        if path is not None and trace is not None:
            trace.write(path)
        raise


def _no_profile(report: RunReport, macs: int | None) -> str:
    return ""


def _profile(settings: BackendSettings, per_tile: bool) -> Callable[[RunReport, int | None], str]:
    from npuc.runtime.backends.emulator import machine_of
    from npuc.runtime.profile import profile_text

    return lambda report, macs: profile_text(report, machine_of(settings), per_tile, macs)


def _report(
    summary: RunSummary | ForeignSummary, as_json: bool, profile: Callable[[RunReport, int | None], str], aside: bool
) -> None:
    """profile: its text. aside: standard output is taken, the text goes to standard error."""
    for warning in summary.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        click.echo(json.dumps(summary.to_json()))
    else:
        text = summary.text() + profile(summary.report, getattr(summary, "macs", None))
        click.echo(text, nl=False, err=aside)


def _run_foreign(
    file: str,
    insts: str,
    name: str | None,
    inputs: tuple[str, ...],
    allocations: tuple[str, ...],
    files: Mapping[str, str],
    settings: BackendSettings,
    page_file: str | None,
) -> ForeignSummary:
    import numpy as np

    from npuc.compiler.files import read_bytes, write_bytes
    from npuc.runtime.array_files import read_array, write_array
    from npuc.runtime.foreign import ForeignSummary, buffer_index, make_buffers, read_foreign, run_foreign

    kernel = read_foreign(read_bytes(file), read_bytes(insts), file=file, insts=insts, name=name)
    arrays = {bo: read_array(path) for bo, path in _named(inputs, "--input").items()}
    sizes = {bo: _size(bo, text) for bo, text in _named(allocations, "--alloc").items()}
    buffers = make_buffers(kernel.buffers, arrays, sizes, tuple(files))
    report = run_foreign(kernel, buffers, settings)
    if page_file is not None:
        from npuc.runtime.report.of_run import of_foreign
        from npuc.runtime.report.page import page

        write_bytes(page_file, page(of_foreign(kernel, report, settings)))
    outputs = {bo: np.frombuffer(buffers[buffer_index(bo, "--output")], np.uint8) for bo in files}
    for bo, path in files.items():
        write_array(path, outputs[bo])
    return ForeignSummary(kernel.name, report, outputs, files)


def _size(name: str, text: str) -> int:
    try:
        size = int(text, 0)
    except ValueError:
        size = 0
    if not 0 < size <= LARGEST_BUFFER:
        raise UsageError(f"--alloc {name}={text}: expected a number of bytes, at most {LARGEST_BUFFER}")
    return size


def sizes_of(options: tuple[str, ...]) -> dict[str, int]:
    """Lengths by name from `--dim NAME=N` options. Raises UsageError."""
    sizes = {}
    for name, text in _pairs(options, "--dim", "NAME=N").items():
        if not text.isdecimal() or int(text) == 0:
            raise UsageError(f"--dim {name}={text}: expected a number above zero")
        sizes[name] = int(text)
    return sizes


def _named(options: tuple[str, ...], option: str) -> dict[str, str]:
    return _pairs(options, option, "NAME=FILE")


def _pairs(options: tuple[str, ...], option: str, form: str) -> dict[str, str]:
    named = {}
    for text in options:
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise UsageError(f"{option} {text}: expected {form}")
        if name in named:
            raise UsageError(f"{option} {name} is given twice")
        named[name] = value
    return named


def _require_outputs(executable: Executable, files: dict[str, str]) -> None:
    names = [a.name for a in executable.kernel.outputs]
    for name in files:
        if name not in names:
            raise UsageError(f"--output {name}: the kernel has no such output", remedy=f"there is {', '.join(names)}")


def _inputs(
    executable: Executable, archives: list[str], arrays: dict[str, str], seed: int | None
) -> dict[str, np.ndarray]:
    from npuc.runtime.arguments import draw, require_fit
    from npuc.runtime.array_files import read_array, read_arrays

    known = {argument.name: argument for argument in executable.kernel.inputs}
    executable.require_inputs(arrays)

    def fits(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        require_fit(known[name], shape, dtype)

    given: dict[str, np.ndarray] = {}
    for path in archives:
        given.update(read_arrays(path, fits, list(known)))
    given.update({name: read_array(path, name, fits) for name, path in arrays.items()})
    if seed is None and not archives and not arrays:
        seed = 0
    if seed is not None:
        kernel = executable.of_call(given)
        kernel.require_lengths()
        given = {**draw(kernel.inputs, seed), **given}
    return executable.prepare(given)


def _run(
    executable: Executable, given: dict[str, np.ndarray], files: dict[str, str], wants_check: bool, seed: int
) -> RunSummary:
    from npuc.runtime.arguments import to_device, to_user
    from npuc.runtime.array_files import write_array
    from npuc.runtime.check import multiply_accumulates
    from npuc.runtime.checking import check_run
    from npuc.runtime.layouts import all_inward
    from npuc.runtime.summary import RunSummary
    from npuc.runtime.whole_modules import WholeExecutable

    if isinstance(executable, WholeExecutable):
        return _run_whole(executable, given, files, wants_check, seed)
    kernel = executable.of_call(given)
    call = executable.serve(given)
    raw = call.outputs
    outputs = {a.name: to_user(a, raw[a.name]) for a in kernel.outputs}
    on_host = call.report.backend in HOST_BACKENDS  # which takes the arguments as they are given
    seen = {a.name: given[a.name] if on_host else to_device(a, given[a.name]) for a in kernel.inputs}
    result = None
    if wants_check:
        (output,) = kernel.outputs
        result = check_run(kernel, seen, raw[output.name], seed)
    for name, path in files.items():
        write_array(path, outputs[name])
    macs = multiply_accumulates(kernel.attention, all_inward(kernel, kernel.attention.taken(seen)))
    return RunSummary(kernel.name, kernel.attention, call.report, outputs, files, macs, result, call.warnings)


def _show(
    executable: Executable, given: dict[str, np.ndarray], report: RunReport, settings: BackendSettings, path: str
) -> None:
    from npuc.compiler.files import write_bytes
    from npuc.runtime.report.of_run import of_executable
    from npuc.runtime.report.page import page
    from npuc.runtime.whole_modules import WholeExecutable

    if isinstance(executable, WholeExecutable):
        raise UsageError("--report shows one kernel, not a function with attention inside")
    write_bytes(path, page(of_executable(executable, given, report, settings)))


def _run_whole(
    executable: WholeExecutable, given: dict[str, np.ndarray], files: dict[str, str], wants_check: bool, seed: int
) -> RunSummary:
    """A function with attention inside: the backend has the attention, the host the rest."""
    from npuc.runtime.arguments import to_user
    from npuc.runtime.array_files import write_array
    from npuc.runtime.summary import RunSummary
    from npuc.runtime.whole_check import check_whole

    kernel = executable.whole
    call = executable.serve(given)
    outputs = {a.name: to_user(a, call.outputs[a.name]) for a in kernel.outputs}
    result = check_whole(kernel, given, call.outputs, executable.attended, seed) if wants_check else None
    for name, path in files.items():
        write_array(path, outputs[name])
    name = f"{kernel.name} ({', '.join(dict.fromkeys(part.kernel for part in kernel.calls.values()))})"
    first = executable.attended[0].kernel.attention if executable.attended else kernel.attention
    return RunSummary(name, first, call.report, outputs, files, executable.macs, result, call.warnings)


def _fail_unless_passed(result: CheckResult | None) -> None:
    if result is None or result.passed:
        return
    from npuc.runtime.summary import check_line

    raise CheckFailed(f"check {check_line(result)}")
