"""npuc report."""

from __future__ import annotations

import os
import sys

import click

from npuc.compiler.commands.run import sizes_of
from npuc.compiler.diagnostics import UsageError
from npuc.compiler.outputs import check_outputs
from npuc.runtime.backends import MACHINES, BackendSettings


@click.command("report")
@click.argument("file", metavar="KERNEL")
@click.option("--kernel", "--func", "kernel", metavar="NAME", help="Which kernel (in MLIR: function), of several.")
@click.option("--dim", "dims", metavar="S=N", multiple=True, help="A size that the source leaves open, repeatable.")
@click.option("--random", "seed", type=click.IntRange(0), default=0, metavar="SEED", help="Draws the inputs (0).")
@click.option("--machine", type=click.Choice(MACHINES), default=MACHINES[0], show_default=True)
@click.option("--clock", type=float, metavar="GHZ", help="Emulate the machine at another clock of the array.")
@click.option("-o", "--output", metavar="R.html", help="Where to; KERNEL with .html for its suffix without it.")
def command(
    file: str,
    kernel: str | None,
    dims: tuple[str, ...],
    seed: int,
    machine: str,
    clock: float | None,
    output: str | None,
) -> None:
    """Run KERNEL (.xclbin, .npua or .mlir) once on the emulator, and write a page that shows it.

    The page holds what binds the run, the array with its buffers and streams, every loop's schedule, where the cycles
    went, products against bytes, and the time line; it needs nothing from elsewhere. `npuc run --report` writes the
    same of any run, also of other tools' kernels (--insts).
    """
    if output is None:
        if file == "-":
            raise UsageError("the kernel comes from standard input", remedy="name the page with -o")
        output = f"{os.path.splitext(os.path.basename(file))[0]}.html"
    check_outputs([file], {"-o": output})
    settings = BackendSettings(machine, trace=True, clock=clock)

    from npuc.compiler.files import write_bytes
    from npuc.runtime.arguments import draw
    from npuc.runtime.executor import open_kernel
    from npuc.runtime.report.of_run import run_and_show

    with open_kernel(file, "emulator", (), kernel, sizes_of(dims), settings) as executable:
        described = executable.of_call({})
        _ = described.attention.lengths
        page, said = run_and_show(executable, draw(described.inputs, seed), settings)
    write_bytes(output, page)
    print(f"{output}: {len(page):,} bytes; binds: {said}", file=sys.stderr if output == "-" else sys.stdout)
