"""npuc sequence."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from npuc.compiler.commands.run import sizes_of
from npuc.compiler.diagnostics import UsageError
from npuc.compiler.files import read_bytes, write_bytes
from npuc.compiler.frontend.call_arguments import SCALE
from npuc.compiler.outputs import check_outputs

if TYPE_CHECKING:
    from npuc.runtime.kernel_file import KernelFile


@click.command("sequence")
@click.argument("file", metavar="KERNEL")
@click.option("--kernel", metavar="NAME", help="Which kernel, of several.")
@click.option("--dim", "dims", metavar="S=N", multiple=True, help="A length that the file left open; repeatable.")
@click.option("--scale", type=float, metavar="X", help="What each call of the source gives as its scale.")
@click.option("-o", "--output", metavar="insts.bin", required=True, help="Where to; - is standard output.")
def command(file: str, kernel: str | None, dims: tuple[str, ...], scale: float | None, output: str) -> None:
    """Write the instruction stream of a call of KERNEL (.xclbin or .npua), for hosts that are not npuc.

    Data buffers are dense and row-major, in the order of the arguments as `inspect` shows them; head sizes that are not
    multiples of 8 are padded to one. A mask's buffer is the copy that passes/attention/masks.py describes; with a mask,
    rows have as many elements as a block has keys at least, and Q and the result as many rows as a work item.
    """
    from npuc.passes.attention.sequence import length_warnings
    from npuc.runtime.kernel_file import read_kernel

    check_outputs([file], {"-o": output})
    found = read_kernel(read_bytes(file), file, kernel).closed(sizes_of(dims))
    stream = _scaled(found, scale).sequence()
    for warning in length_warnings(len(stream)):
        print(f"warning: {warning}", file=sys.stderr)
    write_bytes(output, stream)


def _scaled(kernel: KernelFile, scale: float | None) -> KernelFile:
    """The kernel of a call with that scale. Raises UsageError where it is missing, or the source takes none."""
    taken = [argument.name for argument in kernel.attention.beside if argument.role == SCALE]
    if scale is None and taken:
        raise UsageError(f"{kernel.name} takes its argument {taken[0]} with each call", remedy="give it with --scale")
    if scale is not None and not taken:
        raise UsageError(f"{kernel.name} takes no scale: it has one")
    return kernel.computing(kernel.attention.called(dict.fromkeys(taken, scale))) if taken else kernel
